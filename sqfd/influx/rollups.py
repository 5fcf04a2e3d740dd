"""Which ranges need their rollups made again: InfluxDB's continuous queries never see what changes behind them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SEEN_BY_QUERIES_S = 45
"""A second that is written this soon is in the next run of `cq_trades_1m`, and in every other but at the end of a bucket."""
PIECE_S = 60
"""Length of the pieces that ranges are made of."""
LONGEST_S = 14_400
"""A range is cut where it crosses a multiple of this, so that no statement takes longer than a request may."""
MAX_RANGES = 64


class Revised:
    """Ranges of seconds that were written late, merged and bounded."""

    def __init__(self) -> None:
        self._minutes: set[int] = set()

    def __len__(self) -> int:
        return len(self._minutes)

    def note(self, seconds: NDArray[np.int64], now_s: float) -> None:
        """Note those `seconds` that were written at `now_s`, too late for the continuous queries."""
        late = seconds[seconds < now_s - SEEN_BY_QUERIES_S]
        self._minutes.update((np.unique(late // PIECE_S) * PIECE_S).tolist())

    def minutes(self) -> list[int]:
        """Beginnings of the minutes that are noted."""
        return sorted(self._minutes)

    def restore(self, minutes: Iterable[int]) -> None:
        """Note what `minutes` gave."""
        self._minutes.update(minutes)

    def take(self) -> list[tuple[int, int]]:
        """The ranges (from, to) in seconds, oldest first, and forget them.

        Beyond MAX_RANGES ranges of one LONGEST_S become one: making a rollup again that did not need it changes nothing.
        """
        minutes = sorted(self._minutes)
        self._minutes.clear()
        ranges: list[tuple[int, int]] = []
        for minute in minutes:
            if ranges and minute == ranges[-1][1] and minute % LONGEST_S:
                ranges[-1] = (ranges[-1][0], minute + PIECE_S)
            else:
                ranges.append((minute, minute + PIECE_S))
        return _bounded(ranges)


def _bounded(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if len(ranges) <= MAX_RANGES:
        return ranges
    merged: dict[int, tuple[int, int]] = {}
    for start, end in ranges:
        first, _ = merged.get(start // LONGEST_S, (start, end))
        merged[start // LONGEST_S] = (first, end)
    return list(merged.values())
