"""Stretches of one market's trades that may be missing, from the moment they begin until they are filled or given up. Pure.

A market without a hole pays nothing: `Watch` stands in front of the market's dedup only while there is one. It learns the
first trade after the hole, and keeps apart what arrives live within the hole from what recovery brings, whichever is first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from exchanges.api import Gap, Instrument, Trade
from sqfd.feed.coverage import Interval, Ledger, State
from sqfd.feed.dedup import Dedup, Found, Gapless, identity

WATCHED = 16
"""Holes of one market that are watched at a time; of more, the oldest are given up."""
KNOWN = 50_000
"""Identities that a hole remembers at most; beyond, recovery would have to guess, and is not tried."""

IMAGE = 2000
"""Trades of images that a hole keeps."""


class Verdict(NamedTuple):
    """What became of a hole: the arguments of `Ledger.resolve`."""

    state: State
    recovered: int
    missed: int | None
    note: str


_WORSE: dict[State, int] = {"live": 0, "recovered": 0, "partial": 1, "gap": 2, "lost": 2}


class Hole:
    """Trades that may be missing after `after`, and before `before` once that is known."""

    def __init__(self, interval: Interval, after: Trade, known: dict[object, int]) -> None:
        """`known`: how often each remembered trade was there when it began."""
        self.intervals = [interval]
        """What the ledger says of it; several when the feed was lost again before a trade came."""
        self.after = after
        self.before: Trade | None = None
        self.lead_ms: int | None = None
        """`after` is a guess: an earlier run ended there. Asked is this much earlier, for a trade that proves the reach."""
        self.continuous = False
        """The exchange itself sent what happened in between: nothing is missing."""
        self.image: list[Trade] = []
        """Trades that the exchange sent of itself on subscribing; recovery puts them in."""
        self.tries = 0
        self.retry_ms = 0.0
        self.ready_ms: float | None = None
        """When recovery may begin (local time), once the feed is live again."""
        self.filled = 0
        """Trades that recovery and images put in."""
        self.verdict = Verdict("recovered", 0, None, "")
        known.setdefault(identity(after), 1)
        # As in `dedup.Content`, without ids: who brings a trade for the n-th time repeats others if it was accepted n times before.
        self._accepted = known
        self._live = dict(known)
        self._brought: dict[object, int] = {}
        self._span: Gap | None = None

    @property
    def closed(self) -> bool:
        """Whether the feed is live again."""
        return all(interval.until_ms is not None for interval in self.intervals)

    @property
    def until_ms(self) -> float:
        """The exchange's time at which the feed was live again."""
        return max((i.until_ms for i in self.intervals if i.until_ms is not None), default=0.0)

    @property
    def adjacent(self) -> bool:
        """Whether ids show that the trades on both sides follow each other (ids that count up by one)."""
        before = self.before
        if before is None or type(before.id) is not int or type(self.after.id) is not int:
            return False
        return before.id == self.after.id + 1

    def gap(self, instrument: Instrument, numbered: bool) -> Gap:
        """What is missing. `numbered` False: by time, from and with the trade before it, whose return proves the reach."""
        before = self.before
        return Gap(
            instrument,
            self.after.ts_ms,
            before.ts_ms if before is not None else int(self.until_ms) + 1,
            self.after.id if numbered else None,
            before.id if before is not None else None,
            before.count if before is not None else 1,
        )

    def question(self, instrument: Instrument, numbered: bool) -> Gap:
        """What to ask for: `gap`, and what comes before it where no trade is known to be asked for."""
        gap = self.gap(instrument, numbered)
        return gap if self.lead_ms is None else msgspec.structs.replace(gap, after_ms=gap.after_ms - self.lead_ms)

    def reached(self, trades: Sequence[Trade]) -> bool:
        """Whether an answer asked for by time reaches back to what is known."""
        return any(t.ts_ms < self.after.ts_ms or identity(t) == identity(self.after) for t in trades)

    def covers(self, trade: Trade) -> bool:
        """Whether a trade belongs into it, as far as its ends are known."""
        if self.before is None:
            return self.follows(trade)
        if self._span is None:
            self._span = self.gap(trade.instrument, True)
        return self._span.covers(trade)

    def show(self, trades: Sequence[Trade]) -> None:
        """The exchange sent past trades of itself."""
        if self.before is None:
            self.continuous |= self.reached(trades)
        self.image += [trade for trade in trades[:IMAGE] if self.covers(trade)]
        del self.image[:-IMAGE]

    def conclude(self, verdict: Verdict) -> None:
        """This, or another hole of the same gap, came to an end: the worse fate and the sums stand for the gap."""
        old = self.verdict
        worse = verdict if _WORSE[verdict.state] >= _WORSE[old.state] else old
        state: State = "partial" if worse.state == "lost" and old.recovered + verdict.recovered else worse.state
        missed = [count for count in (old.missed, verdict.missed) if count is not None]
        self.verdict = Verdict(
            state, old.recovered + verdict.recovered, sum(missed) if missed else None, worse.note or old.note
        )

    def spans(self, number: int) -> bool:
        """Whether an id that counts lies in it."""
        after, before = self.after.id, self.before.id if self.before is not None else None
        if type(after) is not int or number <= after:
            return False
        return type(before) is not int or number < before

    def follows(self, trade: Trade) -> bool:
        """Whether a trade comes after the last one before it."""
        if type(trade.id) is int and type(self.after.id) is int:
            return trade.id > self.after.id
        return trade.ts_ms >= self.after.ts_ms

    def live(self, trade: Trade) -> bool:
        """A new trade arrived live; True when recovery has brought it already."""
        if self.before is None and self.follows(trade):
            self.before = trade
        elif not self.covers(trade):
            return False
        return self._again(self._live, trade)

    def brought(self, trade: Trade) -> bool:
        """Recovery brings a trade; True when it was there before."""
        return self._again(self._brought, trade)

    def shares(self, trade: Trade) -> bool:
        """A trade came by another hole's recovery; True when it was there before."""
        return self.covers(trade) and self._again(self._live, trade)

    @property
    def extent(self) -> tuple[float | None, ...]:
        """Where its intervals end: changes when the feed is lost again before a trade came."""
        return tuple(interval.until_ms for interval in self.intervals)

    def _again(self, by_source: dict[object, int], trade: Trade) -> bool:
        told = identity(trade)
        times = 1
        if trade.id is None:  # only without ids can there be two that look the same
            times = by_source[told] = by_source.get(told, 0) + 1
        if times <= self._accepted.get(told, 0):
            return True
        self._accepted[told] = times
        return False

    def clip(self, oldest_ms: float, ledger: Ledger) -> None:
        """What lies before can no longer be revised: that part of it is lost."""
        kept = []
        for interval in self.intervals:
            assert interval.until_ms is not None
            later = interval
            if interval.from_ms < oldest_ms < interval.until_ms:
                later = ledger.split(interval, oldest_ms)
            if interval.from_ms < oldest_ms:
                ledger.resolve(interval, "lost", note="too old to be revised")
            if later is not interval or interval.from_ms >= oldest_ms:
                kept.append(later)
        self.intervals = kept

    def begin_anew(self) -> None:
        """Another answer begins: it brings everything once more."""
        self._brought.clear()

    @property
    def overgrown(self) -> bool:
        return len(self._accepted) > KNOWN


