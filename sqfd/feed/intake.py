"""What received events do to bars and counters: the hot path (`Source.take`). Pure.

Conservation holds at any moment, per market and in total: received = aggregated + duplicate + late + malformed. What is
not a live trade of a collected market (excluded rows, images, unknown messages) is counted apart, with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import add
from typing import Protocol

import msgspec
from msgspec.structs import astuple

from exchanges.api import (
    Endpoint,
    Event,
    Excluded,
    Instrument,
    Liquidation,
    Malformed,
    Past,
    Run,
    Trade,
    Unknown,
    sorted_runs,
)
from sqfd.feed.coverage import Ledger, State
from sqfd.feed.dedup import Content, Dedup, Found, Gapless, dedup_for
from sqfd.feed.holes import Hole, Verdict, Watch
from sqfd.feed.liveness import Pace
from sqfd.feed.session import Heard, prove

REASONS = 64
"""Reasons that are told apart per exchange; any more are counted together."""
OTHER = "other reasons"
DOWN = "sqfd was down"
_NUMBER = re.compile(r"\d+")

Other = Callable[[Event, float], None]
"""Who takes an event that is no trade, and when it was received."""


class Way(Protocol):
    """One market's way into the bars."""

    newest: Trade | None
    """The trade of the newest time, the last of them where several have it; None before the first."""

    def add(self, trades: Sequence[Trade]) -> Sequence[Trade]:
        """Add trades; gives back those that came too late, which it dropped."""


class Sink(Protocol):
    """Who takes trades: the bar builder."""

    def way(self, market: int) -> Way:
        """What adds trades of that market."""

    def liquidation(self, market: int, liquidation: Liquidation) -> bool:
        """Add a forced order; False when it came too late and was dropped."""

    def recovered(self, market: int, trade: Trade, first: bool) -> bool:
        """Add a trade that was missing; False when it came too late and was dropped.

        `first`: it happened before whatever else is known of its millisecond.
        """

    @property
    def oldest_ms(self) -> int:
        """Trades before this are too late."""


class Offsets(Protocol):
    """Who learns the exchanges' clocks: the watermark."""

    def observe(self, exchange: str, delay_ms: float) -> None:
        """A trade was received `delay_ms` after its time on the exchange's clock."""

    def observe_waited(self, exchange: str, delay_ms: float) -> None:
        """The same of a trade that may have waited for being read: its delay is at most so long."""

    def over_in_s(self, now_ms: float) -> float:
        """How long from now until the next second closes."""


class Counts(msgspec.Struct):
    """What became of received trades; liquidations are counted apart because they are not volume."""

    received: int = 0
    aggregated: int = 0
    duplicate: int = 0
    late: int = 0
    malformed: int = 0
    liquidations: int = 0
    liquidations_late: int = 0
    recovered: int = 0
    """Those of `aggregated` that came by recovery rather than live."""

    def conserved(self) -> bool:
        return self.received == self.aggregated + self.duplicate + self.late + self.malformed

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(add, astuple(self), astuple(other)))


