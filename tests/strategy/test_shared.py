"""Engines side by side on the same rings: what they share changes no bit of what each would do alone."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from sqfd.engine import Engine, reach_of
from sqfd.signals.signal import encode
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import SqueezeFlow
from tests.flows import noise
from tests.test_engine import SHORT_WINDOWS, with_revisions

FLOW = with_revisions(noise(1_000, 1), 3)
LEFT_OUT = {"name", "per_symbol", "premium", "high", "medium", "baseline_s", "sample_s", "ttl_s"}
BLOCK_S = 500


def variants() -> Iterator[tuple[str, StrategySettings]]:
    """Each setting changed by itself."""
    for name in SHORT_WINDOWS.__struct_fields__:
        value = getattr(SHORT_WINDOWS, name)
        if name in LEFT_OUT or isinstance(value, tuple):
            continue
        changed = not value if isinstance(value, bool) else value * 2 if isinstance(value, int) else value * 0.8
        try:
            yield (
                name,
                msgspec.convert(
                    {**{each: getattr(SHORT_WINDOWS, each) for each in SHORT_WINDOWS.__struct_fields__}, name: changed},
                    StrategySettings,
                ),
            )
        except msgspec.ValidationError:
            continue


def engine(settings: StrategySettings) -> Engine:
    return Engine(("S0",), SqueezeFlow(settings), settings, "test", {}, BLOCK_S)


def outcome(target: Engine, signals: list[bytes]) -> tuple[list[bytes], bytes, dict[str, float]]:
    return signals, target.positions(), target.mind("S0")


@pytest.fixture(scope="module")
def together() -> dict[str, tuple[list[bytes], bytes, dict[str, float]]]:
    """What each variant did beside the others that read the same history."""
    groups: dict[tuple[int, int, int], list[tuple[str, StrategySettings]]] = {}
    for name, settings in variants():
        groups.setdefault(reach_of(SqueezeFlow(settings)), []).append((name, settings))
    found = {}
    for group in groups.values():
        lead = engine(group[0][1])
        engines = [lead, *(lead.beside(SqueezeFlow(settings), settings) for _, settings in group[1:])]
        signals = lead.run_all(lead._tables(*FLOW))
        for (name, _), each, mine in zip(group, engines, signals, strict=True):
            found[name] = outcome(each, [encode(signal) for signal in mine])
    assert max(map(len, groups.values())) > 30
    return found


@pytest.mark.parametrize("name", [name for name, _ in variants()])
def test_beside_others_as_alone(name: str, together: dict[str, tuple[list[bytes], bytes, dict[str, float]]]) -> None:
    """Signals, memory and scores of a strategy do not know which others read its rings."""
    alone = engine(dict(variants())[name])
    signals = [encode(signal) for signal in alone.block(*FLOW)]
    assert outcome(alone, signals) == together[name]


def test_the_settings_matter(together: dict[str, tuple[list[bytes], bytes, dict[str, float]]]) -> None:
    """Had they been shared wrongly, it would show: most settings change signals or what is remembered."""
    assert len({repr(one) for one in together.values()}) > len(together) // 2


def test_another_history_is_refused() -> None:
    """Rings are made for one reach."""
    longer = msgspec.structs.replace(SHORT_WINDOWS, armed_s=SHORT_WINDOWS.armed_s + 1)
    with pytest.raises(ValueError, match="another history"):
        engine(SHORT_WINDOWS).beside(SqueezeFlow(longer), longer)
