"""All feeds: plans connections, keeps each in a task of its own, and says what is whole.

instruments → streams per endpoint → lines (fewest connections) → links (session + transport) → intake
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchanges.api import Exchange, Funding, Instrument, OpenInterest
from sqfd.clock import Clock
from sqfd.feed.coverage import Interval, State
from sqfd.feed.intake import Counts, Intake, MarketFeed
from sqfd.feed.interest import Funded, Interest, Poller, funding_poller, interest_poller
from sqfd.feed.limits import LimitsFile
from sqfd.feed.line import Gate, Line
from sqfd.feed.looks import Looks
from sqfd.feed.plan import spread, streams_by_endpoint
from sqfd.feed.record import Recorder
from sqfd.feed.recovery import Recovery, look_for_holes
from sqfd.feed.rest import Rest
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Connector, connect

RECORD_S = 1.0
DELISTED_S = 60.0
"""A market that is not listed any more but traded within this time is believed to be listed: a listing may be cut short."""
LIMITS_S = 2.0
"""What was used of limits is written at most this often."""


class ConnectionStatus(msgspec.Struct, frozen=True):
    """One planned connection."""

    exchange: str
    endpoint: str
    number: int
    state: str
    """down | connecting | subscribing | live"""
    since_ms: float
    reason: str
    streams: int
    rejected: tuple[str, ...]
    frames: int
    connects: int
    losses: int


class MarketStatus(msgspec.Struct, frozen=True):
    """One collected market."""

    market: str
    state: State | Literal["delisted"]
    """delisted: the exchange refuses it; it is asked again now and then."""
    since_ms: float
    reason: str
    last_trade_ms: int
    """0 before the first."""
    rate_hz: float
    counts: Counts


class FeedStatus(msgspec.Struct, frozen=True):
    """What the HTTP interface and the status line show."""

    connections: tuple[ConnectionStatus, ...]
    markets: tuple[MarketStatus, ...]
    counts: Counts
    live: int
    """Markets that are live now."""


class Supervisor:
    """Keeps the feeds of all exchanges up. `add` markets before or while it runs."""

    def __init__(
        self,
        exchanges: Mapping[str, Exchange],
        settings: FeedSettings,
        intake: Intake,
        clock: Clock,
        log: Any,
        recorder: Recorder | None = None,
        rests: Mapping[str, Rest] | None = None,
        connector: Connector = connect,
        limits: Path | None = None,
        on_interest: Callable[[Sequence[Interest]], None] | None = None,
        on_funding: Callable[[Sequence[Funded]], None] | None = None,
    ) -> None:
        """`rests`: shared with the catalog, so that both keep one limit; made here when not given.

        `limits`: a file that keeps what was used of the exchanges' limits over restarts. `on_interest` is told open interest
        as it is known, `on_funding` funding that is asked for by itself; None: nobody asks for it.
        """
        self.rests = (
            dict(rests)
            if rests is not None
            else {id: Rest(exchange, settings, clock) for id, exchange in exchanges.items()}
        )
        self._exchanges = exchanges
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._log = log
        self._recorder = recorder
        self.looks = Looks(clock, intake.over_in_s)
        self._connector = connector
        self.recoveries = {
            id: Recovery(exchange, self.rests[id], intake, clock, log) for id, exchange in exchanges.items()
        }
        self._gates = {id: Gate(exchange, settings, clock) for id, exchange in exchanges.items()}
        self._limits = None
        if limits is not None:
            used = {f"{id} connects": gate.limit for id, gate in self._gates.items()}
            used |= {f"{id} rest": rest.limit for id, rest in self.rests.items()}
            self._limits = LimitsFile(limits, used, log)
            self._limits.restore(clock.now_ms())
        self.pollers: list[Poller[OpenInterest] | Poller[Funding]] = []
        for id, one in exchanges.items():
            shared = one, self.rests[id], intake, clock, log
            if on_interest is not None and settings.open_interest_s > 0 and one.has_open_interest:
                self.pollers.append(interest_poller(*shared, settings.open_interest_s, on_interest))
            if on_funding is not None and settings.funding_s > 0 and type(one).funding is not Exchange.funding:
                self.pollers.append(funding_poller(*shared, settings.funding_s, on_funding))
        self.lines: list[Line] = []
        self._instruments: list[Instrument] = []
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def add(self, instruments: Sequence[Instrument], market_indices: Sequence[int]) -> None:
        """Collect these markets under these indices. Raises ValueError when one is collected already."""
        by_exchange: dict[str, list[Instrument]] = {}
        for instrument, market in zip(instruments, market_indices, strict=True):
            endpoint = self._exchanges[instrument.exchange].endpoint(instrument.endpoint)
            self._intake.add(market, instrument, endpoint)
            by_exchange.setdefault(instrument.exchange, []).append(instrument)
        for exchange_id, added in by_exchange.items():
            self._plan(self._exchanges[exchange_id], added)
        self._instruments += instruments
        if self._recorder is not None:
            self._recorder.instruments(self._instruments)

    def _plan(self, exchange: Exchange, instruments: Sequence[Instrument]) -> None:
        carried = {stream.topic for line in self.lines if line.exchange_id == exchange.id for stream in line.streams}
        wanted = streams_by_endpoint(exchange, instruments, self._settings.liquidations)
        for name, streams in wanted.items():
            endpoint = exchange.endpoint(name)
            fresh = [stream for stream in streams if stream.topic not in carried]
            for share in spread(fresh, endpoint.streams_per_connection):
                line = Line(
                    exchange,
                    endpoint,
                    share,
                    len(self.lines),
                    self._gates[exchange.id],
                    self.rests[exchange.id],
                    self._intake,
                    self._settings,
                    self._clock,
                    self.looks,
                    self._log,
                    self._recorder,
                    self._connector,
                )
                self.lines.append(line)
                if self._group is not None:
                    self._tasks.append(self._group.create_task(line.run(), name=line.name))

    def relisted(self, exchange_id: str, listed: Iterable[Instrument]) -> None:
        """What an exchange lists now. Markets that left the listing and do not trade are delisted, until they trade."""
        known = {instrument.market for instrument in listed if instrument.active}
        idle_ms = self._clock.now_ms() - DELISTED_S * 1e3
        for feed in self._intake.markets.values():
            instrument = feed.instrument
            if instrument.exchange != exchange_id or instrument.market in known:
                continue
            if feed.refused or feed.recv_ms > idle_ms:
                continue
            self._log.warning("delisted", market=instrument.market)
            feed.delist("no longer listed by the exchange")
            for line in self.lines:
                if line.link is not None and line.exchange_id == exchange_id:
                    line.link.delisted(feed)

    async def run(self) -> None:
        """Until `stop`. Ends all connections politely, also when cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._tasks += [group.create_task(line.run(), name=line.name) for line in self.lines]
                if self._settings.recover:
                    recoveries = self.recoveries.items()
                    self._tasks += [group.create_task(one.run(), name=f"recovery-{id}") for id, one in recoveries]
                    looking = look_for_holes(self.recoveries, self._intake, self._clock)
                    self._tasks.append(group.create_task(looking, name="holes"))
                self._tasks += [group.create_task(one.run(), name="open-interest") for one in self.pollers]
                self._tasks.append(group.create_task(self.looks.run(), name="looks"))
                if self._limits is not None:
                    self._tasks.append(group.create_task(self._keep_limits(self._limits), name="limits"))
                if self._recorder is not None:
                    self._tasks.append(group.create_task(self._record(self._recorder), name="record"))
                await self._stopping.wait()
                self._group = None
                for task in self._tasks:
                    task.cancel()
        finally:
            self._group = None
            for rest in self.rests.values():
                await rest.close()
            if self._limits is not None and (data := self._limits.dump(self._clock.now_ms())) is not None:
                await asyncio.to_thread(self._limits.write, data)
            if self._recorder is not None:
                await asyncio.to_thread(self._recorder.close)

    async def stop(self) -> None:
        """End all connections; `run` returns when they have ended."""
        self._stopping.set()

    async def _record(self, recorder: Recorder) -> None:
        while True:
            recorder.tick()
            await self._clock.sleep(RECORD_S)

    async def _keep_limits(self, limits: LimitsFile) -> None:
        while True:
            if (data := limits.dump(self._clock.now_ms())) is not None:
                await asyncio.to_thread(limits.write, data)
            await self._clock.sleep(LIMITS_S)

    # --- what is known ------------------------------------------------------------------------------------------------

    def whole(self, second: int, markets: int | None = None) -> NDArray[np.bool_]:
        """Per market index: its feed was live and without a known hole throughout that second of the exchange's time.

        `markets`: length of the answer; indices that are not collected (yet) are False.
        """
        feeds = self._intake.markets
        answer = np.zeros(markets if markets is not None else max(feeds, default=-1) + 1, dtype=np.bool_)
        for market, feed in feeds.items():
            if market < len(answer):
                answer[market] = feed.ledger.whole(second)
        return answer

    def changes(self) -> list[tuple[MarketFeed, Interval]]:
        """Gaps that began, ended or were resolved since the last call, in the order of markets."""
        found = []
        for feed in self._intake.markets.values():
            while feed.ledger.changed:
                found.append((feed, feed.ledger.changed.popleft()))
        return found

    def status(self) -> FeedStatus:
        """Everything about connections and markets, now."""
        markets = tuple(_market(feed, self._clock.now_ms()) for feed in self._intake.markets.values())
        return FeedStatus(
            tuple(_connection(line) for line in self.lines),
            markets,
            self._intake.totals(),
            sum(market.state == "live" for market in markets),
        )


def _connection(line: Line) -> ConnectionStatus:
    session = line.link.session if line.link is not None else None
    topics = session.topics if session is not None else {}
    return ConnectionStatus(
        line.exchange_id,
        line.endpoint.name,
        line.number,
        session.state if session is not None else "down",
        session.since_ms if session is not None else line.since_ms,
        line.reason,
        len(line.streams),
        tuple(name for name, topic in topics.items() if topic.state == "rejected"),
        session.frames if session is not None else 0,
        line.connects,
        line.losses,
    )


def _market(feed: MarketFeed, now_ms: float) -> MarketStatus:
    gap = feed.ledger.open
    return MarketStatus(
        feed.instrument.market,
        "live" if gap is None else "delisted" if feed.refused else gap.state,
        feed.ledger.since_ms(now_ms),
        "" if gap is None else gap.reason,
        feed.newest_ms,
        feed.pace.rate_hz or 0.0,
        feed.counts(),
    )