class MarketFeed:
    """One collected market: its place in the bars, its memory of trades, its counters."""

    __slots__ = (
        "_found",
        "_way",
        "add",
        "aggregated",
        "dedup",
        "duplicate",
        "first_ms",
        "follow",
        "force",
        "instrument",
        "late",
        "ledger",
        "liquidations",
        "liquidations_late",
        "malformed",
        "market",
        "pace",
        "recovered",
        "recv_ms",
        "refused",
        "seen",
        "seen_liquidation",
        "watch",
    )

    def __init__(self, market: int, instrument: Instrument, endpoint: Endpoint, sink: Sink) -> None:
        self.market = market
        self.instrument = instrument
        self._way = sink.way(market)
        self.add = self._way.add
        """Whoever wants to see new trades puts itself before it."""
        self.force: Callable[[Liquidation], bool] = partial(sink.liquidation, market)
        """Takes new liquidations, in the same way."""
        self.dedup: Dedup = dedup_for(endpoint)
        self.seen, self.follow = self.dedup.seen, self.dedup.follow
        self.seen_liquidation = Content().seen  # they have no ids worth the name
        self._found: Sequence[Found] = self.dedup.found if isinstance(self.dedup, Gapless) else ()
        """Holes that ids showed and that nobody looked at yet."""
        self.watch = Watch(self.dedup)
        self.ledger = Ledger()
        self.pace = Pace()
        self.aggregated = self.duplicate = self.late = self.malformed = 0
        self.liquidations = self.liquidations_late = self.recovered = 0
        self.first_ms: int | None = None
        """Trade time of the first trade that came."""
        self.refused = ""
        """Why the exchange refuses to send it, in its words; empty while it does not."""
        self.recv_ms = 0.0
        """When a trade was last received, duplicates included."""

    @property
    def newest(self) -> Trade | None:
        """The trade of the newest time that was accepted."""
        return self._way.newest

    @property
    def newest_ms(self) -> int:
        """Newest trade time that was accepted; 0 before the first."""
        newest = self._way.newest
        return 0 if newest is None else newest.ts_ms

    @property
    def received(self) -> int:
        """Each of them ended in one place."""
        return self.aggregated + self.duplicate + self.late + self.malformed

    def take(self, trades: Sequence[Trade], connection: int) -> Trade | None:
        """Add those that are new to their bars; the last of them, if there are any."""
        if len(trades) == 1 or not self.follow(trades, connection):
            return self._take_each(trades, connection)
        dropped = self.add(trades)
        if dropped:
            self.late += len(dropped)
            gone = set(map(id, dropped))
            trades = [trade for trade in trades if id(trade) not in gone]
        self.aggregated += len(trades)
        return trades[-1] if trades else None

    def _take_each(self, trades: Sequence[Trade], connection: int) -> Trade | None:
        new: Trade | None = None
        for trade in trades:
            if self.seen(trade, connection, self.newest_ms):
                self.duplicate += 1
            elif self.add((trade,)):
                self.late += 1
            else:
                self.aggregated += 1
                new = trade
        return new

    def counts(self) -> Counts:
        return Counts(
            self.received,
            self.aggregated,
            self.duplicate,
            self.late,
            self.malformed,
            self.liquidations,
            self.liquidations_late,
            self.recovered,
        )

    # --- whether it can be trusted

    def resume(self, from_ms: float, lead_ms: int) -> None:
        """An earlier run knew everything before `from_ms`: what happened since may be missing. Only before the first trade.

        `lead_ms`: how long before that it last traded.
        """
        self.watch.resume(self.ledger.resume(from_ms, DOWN), self.instrument, lead_ms)
        self.seen, self.follow = self.watch.seen, self.watch.follow

    def lose(self, from_ms: float, reason: str) -> None:
        """The feed is not trusted from `from_ms` (exchange time) on; in an open gap that goes on.

        What came in between, if anything, ends one hole and begins the next.
        """
        if self.ledger.open is None:
            self.pace.pause()
            self.ledger.open_gap(from_ms, reason)
        gap = self.ledger.open
        if gap is not None and self.newest is not None and gap.from_ms != float("-inf"):
            self._given_up(self.watch.open(gap, self.newest))
            self.seen, self.follow = self.watch.seen, self.watch.follow

    def regain(self, until_ms: float) -> None:
        """The feed is live again from `until_ms` (exchange time) on."""
        self.refused = ""
        self.ledger.close_gap(until_ms)

    def refuse(self, reason: str) -> None:
        """The exchange refuses this market: delisted, renamed, or not to be had from here."""
        self.refused = reason or "no reason given"
        self.ledger.explain(f"refused by the exchange: {self.refused}")

    def delist(self, reason: str) -> None:
        """The exchange does not list it any more: what comes after its last trade is a gap until it trades again."""
        self.lose(float(self.newest_ms) if self.newest_ms else float("-inf"), reason)
        self.refused = reason
        self.ledger.explain(reason)

    @property
    def lacking(self) -> bool:
        """Whether trades are missing, or seem to be."""
        return bool(self.watch.holes or self._found)

    def look_for_holes(self, before_ms: float) -> None:
        """Watch holes that ids show, that no outage explains and that did not fill by themselves until `before_ms`."""
        dedup = self.dedup
        if not isinstance(dedup, Gapless):
            return
        while dedup.found and dedup.found[0].before_ms < before_ms:
            found = dedup.found.popleft()
            missing = dedup.missing(found.first, found.last)
            if not missing or self.watch.knows(found):
                continue
            gap = self.ledger.add(found.after_ms, found.before_ms + 1, "trades missing in the stream", missing)
            self._given_up(self.watch.found(gap, found, self.instrument))
            self.seen, self.follow = self.watch.seen, self.watch.follow

    def _given_up(self, hole: Hole | None) -> None:
        if hole is not None:
            self.resolve(hole, "partial" if hole.filled else "lost", note="too many gaps at once")

    def resolve(self, hole: Hole, state: State, missed: int | None = None, note: str = "") -> None:
        """A hole is filled or given up; the ledger hears of it when no other hole lies in the same gap."""
        hole.conclude(Verdict(state, hole.filled, missed, note))
        self.watch.remove(hole)
        if not self.watch.holes:
            self.seen, self.follow = self.dedup.seen, self.dedup.follow
        for interval in hole.intervals:
            other = self.watch.within(interval)
            if other is not None:
                other.conclude(hole.verdict)
            else:
                self.ledger.resolve(interval, *hole.verdict)
            hole.verdict = hole.verdict._replace(recovered=0)  # counted once


