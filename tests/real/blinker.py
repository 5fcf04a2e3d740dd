"""A strategy that enters and leaves every two seconds, so that the nemesis has signals to lose. Judges nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sqfd.bars.ring import PRICE
from sqfd.strategy.api import Report
from sqfd.strategy.position import Exit, Opening

PERIOD_S = 4


def installed(folder: Path) -> Path:
    """A folder for PYTHONPATH in which this strategy is an installed package."""
    package = folder / "blinker-1.0.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: blinker\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[sqfd.strategies]\nblinker = {__name__}:Blinker\n")
    return folder


class Blinker:
    name, history_s, detail_s, memory_s = "blinker", 60, 60, 1

    def __init__(self, settings, symbols=()):
        self.settings = settings

    def watch(self, symbol, ring):
        return Watched(ring)


class Watched:
    def __init__(self, ring):
        self.ring = ring

    def evaluate(self, first, last):
        warm = last if self.ring.empty else self.ring.first_tick + 1
        return Judged(self.ring, min(max(first, warm), last), last)

    def revised(self, tick):
        """Nothing is derived that outlives a block."""

    def memory(self):
        return b"null"

    def recall(self, memory):
        """Nothing to take over."""


class Judged:
    def __init__(self, ring, first, last):
        self.ring, ticks = ring, np.arange(first, last)
        self.first, self.last = first, last
        self.entries, self.exits = ticks[ticks % PERIOD_S == 0], ticks[ticks % PERIOD_S == PERIOD_S // 2]

    def _price(self, tick):
        return int(self.ring.series[PRICE][tick - 1 - self.ring.base])

    def first_entry(self, start):
        due = self.entries[self.entries >= start]
        return int(due[0]) if len(due) else None

    def opening(self, tick):
        price = self._price(tick)
        return Opening(1 if tick % (2 * PERIOD_S) else -1, price, price, 5.0, "medium", 0.5, 2, 0.6)

    def first_exit(self, position, start):
        due = self.exits[self.exits >= start]
        return Exit(int(due[0]), ("time",)) if len(due) else None

    def report(self, tick, position):
        if not self.first <= tick < self.last:
            return None
        return Report(self._price(tick), 5.0, {}, {}, 1.0, 0.0, 0.0, "it is time", ())

    def mind(self, tick):
        return {"score": 5.0} if self.first <= tick < self.last else {}
