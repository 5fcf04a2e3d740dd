"""Phase 3: the imbalance exhausts. The lagging side catches up while price stalls, or a move confirms that it did."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PRICE, SPOT
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.features import NEVER, Column, Features, last_held

SIDES = (1, -1)
"""Order of the axis `side` in all arrays here: resets of a long setup, of a short one."""


class ResetState(msgspec.Struct, frozen=True):
    """A memory as it is written to disk. Per side and window: tick and convergence of the last exhaustion; per side: its
    tick, low and high, and the tick of the last confirmation."""

    window_tick: list[list[int]]
    convergence: list[list[float]]
    tick: tuple[int, int]
    low: tuple[int, int]
    high: tuple[int, int]
    confirmed: tuple[int, int]


class ResetMemory(NamedTuple):
    """What is remembered from one block to the next: the columns of its last tick. Shapes [2, windows, 1] and [2, 1]."""

    window_tick: Ints
    convergence: Floats
    tick: Ints
    low: Ints
    high: Ints
    confirmed: Ints

    @classmethod
    def empty(cls, windows: int) -> ResetMemory:
        """Nothing ever held."""
        never, zero = np.full((2, 1), NEVER), np.zeros((2, 1), np.int64)
        return cls(np.full((2, windows, 1), NEVER), np.zeros((2, windows, 1)), never, zero, zero, never)

    def state(self) -> ResetState:
        return msgspec.convert({name: values[..., 0].tolist() for name, values in self._asdict().items()}, ResetState)

    @classmethod
    def of(cls, state: ResetState, windows: int) -> ResetMemory | None:
        """The memory of a state; None when it was made with another number of windows."""
        arrays = {name: np.array(values)[..., None] for name, values in msgspec.structs.asdict(state).items()}
        memory = cls(**arrays)
        fits = memory.window_tick.shape == memory.convergence.shape == (2, windows, 1)
        return memory if fits else None


class Reset(NamedTuple):
    """Columns of ticks, axis 0 is the side (SIDES).

    `live` holds where a reset is in force; `alignment` and `convergence` are weighted over the windows in reset; `low` and
    `high` (log × 1e9) were fixed by the last exhaustion; `tick` and `confirmed` say when it and its confirmation last held.
    """

    live: Bools
    alignment: Floats
    convergence: Floats
    low: Ints
    high: Ints
    tick: Ints
    confirmed: Ints
    after: ResetMemory


def reset(features: Features, memory: ResetMemory) -> Reset:
    """Judge each tick and carry resets through the block."""
    held, convergence = _exhausted(features)
    if not held.any() and _long_ago(features, memory):
        return _none(features, memory)
    window_tick, window_convergence = _carry_windows(features, memory, held, convergence)
    tick, low, high = _carry_extremes(features, memory, np.asarray(held.any(axis=1)))
    confirmed = _confirmed(features, memory, tick)
    settings, now = features.settings, features.ticks
    prolonged = now - confirmed <= settings.reset_hold_s
    live = (now - tick <= settings.reset_hold_s) | prolonged
    lag = confirmed[:, None] - window_tick
    in_reset = (now - window_tick <= settings.reset_hold_s) | (
        prolonged[:, None] & (lag >= 0) & (lag <= settings.confirm_s)
    )
    alignment = _weighted(in_reset, settings.reset_weights)
    converged = _weighted(np.where(in_reset, window_convergence, 0.0), settings.reset_weights)
    after = ResetMemory(
        _newest(window_tick),
        _newest(window_convergence),
        _newest(tick),
        _newest(low),
        _newest(high),
        _newest(confirmed),
    )
    return Reset(live, alignment, converged, low, high, tick, confirmed, after)


def _long_ago(features: Features, memory: ResetMemory) -> bool:
    """Nothing remembered lives in this block, or can be confirmed in it."""
    settings = features.settings
    exhausted, confirmed = int(memory.tick.max()), int(memory.confirmed.max())
    return features.first - exhausted > max(settings.reset_hold_s, settings.confirm_s) and (
        features.first - confirmed > settings.reset_hold_s
    )


def _none(features: Features, memory: ResetMemory) -> Reset:
    """The everyday case: no reset in the block."""
    like = np.zeros((2, len(features.ticks)), np.bool_)
    zero = like.astype(np.float64)
    low, high = _spread(memory.low, like), _spread(memory.high, like)
    return Reset(like, zero, zero, low, high, _spread(memory.tick, like), _spread(memory.confirmed, like), memory)


def _exhausted(features: Features) -> tuple[Bools, Floats]:
    """Type A: [side, window, tick] where it holds, and [window, tick] the convergence. Without coverage none holds."""
    settings = features.settings
    rows = [features.row[window // 2] for window in settings.reset_windows_s]
    normal = features.normal[rows]
    older = features.older[:, 0] - features.older[:, 1]
    newer = normal[:, SPOT] - normal[:, PERP]
    size, remainder = np.abs(older), np.abs(older + newer)
    holds = (size >= settings.reset_gap_min) & (older * newer < 0) & (features.coverage >= settings.min_coverage)
    holds &= remainder <= settings.reset_remainder_max * size
    holds &= np.abs(normal[:, PRICE]) <= settings.reset_stall_max
    convergence = 1.0 - remainder / np.where(size > 0, size, 1.0)
    return np.stack([holds & (older > 0), holds & (older < 0)]), convergence


def _carry_windows(features: Features, memory: ResetMemory, held: Bools, value: Floats) -> tuple[Ints, Floats]:
    ticks, known = memory.window_tick, memory.convergence
    if not held.any():
        return _spread(ticks, held), _spread(known, held)
    last = last_held(held)
    return last.tick(features.first, ticks), last.pick(np.broadcast_to(value, held.shape), known)


def _carry_extremes(features: Features, memory: ResetMemory, held: Bools) -> tuple[Ints, Ints, Ints]:
    if not held.any():
        return _spread(memory.tick, held), _spread(memory.low, held), _spread(memory.high, held)
    last = last_held(held)
    low, high = np.zeros(held.shape, np.int64), np.zeros(held.shape, np.int64)
    for side in range(2):
        ticks = features.ticks[held[side]]
        if len(ticks):
            low[side, held[side]] = features.lowest(LOW, ticks - features.settings.reset_extreme_s, ticks)
            high[side, held[side]] = features.highest(HIGH, ticks - features.settings.reset_extreme_s, ticks)
    return last.tick(features.first, memory.tick), last.pick(low, memory.low), last.pick(high, memory.high)


def _spread(remembered: Column, like: Bools | Ints) -> Column:
    """The memory at every tick of the block."""
    if like.shape[-1] == 1:
        return remembered
    return np.broadcast_to(remembered, (*remembered.shape[:-1], like.shape[-1]))


def _newest(column: Column) -> Column:
    return column[..., -1:].copy()


def _confirmed(features: Features, memory: ResetMemory, tick: Ints) -> Ints:
    """Type B: [side, tick] when an explosive move last confirmed an exhaustion of its side."""
    settings = features.settings
    row = features.row[settings.confirm_window_s]
    price, moves = features.normal[row, PRICE], features.moves[row]
    if not (np.abs(price) >= settings.confirm_move_min).any():
        return _spread(memory.confirmed, tick)
    recent = features.ticks - tick <= settings.confirm_s
    holds = np.stack(
        [
            (side * price >= settings.confirm_move_min) & (side * moves[SPOT] > 0) & (side * moves[PERP] > 0)
            for side in SIDES
        ]
    )
    last = last_held(holds & recent)
    return last.tick(features.first, memory.confirmed)


def _weighted(values: Floats | Bools, weights: tuple[float, ...]) -> Floats:
    """Weighted mean over axis 1, term by term in its order."""
    total, weight_sum = weights[0] * values[:, 0], weights[0]
    for place in range(1, len(weights)):
        total += weights[place] * values[:, place]
        weight_sum += weights[place]
    return np.asarray(total / weight_sum)
