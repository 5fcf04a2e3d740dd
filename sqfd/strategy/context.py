"""Phase 1: which side is being squeezed, over hours."""

from __future__ import annotations

import numpy as np

from sqfd.bars.ring import PERP, PRICE, SPOT
from sqfd.strategy.baseline import Floats, Ints
from sqfd.strategy.features import Features, taken

PIECE_S = 3_600
"""Ticks that are judged at once: what is made of them fits a core's cache."""
VERDICTS = {1: "LONG_SQUEEZE", 0: "NEUTRAL", -1: "SHORT_SQUEEZE"}


class Context:
    """A column of ticks, judged a piece at a time when one of its ticks is asked for: most pieces arm no setup and hold no position."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._column = np.empty(features.last - features.first)
        self._missing = set(range(-(-len(self._column) // PIECE_S)))

    @property
    def value(self) -> Floats:
        """In [−1, 1]: agreement of price with the gap between spot and perp flow, weighted over the windows."""
        self._judge(0, len(self._column))
        return self._column

    def at(self, places: Ints) -> Floats:
        """The same at some places of the block, ascending."""
        if len(places):
            self._judge(int(places[0]), int(places[-1]) + 1)
        return taken(self._column, places)

    def one(self, at: int) -> float:
        """The same at one place."""
        self._judge(at, at + 1)
        return float(self._column[at])

    def _judge(self, left: int, right: int) -> None:
        for piece in self._missing.intersection(range(left // PIECE_S, -(-right // PIECE_S))):
            start = piece * PIECE_S
            column = self._column[start : start + PIECE_S]
            features = self._features.part(start, start + len(column))
            windows = features.settings.context_windows_s
            columns = (features.normals(windows, series) for series in (PRICE, SPOT, PERP))
            column[:] = _weighted([_agreement(*window) for window in zip(*columns, strict=True)], features)
            self._missing.discard(piece)

    def side(self, at: int) -> int:
        """At one place of the block: 1 where shorts are being squeezed, −1 where longs are, else 0."""
        least, value = self._features.settings.context_threshold, self.one(at)
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
