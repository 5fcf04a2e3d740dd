"""What is usual: mean moves and ranks over the last day, sampled at epoch minutes.

The baseline of a tick is a pure function of the epoch minute that the tick lies in and of the ring: it does not know how
ticks are blocked. Sums are integers, so growing them sample by sample or all at once gives the same.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqfd.bars.ring import PERP, SPOT, FlowRing
from sqfd.lazy import lazy
from sqfd.strategy.settings import StrategySettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Numbers = NDArray[Any]
"""Ints or Floats."""

ROOM = 240
"""Samples that are taken before older ones are dropped."""
PIECE = 60
"""Minutes whose ranks are bounded together."""
SAFE = 1e-9
"""Share of the largest legs by which bounds of gaps lie wide: more than the rounding of the few operations that make one."""
GAP = 3
"""What `Baseline` knows beside PRICE, SPOT and PERP."""


class Bounds(NamedTuple):
    """[minute]: a rank lies neither below `low` nor above `high`."""

    low: Numbers
    high: Numbers


class Samples:
    """Moves of one ring at epoch minutes. They grow with the ring; only those that a revision changed are taken again.

    Column 0 is the tick `first`. `running` is [window, series, sample], with one column more: the sums of all |moves| before.
    `moves` holds the moves themselves for the windows `ranked`, [window, series, sample]. Moves are 0 where the history was
    too short, and so is what lies before the oldest sample.
    """

    def __init__(self, ring: FlowRing, windows: tuple[int, ...], ranked: tuple[int, ...], step: int, keep: int) -> None:
        self._ring, self.step, self.keep = ring, step, keep
        self._windows = np.array(windows)
        self.row = {window: row for row, window in enumerate(windows)}
        self._ranked = np.array([windows.index(window) for window in ranked])
        self._began = -1
        self._oldest = self.first = self.size = 0
        self._resize(keep + ROOM)

    def _resize(self, columns: int) -> None:
        moves = np.zeros((len(self._ranked), 3, columns), np.int64)
        running = np.zeros((len(self._windows), 3, columns + 1), np.int64)
        if self.size:
            moves[..., : self.size] = self.moves[..., : self.size]
            running[..., : self.size + 1] = self.running[..., : self.size + 1]
        self.moves: Ints = moves
        self.running: Ints = running

    @property
    def end(self) -> int:
        """Tick of the sample after the last one."""
        return self.first + self.size * self.step

    def cover(self, first: int, last: int) -> None:
        """Have the samples of the minutes from `keep` before `first` to `last`, as the ring is now."""
        began = self._ring.first_tick
        oldest = max(first - (self.keep - 1) * self.step, -(-began // self.step) * self.step)
        if began != self._began or not self._oldest <= oldest <= self.end:
            self._restart(began, oldest)
        count = (last - self.end) // self.step + 1
        if count <= 0:
            return
        if self.size + count > self.moves.shape[2]:
            self._drop((first - self.first) // self.step + 1 - self.keep)
        if self.size + count > self.moves.shape[2]:
            self._resize(self.size + count)
        self._take(count)

    def _restart(self, began: int, oldest: int) -> None:
        """Begin with `keep` columns of nothing, so that sums over the last `keep` need no lower bound."""
        self._began, self._oldest = began, oldest
        self.first, self.size = oldest - self.keep * self.step, self.keep
        self.moves[..., : self.keep] = 0
        self.running[..., : self.keep + 1] = 0

    def _take(self, count: int) -> None:
        ring, size = self._ring, self.size
        ticks = self.end + self.step * np.arange(count)
        left = ticks - self._windows[:, None]
        series = ring.series
        before = series[:, np.maximum(left - ring.base, 0)].swapaxes(0, 1)
        moves = np.where((left >= ring.first_tick)[:, None], series[:, ticks - ring.base] - before, 0)
        self.moves[..., size : size + count] = moves[self._ranked]
        sums = np.cumsum(np.abs(moves), axis=2)
        self.running[..., size + 1 : size + count + 1] = sums + self.running[..., size, None]
        self.size += count

    def _drop(self, columns: int) -> None:
        """Forget the first columns; sums begin anew with what is left."""
        columns = max(columns, 0)
        self.moves[..., : self.size - columns] = self.moves[..., columns : self.size].copy()
        kept = self.running[..., columns : self.size + 1]
        self.running[..., : self.size + 1 - columns] = kept - kept[..., :1]
        self.first += columns * self.step
        self.size -= columns
        self._oldest = max(self._oldest, self.first)

    def revised(self, tick: int) -> None:
        """The ring changed from `tick` on."""
        self.size = min(self.size, -(-(max(tick, self._oldest) - self.first) // self.step))

    def counts(self, minutes: Ints) -> Ints:
        """[window, minute]: how many samples of the last `keep` there are."""
        oldest = -(-(self._began + self._windows) // self.step) * self.step
        return np.asarray(np.clip((minutes - oldest[:, None]) // self.step + 1, 0, self.keep))


class Baseline:
    """Usual moves for the minutes from `first_minute` to `last_minute` (ticks, multiples of `sample_s`).

    `counts` and `sums` are [window, series, minute]: number of samples and Σ|Δ| of them, whole numbers as floats. Where nothing
    moved they are 0 and 1, so that a normalised move is 0. `known` is [window, minute]: there was at least one sample.

    A normalised move is `factor · ((Δ · times) / sums)`. A sensitivity that is a power of two is in `times` already and the factor is 1:
    scaling by it is exact, so the bits are those of scaling last, with one operation less.
    """

    def __init__(self, samples: Samples, settings: StrategySettings, first_tick: int, last_tick: int) -> None:
        self.settings, self._samples = settings, samples
        step = settings.sample_s
        self.first_minute = first_tick // step * step
        self.minutes = (last_tick // step * step - self.first_minute) // step + 1
        last_minute = self.first_minute + (self.minutes - 1) * step
        samples.cover(self.first_minute, last_minute)
        self.row = samples.row
        self._place = (self.first_minute - samples.first) // step + 1
        """Of the first minute in `running`: that many samples lie before its end."""
        until = samples.running[..., self._place : self._place + self.minutes]
        sums = until - samples.running[..., self._place - samples.keep : self._place - samples.keep + self.minutes]
        counts = samples.counts(self.first_minute + step * np.arange(self.minutes))
        moved = sums > 0
        self.known: Bools = counts > 0
        self.sums: Floats = np.maximum(sums, 1).astype(np.float64)
        self.counts: Floats = np.multiply(moved, counts[:, None], dtype=np.float64)
        folds = math.frexp(settings.sensitivity)[0] == 0.5
        self.times: Floats = settings.sensitivity * self.counts if folds else self.counts
        self.factor = 1.0 if folds else settings.sensitivity
        self._samples_of_minute = counts
        self._ranks: dict[tuple[int, int, float], Ints] = {}
        self._gaps: dict[tuple[int, float], Floats] = {}
        self._bounds: dict[tuple[int, int, float], Bounds] = {}
        self._scales: tuple[Ints, int, Floats, Floats] | None = None
        """As they were asked for last."""

    def minute(self, first: int, last: int) -> Ints:
        """Column of the minute of each tick of `[first, last)`."""
        step = self.settings.sample_s
        lead = first - self.first_minute
        return np.repeat(np.arange(self.minutes), step)[lead : lead + last - first]

    def normalised(self, moves: Ints, window: int, series: int | slice, minute: Ints) -> Floats:
        """n(X, W) of single moves: `sensitivity · Δ / swing`, as one division of whole numbers, exact below 2⁵³."""
        row = self.row[window]
        times, sums = self.times[row, series], self.sums[row, series]
        if self.minutes > 1:
            times, sums = times.take(minute, axis=-1), sums.take(minute, axis=-1)
        found = moves * times
        found /= sums
        return found if self.factor == 1.0 else found * self.factor

    def scales(self, rows: Ints, minute: int) -> tuple[Floats, Floats]:
        """[series, row of `times` and `sums`] of one minute: what a normalised move is multiplied with, and divided by.

        Live all ticks of a minute ask for the same.
        """
        if self._scales is None or self._scales[0] is not rows or self._scales[1] != minute:
            times, sums = (each[..., minute].T[:, rows] for each in (self.times, self.sums))
            self._scales = rows, minute, times, sums
        return self._scales[2:]

    def swing(self, window: int, series: int) -> Floats:
        """[minute]: the usual |Δ| in the series' own unit; 0 where nothing is known."""
        row = self.row[window]
        counts, sums = self.counts[row, series], self.sums[row, series]
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), 0.0))

    def _moves_of(self, window: int, minutes: Ints, series: int) -> Ints:
        """[minute, sample] moves that the baselines of these minutes have seen, all with equally many samples."""
        count = int(self._samples_of_minute[self.row[window], minutes[0]])
        moves = self._samples.moves[self.settings.divergence_windows_s.index(window), series]
        start, rows = int(minutes[0]) + self._place - count, int(minutes[-1] - minutes[0]) + 1
        overlapping = np.ndarray((rows, count), np.int64, moves[start:], 0, moves.strides * 2)
        return overlapping if rows == len(minutes) else np.asarray(overlapping[minutes - minutes[0]])

    def _alike(self, window: int, minutes: Ints) -> list[Ints]:
        """Minutes in groups of equally many samples: one group where a whole day is known."""
        counts = self._samples_of_minute[self.row[window], minutes]
        if not len(counts) or counts[0] == counts[-1]:
            return [minutes] if len(counts) and counts[0] else []
        return [minutes[place : place + 1] for place in np.flatnonzero(counts).tolist()]

    def move_bounds(self, window: int, series: int, rank: float) -> Bounds:
        """Of `move_ranks`, at a fraction of their cost: nearly all that a minute has seen its neighbours have seen too."""
        key = window, series, rank
        if key not in self._bounds:
            moved = self._by_piece(window, series)
            self._bounds[key] = self._unbounded() if moved is None else self._bounded(*(np.abs(moved),) * 2, rank)
        return self._bounds[key]

    def gap_bounds(self, window: int, rank: float) -> Bounds:
        """Of `gap_ranks`: no sample is smaller or larger than it can be in units of any baseline of its piece."""
        key = window, GAP, rank
        if key not in self._bounds:
            spot, perp = self._by_piece(window, SPOT), self._by_piece(window, PERP)
            if spot is None or perp is None:
                self._bounds[key] = self._unbounded()
            else:
                self._bounds[key] = self._gap_bounds(window, spot, perp, rank)
        return self._bounds[key]

    def _gap_bounds(self, window: int, spot: Ints, perp: Ints, rank: float) -> Bounds:
        legs = self._extremes(spot, window, SPOT), self._extremes(perp, window, PERP)
        least = np.minimum(*legs[0]) - np.maximum(*legs[1])
        most = np.maximum(*legs[0]) - np.minimum(*legs[1])
        smallest = np.maximum(np.maximum(least, -most), 0.0)
        low, high = self._bounded(smallest, np.maximum(np.abs(least), np.abs(most)), rank)
        wide = SAFE * max(float(np.abs(leg).max()) for pair in legs for leg in pair)
        return Bounds(low - wide, high + wide)

    def _unbounded(self) -> Bounds:
        return Bounds(np.zeros(self.minutes), np.full(self.minutes, np.inf))

    def _by_piece(self, window: int, series: int) -> Ints | None:
        """[piece, sample]: the moves that any minute of each piece has seen; None where minutes have seen unequally many."""
        counts = self._samples_of_minute[self.row[window]]
        if counts[0] != counts[-1] or not counts[0] or self.minutes < 2:
            return None
        width = min(PIECE, self.minutes)
        column = self._samples.moves[self.settings.divergence_windows_s.index(window), series]
        start = self._place - int(counts[0])
        shape = self.minutes - width + 1, int(counts[0]) + width - 1
        return np.ndarray(shape, np.int64, column[start:], 0, column.strides * 2)[self._pieces]

    @lazy
    def _pieces(self) -> Ints:
        """The first minute of each piece; the last piece may overlap with the one before."""
        return np.minimum(np.arange(0, self.minutes, PIECE), max(0, self.minutes - PIECE))

    def _extremes(self, moves: Ints, window: int, series: int) -> tuple[Floats, Floats]:
        """[piece, sample] in units of the smallest and of the largest baseline of the piece."""
        row, width = self.row[window], min(PIECE, self.minutes)
        scale = self.settings.sensitivity * self.counts[row, series] / self.sums[row, series]
        of_piece = scale[self._pieces[:, None] + np.arange(width)]
        return moves * of_piece.min(axis=1)[:, None], moves * of_piece.max(axis=1)[:, None]

    def _bounded(self, low: Numbers, high: Numbers, rank: float) -> Bounds:
        """A minute's samples are those of its piece without `width - 1`: its rank is no lower than if those were the largest, and no
        higher than if they were the smallest."""
        width = min(PIECE, self.minutes)
        place = _place_of(rank, low.shape[1] - width + 1)
        least, most = (_order_statistic(values, at) for values, at in ((low, place), (high, place + width - 1)))
        piece = np.minimum(np.arange(self.minutes) // PIECE, len(self._pieces) - 1)
        return Bounds(least[piece], most[piece])

    def move_ranks(self, window: int, series: int, rank: float, minutes: Ints) -> Ints:
        """By minute (ascending): the |Δ| that a share `rank` of the samples lies below, an actual sample; 0 without any."""
        key = window, series, rank
        if key not in self._ranks:
            self._ranks[key] = np.full(self.minutes, -1)
        known = self._ranks[key]
        missing = minutes[known[minutes] < 0]
        for group in self._alike(window, missing) if len(missing) else ():
            moved = np.abs(self._moves_of(window, group, series))
            known[group] = _order_statistic(moved, _place_of(rank, moved.shape[1]))
        return np.maximum(known[minutes], 0)

    def gap_ranks(self, window: int, rank: float, minutes: Ints) -> Floats:
        """By minute: the |n(S) − n(P)| that a share `rank` of the samples lies below, in units of that minute's baseline."""
        key = window, rank
        if key not in self._gaps:
            self._gaps[key] = np.full(self.minutes, -1.0)
        known = self._gaps[key]
        missing = minutes[known[minutes] < 0]
        for group in self._alike(window, missing) if len(missing) else ():
            spot, perp = (self._scaled(window, group, series) for series in (SPOT, PERP))
            gaps = np.abs(np.subtract(spot, perp, out=spot), out=spot)
            known[group] = _order_statistic(gaps, _place_of(rank, gaps.shape[1]))
        return np.maximum(known[minutes], 0.0)

    def _scaled(self, window: int, minutes: Ints, series: int) -> Floats:
        """[minute, sample]: the samples in units of these minutes' baselines."""
        row = self.row[window]
        scaled = self._moves_of(window, minutes, series) * self.times[row, series, minutes][:, None]
        scaled /= self.sums[row, series, minutes][:, None]
        if self.factor != 1.0:
            scaled *= self.factor
        return np.asarray(scaled)


def _place_of(rank: float, count: int) -> int:
    """Of the sample that a share `rank` of `count` lies below, in ascending order."""
    return min(count - 1, math.floor(rank * count))


def _order_statistic(values: Numbers, place: int) -> Numbers:
    """Along the last axis, of numbers that are not negative; `values` are left in another order.

    The bits of such floats order as integers do, which are parted faster.
    """
    bits = values.view(np.int64)
    bits.partition(place, axis=-1)
    return values[..., place].copy()
