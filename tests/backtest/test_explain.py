"""The past can be explained: from the journal, as the strategy saw it then."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from sqfd.backtest.explain import explain_at
from sqfd.backtest.source import NoData
from sqfd.cli import cli
from tests.backtest.live import Live, config


def signals(live: Live) -> list[dict[str, object]]:
    return [orjson.loads(signal.line) for signal in live.store.signals()]


def test_an_entry_is_explained_with_its_position_and_score(live: Live) -> None:
    """At the second of a journaled entry: the position is open, and its score is the signal's."""
    entry = next(signal for signal in signals(live) if signal["action"] != "CLOSE")
    found = explain_at(live.store, config(), str(entry["base_symbol"]), int(str(entry["second"])))
    assert found.position is not None
    assert found.position["score"] == pytest.approx(entry["score"], abs=1e-5)
    assert found.score == entry["score"]
    assert found.score_breakdown == entry["score_breakdown"]
    assert "is open since" in found.words


def test_before_an_entry_a_gate_is_named(live: Live) -> None:
    """A second before it, something stopped it, and says by how much."""
    entry = next(signal for signal in signals(live) if signal["action"] != "CLOSE")
    found = explain_at(live.store, config(), str(entry["base_symbol"]), int(str(entry["second"])) - 1)
    assert found.stopped_by is not None
    assert found.words.startswith("No entry because")
    assert not found.stopped_by["passed"]


def test_what_the_journal_does_not_hold_is_said(live: Live) -> None:
    """Unknown symbols and times name what there is."""
    second = int(str(signals(live)[0]["second"]))
    with pytest.raises(NoData, match="no flow of NONE"):
        explain_at(live.store, config(), "NONE", second)
    with pytest.raises(NoData, match="no flow of"):
        explain_at(live.store, config(), "S0", second + 10_000_000)


def test_the_command_answers_in_words_and_json(live: Live, toml: Path) -> None:
    """`--at` reads the journal; `--state` without it is a usage error."""
    entry = next(signal for signal in signals(live) if signal["action"] != "CLOSE")
    symbol, at = str(entry["base_symbol"]), str(entry["second"])
    arguments = ["explain", symbol, "--at", at, "--state", str(live.store.path.parent), "-c", str(toml)]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0, shown.output
    assert "is open since" in shown.output
    told = orjson.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)
    assert told["score"] == entry["score"]
    assert CliRunner().invoke(cli, ["explain", symbol, "--state", str(live.store.path.parent)]).exit_code == 2
