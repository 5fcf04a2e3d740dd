"""Moves of a block of ticks, normalised by what is usual, and the two array tools that all phases share."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from sqfd.bars.ring import COVERAGE, PRICE, FlowRing
from sqfd.strategy.baseline import Baseline, Bools, Floats, Ints
from sqfd.strategy.settings import StrategySettings

Column = TypeVar("Column", Ints, Floats)
PerMinute = TypeVar("PerMinute", Ints, Bools)

NEVER = -(1 << 40)
"""A tick long before any."""
FEW = 8
"""Up to so many windows a loop over plain slices is faster than a table."""


class Features:
    """The ticks `[first, last)` of one symbol.

    `moves` int64 and `normal` float64 are [window, series, tick] for the windows that every tick needs; `older` holds the
    normalised S and P moves of the older half of each reset window, [window, 2, tick]. All other moves come from `moves_at`,
    for the ticks that need them. Every value depends on its own tick only.
    """

    def __init__(self, ring: FlowRing, baseline: Baseline, settings: StrategySettings, first: int, last: int) -> None:
        self.ring, self.baseline, self.settings = ring, baseline, settings
        self.first, self.last = first, last
        self.ticks: Ints = np.arange(first, last)
        self.minute = baseline.minute(self.ticks)
        windows, self._usual = baseline.common, baseline.common_at
        self.row = baseline.common_row
        self._lead = first - baseline.first_minute if baseline.minutes > 1 else 0
        self._span = baseline.minutes * settings.sample_s if baseline.minutes > 1 else last - first
        moves = self._moves(windows)
        self.moves = self._inside(moves)
        self.normal = self._normalised(moves, self._usual, slice(None))
        self.known: Bools = self._per_tick(baseline.known[self._usual])
        """[window, tick], or [window, 1] where all ticks share a minute: the baseline knows this window."""
        self.all_known = bool(self.known.all())
        self.coverage = self._coverage()
        self.older = self._normalised(self._older_moves(baseline.halves), baseline.halves_at, slice(1, 3))

    def _moves(self, windows: tuple[int, ...]) -> Ints:
        series, at = self.ring.series, self.first - self.ring.base
        until = self.last - self.ring.base
        if self._span == 1 and self.first - windows[-1] >= self.ring.first_tick:
            return np.asarray((series[:, at : at + 1] - series[:, at - np.array(windows)]).T[:, :, None])
        moves: Ints = np.zeros((len(windows), 3, self._span), np.int64)
        inside = self._inside(moves)
        for row, window in enumerate(windows):
            start = max(at, self.ring.first_tick - self.ring.base + window)
            if start < until:
                left = series[:, start - window : until - window]
                np.subtract(series[:, start:until], left, out=inside[row, :, start - at :])
        return moves

    def _inside(self, values: Column) -> Column:
        """The block's own ticks of a table that is padded to whole minutes."""
        return values[..., self._lead : self._lead + self.last - self.first]

    def _older_moves(self, halves: list[int]) -> Ints:
        series, at = self.ring.series[1:], self.first - self.ring.base
        until = self.last - self.ring.base
        if self._span == 1 and self.first - 2 * halves[-1] >= self.ring.first_tick:
            back = np.array(halves)
            return np.asarray((series[:, at - back] - series[:, at - 2 * back]).T[:, :, None])
        moves: Ints = np.zeros((len(halves), 2, self._span), np.int64)
        inside = self._inside(moves)
        for row, half in enumerate(halves):
            start = max(at, self.ring.first_tick - self.ring.base + 2 * half)
            if start < until:
                middle, left = series[:, start - half : until - half], series[:, start - 2 * half : until - 2 * half]
                np.subtract(middle, left, out=inside[row, :, start - at :])
        return moves

    def _normalised(self, moves: Ints, usual: Ints, series: slice) -> Floats:
        """`Baseline.normalised` of a padded table, minute by minute, so that baselines need not be spread over ticks."""
        counts, sums = self.baseline.counts[usual, series], self.baseline.sums[usual, series]
        if self.baseline.minutes == 1:
            return np.asarray(self.settings.sensitivity * ((moves * counts) / sums))
        by_minute = moves.reshape(*moves.shape[:2], self.baseline.minutes, -1)
        normal = (by_minute * counts[..., None]) / sums[..., None]
        normal *= self.settings.sensitivity
        return self._inside(normal.reshape(moves.shape))

    def _per_tick(self, per_minute: PerMinute) -> PerMinute:
        if per_minute.shape[-1] == 1:
            return per_minute
        return np.take(per_minute, self.minute, axis=-1)

    def price_at(self, ticks: Ints) -> Ints:
        """Log price × 1e9."""
        return np.asarray(self.ring.series[PRICE, ticks - self.ring.base])

    def moves_at(self, ticks: Ints, window: int | Ints, series: int) -> Ints:
        """Δ over `window` (one, or one per tick) seconds up to each tick; 0 before there was that much history."""
        right = ticks - self.ring.base
        left = np.maximum(right - window, 0)
        column = self.ring.series[series]
        return np.where(ticks - window >= self.ring.first_tick, column[right] - column[left], 0)

    def normal_at(self, ticks: Ints, window: int, series: int) -> Floats:
        """n(X, window) at single ticks of the block."""
        moves = self.moves_at(ticks, window, series)
        return self.baseline.normalised(moves, window, series, self.baseline.minute(ticks))

    def swing_at(self, ticks: Ints, window: int, series: int) -> Floats:
        """The usual |Δ| at single ticks of the block."""
        return self.baseline.swing(window, series, self.baseline.minute(ticks))

    def all_normal_at(self, ticks: Ints, window: int) -> Floats:
        """[series, tick] of `normal_at`."""
        right = ticks - self.ring.base
        left = np.maximum(right - window, 0)
        series, row, minute = self.ring.series, self.baseline.row[window], self.baseline.minute(ticks)
        moves = np.where(ticks - window >= self.ring.first_tick, series[:, right] - series[:, left], 0)
        counts, sums = self.baseline.counts[row][:, minute], self.baseline.sums[row][:, minute]
        return np.asarray(self.settings.sensitivity * ((moves * counts) / sums))

    def detail_at(self, ticks: Ints, row: int) -> Ints:
        """One column of the ring's `detail` at single ticks."""
        return np.asarray(self.ring.detail[row, ticks - self.ring.detail_base])

    def lowest(self, row: int, after: Ints, until: Ints) -> Ints:
        """Minimum of a column of `detail` over the ticks `(after, until]` of each pair, within what is kept."""
        return self._extreme(row, after, until, np.minimum)

    def highest(self, row: int, after: Ints, until: Ints) -> Ints:
        """Maximum of a column of `detail` over the ticks `(after, until]` of each pair, within what is kept."""
        return self._extreme(row, after, until, np.maximum)

    def _extreme(self, row: int, after: Ints, until: Ints, pick: np.ufunc) -> Ints:
        base = max(self.ring.detail_base, self.ring.first_tick)
        start = np.maximum(after + 1, base) - self.ring.detail_base
        return range_extreme(self.ring.detail[row], start, until + 1 - self.ring.detail_base, pick)

    def _coverage(self) -> Floats:
        """Mean coverage of each tick's setup window, or of the history where that is shorter; share of 1."""
        window = np.minimum(self.settings.setup_window_s, self.ticks - self.ring.first_tick)
        right = self.ticks - self.ring.detail_base
        column = self.ring.detail[COVERAGE]
        return np.asarray((column[right] - column[right - window]) / np.maximum(window, 1) / 1e6)


