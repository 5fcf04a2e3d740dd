"""`sqfd exchanges` and the page of documentation that is made of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import exchanges
from sqfd.cli import cli
from tests.exchanges.support import json_lines

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exchanges.md"

TOLD = {
    "ts": "second|time",
    "number of rows": "never enter|not counted|counts once|left out|no trades|history",
    "side": "side",
    "size": "contract|halved|scaled|coins|size",
    "liq": "liquidation",
    "asserted values differ": "times the size",
}
"""What a note speaks of that decides such a disagreement."""


def said(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["exchanges", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_is_current() -> None:
    """docs/exchanges.md is what the code says: write it anew with `sqfd exchanges --markdown > docs/exchanges.md`."""
    assert PAGE.read_text() == said("--markdown")


def test_every_exchange_has_a_row_and_notes() -> None:
    """The overview has a line for each, and for each there is something to know."""
    assert [line.split()[0] for line in said().splitlines()[1:]] == list(exchanges.IDS)
    for exchange_id in exchanges.IDS:
        notes = exchanges.get(exchange_id).notes
        assert notes
        assert all(note.endswith(".") for note in notes)
        assert len(set(notes)) == len(notes)


def test_json_has_one_line_for_each() -> None:
    """Names, kinds, usual markets and limits, as scripts read them."""
    lines = [json.loads(line) for line in said("--json").splitlines()]
    assert [one["exchange"] for one in lines] == list(exchanges.IDS)
    kraken = next(one for one in lines if one["exchange"] == "KRAKEN")
    assert kraken["kinds"] == ["spot", "perp", "future"]
    assert "KRAKEN:XBT/USD" in kraken["markets"]
    assert kraken["limits"]["connects"] == [150, 600]


def test_one_exchange_is_told_in_sentences() -> None:
    """By name, in any case; an unknown one is a usage error that lists the known ones."""
    assert "`OKEX:BTC-USDT-SWAP`" in said("okex")
    result = CliRunner().invoke(cli, ["exchanges", "nowhere"])
    assert result.exit_code == 2
    assert "BINANCE_FUTURES" in result.output


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_every_disagreement_is_decided(exchange_id: str, shared: Path) -> None:
    """Where independent readers of real frames differ, a note says what is right here."""
    notes = " ".join(exchanges.get(exchange_id).notes)
    for path in (shared / "wire").glob("*.jsonl"):
        for line in json_lines(path.read_text()):
            if exchanges.by_venue(line["venue"], line["market"]) != exchange_id:
                continue
            for differs in {name for one in line.get("disagreement", []) for name in one["differs"]}:
                assert re.search(TOLD[differs], notes), (line["id"], differs)
