"""Keeps a set of streams up: connects, reconnects with back-off, and replaces connections before they end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from exchanges.api import Call, Endpoint, Exchange, Instrument, Stream
from sqfd.clock import Clock
from sqfd.feed.backoff import Backoff, RateLimit
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.feed.link import Link
from sqfd.feed.looks import Looks
from sqfd.feed.record import Recorder
from sqfd.feed.rest import Rest, RestFailed
from sqfd.feed.session import Session
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import ConnectFailed, Connector, connect

OVERLAP_S = 15.0
"""How long a replacement may take to carry everything before the old connection is closed anyway."""
HASTY_S = 60.0
"""A connection that wants to be replaced at a lower age counts as a failure."""
REFUSED_S = 60.0
"""How long an exchange is left alone after a 418 or 429 that did not say how long."""

IN_FLIGHT_MS = 1000.0
"""Trades that happened this long before the last frame may still have been on their way when the connection ended."""


class Gate:
    """When a new connection to one exchange may be made: its rate, its limit at once, and our own stagger."""

    def __init__(self, exchange: Exchange, settings: FeedSettings, clock: Clock) -> None:
        self.limit = RateLimit(exchange.limits.connects)
        self.connections = exchange.limits.connections
        self.open = 0
        self.attempts = 0
        self._stagger_ms = settings.stagger_s * 1e3
        self._next_ms = 0.0
        self._clock = clock
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()

    async def enter(self) -> None:
        """Wait for a turn; the caller holds a place until `leave`."""
        async with self._turn:  # first come, first served
            while self.open >= self.connections:
                self._left.clear()
                await self._left.wait()
            while (wait_s := self._wait_s()) > 0.0 or not self.limit.take(self._clock.now_ms()):
                await self._clock.sleep(wait_s)
            self._next_ms = self._clock.now_ms() + self._stagger_ms
            self.open += 1
            self.attempts += 1

    def leave(self) -> None:
        """The place is free."""
        self.open -= 1
        self._left.set()

    def _wait_s(self) -> float:
        now_ms = self._clock.now_ms()
        return max(self.limit.wait_s(now_ms), (self._next_ms - now_ms) / 1e3)


class Line:
    """Streams of one endpoint that share a connection, over as many connections as it takes."""

    def __init__(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        streams: list[Stream],
        number: int,
        gate: Gate,
        rest: Rest,
        intake: Intake,
        settings: FeedSettings,
        clock: Clock,
        looks: Looks,
        log: Any,
        recorder: Recorder | None = None,
        connector: Connector = connect,
    ) -> None:
        self._connector = connector
        self.exchange_id = exchange.id
        self.endpoint = endpoint
        self.streams = streams
        self.number = number
        self.link: Link | None = None
        """The connection that carries the streams now; None while there is none."""
        self.since_ms = clock.now_ms()
        """Since when it is up, or down."""
        self.reason: str = "starting"
        """Why it is down; empty while it is up."""
        self.connects = 0
        self.losses = 0
        self.crashes = 0
        self._exchange = exchange
        self._gate = gate
        self._rest = rest
        self._intake = intake
        self._settings = settings
        self._clock = clock
        self._looks = looks
        self._log = log.bind(exchange=exchange.id, endpoint=endpoint.name, connection=number)
        self._recorder = recorder
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s, random.random)
        self._links: set[Link] = set()

    @property
    def name(self) -> str:
        """For its task."""
        return f"line-{self.exchange_id}-{self.endpoint.name}-{self.number}"

    async def run(self) -> None:
        """For ever. Whatever goes wrong in here stays in here: other lines go on."""
        try:
            while True:
                try:
                    await self._keep()
                except Exception:  # noqa: BLE001  # the boundary: counted and logged, the other lines go on
                    self.crashes += 1
                    self._log.exception("connection failed unexpectedly, starting it again")
                    self._down("failed unexpectedly")
                    await self._close_all("failed unexpectedly")
                    await self._clock.sleep(self._settings.backoff_min_s + self._backoff.next_s())
        finally:
            await self._close_all("shutting down")

    async def _keep(self) -> None:
        link = await self._open()
        while True:
            self._up(link)
            await link.until_ended_or_replace()
            if link.ended is None:
                link = await self._replace(link)
                continue
            self._lost(link)
            await self._drop(link, "lost")
            await self._clock.sleep(self._backoff.next_s())
            link = await self._open()

    async def _replace(self, old: Link) -> Link:
        """The new connection first, then the end of the old one; what both bring is deduplicated."""
        self._log.info("replacing connection", reason=old.session.replace)
        if self._gate.open >= self._gate.connections:
            self._down(old.session.replace or "replaced")
            await self._drop(old, "no room for a second connection")
        if self._clock.now_ms() - old.session.created_ms < HASTY_S * 1e3:  # it asks each new connection to go
            await self._clock.sleep(self._backoff.next_s())
        fresh = await self._open()
        if old.ended is None:
            await fresh.until_carrying(OVERLAP_S)
        else:
            self._lost(old)
        if fresh.ended is not None and old.ended is None:  # the old one is still the better one
            await self._drop(fresh, "replacement failed")
            await self._clock.sleep(self._backoff.next_s())
            return old
        await self._drop(old, "replaced")
        self._lose_unheard(old, fresh)
        return fresh

    def _lose_unheard(self, old: Link, fresh: Link) -> None:
        """What the new connection has not even acknowledged, nobody carries since the old one ended."""
        for topic, feed in fresh.feeds():
            if not topic.live and topic.state != "acked":
                feed.lose(_known_until_ms(old, feed), "replaced by a connection that does not carry it yet")

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def _open(self) -> Link:
        """Try until a connection is open."""
        while True:
            await self._gate.enter()
            try:
                return await self._try()
            except (ConnectFailed, RestFailed) as error:
                self._gate.leave()
                self._refused(error)
            except BaseException:
                self._gate.leave()
                raise
            await self._clock.sleep(self._backoff.next_s())

    async def _try(self) -> Link:
        settings = self._settings
        where = self._exchange.connect(self.endpoint.name, int(self._clock.now_ms()))
        if isinstance(where, Call):
            found = (await self._rest.call(where)).items
            if not found:
                raise RestFailed("no address to connect to")
            where = found[0]
        session = Session(
            self._exchange,
            self.endpoint,
            self.streams,
            self._clock.now_ms(),
            instruments=self._instruments(),
            ack_timeout_s=settings.ack_timeout_s,
            spread=random.random(),
        )
        source = self._intake.source(self._exchange.id, self.endpoint.name, session.trade_topics, session.proven)
        record = None
        if self._recorder is not None:
            record = self._recorder.file(self._exchange.id, self.endpoint.name, source.connection)
        link = Link(
            self._exchange, session, source, self._intake, settings, self._clock, self._looks, self._log, record
        )
        connection = await self._connector(
            where,
            link.on_frames,
            link.on_end,
            transport=settings.transport,
            max_bytes=settings.max_frame_bytes,
            timeout_s=settings.connect_timeout_s,
            headers=dict(self.endpoint.headers),
            deflate=self.endpoint.deflate,
        )
        link.start(connection)
        self.connects += 1
        self._links.add(link)
        return link

    def _instruments(self) -> dict[str, Instrument]:
        """What the frames may speak of: where one subscription covers many markets, all that are collected."""
        own = [stream.instrument for stream in self.streams]
        if None in own:
            return self._intake.instruments(self._exchange.id)
        return {instrument.symbol: instrument for instrument in own if instrument is not None}

    async def _drop(self, link: Link, reason: str) -> None:
        if link in self._links:
            self._links.discard(link)
            try:
                await link.close(reason)
            finally:
                self._gate.leave()

    async def _close_all(self, reason: str) -> None:
        self.link = None
        for link in list(self._links):
            await self._drop(link, reason)

    # --- one story, one line -------------------------------------------------------------------------------------------

    def _up(self, link: Link) -> None:
        now_ms = self._clock.now_ms()
        if self.link is None:
            if self.losses or self._backoff.failures:
                down_s = round((now_ms - self.since_ms) / 1e3, 1)
                self._log.info("back", down_s=down_s, attempts=self._backoff.failures)
            else:
                self._log.info("connected", streams=len(self.streams))
            self.since_ms = now_ms
        self.link, self.reason = link, ""

    def _lost(self, link: Link) -> None:
        """An open connection ended: from then on its markets are in a gap."""
        assert link.ended is not None
        if link.session.data_ms is not None:
            self._backoff.reset()
        if self.link is not link:
            return
        self.losses += 1
        self._log.warning("lost", reason=link.ended.reason, code=link.ended.code)
        self._down(link.ended.reason)

    def _refused(self, error: ConnectFailed | RestFailed) -> None:
        status = error.status
        if status in (418, 429):
            wait_s = error.retry_after_s if isinstance(error, ConnectFailed) else None
            self._gate.limit.close(self._clock.now_ms() + 1e3 * (REFUSED_S if wait_s is None else wait_s))
        if self._backoff.failures == 0:
            self._log.warning("cannot connect", reason=error.reason)
        if self.link is None:
            self.reason = error.reason

    def _down(self, reason: str) -> None:
        """Nothing carries the streams: open the gaps, from the last moment that is known to be whole."""
        link, self.link = self.link, None
        self.reason, self.since_ms = reason, self._clock.now_ms()
        if link is None:
            return
        for _, feed in link.feeds():
            feed.lose(_known_until_ms(link, feed), reason)


def _known_until_ms(link: Link, feed: MarketFeed) -> float:
    """Exchange time until which a connection that has ended is known to have brought this market's trades."""
    session = link.session
    silent = link.ended is not None and link.ended.reason.startswith("no data")
    last_ms = session.data_ms if silent and session.data_ms is not None else session.frame_ms
    return max(float(feed.newest_ms), link.exchange_ms(last_ms) - IN_FLIGHT_MS)
