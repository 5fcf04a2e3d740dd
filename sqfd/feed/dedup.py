"""Telling a trade that was already counted from a new one. Pure; one object per market.

Connections overlap (a replacement is opened before the old one ends) and exchanges repeat recent trades on subscribing,
so the same trade arrives twice. What identifies it is the exchange's: `Endpoint.ids`. Every structure here is bounded;
what lies before its memory is taken for seen, because a doubled volume is worse than a late trade lost.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from exchanges.api import Endpoint, Trade

WINDOW = 512
"""Ids or contents that a market remembers at least."""
HOLES = 64
"""Ranges of missing ids that a market remembers; older ones are taken for lost."""
RENUMBERED_MS = 1000
"""An id from before the window whose trade is this much newer than every other one: the exchange began to count anew."""


class Dedup(Protocol):
    """Decides for one market."""

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        """Whether this trade was there before; remembers it if not.

        `connection` numbers the connection that it came by, `newest_ms` is the newest trade time that was accepted.
        """


class Content:
    """Without ids: equal content is the same trade only when another connection brought it as often.

    Two equal trades on one connection are two trades. A connection that brings some content for the n-th time repeats
    what others brought if they had brought it n times. (Where an outage separates two equal trades of one millisecond,
    the second is taken for a repetition; nothing in the data could tell.)
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._counted: dict[object, int] = {}
        self._by_connection: dict[int, dict[object, int]] = {}

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        content = (trade.ts_ms, trade.price, trade.size, trade.buy, trade.id)
        brought = self._by_connection.get(connection)
        if brought is None:
            brought = self._enter(connection)
        times = brought[content] = brought.get(content, 0) + 1
        if len(brought) > self._window:
            del brought[next(iter(brought))]
        if times <= self._counted.get(content, 0):
            return True
        self._counted[content] = times
        if len(self._counted) > self._window:
            del self._counted[next(iter(self._counted))]
        return False

    def _enter(self, connection: int) -> dict[object, int]:
        """A connection's first trade. At most two connections carry a market at a time: the newest two are kept."""
        while len(self._by_connection) >= 2:
            del self._by_connection[next(iter(self._by_connection))]
        brought: dict[object, int] = {}
        self._by_connection[connection] = brought
        return brought


class Unique:
    """Ids in no order: the last `window` to twice as many are remembered, as two generations of a set."""

    def __init__(self, window: int = 2 * WINDOW) -> None:
        self._window = window
        self._young: set[object] = set()
        self._old: set[object] = set()

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        id = trade.id
        young = self._young
        if id in young or id in self._old:
            return True
        young.add(id)
        if len(young) >= self._window:
            self._old = young
            self._young = set()
        return False


class Monotonic:
    """Growing ids with unknown steps: an id above the newest is new; one below is looked up among the recent ones.

    Between `window` and twice as many of the highest ids are remembered; `floor` is the highest that was forgotten.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._limit = 2 * window
        self._last = -1
        self._floor = -1
        self._recent: list[int] = []
        self._rest: Content | None = None

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        id = trade.id
        try:
            if id > self._last:  # type: ignore[operator]  # anything but an int is caught below, at no cost here
                self._last = id  # type: ignore[assignment]
                recent = self._recent
                recent.append(id)  # type: ignore[arg-type]
                if len(recent) > self._limit:
                    self._forget()
                return False
        except TypeError:
            return self._by_content(trade, connection, newest_ms)
        assert isinstance(id, int)
        return self._earlier(id, trade.ts_ms > newest_ms + RENUMBERED_MS)

    def _earlier(self, id: int, much_newer: bool) -> bool:
        if id in self._recent:
            return True
        if id <= self._floor:
            if not much_newer:
                return True
            self._last, self._floor = id, -1
            self._recent.clear()
        self._recent.append(id)
        return False

    def _forget(self) -> None:
        self._recent.sort()
        cut = len(self._recent) - self._window
        self._floor = max(self._floor, self._recent[cut - 1])
        del self._recent[:cut]

    def _by_content(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        """A row without the id that the exchange promised."""
        self._rest = self._rest or Content(self._window)
        return self._rest.seen(trade, connection, newest_ms)


class Gapless:
    """Ids that count up by one: exact, because what is missing is a short list of holes.

    `holes` are the missing ranges (first, last), oldest first; recovery asks for them, and trades that fill them are new.
    """

    def __init__(self, holes: int = HOLES) -> None:
        self._last: int | None = None
        self.holes: deque[tuple[int, int]] = deque(maxlen=holes)
        self.missed = 0
        """Trades that were missing when a later one came; those that came after all included."""
        self._rest: Content | None = None

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        id = trade.id
        last = self._last
        try:
            if id == last + 1:  # type: ignore[operator]  # None and text are handled below, at no cost here
                self._last = id
                return False
        except TypeError:
            pass
        if type(id) is not int:
            self._rest = self._rest or Content()
            return self._rest.seen(trade, connection, newest_ms)
        if last is None:
            self._last = id
            return False
        return self._out_of_line(id, last, trade.ts_ms > newest_ms + RENUMBERED_MS)

    def _out_of_line(self, id: int, last: int, much_newer: bool) -> bool:
        if id > last:
            self.holes.append((last + 1, id - 1))
            self.missed += id - last - 1
            self._last = id
            return False
        for at, (first, end) in enumerate(self.holes):
            if first <= id <= end:
                self._fill(at, first, end, id)
                return False
        if much_newer:
            self.holes.clear()
            self._last = id
            return False
        return True

    def _fill(self, at: int, first: int, end: int, id: int) -> None:
        parts = [(a, b) for a, b in ((first, id - 1), (id + 1, end)) if a <= b]
        rest = list(self.holes)
        rest[at : at + 1] = parts
        self.holes.clear()
        self.holes.extend(rest)


def dedup_for(endpoint: Endpoint) -> Dedup:
    """The rule that fits an endpoint's ids."""
    if endpoint.ids == "none":
        return Content()
    if endpoint.ids == "unique":
        return Unique()
    return Gapless() if endpoint.gapless else Monotonic()