class Watch:
    """The holes of one market. `seen` and `follow` replace the dedup's own while there are any."""

    def __init__(self, dedup: Dedup) -> None:
        self.dedup = dedup
        self.holes: list[Hole] = []
        """Oldest first."""

    def open(self, interval: Interval, after: Trade) -> Hole | None:
        """A hole begins. Gives the one that must be given up for it, if any."""
        last = self.holes[-1] if self.holes else None
        if last is not None and last.before is None:
            if not any(interval is known for known in last.intervals):
                last.intervals.append(interval)
            last.continuous = False
            return None
        return self._add(Hole(interval, after, dict(self.dedup.memory())))

    def resume(self, interval: Interval, instrument: Instrument, lead_ms: int) -> None:
        """An earlier run ended where the interval begins; its last trades are not known."""
        hole = Hole(interval, Trade(instrument, int(interval.from_ms), 1.0, 1.0, True), {})
        hole.lead_ms = lead_ms
        self._add(hole)

    def found(self, interval: Interval, found: Found, instrument: Instrument) -> Hole | None:
        """Ids were passed over while the feed was live."""
        after = Trade(instrument, found.after_ms, 1.0, 1.0, True, found.first - 1)
        hole = Hole(interval, after, {})
        hole.before = Trade(instrument, found.before_ms, 1.0, 1.0, True, found.last + 1, found.before_count)
        return self._add(hole)

    def knows(self, found: Found) -> bool:
        """Whether a hole is watched already."""
        return any(hole.spans(found.first) for hole in self.holes)

    def _add(self, hole: Hole) -> Hole | None:
        self.holes.append(hole)
        return self.holes.pop(0) if len(self.holes) > WATCHED else None

    def within(self, interval: Interval) -> Hole | None:
        """A hole of that gap."""
        return next((hole for hole in self.holes if any(one is interval for one in hole.intervals)), None)

    def remove(self, hole: Hole) -> None:
        """It is filled or given up."""
        if hole in self.holes:
            self.holes.remove(hole)

    def seen(self, trade: Trade, connection: int, newest_ms: int) -> bool:
        """As the dedup's, with the holes told of what is new."""
        if self.dedup.seen(trade, connection, newest_ms):
            return True
        again = False
        for hole in self.holes:
            again |= hole.live(trade)
        return again

    def follow(self, trades: Sequence[Trade], connection: int) -> bool:
        """Each may belong into a hole."""
        return False

    def admits(self, hole: Hole, trade: Trade, newest_ms: int) -> bool:
        """Whether a trade that recovery brings is new."""
        if isinstance(self.dedup, Gapless) and type(trade.id) is int and hole.lead_ms is None:
            return not self.dedup.seen(trade, -1, newest_ms)
        again = hole.brought(trade)
        for other in self.holes:
            if other is not hole and not again:  # they may share a millisecond at their edges
                again = other.shares(trade)
        return not again
