"""Settings: every one described, contradictions refused with the name of the key, symbols may differ."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sqfd.strategy.settings import StrategySettings, differences


def test_every_setting_has_a_sentence() -> None:
    """`sqfd.toml` and the schema are written from these."""
    schema = msgspec.json.schema(StrategySettings)["$defs"]["StrategySettings"]["properties"]
    for name, setting in schema.items():
        described = setting.get("description") or setting.get("allOf", [{}])[0].get("description")
        assert described, name
        assert described.endswith("."), name


def test_every_setting_is_in_the_definition() -> None:
    """docs/strategy.md names each constant as it is called in the settings."""
    text = (Path(__file__).parents[2] / "docs" / "strategy.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", text))
    assert set(StrategySettings.__struct_fields__) <= named


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"min_entry_score": 11}, "min_entry_score"),
        ({"no_such_key": 1}, "no_such_key"),
        ({"context_weights": [0.5, 0.5]}, "context_weights"),
        ({"reset_windows_s": [301, 900, 1800]}, "reset_windows_s"),
        ({"divergence_windows_s": [1800, 900]}, "divergence_windows_s"),
        ({"context_medium": 0.7}, "context_medium"),
        ({"per_symbol": {"BTC": {"min_entry_score": 11}}}, "per_symbol.BTC"),
        ({"per_symbol": {"BTC": {"max_open_positions": 1}}}, "per_symbol.BTC.max_open_positions"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], named: str) -> None:
    """A user learns which key to change."""
    with pytest.raises(msgspec.ValidationError, match=re.escape(named)):
        msgspec.convert(wrong, StrategySettings)


def test_a_symbol_may_have_its_own_settings() -> None:
    """Only what is named differs."""
    settings = StrategySettings(per_symbol={"DOGE": {"min_entry_score": 5, "cooldown_s": 60}})
    own = settings.for_symbol("DOGE")
    assert (own.min_entry_score, own.cooldown_s, own.ttl_s) == (5, 60, 600)
    assert settings.for_symbol("BTC") is settings


def test_defaults_read_a_day_and_the_longest_window() -> None:
    """28 h of price and CVDs, as the design says."""
    assert StrategySettings().history_s == 28 * 3600
    assert StrategySettings().detail_s <= 4 * 3600


def test_what_changed_is_told_by_name() -> None:
    """Only what differs, with both values; a symbol's own settings under its name."""
    before = StrategySettings(cooldown_s=60, per_symbol={"BTC": {"ttl_s": 60}})
    after = StrategySettings(cooldown_s=90, per_symbol={"BTC": {"ttl_s": 60, "min_entry_score": 5.0}})
    assert differences(before, after) == {"cooldown_s": (60, 90), "per_symbol.BTC.min_entry_score": (4.0, 5.0)}
    assert differences(after, after) == {}
