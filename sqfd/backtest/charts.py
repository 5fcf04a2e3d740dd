"""What a report draws, gathered block by block: a bounded number of points per symbol, whatever the range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sqfd.backtest.prices import Prices, current
from sqfd.backtest.run import Plan
from sqfd.backtest.source import Block
from sqfd.strategy.api import Judged

POINTS = 3_000
"""Points of a symbol's line; a screen has fewer pixels."""


@dataclass
class Line:
    """One symbol's points."""

    tick: list[int] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    spot_cvd: list[float] = field(default_factory=list)
    perp_cvd: list[float] = field(default_factory=list)
    score: dict[int, float] = field(default_factory=dict)
    """By tick: the score at that tick, not the highest since the point before."""
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])


class Charts:
    """Lines of all symbols. `add` takes blocks; `observe` is given to the engine."""

    def __init__(self, plan: Plan) -> None:
        bars = -(-(plan.last - plan.first) // plan.bar_s)
        self._bar_s, self._step = plan.bar_s, max(1, -(-bars // POINTS))
        self.step_s = self._step * plan.bar_s
        self.lines = {symbol: Line() for symbol in plan.symbols}

    def observe(self, first: int, last: int, judged: Mapping[str, Judged]) -> None:
        """Note the scores of the ticks that are drawn."""
        for tick in range(-(-first // self._step) * self._step, last, self._step):
            for symbol, block in judged.items():
                mind = block.mind(tick)
                if mind:
                    self.lines[symbol].score[tick * self._bar_s] = mind["score"]

    def add(self, block: Block, prices: Prices) -> None:
        """Note prices and cumulative flow as first seen: revisions are too small to be drawn."""
        for index, (line, table) in enumerate(zip(self.lines.values(), block.tables, strict=True)):
            own = current(table)
            ticks = own["tick"]
            keep = ticks % self.step_s == 0
            for column, name, place in ((line.spot_cvd, "spot_delta", 0), (line.perp_cvd, "perp_delta", 1)):
                sums = line.sums[place] + np.cumsum(own[name]) / 100.0
                column += sums[keep].tolist()
                line.sums[place] = float(sums[-1]) if len(sums) else line.sums[place]
            line.tick += ticks[keep].tolist()
            line.price += prices.price[index, ticks[keep] - prices.first].tolist()
