"""Phase 5: the position follows the flow until it turns. No fixed stop, no fixed target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, SPOT
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.context import Context
from sqfd.strategy.features import Features

REASONS = ("flow_reversal", "range_break", "context_invalidation", "cvd_invalidation", "structure_break")


class Held(NamedTuple):
    """What a position was entered with, one for all ticks or one each: the tick, its reset's low (long) or high (short) in
    log × 1e9, and the context on its side."""

    entry: Ints | int
    level: Ints | int
    context: Floats | float


def exits(features: Features, context: Context, side: int, ticks: Ints, held: Held) -> Bools:
    """[reason, tick] in the order of REASONS, for a position of `side` (1 long, −1 short) as it stands at `ticks`."""
    settings = features.settings
    flows = _flows(features, side, ticks, held.entry)
    price = features.price_at(ticks)
    swing = features.swing_at(ticks, settings.swing_window_s)
    against = np.minimum(held.context, 0.0) - settings.context_threshold
    found = np.empty((len(REASONS), len(ticks)), np.bool_)
    found[0] = _flow_reversal(features, side, ticks, held.entry, flows)
    found[1] = side * (price - held.level) < -settings.range_break_swings * swing
    found[2] = side * context.at(ticks - features.first) <= against
    # Against the position since its entry: what was sold before it was known when it was entered.
    found[3] = (flows[0] <= -settings.exit_flow) & (flows[1] <= -settings.exit_flow)
    found[4] = side * (price - _structure(features, side, ticks)) < -settings.structure_swings * swing
    return found


def reasons_of(found: Bools, place: int) -> tuple[str, ...]:
    """Names of what holds at one place of [reason, tick]."""
    return tuple(name for name, holds in zip(REASONS, found[:, place].tolist(), strict=True) if holds)


def _flows(features: Features, side: int, ticks: Ints, entry: Ints | int) -> Floats:
    """[2, tick]: spot and perp flow with the position since its entry, at most the look-back, whose swing is the unit."""
    window, flows = features.settings.exit_lookback_s, slice(SPOT, PERP + 1)
    moves = features.flows_at(ticks, np.minimum(ticks - entry, window))
    return side * features.baseline.normalised(moves, window, flows, features.minute_at(ticks))


def _flow_reversal(features: Features, side: int, ticks: Ints, entry: Ints | int, flows: Floats) -> Bools:
    """Since the entry, at most the look-back: spot against the position, perp with it, and no new extreme of price."""
    settings = features.settings
    spot, perp = flows
    turned = (spot <= -settings.reversal_spot) & (perp >= settings.reversal_perp) & (ticks > entry)
    at = turned.nonzero()[0]
    if len(at):
        held = np.minimum(ticks - entry, settings.exit_lookback_s)
        turned[at] = ~_new_extreme(features, side, ticks[at], ticks[at] - held[at])
    return np.asarray(turned)


def _new_extreme(features: Features, side: int, ticks: Ints, since: Ints) -> Bools:
    """Whether price went beyond all it had reached since `since` in the last `new_extreme_s`."""
    recent = np.maximum(ticks - features.settings.new_extreme_s, since)
    reached = side * features.price_at(since)
    row, find = (HIGH, features.highest) if side > 0 else (LOW, features.lowest)
    earlier = np.flatnonzero(recent > since)
    if len(earlier):
        reached[earlier] = np.maximum(reached[earlier], side * find(row, since[earlier], recent[earlier]))
    return np.asarray(side * find(row, recent, ticks) > reached)


def _structure(features: Features, side: int, ticks: Ints) -> Ints:
    """The extreme of the span before each second, beyond which price leaves the structure."""
    row, find = (LOW, features.lowest) if side > 0 else (HIGH, features.highest)
    return find(row, ticks - 1 - features.settings.structure_s, ticks - 1)
