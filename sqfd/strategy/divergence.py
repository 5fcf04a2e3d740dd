"""Phase 2: spot and perp takers disagree while price holds. A setup that held stays armed for a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PRICE, SPOT
from sqfd.lazy import lazy
from sqfd.strategy.baseline import Bools, Bounds, Floats, Ints
from sqfd.strategy.features import NEVER, Features, Held, distinct, held, remembering
from sqfd.strategy.reset import Reset


class Setup(msgspec.Struct, frozen=True):
    """What is remembered from one block to the next: the setup that last held, side 0 where there is none or it was left; and
    when spot and perps last diverged for a long and for a short, whether or not a setup came of it."""

    side: int = 0
    tick: int = 0
    level: float = 0.0
    strength: float = 0.0
    diverged: tuple[int, int] = (NEVER, NEVER)


class Holds(NamedTuple):
    """Setups that hold, [event]: places in the block, ascending, side 1 or −1, strength in [0, 1], and the log price × 1e9
    beyond which the setup is given up."""

    at: Ints
    side: Ints
    strength: Floats
    level: Floats


class Divergence:
    """Setups as events and, as a column of ticks, the side that is `armed`: 1 long, −1 short, else 0."""

    def __init__(self, features: Features, setup: Setup, holds: Holds, diverged: tuple[int, int]) -> None:
        self._features, self._setup, self._holds, self._diverged = features, setup, holds, diverged

    @lazy
    def held(self) -> Held:
        """When a setup last held."""
        features = self._features
        return held(self._holds.at, features.last - features.first, features.first, self._setup.tick)

    @lazy
    def holds(self) -> Ints:
        """[tick]: 1 where a long setup holds, −1 where a short one does, else 0."""
        column = np.zeros(self._features.last - self._features.first, np.int64)
        column[self._holds.at] = self._holds.side
        return column

    @lazy
    def strength(self) -> Floats:
        """[tick]: as when a setup last held."""
        return remembering(self._setup.strength, self._holds.strength)[self.held.place]

    @lazy
    def _side(self) -> Ints:
        """[tick]: of the setup that last held and was not left since."""
        if not self._setup.side and not len(self._holds.at):
            return np.zeros(self._features.last - self._features.first, np.int64)
        place = self.held.place
        side = remembering(self._setup.side, self._holds.side)[place]
        level = remembering(self._setup.level, self._holds.level)[place]
        beyond = np.flatnonzero(side * self._features.price < side * level)
        if len(beyond):
            # Left where price was beyond at any tick since it held: from the first such tick to the next event.
            event, places = distinct(place[beyond])
            first = beyond[np.searchsorted(places, np.arange(len(event)))]
            until = np.concatenate([self._holds.at, [len(place)]])[event]
            for left, right in zip(first.tolist(), until.tolist(), strict=True):
                side[left:right] = 0
        return side

    @lazy
    def armed(self) -> Ints:
        """[tick]"""
        side = self._side
        if not np.count_nonzero(side):
            return side
        return side * self.held.within(self._features.first, self._features.settings.armed_s)

    @property
    def after(self) -> Setup:
        """What later blocks need to know."""
        side, holds = int(self._side[-1]), self._holds
        if not len(holds.at):
            return msgspec.structs.replace(self._setup, side=side, diverged=self._diverged)
        tick, level, strength = self._features.first + int(holds.at[-1]), holds.level[-1], holds.strength[-1]
        return Setup(side, tick, float(level), float(strength), self._diverged)


def divergence(features: Features, setup: Setup, resets: Reset) -> Divergence:
    """Judge each tick and carry the setup through the block.

    While a reset of one side follows its divergence, the flow against it is that reset, no setup of the other side.
    """
    found = _windows(features)
    if not found:
        return Divergence(features, setup, _NOTHING, setup.diverged)
    at, sides, sizes = _together(found, features.last - features.first)
    diverging = [(sides == side).any(axis=0) for side in (1, -1)]
    last, counter = [], []
    for place in range(2):
        events = at[diverging[place]]
        diverged = held(events, features.last - features.first, features.first, setup.diverged[place])
        recent = features.ticks[at] - diverged.at(at) <= features.settings.armed_s
        counter.append(recent & resets.live[place, at])
        last.append(int(diverged.ticks[-1]))
    side = (diverging[0] & ~counter[1]).astype(np.int64) - (diverging[1] & ~counter[0])
    keep = side.nonzero()[0]
    at, side = at[keep], side[keep]
    widest = np.where(sides[:, keep] == side, sizes[:, keep], 0.0).max(axis=0)
    strength = np.minimum(1.0, widest / features.settings.divergence_full_gap)
    holds = Holds(at, side, strength, _levels(features, features.first + at, side))
    return Divergence(features, setup, holds, (last[0], last[1]))


_NOTHING = Holds(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


class Window(NamedTuple):
    """Where flows diverge over one window: places in the block, ascending, the side of each, and the size of the gap."""

    at: Ints
    side: Ints
    size: Floats


def _windows(features: Features) -> list[Window]:
    """The windows in which flows diverge anywhere. A feed that was not whole may look like a divergence: without coverage
    none does."""
    settings = features.settings
    windows = settings.divergence_windows_s
    size = np.abs(features.gaps(windows))
    large = size >= settings.divergence_gap_min
    if not np.count_nonzero(large):
        return []
    found = []
    for place, window in enumerate(windows):
        at = large[place].nonzero()[0]
        spot, perp = (features.moves(windows, series)[place, at] for series in (SPOT, PERP))
        side = np.sign(spot)
        at = at[(side * np.sign(perp) < 0) & (features.coverage[at] >= settings.min_coverage)]
        at = _ranking(features, place, window, at, size[place]) if len(at) else at
        if len(at):
            found.append(Window(at, np.sign(features.moves(windows, SPOT)[place, at]), size[place, at]))
    return found


def _ranking(features: Features, place: int, window: int, at: Ints, size: Floats) -> Ints:
    """Of the places `at` those whose gap, legs and price rank high enough: the most selective first, the dearest last."""
    settings, base, windows = features.settings, features.baseline, features.settings.divergence_windows_s
    gap = base.gap_bounds(window, settings.divergence_gap_rank)
    at = at[size[at] >= gap.low[features.minute[at]]]
    spot, perp, price = (features.moves(windows, series)[place] for series in (SPOT, PERP, PRICE))
    for series, legs, rank in ((SPOT, spot, settings.divergence_leg_rank), (PERP, perp, settings.divergence_leg_rank)):
        at = at[_reaches(features, window, series, rank, np.abs(legs[at]), at)]
    adverse = -np.sign(spot[at]) * price[at]
    at = at[~_reaches(features, window, PRICE, settings.divergence_price_rank, adverse, at)]
    exact = partial(base.gap_ranks, window, settings.divergence_gap_rank)
    return at[_at_least(size[at], features.minute[at], gap, exact)]


def _reaches(features: Features, window: int, series: int, rank: float, moves: Ints, at: Ints) -> Bools:
    """Which of the moves at these places are no smaller than their minute's rank."""
    bounds = features.baseline.move_bounds(window, series, rank)
    return _at_least(moves, features.minute[at], bounds, partial(features.baseline.move_ranks, window, series, rank))