def range_extreme(column: Ints, start: Ints, stop: Ints, pick: np.ufunc) -> Ints:
    """`pick` (np.minimum or np.maximum) reduced over `column[start:stop]` of each pair; every range holds an element."""
    if len(start) <= FEW:
        ranges = zip(start.tolist(), stop.tolist(), strict=True)
        return np.array([pick.reduce(column[left:right]) for left, right in ranges], np.int64)
    origin = int(start.min())
    level = column[origin : int(stop.max())]
    length = stop - start
    power = np.frexp(length.astype(np.float64))[1] - 1
    out = np.empty(len(start), np.int64)
    for exponent in range(int(power.max()) + 1):
        mine = power == exponent
        if mine.any():
            left = start[mine] - origin
            out[mine] = pick(level[left], level[left + length[mine] - (1 << exponent)])
        half = 1 << exponent
        if len(level) > half:
            level = pick(level[:-half], level[half:])
    return out


def distinct(ascending: Ints) -> tuple[Ints, Ints]:
    """The distinct values, and for each element the place of its value: np.unique for what is sorted already."""
    new = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return ascending[new], np.cumsum(new) - 1


class Held(NamedTuple):
    """Where something last held, up to each tick: `place` in the block, −1 where that was before the block."""

    place: Ints
    before: Bools

    def tick(self, first: int, remembered: Ints | int) -> Ints:
        """The tick of `place` in a block that begins at `first`; `remembered` where that was before the block."""
        return np.where(self.before, remembered, first + self.place)

    def pick(self, values: Column, remembered: Column | float) -> Column:
        """`values` as they were when it last held; `remembered` where that was before the block."""
        if self.place.shape[-1] == 1:
            return np.where(self.before, remembered, values)
        length = self.place.shape[-1]
        rows, places = np.ascontiguousarray(values).reshape(-1, length), np.maximum(self.place, 0).reshape(-1, length)
        taken = np.stack([row.take(place) for row, place in zip(rows, places, strict=True)]).reshape(self.place.shape)
        return np.where(self.before, remembered, taken)


def last_held(holds: Bools) -> Held:
    """Forward fill of positions along the last axis."""
    if holds.shape[-1] == 1:
        return Held(np.where(holds, 0, -1), ~holds)
    places = np.arange(holds.shape[-1])
    index = np.maximum.accumulate(np.where(holds, places, -1), axis=-1)
    return Held(index, index < 0)
