"""What the journal has, per market and day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sqfd.journal import JournalStore

DAY_S = 86_400


class Day(NamedTuple):
    """One market's day (UTC)."""

    market: str
    day_s: int
    """Epoch second of its beginning."""
    whole_s: int
    """Seconds in which nothing was missed."""
    bars: int
    gaps: int
    """Stretches that are not whole, from the first second that we look at to the last."""
    longest_gap_s: int


def days(
    store: JournalStore, markets: Sequence[str] = (), from_s: int | None = None, to_s: int | None = None
) -> Iterator[Day]:
    """Each market's days that have bars or coverage, in order."""
    first, last = store.span()
    start = max(first, from_s or 0)
    end = min(last + 1, to_s if to_s is not None else last + 1)
    names = [name for name in store.market_names() if not markets or name in markets]
    for day in range(start // DAY_S * DAY_S, end, DAY_S):
        looked = max(day, start), min(day + DAY_S, end)
        counts = store.bar_counts(*looked)
        whole = store.coverage(names, *looked)
        for index, name in enumerate(names):
            gaps = _stretches(~whole[index])
            if whole[index].any() or counts.get(name, 0):
                yield Day(name, day, int(whole[index].sum()), counts.get(name, 0), len(gaps), int(max(gaps, default=0)))


def _stretches(missing: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    lengths: list[int] = (edges[1::2] - edges[::2]).tolist()
    return lengths