def _at_least(values: Ints | Floats, minute: Ints, bounds: Bounds, exact: Callable[[Ints], Ints | Floats]) -> Bools:
    """Which values are no smaller than `exact` is for their minutes (ascending); it is asked only where bounds leave it open."""
    if len(bounds.low) == 1:  # live: one minute, whose ranks are remembered
        return np.asarray(values >= exact(minute[:1]))
    reaches = np.asarray(values >= bounds.low[minute])
    doubtful = (reaches & (values < bounds.high[minute])).nonzero()[0]
    if len(doubtful):
        minutes, inverse = distinct(minute[doubtful])
        reaches[doubtful] = values[doubtful] >= exact(minutes)[inverse]
    return reaches


def _together(found: list[Window], length: int) -> tuple[Ints, Ints, Floats]:
    """All places at which any window diverges, ascending, and [window, place] the sides and sizes; 0 elsewhere."""
    mask = np.zeros(length, np.int64)
    for window in found:
        mask[window.at] = 1
    at = mask.nonzero()[0]
    order = np.cumsum(mask) - 1
    sides, sizes = np.zeros((len(found), len(at)), np.int64), np.zeros((len(found), len(at)))
    for row, window in enumerate(found):
        sides[row, order[window.at]] = window.side
        sizes[row, order[window.at]] = window.size
    return at, sides, sizes


def _levels(features: Features, ticks: Ints, sides: Ints) -> Floats:
    """Log price at which setups that hold at these ticks are left: their extreme and some usual swings."""
    settings = features.settings
    window = settings.setup_window_s
    level = np.zeros(len(ticks))
    for side, row in ((1, LOW), (-1, HIGH)):
        mine = (sides == side).nonzero()[0]
        if len(mine):
            at = ticks[mine]
            find = features.lowest if side > 0 else features.highest
            swing = features.swing_at(at, window)
            level[mine] = find(row, at - window, at) - side * settings.disarm_swings * swing
    return level
