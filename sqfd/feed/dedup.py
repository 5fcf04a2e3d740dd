"""Telling a trade that was already counted from a new one. Pure; one object per market.

Connections overlap (a replacement is opened before the old one ends) and exchanges repeat recent trades on subscribing,
so the same trade arrives twice. What identifies it is the exchange's: `Endpoint.ids`. Every structure here is bounded;
what lies before its memory is taken for seen, because a doubled volume is worse than a late trade lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import attrgetter, lt
from typing import NamedTuple, Protocol

from exchanges.api import Endpoint, Trade

WINDOW = 512
"""Ids or contents that a market remembers at least."""
HOLES = 64
"""Ranges of missing ids that a market remembers; older ones are taken for lost."""
BEFORE = 512
"""Gapless ids before a market's first trade that may still come: with a new connection a later trade can be the first."""
RENUMBERED_MS = 1000
"""An id from before the window whose trade is this much newer than every other one: the exchange began to count anew."""


class Dedup(Protocol):
    """Decides for one market."""

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        """Whether this trade was there before; remembers it if not.

        `connection` numbers the connection that it came by, `newest_ms` is the newest trade time that was accepted.
        """

    def follow(self, trades: Sequence[Trade], connection: int) -> bool:
        """Where all of these are new at a glance, remember them. Else False: nothing is changed, and `seen` tells of each."""

    def memory(self) -> Mapping[object, int]:
        """How often each trade that is remembered was there, by `identity`."""

    def learn(self, trades: Sequence[Trade]) -> None:
        """Take these (recovered) trades for seen from now on; at most about `WINDOW` of the last ones are kept."""


def identity(trade: Trade) -> object:
    """What tells a trade from others of its market: its id, else its content."""
    return trade.id if trade.id is not None else content(trade)


content: Callable[[Trade], object] = attrgetter("ts_ms", "price", "size", "buy", "id")


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
        self._sole: int | None = None
        """The connection that alone brought all that is counted: it repeats nothing."""
        self._forgotten = 0
        """What connections brought and is forgotten."""

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        if not self._counted:
            self._sole = connection
        if connection == self._sole:
            self._count((trade,))
            return False
        told = content(trade)
        brought = self._by_connection.get(connection)
        if brought is None:
            brought = self._enter(connection)
        times = brought[told] = brought.get(told, 0) + 1
        if len(brought) > self._window:
            del brought[next(iter(brought))]
            self._forgotten += 1
        again = times <= self._counted.get(told, 0)
        if not again:
            self._counted[told] = times
            if len(self._counted) > self._window:
                del self._counted[next(iter(self._counted))]
        if self._forgotten >= self._window:
            self._look(connection, brought)
        return again

    def follow(self, trades: Sequence[Trade], connection: int) -> bool:
        """Only from a connection that is alone; else each has to be counted."""
        if not self._counted:
            self._sole = connection
        if connection != self._sole:
            return False
        self._count(trades)
        return True

    def _count(self, trades: Sequence[Trade]) -> None:
        """Of the sole connection."""
        counted = self._counted
        for told in map(content, trades):
            counted[told] = counted.get(told, 0) + 1
        if len(counted) > self._window:  # all at once: a dictionary walks over what was deleted to its first key
            for told in list(islice(counted, len(counted) - self._window)):
                del counted[told]

    def memory(self) -> Mapping[object, int]:
        """By content; the same as `identity` where there are no ids."""
        return dict(self._counted)

    def learn(self, trades: Sequence[Trade]) -> None:
        """They go before what is remembered, and leave first."""
        self._share()
        learned: dict[object, int] = {}
        for trade in trades[-self._window :]:
            learned[content(trade)] = learned.get(content(trade), 0) + 1
        merged = learned | self._counted
        for told, times in learned.items():
            merged[told] = max(times, merged[told])
        surplus = len(merged) - 2 * self._window
        self._counted = dict(list(merged.items())[max(0, surplus) :])

    def _enter(self, connection: int) -> dict[object, int]:
        """A connection's first trade. At most two connections carry a market at a time: the newest two are kept."""
        self._share()
        while len(self._by_connection) >= 2:
            del self._by_connection[next(iter(self._by_connection))]
        brought: dict[object, int] = {}
        self._by_connection[connection] = brought
        return brought

    def _share(self) -> None:
        """Another than the sole connection brings something."""
        if self._sole is not None:
            self._by_connection = {self._sole: dict(self._counted)}
            self._sole = None

    def _look(self, connection: int, brought: dict[object, int]) -> None:
        """Whether this connection is alone: now and then, when it brought as much as is remembered, and nothing else counts."""
        self._forgotten = 0
        if len(brought) == self._window and brought == self._counted:
            self._sole = connection
            self._by_connection.clear()


