"""Phase 1: which side is being squeezed, over hours."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sqfd.bars.ring import PERP, PRICE, SPOT
from sqfd.strategy.baseline import Floats
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
        columns = (self._features.normals(windows, series) for series in (PRICE, SPOT, PERP))
        return _weighted([_agreement(*window) for window in zip(*columns, strict=True)], self._features)

    def side(self, at: int) -> int:
        """At one place of the block: 1 where shorts are being squeezed, −1 where longs are, else 0."""
        least, value = self._features.settings.context_threshold, float(self.value[at])
        return int(value >= least) - int(value <= -least)


def _agreement(price: Floats, spot: Floats, perp: Floats) -> Floats:
    """[tick]: the smaller of price and gap, at most 1, with their sign; 0 where they disagree."""
    gap = spot - perp
    disagree = price * gap <= 0
    both = np.minimum(np.abs(price), np.abs(gap, out=gap), out=gap)
    np.copysign(np.minimum(both, 1.0, out=both), price, out=both)
    both[disagree] = 0.0
    return both


def _weighted(values: list[Floats], features: Features) -> Floats:
    """Mean over the windows that have a baseline, term by term in their order: the same operations for one tick and many."""
    settings, known = features.settings, features.baseline.known
    chosen = settings.context_weights
    total = chosen[0] * values[0]
    for place in range(1, len(chosen)):
        total += np.multiply(chosen[place], values[place], out=values[place])
    if known.all():
        return np.asarray(total / sum(chosen[1:], chosen[0]))
    weights = np.zeros(len(total))
    for window, weight in zip(settings.context_windows_s, chosen, strict=True):
        weights += weight * features.known(window)
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), 0.0)


def duration(value: float, high: float, medium: float) -> str:
    """How long the squeeze may last: high | medium | low."""
    size = abs(value)
    return "high" if size >= high else "medium" if size >= medium else "low"
