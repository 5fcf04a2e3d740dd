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
    recovered: int = 0
    """Trades that were filled in."""
    note: str = ""
    """What recovery has to say: why something is still missing."""

    def seconds(self, now_ms: float) -> tuple[int, int]:
        """The first second that it touches and the one after the last, until `now_ms` where it goes on.

        None (0, 0) for the time before a market's first trade, which nobody took for whole.
        """
        if self.from_ms == float("-inf"):
            return 0, 0
        until_ms = now_ms if self.until_ms is None else self.until_ms
        return int(self.from_ms // 1000), int(-(-until_ms // 1000))


class Ledger:
    """One market. Before its first trade nothing is known: it begins in a gap."""

    def __init__(self, limit: int = INTERVALS) -> None:
        self.changed: deque[Interval] = deque(maxlen=limit)
        """Intervals that began, ended or were resolved, for whoever keeps the story. Taken from the left."""
        self.open: Interval | None = Interval(float("-inf"), None, "gap", "not live yet")
        """The gap that is going on, if any: the last interval. Asked of each market each second."""
        self.intervals: deque[Interval] = deque([self.open], maxlen=limit)
        """Oldest first, without overlap."""

    def open_gap(self, from_ms: float, reason: str) -> None:
        """The feed is not trusted from `from_ms` on. Within an open gap nothing changes."""
        if self.open is not None:
            return
        last = self.intervals[-1]
        assert last.until_ms is not None
        begun = last.from_ms > float("-inf")  # what came before the first trade is nobody's story, and stays closed
        if begun and from_ms <= last.until_ms and last.state == "gap":
            last.until_ms, last.reason = None, reason  # it never really came back
            self.open = last
            self.changed.append(last)
            return
        self.open = Interval(max(from_ms, last.until_ms), None, "gap", reason)
        self.intervals.append(self.open)
        self.changed.append(self.open)

    def resume(self, from_ms: float, reason: str) -> Interval:
        """An earlier run knew everything before `from_ms`. Only before the first trade."""
        self.open = gap = self.intervals[-1] = Interval(from_ms, None, "gap", reason)
        self.changed.append(gap)
        return gap

    def explain(self, reason: str) -> None:
        """More is known of why the open gap goes on."""
        gap = self.open
        if gap is not None and gap.reason != reason:
            gap.reason = reason
            self.changed.append(gap)

    def close_gap(self, until_ms: float, state: State = "gap", missed: int | None = None) -> None:
        """The feed is live again from `until_ms` on; `state` is what becomes of the gap."""
        gap = self.open
        if gap is None:
            return
        gap.until_ms = max(until_ms, gap.from_ms)
        gap.state, gap.missed = state, missed
        self.open = None
        self.changed.append(gap)

    def add(self, from_ms: float, until_ms: float, reason: str, missed: int | None = None) -> Interval:
        """A gap that was found after it ended. Gives the interval that speaks for it: a known one where it lies in one."""
        at = next((n for n, i in enumerate(self.intervals) if i.from_ms > from_ms), len(self.intervals))
        earlier = self.intervals[at - 1] if at else None
        later = self.intervals[at] if at < len(self.intervals) else None
        if earlier is not None:
            if earlier.until_ms is None or earlier.until_ms >= until_ms:
                return earlier
            from_ms = max(from_ms, earlier.until_ms)
        if later is not None:
            until_ms = min(until_ms, later.from_ms)
        if later is not None and from_ms >= until_ms:
            return later
        made = Interval(from_ms, until_ms, "gap", reason, missed)
        at -= self._make_room()
        self.intervals.insert(max(0, at), made)
        self.changed.append(made)
        return made

    def split(self, interval: Interval, at_ms: float) -> Interval:
        """Cut a closed gap in two, which may end differently; gives the later part."""
        assert interval.until_ms is not None
        later = msgspec.structs.replace(interval, from_ms=at_ms)
        interval.until_ms = at_ms
        self._make_room()
        if interval in self.intervals:
            self.intervals.insert(self.intervals.index(interval) + 1, later)
        self.changed.append(interval)
        return later

    def resolve(
        self, interval: Interval, state: State, recovered: int = 0, missed: int | None = None, note: str = ""
    ) -> None:
        """A closed gap was filled (`recovered`), filled in part, or given up (`lost`)."""
        interval.state, interval.recovered, interval.note = state, interval.recovered + recovered, note
        interval.missed = interval.missed if missed is None else missed
        self.changed.append(interval)

    def _make_room(self) -> int:
        """Forget the oldest interval where there is no room for another; says how many were forgotten."""
        if len(self.intervals) < (self.intervals.maxlen or 0):
            return 0
        self.intervals.popleft()
        return 1

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
        last = self.intervals[-1]
        if last.until_ms is not None and last.until_ms <= second * 1e3:
            return True  # nearly every question is about a second after all of them
        return _RANK[self.state_at(second)] <= _RANK["recovered"]

    def since_ms(self, now_ms: float) -> float:
        """When the present state began."""
        starts = [i.from_ms if i.until_ms is None else i.until_ms for i in self.intervals]
        return starts[max(0, bisect_right(starts, now_ms) - 1)]


_RANK: dict[State, int] = {"live": 0, "recovered": 1, "partial": 2, "gap": 3, "lost": 4}