class Unique:
    """Ids in no order: the last `window` to twice as many are remembered, as two generations of a set."""

    def __init__(self, window: int = 2 * WINDOW) -> None:
        self._window = window
        self._young: set[object] = set()
        self._old: set[object] = set()
        self._rest: Content | None = None

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        id = trade.id
        if id is None:  # a row without the id that the exchange promised
            self._rest = self._rest or Content(self._window)
            return self._rest.seen(trade, connection, newest_ms)
        young = self._young
        if id in young or id in self._old:
            return True
        young.add(id)
        if len(young) >= self._window:
            self._old = young
            self._young = set()
        return False

    def follow(self, trades: Sequence[Trade], connection: int) -> bool:
        ids: set[object] = {trade.id for trade in trades}
        young = self._young
        if len(ids) < len(trades) or None in ids or not (ids.isdisjoint(young) and ids.isdisjoint(self._old)):
            return False
        young |= ids
        if len(young) >= self._window:
            self._old, self._young = young, set()
        return True

    def memory(self) -> Mapping[object, int]:
        known: dict[object, int] = dict.fromkeys(self._young | self._old, 1)
        return known if self._rest is None else known | dict(self._rest.memory())

    def learn(self, trades: Sequence[Trade]) -> None:
        """Into the older generation, which leaves as a whole."""
        if len(self._old) < 4 * self._window:
            self._old.update(trade.id for trade in trades[-self._window :] if trade.id is not None)
        if without := [trade for trade in trades if trade.id is None]:
            self._rest = self._rest or Content(self._window)
            self._rest.learn(without)


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

    def follow(self, trades: Sequence[Trade], connection: int) -> bool:
        ids = [trade.id for trade in trades]
        try:
            if ids[0] <= self._last or not all(map(lt, ids, ids[1:])):  # type: ignore[operator,arg-type]  # as in `seen`
                return False
        except TypeError:
            return False
        self._last = ids[-1]  # type: ignore[assignment]
        self._recent += ids  # type: ignore[arg-type]
        if len(self._recent) > self._limit:
            self._forget()
        return True

    def memory(self) -> Mapping[object, int]:
        return dict.fromkeys(self._recent, 1)

    def learn(self, trades: Sequence[Trade]) -> None:
        known = set(self._recent)
        fresh = [id for t in trades[-self._window :] if isinstance(id := t.id, int) and id > self._floor]
        self._recent += [id for id in fresh if id not in known]
        self._last = max(self._last, *fresh, -1)
        if len(self._recent) > self._limit:
            self._forget()

    def _forget(self) -> None:
        self._recent.sort()
        cut = len(self._recent) - self._window
        self._floor = max(self._floor, self._recent[cut - 1])
        del self._recent[:cut]

    def _by_content(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        """A row without the id that the exchange promised."""
        self._rest = self._rest or Content(self._window)
        return self._rest.seen(trade, connection, newest_ms)


class Found(NamedTuple):
    """A range of ids that was passed over, and the times and ids of the trades on both sides of it."""

    first: int
    last: int
    after_ms: int
    before_ms: int
    before_count: int


class Gapless:
    """Ids that count up by one: exact, because what is missing is a short list of holes.

    `holes` are the missing ranges (first, last), oldest first; recovery asks for them, and trades that fill them are new.
    The ids just before the first trade are one of them: what brought that trade may have brought it out of its order.
    """

    def __init__(self, holes: int = HOLES) -> None:
        self._first = 0
        """The id of the first trade that came."""
        self._last: int | None = None
        self.holes: deque[tuple[int, int]] = deque(maxlen=holes)
        self.found: deque[Found] = deque(maxlen=holes)
        """Holes as they appeared, for recovery to look at; many fill by themselves a moment later."""
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
            self._first = self._last = id
            if id > 0:
                self.holes.append((max(0, id - BEFORE), id - 1))
            return False
        return self._out_of_line(id, last, trade, newest_ms)

    def follow(self, trades: Sequence[Trade], connection: int) -> bool:
        last = self._last
        if last is None or [trade.id for trade in trades] != list(range(last + 1, last + 1 + len(trades))):
            return False
        self._last = last + len(trades)
        return True

    def memory(self) -> Mapping[object, int]:
        return {}

    def learn(self, trades: Sequence[Trade]) -> None:
        """Most went through `seen` one by one; those of before the first trade, which a restart asks for, did not."""
        for trade in trades:
            if type(trade.id) is int and trade.id < self._first:
                self._fill(trade.id)

    def missing(self, first: int, last: int) -> int:
        """How many ids of this range are missing, so far as is remembered."""
        return sum(max(0, min(end, last) - max(start, first) + 1) for start, end in self.holes)

    def _out_of_line(self, id: int, last: int, trade: Trade, newest_ms: int) -> bool:
        if id > last:
            self.holes.append((last + 1, id - 1))
            self.found.append(Found(last + 1, id - 1, newest_ms, trade.ts_ms, trade.count))
            self.missed += id - last - 1
            self._last = id
            return False
        renumbered = trade.ts_ms > newest_ms + RENUMBERED_MS
        if not (renumbered and id < self._first) and self._fill(id):
            return False
        if renumbered:
            self.holes.clear()
            self._first = self._last = id
            return False
        return True

    def _fill(self, id: int) -> bool:
        """Whether it was missing; from now on it is not."""
        for at, (first, end) in enumerate(self.holes):
            if first <= id <= end:
                rest = list(self.holes)
                rest[at : at + 1] = [(a, b) for a, b in ((first, id - 1), (id + 1, end)) if a <= b]
                self.holes.clear()
                self.holes.extend(rest)
                return True
        return False


def dedup_for(endpoint: Endpoint) -> Dedup:
    """The rule that fits an endpoint's ids."""
    if endpoint.ids == "none":
        return Content()
    if endpoint.ids == "unique":
        return Unique()
    return Gapless() if endpoint.gapless else Monotonic()
