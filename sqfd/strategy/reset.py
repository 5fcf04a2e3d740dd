"""Phase 3: the imbalance exhausts. The lagging side catches up while price stalls, or a move confirms that it did."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PRICE, SPOT
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.features import Features, last_held

SIDES = (1, -1)
"""Order of the axis `side` in all arrays here: resets of a long setup, of a short one."""
NEVER = -(1 << 40)
"""A tick long before any."""


class ResetMemory(msgspec.Struct, frozen=True):
    """What is remembered from one block to the next. Per side and window: tick and convergence of the last exhaustion;
    per side: its tick, low and high, and the tick of the last confirmation."""

    window_tick: tuple[tuple[int, ...], ...] = ()
    convergence: tuple[tuple[float, ...], ...] = ()
    tick: tuple[int, int] = (NEVER, NEVER)
    low: tuple[int, int] = (0, 0)
    high: tuple[int, int] = (0, 0)
    confirmed: tuple[int, int] = (NEVER, NEVER)


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
    alignment = _weighted(in_reset.astype(np.float64), settings.reset_weights)
    converged = _weighted(np.where(in_reset, window_convergence, 0.0), settings.reset_weights)
    after = _remember(window_tick, window_convergence, tick, low, high, confirmed)
    return Reset(live, alignment, converged, low, high, tick, confirmed, after)


def _exhausted(features: Features) -> tuple[Bools, Floats]:
    """Type A: [side, window, tick] where it holds, and [window, tick] the convergence."""
    settings = features.settings
    rows = [features.row[window // 2] for window in settings.reset_windows_s]
    normal = features.normal[rows]
    older = features.older[:, 0] - features.older[:, 1]
    newer = normal[:, SPOT] - normal[:, PERP]
    size, remainder = np.abs(older), np.abs(older + newer)
    holds = (size >= settings.reset_gap_min) & (older * newer < 0)
    holds &= remainder <= settings.reset_remainder_max * size
    holds &= np.abs(normal[:, PRICE]) <= settings.reset_stall_max
    convergence = 1.0 - remainder / np.where(size > 0, size, 1.0)
    return np.stack([holds & (older > 0), holds & (older < 0)]), convergence


def _carry_windows(features: Features, memory: ResetMemory, held: Bools, value: Floats) -> tuple[Ints, Floats]:
    shape = held.shape[:2]
    ticks = np.array(memory.window_tick or np.full(shape, NEVER), np.int64)[..., None]
    known = np.array(memory.convergence or np.zeros(shape), np.float64)[..., None]
    if not held.any():
        return np.broadcast_to(ticks, held.shape), np.broadcast_to(known, held.shape)
    last = last_held(held)
    place = np.broadcast_to(features.ticks, held.shape)
    return last.pick(place, ticks), last.pick(np.broadcast_to(value, held.shape), known)


def _carry_extremes(features: Features, memory: ResetMemory, held: Bools) -> tuple[Ints, Ints, Ints]:
    last = last_held(held)
    low, high = np.zeros(held.shape, np.int64), np.zeros(held.shape, np.int64)
    for side in range(2):
        ticks = features.ticks[held[side]]
        if len(ticks):
            low[side, held[side]] = features.lowest(LOW, ticks - features.settings.reset_extreme_s, ticks)
            high[side, held[side]] = features.highest(HIGH, ticks - features.settings.reset_extreme_s, ticks)
    ticks = np.broadcast_to(features.ticks, held.shape)
    before = (np.array(values, np.int64)[:, None] for values in (memory.tick, memory.low, memory.high))
    remembered_tick, remembered_low, remembered_high = before
    return last.pick(ticks, remembered_tick), last.pick(low, remembered_low), last.pick(high, remembered_high)


def _confirmed(features: Features, memory: ResetMemory, tick: Ints) -> Ints:
    """Type B: [side, tick] when an explosive move last confirmed an exhaustion of its side."""
    settings = features.settings
    row = features.row[settings.confirm_window_s]
    price, moves = features.normal[row, PRICE], features.moves[row]
    recent = features.ticks - tick <= settings.confirm_s
    holds = np.stack(
        [
            (side * price >= settings.confirm_move_min) & (side * moves[SPOT] > 0) & (side * moves[PERP] > 0)
            for side in SIDES
        ]
    )
    last = last_held(holds & recent)
    return last.pick(np.broadcast_to(features.ticks, tick.shape), np.array(memory.confirmed, np.int64)[:, None])


def _weighted(values: Floats, weights: tuple[float, ...]) -> Floats:
    """Weighted mean over axis 1, term by term in its order."""
    total, weight_sum = np.zeros((values.shape[0], values.shape[2])), 0.0
    for place, weight in enumerate(weights):
        total += weight * values[:, place]
        weight_sum += weight
    return total / weight_sum


def _remember(ticks: Ints, convergence: Floats, tick: Ints, low: Ints, high: Ints, confirmed: Ints) -> ResetMemory:
    def pair(values: Ints) -> tuple[int, int]:
        return int(values[0, -1]), int(values[1, -1])

    windows = tuple(tuple(int(value) for value in side) for side in ticks[:, :, -1])
    converged = tuple(tuple(float(value) for value in side) for side in convergence[:, :, -1])
    return ResetMemory(windows, converged, pair(tick), pair(low), pair(high), pair(confirmed))
