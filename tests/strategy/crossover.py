"""A plain CVD crossover: long when an hour's taker flow turns up faster than four hours', short when it turns down.

docs/strategy.md shows this file as the way to write another strategy; tests/strategy/test_crossover.py runs it.
"""

import numpy as np

from sqfd.bars.ring import PERP, PRICE, SPOT
from sqfd.strategy.api import Gate, Report
from sqfd.strategy.position import Exit, Opening

FAST_S, SLOW_S = 3_600, 14_400


class Crossover:
    name, history_s, detail_s, memory_s = "crossover", SLOW_S + 2, 1, 1

    def __init__(self, settings, symbols=()):
        self.settings = settings

    def watch(self, symbol, ring):
        return Watched(ring)


class Watched:
    def __init__(self, ring):
        self.ring = ring

    def evaluate(self, first, last):
        warm = last if self.ring.empty else self.ring.first_tick + SLOW_S + 1
        return Crossed(self.ring, min(max(first, warm), last), last)

    def revised(self, tick):
        """Nothing is derived that outlives a block."""

    def memory(self):
        return b"null"

    def recall(self, memory):
        """Nothing to take over."""


class Crossed:
    def __init__(self, ring, first, last):
        at = np.arange(first - 1, last) - ring.base if first < last else np.zeros(0, np.int64)
        cvd = ring.series[SPOT] + ring.series[PERP]
        self.first, self.price = first, ring.series[PRICE][at]
        self.lead = (cvd[at] - cvd[at - FAST_S]) * (SLOW_S // FAST_S) - (cvd[at] - cvd[at - SLOW_S])
        self.side = np.where(self.lead > 0, 1, -1)
        self.entries = first + np.flatnonzero(np.diff(self.side))

    def first_entry(self, start):
        later = self.entries[self.entries >= start]
        return int(later[0]) if len(later) else None

    def opening(self, tick):
        at = tick - self.first + 1
        return Opening(int(self.side[at]), int(self.price[at]), int(self.price[at]), 5.0, "medium", 0.5, 2, 0.6)

    def first_exit(self, position, start):
        turned = self.entries[(self.entries >= start) & (self.side[self.entries - self.first + 1] != position.side)]
        return Exit(int(turned[0]), ("crossed_back",)) if len(turned) else None

    def report(self, tick, position):
        if not self.first <= tick < self.first + len(self.side) - 1:
            return None
        at, phases = tick - self.first + 1, self.mind(tick)
        crossed = Gate(
            "crossed", tick in self.entries, phases["lead"], 0.0, "the fast flow has not crossed the slow one"
        )
        return Report(int(self.price[at]), 5.0, {}, phases, 1.0, 0.0, 0.0, "a crossover", (crossed,))

    def mind(self, tick):
        at = tick - self.first + 1
        return {"lead": float(self.lead[at]) / 100} if 0 < at < len(self.lead) else {}
