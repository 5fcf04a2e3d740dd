"""Phase 1: which side is being squeezed, over hours."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sqfd.bars.ring import PRICE
from sqfd.strategy.baseline import Floats, Ints
from sqfd.strategy.features import Features

VERDICTS = {1: "LONG_SQUEEZE", 0: "NEUTRAL", -1: "SHORT_SQUEEZE"}


class Context:
    """Columns of ticks, judged when they are first asked for: most blocks arm no setup and hold no position."""

    def __init__(self, features: Features) -> None:
        self._features = features

    @cached_property
    def value(self) -> Floats:
        """In [−1, 1]: agreement of price with the gap between spot and perp flow, weighted over the windows."""
        windows = self._features.settings.context_windows_s
        price, gap = self._features.normals(windows, PRICE), self._features.gaps(windows)
        return _weighted(_agreement(price, gap), self._features)

    @cached_property
    def side(self) -> Ints:
        """1 where shorts are being squeezed, −1 where longs are, else 0."""
        least = self._features.settings.context_threshold
        return (self.value >= least).astype(np.int64) - (self.value <= -least)


def _agreement(price: Floats, gap: Floats) -> Floats:
    """The smaller of both, at most 1, with their sign; 0 where they disagree."""
    both = np.minimum(np.minimum(np.abs(price), np.abs(gap)), 1.0)
    return np.asarray(np.where(price * gap > 0, np.copysign(both, price), 0.0))


def _weighted(values: Floats, features: Features) -> Floats:
    """Mean over the windows that have a baseline, term by term in their order: the same operations for one tick and many."""
    settings, known = features.settings, features.baseline.known
    chosen = settings.context_weights
    total = chosen[0] * values[0]
    for place in range(1, len(chosen)):
        total += chosen[place] * values[place]
    if known.all():
        return np.asarray(total / sum(chosen[1:], chosen[0]))
    weights = np.zeros(values.shape[1])
    for window, weight in zip(settings.context_windows_s, chosen, strict=True):
        weights += weight * features.known(window)
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), 0.0)


def duration(value: float, high: float, medium: float) -> str:
    """How long the squeeze may last: high | medium | low."""
    size = abs(value)
    return "high" if size >= high else "medium" if size >= medium else "low"
