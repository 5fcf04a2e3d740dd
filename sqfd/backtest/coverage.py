"""What a range holds: the head of every report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sqfd.backtest.prices import current
from sqfd.backtest.source import Block
from sqfd.journal import JournalStore
from sqfd.model import PPM

DAY_S = 86_400


@dataclass
class Covered:
    """One symbol's range, gathered block by block."""

    first_second: int | None = None
    last_second: int | None = None
    seconds: int = 0
    """Seconds that have a row."""
    covered_ppm: int = 0
    revisions: int = 0
    markets: dict[str, float] = field(default_factory=dict)
    """Share of the range's seconds in which each market's feed was whole."""

    def told(self, span_s: int) -> dict[str, Any]:
        """Ready for JSON; shares are of the whole range of `span_s` seconds."""
        return {
            "first_second": self.first_second,
            "last_second": self.last_second,
            "seconds": self.seconds,
            "share": round(self.seconds / span_s, 6) if span_s else 0.0,
            "coverage": round(self.covered_ppm / PPM / span_s, 6) if span_s else 0.0,
            "revisions": self.revisions,
            "markets": self.markets,
        }


class Coverage:
    """Counts rows of all symbols."""

    def __init__(self, symbols: Sequence[str], bar_s: int = 1) -> None:
        """`bar_s`: seconds of a row."""
        self._bar_s = bar_s
        self.symbols = {symbol: Covered() for symbol in symbols}

    def add(self, block: Block) -> None:
        """Count one block."""
        for table, covered in zip(block.tables, self.symbols.values(), strict=True):
            rows = current(table)
            covered.revisions += len(table) - len(rows)
            if len(rows):
                covered.seconds += len(rows) * self._bar_s
                covered.covered_ppm += int(rows["coverage_ppm"].sum()) * self._bar_s
                covered.last_second = int(rows["second"][-1])
                if covered.first_second is None:
                    covered.first_second = int(rows["second"][0])

    def add_markets(self, store: JournalStore, from_s: int, to_s: int) -> None:
        """Look up, day by day, how whole each market of the symbols was in `[from_s, to_s)`."""
        markets = [market for market in store.markets() if market.base in self.symbols]
        whole = np.zeros(len(markets), np.int64)
        for start in range(from_s, to_s, DAY_S):
            known = store.coverage([market.name for market in markets], start, min(start + DAY_S, to_s))
            whole += np.count_nonzero(known, axis=1)
        for market, seconds in zip(markets, whole.tolist(), strict=True):
            self.symbols[market.base].markets[market.name] = round(seconds / max(1, to_s - from_s), 6)

    def told(self, span_s: int) -> dict[str, Any]:
        """By symbol, ready for JSON."""
        return {symbol: covered.told(span_s) for symbol, covered in self.symbols.items()}
