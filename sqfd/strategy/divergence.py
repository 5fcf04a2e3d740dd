"""Phase 2: spot and perp takers disagree while price holds. A setup that held stays armed for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PRICE, SPOT
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.features import NEVER, Features, distinct, last_held


class Setup(msgspec.Struct, frozen=True):
    """What is remembered from one block to the next: the setup that last held, side 0 where there is none or it was left; and
    when spot and perps last diverged for a long and for a short, whether or not a setup came of it."""

    side: int = 0
    tick: int = 0
    level: float = 0.0
    strength: float = 0.0
    diverged: tuple[int, int] = (NEVER, NEVER)


class Divergence(NamedTuple):
    """Columns of ticks: `holds` and `armed` are 1 for a long setup, −1 for a short one, else 0.

    `since` is the tick at which the armed setup last held, `level` the log price × 1e9 beyond which it is given up,
    `strength` in [0, 1] as when it last held.
    """

    holds: Ints
    armed: Ints
    since: Ints
    level: Floats
    strength: Floats
    after: Setup


def divergence(features: Features, setup: Setup, resetting: Bools) -> Divergence:
    """Judge each tick and carry the setup through the block. `resetting` is [side, tick]: a reset of that side is live.

    While a reset of one side follows its divergence, the flow against it is that reset, no setup of the other side.
    """
    sides, gaps = _windows(features)
    if not sides.any():
        return _unchanged(features, setup)
    diverging = np.stack([(sides > 0).any(axis=0), (sides < 0).any(axis=0)])
    diverged = _last_diverged(features, setup, diverging)
    counter = resetting & (features.ticks - diverged <= features.settings.armed_s)
    long, short = diverging & ~counter[::-1]
    holds: Ints = long.astype(np.int64) - short
    widest = np.where((sides == holds) & (sides != 0), gaps, 0.0).max(axis=0)
    strength = np.minimum(1.0, widest / features.settings.divergence_full_gap)
    carried = _carried(features, setup, holds, _levels(features, holds), strength)
    newest = (int(diverged[0, -1]), int(diverged[1, -1]))
    return carried._replace(after=msgspec.structs.replace(carried.after, diverged=newest))


def _last_diverged(features: Features, setup: Setup, diverging: Bools) -> Ints:
    """[side, tick]: when each side last diverged."""
    return last_held(diverging).tick(features.first, np.array(setup.diverged)[:, None])


def _unchanged(features: Features, setup: Setup) -> Divergence:
    """The everyday case: nothing holds in the block, so that an armed setup can only expire or be left."""
    none = np.zeros(len(features.ticks), np.int64)
    since = np.full(len(none), setup.tick)
    level, strength = np.full(len(none), setup.level), np.full(len(none), setup.strength)
    if setup.side == 0:
        return Divergence(none, none, since, level, strength, setup)
    beyond = setup.side * features.price_at(features.ticks) < setup.side * level
    side = np.where(np.maximum.accumulate(beyond), 0, setup.side)
    armed = np.where(features.ticks - since <= features.settings.armed_s, side, 0)
    return Divergence(none, armed, since, level, strength, msgspec.structs.replace(setup, side=int(side[-1])))


def _windows(features: Features) -> tuple[Ints, Floats]:
    """[window, tick]: the side of the setup in each window (0: none), and the size of the gap. A feed that was not whole may
    look like a divergence: without coverage none holds."""
    settings = features.settings
    rows = [features.row[window] for window in settings.divergence_windows_s]
    moves, normal = features.moves[rows], features.normal[rows]
    gap = normal[:, SPOT] - normal[:, PERP]
    size = np.abs(gap)
    spot, perp = np.sign(moves[:, SPOT]), np.sign(moves[:, PERP])
    covered = features.coverage >= settings.min_coverage
    sides = np.where((spot * perp < 0) & (size >= settings.divergence_gap_min) & covered, spot, 0)
    for place, window in enumerate(settings.divergence_windows_s):
        if sides[place].any():
            _require_ranks(features, window, sides[place], moves[place], size[place])
    return sides, size


def _require_ranks(features: Features, window: int, sides: Ints, moves: Ints, size: Floats) -> None:
    """Clear the sides whose gap, legs or price do not rank high enough; the most selective rank first, each only where needed."""
    settings, base = features.settings, features.baseline
    leg, price = settings.divergence_leg_rank, settings.divergence_price_rank

    def require(value: Ints | Floats, rank: Callable[[int], float], strict: bool = False) -> None:
        at = np.flatnonzero(sides)
        minutes, inverse = distinct(features.minute[at])
        least = np.array([rank(int(minute)) for minute in minutes])[inverse] if len(at) else np.zeros(0)
        passes = value[at] > least if strict else value[at] >= least
        sides[at[~passes]] = 0

    require(size, lambda minute: base.gap_rank(window, settings.divergence_gap_rank, minute))
    require(np.abs(moves[SPOT]), lambda minute: base.move_rank(window, SPOT, leg, minute))
    require(np.abs(moves[PERP]), lambda minute: base.move_rank(window, PERP, leg, minute))
    with_side = moves[PRICE] * sides
    require(with_side, lambda minute: -base.move_rank(window, PRICE, price, minute), strict=True)


def _levels(features: Features, holds: Ints) -> Floats:
    """Log price at which a setup that holds here would be left: its extreme and some usual swings; 0 elsewhere."""
    settings = features.settings
    window = settings.setup_window_s
    level = np.zeros(len(holds))
    if not holds.any():
        return level
    for side, row in ((1, LOW), (-1, HIGH)):
        ticks = features.ticks[holds == side]
        if len(ticks):
            find = features.lowest if side > 0 else features.highest
            swing = features.swing_at(ticks, window, PRICE)
            level[holds == side] = find(row, ticks - window, ticks) - side * settings.disarm_swings * swing
    return level


def _carried(features: Features, setup: Setup, holds: Ints, level: Floats, strength: Floats) -> Divergence:
    last = last_held(holds != 0)
    side, since = last.pick(holds, setup.side), last.tick(features.first, setup.tick)
    level, strength = last.pick(level, setup.level), last.pick(strength, setup.strength)
    price = features.price_at(features.ticks)
    left = _left_since(side * price < side * level, last.place)
    side = np.where(left, 0, side)
    armed = np.where(features.ticks - since <= features.settings.armed_s, side, 0)
    after = Setup(int(side[-1]), int(since[-1]), float(level[-1]), float(strength[-1]))
    return Divergence(holds, armed, since, level, strength, after)


def _left_since(beyond: Bools, held: Ints) -> Bools:
    """Whether price was beyond the level at any tick since the setup last held."""
    if not beyond.any():
        return beyond
    places = np.arange(len(beyond))
    return np.asarray(np.maximum.accumulate(np.where(beyond, places, -1)) >= np.maximum(held, 0)) & (
        np.maximum.accumulate(beyond)
    )
