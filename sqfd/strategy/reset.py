"""Phase 3: the imbalance exhausts. The lagging side catches up while price stalls, or a move confirms that it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PRICE, SPOT
from sqfd.lazy import lazy
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.features import NEVER, Features, Held, held, remembering

NONE: Ints = np.zeros(0, np.int64)
SIDES = (1, -1)
"""Order of sides in all that is here: resets of a long setup, of a short one."""


class ResetState(msgspec.Struct, frozen=True):
    """A memory as it is written to disk. Per side and window: tick and convergence of the last exhaustion; per side: its
    tick, low and high, and the tick of the last confirmation."""

    window_tick: list[list[int]]
    convergence: list[list[float]]
    tick: tuple[int, int]
    low: tuple[int, int]
    high: tuple[int, int]
    confirmed: tuple[int, int]

    @classmethod
    def empty(cls, windows: int) -> ResetState:
        """Nothing ever held."""
        never = (NEVER, NEVER)
        return cls([[NEVER] * windows] * 2, [[0.0] * windows] * 2, never, (0, 0), (0, 0), never)


class Exhausted(NamedTuple):
    """One window and side: when the imbalance exhausted, and its convergence then, [1 + events] with what was remembered."""

    ticks: Ints
    convergence: Floats

    def at(self, ticks: Ints) -> Ints:
        """Which of the events was the last at each of these ticks of the block."""
        return np.searchsorted(self.ticks[1:], ticks, side="right")


class Side(NamedTuple):
    """One side: exhaustions of any window with the extremes that they fixed, [1 + events], and their confirmations."""

    windows: tuple[Exhausted, ...]
    held: Held
    low: Ints
    high: Ints
    confirmed: Held
    live: Bools
    """[tick]: a reset is in force."""


class Found(NamedTuple):
    """Exhaustions of one window: places in the block, ascending, the sign of the older gap and the convergence."""

    at: Ints
    side: Floats
    convergence: Floats


class Reset:
    """Resets of both sides (SIDES) as events; columns of ticks are made where they are asked for."""

    def __init__(self, features: Features, memory: ResetState, found: dict[int, Found], explosive: Ints) -> None:
        """`found`: exhaustions by place of their window. `explosive`: places at which a move could confirm one."""
        self._features, self._memory, self._found, self._explosive = features, memory, found, explosive
        self._quiet = not found and not len(explosive)

    @lazy
    def asleep(self) -> bool:
        """The everyday case: no reset is in force in the block, and none is confirmed."""
        settings, first = self._features.settings, self._features.first
        span = max(settings.reset_hold_s, settings.confirm_s)
        longest = first - max(self._memory.tick) > span and first - max(self._memory.confirmed) > settings.reset_hold_s
        return longest and not self._found

    @lazy
    def sides(self) -> tuple[Side, ...]:
        """By SIDES."""
        return tuple(_side(self._features, self._memory, at, self._found, self._explosive) for at in range(len(SIDES)))

    @property
    def after(self) -> ResetState:
        """What later blocks need to know."""
        return self._memory if self._quiet or self.asleep else _remembered(self.sides)

    @lazy
    def live(self) -> Bools:
        """[side, tick]"""
        if self.asleep:
            return np.zeros((2, self._features.last - self._features.first), np.bool_)
        return np.stack([side.live for side in self.sides])

    @lazy
    def alignment(self) -> Floats:
        """[side, tick]: weighted share of the windows in reset."""
        return np.stack([self.aligned(place, slice(None))[0] for place in range(len(SIDES))])

    @lazy
    def convergence(self) -> Floats:
        """[side, tick]: weighted over the windows in reset."""
        return np.stack([self.aligned(place, slice(None))[1] for place in range(len(SIDES))])

    def extreme(self, place: int, at: Ints | slice) -> Ints:
        """Low (of a long) or high (of a short) × 1e9 that the last exhaustion fixed, at these places of the block."""
        side = self.sides[place]
        return np.asarray((side.high if place else side.low)[side.held.place[at]])

    def aligned(self, side: int, at: Ints | slice) -> tuple[Floats, Floats]:
        """Alignment and convergence at these places of the block."""
        settings, ticks = self._features.settings, self._features.ticks[at]
        if self.asleep:
            none = np.zeros(len(ticks))
            return none, none
        judged = self.sides[side]
        confirmed = judged.confirmed.at(at)
        prolonged = ticks - confirmed <= settings.reset_hold_s
        alignment, convergence = [], []
        for window in judged.windows:
            place = window.at(ticks)
            tick = window.ticks[place]
            lag = confirmed - tick
            held = (ticks - tick <= settings.reset_hold_s) | (prolonged & (lag >= 0) & (lag <= settings.confirm_s))
            alignment.append(held)
            convergence.append(np.where(held, window.convergence[place], 0.0))
        return _weighted(alignment, settings.reset_weights), _weighted(convergence, settings.reset_weights)

    def aligned_at(self, side: int, at: int) -> tuple[float, float]:
        """The same at one place, in plain numbers: reports ask for one after the other."""
        if self.asleep:
            return 0.0, 0.0
        settings, tick, judged = self._features.settings, self._features.first + at, self.sides[side]
        confirmed = int(judged.confirmed.ticks[judged.confirmed.place[at]])
        prolonged = tick - confirmed <= settings.reset_hold_s
        alignment, convergence = [], []
        for window in judged.windows:
            place = int(window.ticks[1:].searchsorted(tick, side="right"))
            last = int(window.ticks[place])
            lasts = tick - last <= settings.reset_hold_s
            held = lasts or (prolonged and 0 <= confirmed - last <= settings.confirm_s)
            alignment.append(float(held))
            convergence.append(float(window.convergence[place]) if held else 0.0)
        return _mean(alignment, settings.reset_weights), _mean(convergence, settings.reset_weights)


def reset(features: Features, memory: ResetState) -> Reset:
    """Judge each tick and carry resets through the block."""
    return Reset(features, memory, _exhausted(features), _explosive(features))


def _exhausted(features: Features) -> dict[int, Found]:
    """Type A by place of the window, where there is any: the lagging side catches up while price stalls.

    Without coverage none holds. The older gap is the rarest to be large: the rest is looked at only there.
    """
    settings, halves = features.settings, features.layout.halves
    older = features.gaps(halves, lagged=True)
    large = np.abs(older) >= settings.reset_gap_min
    if not np.count_nonzero(large):
        return {}
    found = {}
    for place, half in enumerate(halves):
        at = large[place].nonzero()[0]
        if len(at):
            at, gap, convergence = _caught_up(features, half, at, older[place])
            if len(at):
                found[place] = Found(at, np.sign(gap), convergence)
    return found


def _caught_up(features: Features, half: int, at: Ints, older: Floats) -> tuple[Ints, Floats, Floats]:
    """Of the places `at` those where the newer half made up for the older one: (places, older gap, convergence)."""
    settings = features.settings
    before, ticks = older[at], features.ticks[at]
    newer = features.gap_at(ticks, half)
    size, remainder = np.abs(before), np.abs(before + newer)
    keep = ((before * newer < 0) & (remainder <= settings.reset_remainder_max * size)).nonzero()[0]
    keep = keep[features.coverage[at[keep]] >= settings.min_coverage]
    keep = keep[np.abs(features.price_move_at(ticks[keep], half)) <= settings.reset_stall_max]
    return at[keep], before[keep], 1.0 - remainder[keep] / size[keep]


def _explosive(features: Features) -> Ints:
    """Places at which price moves enough to confirm an exhaustion before."""
    window = (features.settings.confirm_window_s,)
    price = features.normals(window, PRICE)[0]
    return np.asarray((np.abs(price) >= features.settings.confirm_move_min).nonzero()[0])


def _side(features: Features, memory: ResetState, place: int, found: dict[int, Found], explosive: Ints) -> Side:
    settings, first, length = features.settings, features.first, features.last - features.first
    windows, every = [], []
    for row, known in enumerate(memory.window_tick[place]):
        at, convergence = NONE, np.zeros(0)
        if row in found:
            mine = found[row].side == SIDES[place]
            at, convergence = found[row].at[mine], found[row].convergence[mine]
            every.append(at)
        windows.append(
            Exhausted(remembering(known, first + at), remembering(memory.convergence[place][row], convergence))
        )
    at = _union(every, length)
    exhausted = held(at, length, first, memory.tick[place])
    low, high = _extremes(features, place, first + at)
    confirmed = _confirmed(features, memory, place, exhausted, explosive)
    live = exhausted.within(first, settings.reset_hold_s) | confirmed.within(first, settings.reset_hold_s)
    low, high = remembering(memory.low[place], low), remembering(memory.high[place], high)
    return Side(tuple(windows), exhausted, low, high, confirmed, live)


def _union(every: list[Ints], length: int) -> Ints:
    """Places that are in any of the lists, ascending."""
    if len(every) < 2:
        return every[0] if every else NONE
    mask = np.zeros(length, np.bool_)
    for at in every:
        mask[at] = True
    return mask.nonzero()[0]


def _extremes(features: Features, place: int, ticks: Ints) -> tuple[Ints, Ints]:
    """[event]: low and high of each exhaustion; of the one that the side does not ask for, only that of the last, which is remembered."""
    if not len(ticks):
        return NONE, NONE
    low, high = (ticks, ticks[-1:]) if SIDES[place] > 0 else (ticks[-1:], ticks)
    span = features.settings.reset_extreme_s
    return features.lowest(LOW, low - span, low), features.highest(HIGH, high - span, high)


def _confirmed(features: Features, memory: ResetState, place: int, exhausted: Held, explosive: Ints) -> Held:
    """Type B: an explosive move confirms an exhaustion of its side."""
    settings, first, side = features.settings, features.first, SIDES[place]
    at, window = explosive, (settings.confirm_window_s,)
    if len(at):
        at = at[features.ticks[at] - exhausted.at(at) <= settings.confirm_s]
        at = at[side * features.normals(window, PRICE)[0, at] >= settings.confirm_move_min]
        for series in (SPOT, PERP):
            at = at[side * features.moves(window, series)[0, at] > 0]
    return held(at, features.last - first, first, memory.confirmed[place])


def _remembered(sides: tuple[Side, ...]) -> ResetState:
    """The events that were the last at the end of the block."""
    window_tick, convergence = [], []
    for side in sides:
        window_tick.append([int(window.ticks[-1]) for window in side.windows])
        convergence.append([float(window.convergence[-1]) for window in side.windows])
    return ResetState(
        window_tick,
        convergence,
        *(
            (int(one[-1]), int(two[-1]))
            for one, two in zip(*((s.held.ticks, s.low, s.high, s.confirmed.ticks) for s in sides), strict=True)
        ),
    )


def _weighted(values: list[Floats] | list[Bools], weights: tuple[float, ...]) -> Floats:
    """Weighted mean over windows, term by term in their order."""
    return np.asarray(_mean(values, weights))


def _mean(values: Sequence[Any], weights: tuple[float, ...]) -> Any:
    total, weight_sum = weights[0] * values[0], weights[0]
    for place in range(1, len(weights)):
        total = total + weights[place] * values[place]
        weight_sum += weights[place]
    return total / weight_sum
