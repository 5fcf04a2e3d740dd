"""What became of holes, told by endpoint: after a cut a hundred markets are one line of the log. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqfd.feed.coverage import State
from sqfd.feed.holes import Hole


class Ended:
    """The holes of one endpoint that came to an end and are not told yet."""

    def __init__(self, now_ms: float) -> None:
        self.since_ms = now_ms
        self.markets: set[str] = set()
        self.states: Counter[State] = Counter()
        self.reasons: Counter[str] = Counter()
        self.trades = 0
        self.longest_s = 0.0

    def add(self, market: str, hole: Hole, state: State, note: str) -> None:
        self.markets.add(market)
        self.states[state] += 1
        self.trades += hole.filled
        self.longest_s = max(self.longest_s, sum((i.until_ms or i.from_ms) - i.from_ms for i in hole.intervals) / 1e3)
        if note:
            self.reasons[note] += 1

    def told(self) -> dict[str, Any]:
        """In a line: of one market its name, of more their number; the most frequent reason. `sqfd gaps` has each."""
        few = {"market": next(iter(self.markets))} if len(self.markets) == 1 else {"markets": len(self.markets)}
        said: dict[str, Any] = few | dict(self.states) | {"longest_s": round(self.longest_s, 1), "trades": self.trades}
        return said | ({"reason": self.reasons.most_common(1)[0][0]} if self.reasons else {})
