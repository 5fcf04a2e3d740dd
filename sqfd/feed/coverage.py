"""What is known of each second of each market: a ledger of intervals. Pure; times are exchange time in milliseconds."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Literal

import msgspec

State = Literal["live", "gap", "recovered", "partial", "lost"]
"""live: whole as received · gap: missing so far · recovered: filled exactly · partial: filled in part · lost: given up."""

INTERVALS = 256
"""Intervals that one market's ledger keeps; what is older has the state `lost` once it is forgotten."""


class Interval(msgspec.Struct):
    """A stretch of time that was not simply live: [from_ms, until_ms); open while `until_ms` is None."""

    from_ms: float
    until_ms: float | None
    state: State
    reason: str
    missed: int | None = None
    """Trades known to be missing, where ids count."""


class Ledger:
    """One market. Before its first trade nothing is known: it begins in a gap."""

    def __init__(self, limit: int = INTERVALS) -> None:
        self.intervals: deque[Interval] = deque([Interval(float("-inf"), None, "gap", "not live yet")], maxlen=limit)
        """Oldest first, without overlap."""

    @property
    def open(self) -> Interval | None:
        """The gap that is going on, if any."""
        last = self.intervals[-1]
        return last if last.until_ms is None else None

    def open_gap(self, from_ms: float, reason: str) -> None:
        """The feed is not trusted from `from_ms` on. Within an open gap nothing changes."""
        if self.open is not None:
            return
        last = self.intervals[-1]
        assert last.until_ms is not None
        if from_ms <= last.until_ms and last.state == "gap":
            last.until_ms, last.reason = None, reason  # it never really came back
            return
        self.intervals.append(Interval(max(from_ms, last.until_ms), None, "gap", reason))

    def close_gap(self, until_ms: float, state: State = "gap", missed: int | None = None) -> None:
        """The feed is live again from `until_ms` on; `state` is what becomes of the gap."""
        gap = self.open
        if gap is None:
            return
        gap.until_ms = max(until_ms, gap.from_ms)
        gap.state, gap.missed = state, missed

    def resolve(self, interval: Interval, state: State) -> None:
        """A closed gap was filled (`recovered`), filled in part, or given up (`lost`)."""
        interval.state = state

    def state_at(self, second: int) -> State:
        """The worst that is known of that second."""
        start_ms, end_ms = second * 1e3, second * 1e3 + 1e3
        if start_ms < self.intervals[0].from_ms:
            return "lost"
        worst: State = "live"
        # Newest first: nearly every question is about now.
        for interval in reversed(self.intervals):
            if interval.until_ms is not None and interval.until_ms <= start_ms:
                break
            if interval.from_ms < end_ms and _RANK[interval.state] > _RANK[worst]:
                worst = interval.state
        return worst

    def whole(self, second: int) -> bool:
        """Whether every trade of that second is believed to be here."""
        return _RANK[self.state_at(second)] <= _RANK["recovered"]

    def since_ms(self, now_ms: float) -> float:
        """When the present state began."""
        starts = [i.from_ms if i.until_ms is None else i.until_ms for i in self.intervals]
        return starts[max(0, bisect_right(starts, now_ms) - 1)]


_RANK: dict[State, int] = {"live": 0, "recovered": 1, "partial": 2, "gap": 3, "lost": 4}
