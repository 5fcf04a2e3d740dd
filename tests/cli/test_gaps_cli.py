"""`sqfd gaps` tells the story of cuts in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from sqfd.cli import cli
from sqfd.journal import Batch, GapRecord, JournalStore
from sqfd.story import duration
from tests.journal.rows import MARKETS, SYMBOLS, T0, bars, flow


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    store = JournalStore(tmp_path)
    store.register(MARKETS, SYMBOLS)
    start = T0 * 1000
    gaps = [
        GapRecord(0, start + 3000, start + 305_000, "recovered", "no data for 5.0 s", 0, 12_331, ""),
        GapRecord(
            1, start + 4000, start + 9000, "partial", "lost: 1006", 40, 60, "BINANCE_FUTURES reaches back no further"
        ),
        GapRecord(2, start + 5000, start + 65_000, "lost", "lost: 1006", None, 0, "OKEX offers no past trades"),
        GapRecord(2, start + 100_000, None, "gap", "refused by the exchange: 60018", None, 0, ""),
    ]
    store.append(Batch(T0 + 1, bars(), flow(), whole=np.ones(3, np.bool_), gaps=gaps))
    store.append(Batch(T0 + 601, bars(), flow(), whole=np.ones(3, np.bool_)))
    return tmp_path


def told(journal: Path, *arguments: str) -> str:
    answer = CliRunner().invoke(cli, ["gaps", "--state", str(journal), *arguments])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_each_fate_has_its_sentence(journal: Path) -> None:
    """Since when, which market, why, how many trades were filled in, and what remains lost."""
    lines = told(journal).splitlines()
    assert lines[0].endswith("all markets: sqfd did not run (or could not write its journal). Lost.")
    assert lines[1:4] == [
        "2024-08-08 00:00:03, 5 min 2 s, BINANCE:btcusdt: no data for 5.0 s. "
        "Recovered: 12,331 trades filled in, nothing is missing.",
        "2024-08-08 00:00:04, 5.0 s, BINANCE_FUTURES:btcusdt: lost: 1006. "
        "Partly recovered: 60 trades filled in; 40 trades still missing: BINANCE_FUTURES reaches back no further.",
        "2024-08-08 00:00:05, 1 min, OKEX:ETH-USDT: lost: 1006. Lost: OKEX offers no past trades.",
    ]
    assert lines[4].endswith("OKEX:ETH-USDT: refused by the exchange: 60018. Still going on.")
    assert lines[5] == (
        "4 gaps: 1 recovered, 1 recovered in part, 1 lost, 1 open or being recovered; 12,391 trades filled in"
    )


def test_markets_and_times_narrow_it_down(journal: Path) -> None:
    """`--market` takes a market or an exchange, `--since` leaves out what ended before; an unknown name is an error."""
    assert "2 gaps" in told(journal, "--market", "OKEX")
    assert "1 gap:" in told(journal, "--market", "BINANCE:btcusdt")
    assert "1 gap:" in told(journal, "--since", str(T0 + 400))
    answer = CliRunner().invoke(cli, ["gaps", "--state", str(journal), "--market", "OKX"])
    assert answer.exit_code == 1
    assert "did you mean OKEX" in answer.output


def test_json_has_a_line_per_gap_and_market(journal: Path) -> None:
    """Programs get times in milliseconds, the state and the same sentence."""
    rows = [orjson.loads(line) for line in told(journal, "--json").splitlines()]
    assert [row["state"] for row in rows] == ["recovered", "partial", "lost", "gap"]
    assert rows[0]["market"] == "BINANCE:btcusdt"
    assert (rows[0]["seconds"], rows[0]["recovered"], rows[1]["missed"]) == (302.0, 12_331, 40)
    assert rows[3]["until_ms"] is None


def test_no_gaps(tmp_path: Path) -> None:
    """A journal without gaps says so."""
    store = JournalStore(tmp_path)
    store.register(MARKETS, SYMBOLS)
    store.append(Batch(T0 + 1, bars(), flow(), whole=np.ones(3, np.bool_)))
    assert told(tmp_path) == "no gaps\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0.4 s"), (12, "12 s"), (302, "5 min 2 s"), (3600, "1 h"), (11_400, "3 h 10 min"), (187_200, "2 d 4 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    """Two units at most."""
    assert duration(seconds * 1e3) == words
