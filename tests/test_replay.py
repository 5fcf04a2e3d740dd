"""A real capture through the whole path gives exactly the bars of the slow twin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sqfd.config import Config
from sqfd.feed.recorded import Recorded, Recording, RecordingError
from sqfd.journal import JournalStore
from sqfd.model import BAR_FIELDS
from sqfd.replay import Replay, Summary
from tests.twin import expected_bars

TRADES = 55_270
BARS = 1_784
EXACT = ("open", "high", "low", "close", "cbuy", "csell", "lbuy", "lsell")


@pytest.fixture(scope="module")
def capture(shared: Path) -> Path:
    return shared / "replay" / "binance-2024-08-08"


@pytest.fixture(scope="module")
def replayed(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JournalStore, Summary]]:
    store = JournalStore(tmp_path_factory.mktemp("state"), bulk=True)
    yield store, Replay(Config(), store).run(Recording(capture))
    store.close()


def stored(store: JournalStore) -> dict[tuple[str, int], dict[str, float]]:
    names = store.market_names()
    rows = store.bars(None, 0, 2_000_000_000)
    return {(names[row["market"]], int(row["second"])): {name: float(row[name]) for name in BAR_FIELDS} for row in rows}


def test_every_bar_equals_the_twins(capture: Path, replayed: tuple[JournalStore, Summary]) -> None:
    """All 1,784 bars of six markets: counts and prices equal, volumes to 1e-9 relative; nothing missing or extra."""
    bars, expected = stored(replayed[0]), expected_bars(capture)
    assert bars.keys() == expected.keys()
    assert len(bars) == BARS
    for key, twin in expected.items():
        assert {name: bars[key][name] for name in EXACT} == {name: twin[name] for name in EXACT}, key
        for name in ("vbuy", "vsell"):
            assert bars[key][name] == pytest.approx(twin[name], rel=1e-9), key


def test_no_trade_is_lost(replayed: tuple[JournalStore, Summary]) -> None:
    """Received = aggregated: nothing is a duplicate, late or malformed in the capture."""
    counts = replayed[1].counts
    assert counts.received == counts.aggregated == TRADES
    assert counts.conserved()


def test_host_clock_behind_the_exchange_closes_no_second_early(replayed: tuple[JournalStore, Summary]) -> None:
    """The host ran 1.27 s behind: closing by its clock would be early, and every bar would be revised."""
    assert replayed[1].revisions == 0


def test_flow_is_the_bars_in_cents(replayed: tuple[JournalStore, Summary]) -> None:
    """A symbol's spot delta over the capture is the sum of its spot bars, rounded to cents per bar."""
    store = replayed[0]
    names = store.market_names()
    rows = store.bars([name for name in names if name == "BINANCE:btcusdt"], 0, 2_000_000_000)
    cents = np.round(rows["vbuy"] * 100).astype(int) - np.round(rows["vsell"] * 100).astype(int)
    flow = store.flow("BTC", 0, 2_000_000_000).rows
    assert int(flow["spot_delta"].sum()) == int(cents.sum())


def test_repeating_a_replay_changes_nothing(
    capture: Path, replayed: tuple[JournalStore, Summary], tmp_path: Path
) -> None:
    """The same frames into the same journal leave it as it was."""
    frames = _first(Recording(capture), 5_000)
    store = JournalStore(tmp_path, bulk=True)
    Replay(Config(), store).run(frames)
    once = stored(store)
    Replay(Config(), store).run(frames)
    assert stored(store) == once
    store.close()


def _first(recording: Recording, count: int) -> Sequence[Recorded]:
    return [frame for frame, _ in zip(recording, range(count), strict=False)]


def test_unreadable_lines_and_frames_cost_only_themselves(capture: Path, tmp_path: Path) -> None:
    """Garbage between good frames is counted, the first is named, and the rest is replayed."""
    frames = _first(Recording(capture), 3)
    lines = [f'{{"recv_ms":{f.recv_ms},"exchange":"{f.exchange}","frame":{_quoted(f.frame)}}}' for f in frames]
    bad = f'{{"recv_ms":{frames[0].recv_ms},"exchange":"BINANCE","frame":"[1,2"}}'
    (tmp_path / "a.jsonl").write_text("\n".join([lines[0], "not json", bad, *lines[1:]]) + "\n")
    recording = Recording(tmp_path)
    store = JournalStore(tmp_path / "state", bulk=True)
    summary = Replay(Config(), store).run(recording)
    store.close()
    assert (summary.counts.aggregated, summary.unreadable, summary.counts.malformed) == (3, 1, 1)
    assert recording.first_unreadable is not None
    assert recording.first_unreadable.startswith("a.jsonl:2: ")


def _quoted(frame: bytes) -> str:
    import json

    return json.dumps(frame.decode())


def test_a_folder_without_a_recording_says_so(tmp_path: Path) -> None:
    """One line with what was looked for and how to make one."""
    with pytest.raises(RecordingError, match=r"no \*\.jsonl\.gz there"):
        Recording(tmp_path)
