"""What is usual: mean moves and ranks over the last day, sampled at epoch minutes.

The baseline of a tick is a pure function of the epoch minute that the tick lies in and of the ring: it does not know how
ticks are blocked. Sums are integers, so growing them sample by sample or all at once gives the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sqfd.bars.ring import PERP, SPOT, FlowRing
from sqfd.strategy.settings import StrategySettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def common_windows(settings: StrategySettings) -> tuple[int, ...]:
    """Windows that phases 1 to 3 read at every tick."""
    halves = (window // 2 for window in settings.reset_windows_s)
    every = {*settings.context_windows_s, *settings.divergence_windows_s, *halves, settings.confirm_window_s}
    return tuple(sorted(every))


class Baseline:
    """Usual moves for the minutes from `first_minute` to `last_minute` (ticks, multiples of `sample_s`).

    `counts` and `sums` are [window, series, minute]: number of samples and Σ|Δ| of them. Where nothing moved they are 0 and 1,
    so that a normalised move is 0. `known` is [window, minute]: there was at least one sample.
    """

    def __init__(self, ring: FlowRing, settings: StrategySettings, first_tick: int, last_tick: int) -> None:
        self.settings = settings
        step = settings.sample_s
        self.first_minute = first_tick // step * step
        self.minutes = (last_tick // step * step - self.first_minute) // step + 1
        self.samples = settings.baseline_s // step
        self.row = {window: row for row, window in enumerate(settings.windows_s)}
        self.common = common_windows(settings)
        self.common_row = {window: row for row, window in enumerate(self.common)}
        self.common_at = np.array([self.row[window] for window in self.common])
        self.halves = [window // 2 for window in settings.reset_windows_s]
        self.halves_at = np.array([self.row[half] for half in self.halves])
        shape = (len(self.row), 3, self.minutes)
        self.counts: Ints = np.zeros(shape, np.int64)
        self.sums: Ints = np.ones(shape, np.int64)
        self.known: Bools = np.zeros((len(self.row), self.minutes), np.bool_)
        self._moves: dict[int, tuple[Ints, int]] = {}
        self._ranks: dict[tuple[str, int, int], float] = {}
        for window in settings.windows_s:
            self._sample(ring, window)

    def _sample(self, ring: FlowRing, window: int) -> None:
        step, row = self.settings.sample_s, self.row[window]
        last = self.first_minute + (self.minutes - 1) * step
        start = max(self.first_minute - (self.samples - 1) * step, -(-(ring.first_tick + window) // step) * step)
        if start > last:
            return
        left, right = start - ring.base, last - ring.base + 1
        series = ring.series
        moves = series[:, left:right:step] - series[:, left - window : right - window : step]
        running = np.zeros((3, moves.shape[1] + 1), np.int64)
        np.cumsum(np.abs(moves), axis=1, out=running[:, 1:])
        high = (self.first_minute - start) // step + 1 + np.arange(self.minutes)
        low = np.maximum(high - self.samples, 0)
        high = np.maximum(high, 0)
        sums = running[:, high] - running[:, low]
        moved = sums > 0
        self.sums[row] = np.where(moved, sums, 1)
        self.counts[row] = np.where(moved, high - low, 0)
        self.known[row] = high > low
        if window in self.settings.divergence_windows_s:
            self._moves[window] = moves, (self.first_minute - start) // step + 1

    def minute(self, ticks: Ints) -> Ints:
        """Column of each tick's minute."""
        return ticks // self.settings.sample_s - self.first_minute // self.settings.sample_s

    def normalised(self, moves: Ints, window: int, series: int, minute: Ints) -> Floats:
        """n(X, W) of single moves: `sensitivity · Δ / swing`, as one division of exact integers."""
        row = self.row[window]
        counts, sums = self.counts[row, series, minute], self.sums[row, series, minute]
        return np.asarray(self.settings.sensitivity * ((moves * counts) / sums))

    def swing(self, window: int, series: int, minute: Ints) -> Floats:
        """The usual |Δ| in the series' own unit; 0 where nothing is known."""
        row = self.row[window]
        counts, sums = self.counts[row, series, minute], self.sums[row, series, minute]
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), 0.0))

    def _samples_of(self, window: int, minute: int) -> Ints:
        """[3, samples] moves of the divergence window that the baseline of this minute has seen."""
        if window not in self._moves:
            return np.zeros((3, 0), np.int64)
        moves, offset = self._moves[window]
        high = max(offset + minute, 0)
        return moves[:, max(high - self.samples, 0) : high]

    def move_rank(self, window: int, series: int, rank: float, minute: int) -> int:
        """The |Δ| that a share `rank` of the samples lies below (an actual sample); 0 without samples."""
        key = ("move", window * 4 + series, minute)
        if key not in self._ranks:
            self._ranks[key] = _order_statistic(np.abs(self._samples_of(window, minute)[series]), rank)
        return int(self._ranks[key])

    def gap_rank(self, window: int, rank: float, minute: int) -> float:
        """The |n(S) − n(P)| that a share `rank` of the samples lies below, all in units of this minute's baseline."""
        key = ("gap", window, minute)
        if key not in self._ranks:
            moves, row = self._samples_of(window, minute), self.row[window]
            flows = slice(SPOT, PERP + 1)
            scaled = moves[flows] * self.counts[row, flows, minute, None] / self.sums[row, flows, minute, None]
            scaled *= self.settings.sensitivity
            gaps = scaled[0] - scaled[1]
            self._ranks[key] = _order_statistic(np.abs(gaps), rank)
        return self._ranks[key]


def _order_statistic(values: Ints | Floats, rank: float) -> float:
    if not len(values):
        return 0.0
    place = min(len(values) - 1, math.floor(rank * len(values)))
    return float(np.partition(values, place)[place])
