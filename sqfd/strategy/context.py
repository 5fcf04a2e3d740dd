"""Phase 1: which side is being squeezed, over hours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sqfd.bars.ring import PERP, PRICE, SPOT
from sqfd.strategy.baseline import Floats, Ints
from sqfd.strategy.features import Features

VERDICTS = {1: "LONG_SQUEEZE", 0: "NEUTRAL", -1: "SHORT_SQUEEZE"}


class Context(NamedTuple):
    """Columns of ticks. `value` in [−1, 1]; `side` is 1 where shorts are being squeezed, −1 where longs are, else 0."""

    value: Floats
    side: Ints


def context(features: Features) -> Context:
    """Agreement of price with the gap between spot and perp flow, weighted over the windows that have a baseline."""
    settings = features.settings
    rows = [features.row[window] for window in settings.context_windows_s]
    normal = features.normal[rows]
    value = _weighted(_agreement(normal[:, PRICE], normal[:, SPOT] - normal[:, PERP]), features, rows)
    side = (value >= settings.context_threshold).astype(np.int64) - (value <= -settings.context_threshold)
    return Context(value, side)


def _agreement(price: Floats, gap: Floats) -> Floats:
    """The smaller of both, at most 1, with their sign; 0 where they disagree."""
    size = np.minimum(np.minimum(np.abs(price), np.abs(gap)), 1.0)
    return np.asarray(0.5 * (np.sign(price) + np.sign(gap)) * size)


def _weighted(values: Floats, features: Features, rows: list[int]) -> Floats:
    """Mean over windows, term by term in their order: the same operations for one tick and for many."""
    chosen = features.settings.context_weights
    total = chosen[0] * values[0]
    for place in range(1, len(chosen)):
        total += chosen[place] * values[place]
    if features.all_known:
        return np.asarray(total / sum(chosen[1:], chosen[0]))
    weights = np.zeros(values.shape[1])
    for place, weight in enumerate(chosen):
        weights += weight * features.known[rows[place]]
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), 0.0)


def duration(value: float, high: float, medium: float) -> str:
    """How long the squeeze may last: high | medium | low."""
    size = abs(value)
    return "high" if size >= high else "medium" if size >= medium else "low"