class ExchangeCounts:
    """What an exchange sent beside live trades of collected markets. Reasons are bounded in number and length."""

    def __init__(self) -> None:
        self.malformed = 0
        """Rows and frames that named no collected market (they count as received, too)."""
        self.past = 0
        self.excluded: dict[str, int] = {}
        self.unknown: dict[str, int] = {}
        self.malformed_by: dict[str, int] = {}


class Source:
    """One connection's way into the bars: which market a wire symbol is, on that endpoint."""

    __slots__ = (
        "_new",
        "_offsets",
        "_routes",
        "connection",
        "counts",
        "data_ms",
        "delay_ms",
        "exchange",
        "feeds",
        "least_delay_ms",
        "proven",
        "topics",
    )

    def __init__(
        self,
        exchange: str,
        feeds: Mapping[str, MarketFeed],
        counts: ExchangeCounts,
        connection: int,
        offsets: Offsets,
        topics: Mapping[str, Heard] | None = None,
        proven: Callable[[Heard, float], None] = prove,
    ) -> None:
        self.exchange = exchange
        self.feeds = feeds
        self.counts = counts
        self.connection = connection
        self.topics = topics or {}
        """What its session knows of these markets, by wire symbol."""
        self.proven = proven
        """Told when a market's first trade comes by it."""
        self.data_ms: float | None = None
        """When a trade last arrived, repeated ones included."""
        self.delay_ms: float | None = None
        """Receive time − trade time of the last new trade."""
        self.least_delay_ms: float | None = None
        """The least of them on this connection."""
        self._offsets = offsets
        self._routes: dict[str, tuple[MarketFeed, Heard]] = {}
        self._new: Trade | None = None
        """The last new trade since `settle`."""

    def take(self, found: Sequence[Run | Event], recv_ms: float, other: Other) -> None:
        """Add the trades to their bars, once each; `other` gets each of the other events in its turn."""
        for one in found:
            if not isinstance(one, list):
                other(one, recv_ms)
                continue
            route = self._routes.get(one[0].instrument.symbol) or self._meet(one)
            if route is None:
                continue
            feed, topic = route
            self.data_ms = topic.data_ms = feed.recv_ms = recv_ms
            if topic.live_ms is None:
                self.proven(topic, recv_ms)
            new = feed.take(one, self.connection)
            if new is not None:
                self._new = new

    def _meet(self, trades: Sequence[Trade]) -> tuple[MarketFeed, Heard] | None:
        """A market that did not trade before on this connection."""
        symbol = trades[0].instrument.symbol
        feed = self.feeds.get(symbol)
        if feed is None:
            _count(self.counts.excluded, "not collected", len(trades))
            return None
        if feed.first_ms is None:
            feed.first_ms = trades[0].ts_ms
        route = self._routes[symbol] = feed, self.topics.get(symbol) or Heard()
        return route

    def settle(self, recv_ms: float, waited: bool = False) -> None:
        """After all that was read at once: learn the exchange's clock from the last new trade.

        `waited`: it was not read when it came. Then it tells only that the delay is no longer than that: an exchange that sends
        in step with our looks would seem slower than it is, always.
        """
        if self._new is None:
            return
        delay_ms = recv_ms - self._new.ts_ms
        self._new = None
        if self.least_delay_ms is None or delay_ms < self.least_delay_ms:
            self.least_delay_ms = delay_ms
        if not waited or self.delay_ms is None or delay_ms < self.delay_ms:
            self.delay_ms = delay_ms
        (self._offsets.observe_waited if waited else self._offsets.observe)(self.exchange, delay_ms)


