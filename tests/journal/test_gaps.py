"""Gaps in the journal: one row each, and coverage as it is known now."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sqfd.journal import Batch, GapRecord, JournalStore
from tests.journal.rows import MARKETS, NAMES, SYMBOLS, T0, bars, flow


def gap(market: int, first: float, until: float | None, state: str = "gap", recovered: int = 0) -> GapRecord:
    """Seconds after T0."""
    end = None if until is None else int((T0 + until) * 1000)
    return GapRecord(market, int((T0 + first) * 1000), end, state, "lost", None, recovered, "")


def filled(folder: Path, gaps: dict[int, list[GapRecord]], ticks: int = 20) -> JournalStore:
    """A journal of `ticks` seconds in which market 1 was not whole from second 5 to 9; gaps by tick."""
    store = JournalStore(folder)
    store.register(MARKETS, SYMBOLS)
    for second in range(ticks):
        whole = np.array([True, not 5 <= second < 10, True])
        store.append(Batch(T0 + second + 1, bars(), flow(), whole=whole, gaps=gaps.get(second, [])))
    return store


def test_a_gap_is_one_row_that_grows_up(tmp_path: Path) -> None:
    """It begins, ends and is recovered: the newest of the three is what is read."""
    story = {5: [gap(1, 5.2, None)], 10: [gap(1, 5.2, 9.9)], 12: [gap(1, 5.2, 9.9, "recovered", 7)]}
    store = filled(tmp_path, story)
    assert store.gaps() == [gap(1, 5.2, 9.9, "recovered", 7)]
    assert store.gaps(T0 + 10) == []


def test_recovered_seconds_are_whole_and_lost_ones_are_not(tmp_path: Path) -> None:
    """Coverage is amended: recovered seconds become whole, those found missing later lose it, other markets stay."""
    story = {12: [gap(1, 5.2, 9.9, "recovered", 7), gap(0, 15.0, 16.5, "lost")]}
    whole = filled(tmp_path, story).coverage(NAMES, T0, T0 + 20)
    assert whole[1].all()
    assert whole[2].all()
    assert np.flatnonzero(~whole[0]).tolist() == [15, 16]


def test_what_a_run_left_open_is_lost_for_the_next(tmp_path: Path) -> None:
    """A daemon that ends in a gap cannot fill it: the next one closes it as lost, where the last tick was."""
    filled(tmp_path, {18: [gap(1, 18.0, None), gap(2, 3.0, 4.0)]}).close()
    store = JournalStore(tmp_path)
    assert [(g.market, g.state, g.until_ms, g.note) for g in store.gaps()] == [
        (2, "lost", (T0 + 4) * 1000, "sqfd stopped"),
        (1, "lost", (T0 + 20) * 1000, "sqfd stopped"),
    ]


def test_pauses_between_runs_are_told(tmp_path: Path) -> None:
    """Seconds in which nothing was journaled at all are a gap of every market."""
    store = filled(tmp_path, {})
    store.append(Batch(T0 + 51, bars(), flow(), whole=np.ones(3, np.bool_)))
    assert store.pauses() == [(T0 + 20, T0 + 50)]