class Intake:
    """Hands trades to the sink, once each, and counts everything."""

    def __init__(self, sink: Sink, offsets: Offsets) -> None:
        self._sink = sink
        self._offsets = offsets
        self._connections = 0
        self._feeds: dict[tuple[str, str], dict[str, MarketFeed]] = {}
        self._by_base: dict[str, list[MarketFeed]] = {}
        self.markets: dict[int, MarketFeed] = {}
        self.exchanges: dict[str, ExchangeCounts] = {}

    def add(self, market: int, instrument: Instrument, endpoint: Endpoint) -> MarketFeed:
        """Collect a market under that index. Raises ValueError when the index or the instrument is taken."""
        feeds = self._feeds.setdefault((instrument.exchange, instrument.endpoint), {})
        if market in self.markets or instrument.symbol in feeds:
            raise ValueError(f"{instrument.market} is collected already, or index {market} is taken")
        feed = self.markets[market] = feeds[instrument.symbol] = MarketFeed(market, instrument, endpoint, self._sink)
        self._by_base.setdefault(instrument.base, []).append(feed)
        return feed

    def source(
        self,
        exchange: str,
        endpoint: str,
        topics: Mapping[str, Heard] | None = None,
        proven: Callable[[Heard, float], None] = prove,
    ) -> Source:
        """The way in for a new connection. Connections are numbered for as long as the process runs.

        `topics`: what its session knows of markets, by wire symbol; `proven` is told when one's first trade comes.
        """
        self._connections += 1
        counts = self.exchanges.setdefault(exchange, ExchangeCounts())
        feeds = self._feeds.setdefault((exchange, endpoint), {})
        return Source(exchange, feeds, counts, self._connections, self._offsets, topics, proven)

    def over_in_s(self, now_ms: float) -> float:
        """How long from now until the next second closes: 0 to 1."""
        return self._offsets.over_in_s(now_ms)

    def of_exchange(self, exchange: str) -> Iterator[MarketFeed]:
        """The collected markets of an exchange."""
        return chain.from_iterable(feeds.values() for (id, _), feeds in self._feeds.items() if id == exchange)

    def instruments(self, exchange: str) -> dict[str, Instrument]:
        """The collected instruments of an exchange by wire symbol; derivatives win where spot has the same symbol."""
        found = [feed.instrument for feed in self.markets.values() if feed.instrument.exchange == exchange]
        return {i.symbol: i for i in sorted(found, key=lambda i: i.kind != "spot")}

    def take(self, source: Source, events: Sequence[Event], recv_ms: float) -> None:
        """All data events of one frame."""
        source.take(sorted_runs(events), recv_ms, partial(self.take_other, source))
        source.settle(recv_ms)

    def excluded(self) -> dict[str, int]:
        """Rows of all exchanges that are no trades of collected markets, by reason."""
        summed: Counter[str] = Counter()
        for counts in self.exchanges.values():
            summed.update(counts.excluded)
        return dict(summed)

    def totals(self, exchange: str | None = None) -> Counts:
        """Sums over markets, of one exchange or of all, with what belongs to no market."""
        total = Counts()
        for feed in self.markets.values():
            if exchange in (None, feed.instrument.exchange):
                total += feed.counts()
        stray = sum(counts.malformed for id, counts in self.exchanges.items() if exchange in (None, id))
        return total + Counts(received=stray, malformed=stray)

    def take_other(self, source: Source, event: Event, recv_ms: float) -> None:
        """A data event that is no trade."""
        counts = source.counts
        match event:
            case Liquidation():
                self._liquidation(source, event, recv_ms)
            case Malformed():
                feed = source.feeds.get(event.symbol)
                _count(counts.malformed_by, event.reason)
                if feed is None:
                    counts.malformed += 1
                else:
                    feed.malformed += 1
            case Past():
                counts.past += len(event.trades)
                self._past(source, event)
            case Excluded():
                _count(counts.excluded, event.reason, event.count)
            case Unknown():
                _count(counts.unknown, event.kind)
            case _:
                raise TypeError(f"{type(event).__name__} is for the session, not for the intake")

    def _past(self, source: Source, event: Past) -> None:
        """What an exchange sends on subscribing serves markets with a hole, and shows where it reaches across."""
        by_symbol: dict[str, list[Trade]] = {}
        for trade in event.trades:  # one image may be of several markets
            by_symbol.setdefault(trade.instrument.symbol, []).append(trade)
        for symbol, trades in by_symbol.items():
            feed = source.feeds.get(symbol)
            if feed is not None and feed.watch.holes:
                feed.watch.holes[-1].show(trades)

    def merge(self, feed: MarketFeed, hole: Hole, trades: Sequence[Trade]) -> int:
        """Put trades that were missing into their bars, oldest first; returns how many were new."""
        before_ms = hole.before.ts_ms if hole.before is not None else None
        # What shares its millisecond with the first live trade came before it: backwards, so that the oldest is first.
        edge = [trade for trade in trades if trade.ts_ms == before_ms]
        rest = [trade for trade in trades if trade.ts_ms != before_ms]
        new = 0
        for trade in rest + edge[::-1]:
            if not feed.watch.admits(hole, trade, feed.newest_ms):
                feed.duplicate += 1
            elif not self._sink.recovered(feed.market, trade, trade.ts_ms == before_ms):
                feed.late += 1
            else:
                feed.aggregated += 1
                new += 1
        feed.recovered += new
        hole.filled += new
        feed.dedup.learn(trades)
        return new

    @property
    def oldest_ms(self) -> int:
        """Trades before this are too late to be recovered."""
        return self._sink.oldest_ms

    def elsewhere(self, instrument: Instrument, since_ms: float) -> int:
        """On how many other exchanges the same base asset traded since then (local time)."""
        feeds = self._by_base.get(instrument.base, ())
        return len(
            {
                feed.instrument.exchange
                for feed in feeds
                if feed.recv_ms >= since_ms and feed.instrument.exchange != instrument.exchange
            }
        )

    def _liquidation(self, source: Source, event: Liquidation, recv_ms: float) -> None:
        feed = source.feeds.get(event.instrument.symbol) or self._elsewhere(event.instrument)
        if feed is None:
            _count(source.counts.excluded, "not collected")
            return
        if feed.seen_liquidation(_as_trade(event), source.connection, feed.newest_ms):
            _count(source.counts.excluded, "repeated liquidation")
        elif feed.force(event):
            feed.liquidations += 1
        else:
            feed.liquidations_late += 1

    def _elsewhere(self, instrument: Instrument) -> MarketFeed | None:
        """Liquidations may come by another endpoint than the market's trades."""
        return self._feeds.get((instrument.exchange, instrument.endpoint), {}).get(instrument.symbol)


def _as_trade(event: Liquidation) -> Trade:
    return Trade(event.instrument, event.ts_ms, event.price, event.size, event.buy, event.id)


def _count(counts: dict[str, int], reason: str, by: int = 1) -> None:
    reason = _NUMBER.sub("#", reason[:120])  # reasons that quote values would all be different
    if reason not in counts and len(counts) >= REASONS:
        reason = OTHER
    counts[reason] = counts.get(reason, 0) + by
