"""Exchanges in memory: what `exchanges.simulated` says, carried by connections that break in every way real ones do."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import exchanges
from exchanges import simulated
from exchanges.api import Exchange, Frame, Instrument, Request, Trade
from sqfd.clock import Clock
from sqfd.feed.rest import Rest, RestFailed
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Closed, ConnectFailed, OnEnd, OnFrames, TransportName
from sqfd.feed.waking import HELD_BYTES
from tests.simulation.loop import PROCESS

Cut = Literal[
    "close",
    "abort",
    "half open",
    "silent",
    "silent market",
    "refused",
    "told to wait",
    "replayed",
    "shuffled",
    "late",
    "dropped",
    "unanswered",
    "announced",
    "flapping",
    "symbol refused",
    "one missing",
    "rest refused",
]
"""close, abort: the connection ends, with and without a code · half open: nothing comes or goes any more · silent: acks and
heartbeats go on, trades do not · silent market: of one market only · refused: connects fail · told to wait: with 429 and
Retry-After · replayed: subscribing repeats the last seconds of trades as live · shuffled: a second's trades come backwards ·
late: by up to two minutes · dropped: some trades never come · unanswered: the first subscriptions get no answer ·
symbol refused: one market's subscription is, until the end · one missing: N − 1 of N subscriptions are served · rest refused:
with 429 or 418 and Retry-After, while trades are missing · announced: the host's wall clock steps while the exchange closes · flapping: connections end moments after they opened."""
CUTS: tuple[Cut, ...] = Cut.__args__  # type: ignore[attr-defined]  # a Literal's members
PONG_S = 0.05
CODES = (1000, 1001, 1006, 1008, 1011, 1012, 1013, 4000)


class Wire:
    """One connection, both ends: a `sqfd.feed.transport.Connection` for the client."""

    def __init__(self, venue: Venue, endpoint: str, on_frames: OnFrames, on_end: OnEnd) -> None:
        self.venue, self.endpoint = venue, endpoint
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.peer = venue.simulated.connection(endpoint)
        self.opened_ms = venue.clock.now_ms()
        self.sent_ms: list[float] = []
        self._on_frames, self._on_end = on_frames, on_end
        self.dead = False
        self.pongs = 0
        self._client = PROCESS.get(None)
        """Whose connection it is: what was on its way when its process ended, nobody can miss."""
        self._last_s = 0.0
        self._held: list[Trade] = []
        self._quiet = False
        """The client does not read: what comes waits."""
        self._waiting: list[tuple[Sequence[Frame], Sequence[Trade], float]] = []
        self._asked_s: dict[Instrument, float] = {}
        """When each was subscribed to last."""
        self._later(self.peer.greet(int(self.opened_ms)))

    # --- the client's side

    def send(self, frame: Frame) -> None:
        self.sent_ms.append(self.venue.clock.now_ms())
        if self.dead or self.closed.done():
            return
        if self.venue.unanswered > 0 and b"ping" not in (frame if isinstance(frame, bytes) else frame.encode()).lower():
            self.venue.unanswered -= 1
            self.venue.struck["unanswered"] += 1
            return
        before = set(self.peer.topics)
        now_ms = int(self.venue.clock.now_ms())
        self._later(self._answers(self.peer.receive(frame, now_ms)))
        if new := self.peer.topics - before:
            streams = {i: self.venue.exchange.streams(i, False) for i in self.venue.past if i.endpoint == self.endpoint}
            asked = [i for i, own in streams.items() if new & {stream.topic for stream in own}]
            self._asked_s |= dict.fromkeys(asked, asyncio.get_running_loop().time())
            self.venue.offered(list(self.venue.simulated.last.values()))
            if self.venue.replay_s:
                self._replay(now_ms)

    def _replay(self, now_ms: int) -> None:
        since = now_ms - int(self.venue.replay_s * 1e3)
        here = [past for i, past in self.venue.past.items() if i.endpoint == self.endpoint]
        again = [t for past in here for t in past if t.ts_ms >= since]
        self.venue.struck["replayed"] += bool(again)
        self._send(sorted(again, key=lambda t: t.ts_ms), now_ms)

    def _answers(self, answers: Sequence[Frame]) -> Sequence[Frame]:
        """All of them, but for the one market that is served to nobody."""
        lacking = self.venue.missing
        if lacking is None or lacking.endpoint != self.endpoint:
            return answers
        topics = {stream.topic for stream in self.venue.exchange.streams(lacking, False)}
        self.venue.struck["one missing"] += bool(self.peer.topics & topics)
        self.peer.topics -= topics
        texts = [(answer if isinstance(answer, str) else answer.decode(errors="replace"), answer) for answer in answers]
        return [answer for text, answer in texts if not any(topic in text for topic in topics)]

    def lacking(self) -> bool:
        """Whether a market is not subscribed to here."""
        here = [i for i in self.venue.past if i.endpoint == self.endpoint]
        wanted = [{stream.topic for stream in self.venue.exchange.streams(i, False)} for i in here]
        return any(not topics & self.peer.topics for topics in wanted)

    def ping(self) -> None:
        self.sent_ms.append(self.venue.clock.now_ms())
        asyncio.get_running_loop().call_later(PONG_S, self._pong)

    def _pong(self) -> None:
        self.pongs += not self.dead

    def hold(self) -> None:
        self._quiet = True

    def look(self) -> None:
        self._quiet = False
        waiting, self._waiting = self._waiting, []
        for frames, trades, sent_s in waiting:
            self._arrive(frames, trades, sent_s)

    async def close(self, timeout_s: float) -> None:
        if self.dead:
            await asyncio.sleep(timeout_s)
        self.end(Closed("left", 1000, by_us=True))

    # --- the exchange's side

    def end(self, how: Closed) -> None:
        self.look()  # what came before the end is read before it
        self.venue.keeps(self._held)
        if not self.closed.done():
            self.closed.set_result(how)
        self.venue.wires.pop(self, None)

    def freeze(self) -> None:
        """Half open: nothing comes or goes any more but what was there."""
        self.look()
        self.venue.keeps(self._held)
        self.dead = True

    def trades(self, trades: Sequence[Trade]) -> None:
        """What is new, as the venue's faults let it through."""
        venue = self.venue
        trades = [t for t in trades if not venue.withheld(t)]
        if venue.shuffle_s:
            self._held += trades
            if self._held and venue.clock.now_ms() - self._held[0].ts_ms < venue.shuffle_s * 1e3:
                return
            # What shares a millisecond keeps its order: nothing else could tell it.
            trades, self._held = sorted(self._held, key=lambda t: -t.ts_ms), []
            venue.struck["shuffled"] += len(trades) > 1
        elif self._held:
            trades, self._held = [*self._held, *trades], []
        if trades:
            self._send(trades, int(venue.clock.now_ms()), venue.late_s)

    def heartbeat(self) -> None:
        self._later(self.peer.heartbeat(int(self.venue.clock.now_ms())))

    def _send(self, trades: Sequence[Trade], now_ms: int, extra_s: float = 0.0) -> None:
        """Those that the client subscribed to."""
        frames: list[Frame] = []
        sent: list[Trade] = []
        by_instrument: dict[Instrument, list[Trade]] = {}
        for trade in trades:
            by_instrument.setdefault(trade.instrument, []).append(trade)
        for own in by_instrument.values():
            if made := self.peer.trades(own, now_ms):
                frames += made
                sent += own
        if frames:
            self._later(frames, extra_s, sent)

    def _later(self, frames: Sequence[Frame], extra_s: float = 0.0, trades: Sequence[Trade] = ()) -> None:
        """In order, after the network's delay."""
        loop = asyncio.get_running_loop()
        self._last_s = max(self._last_s + 1e-6, loop.time() + self.venue.random.uniform(0.005, 0.08) + extra_s)
        # Timers of one instant have no order among themselves.
        loop.call_at(self._last_s, self._deliver, frames, trades, loop.time())

    def _deliver(self, frames: Sequence[Frame], trades: Sequence[Trade], sent_s: float) -> None:
        if not self._quiet:
            self._arrive(frames, trades, sent_s)
            return
        self._waiting.append((frames, trades, sent_s))
        if sum(len(frame) for frames, *_ in self._waiting for frame in frames) >= HELD_BYTES:
            self.look()

    def _arrive(self, frames: Sequence[Frame], trades: Sequence[Trade], sent_s: float) -> None:
        if not self.dead and not self.closed.done():
            # What was under way when the market was asked for again looks like the image that may begin a subscription.
            image = [trade for trade in trades if self._asked_s.get(trade.instrument, 0.0) > sent_s]
            self.venue.offered(image)
            self.venue.delivered([trade for trade in trades if trade not in image] if image else trades)
        elif self._client is not None and not self._client.alive:
            self.venue.unnoticed |= {(trade.instrument.market, trade.ts_ms // 1000) for trade in trades}
        for frame in frames:
            if not self.dead and not self.closed.done():
                self._on_frames((frame.encode() if isinstance(frame, str) else frame,), isinstance(frame, str))
                self._on_end()


class Venue:
    """One exchange: its trades, its faults, its connections, and a record of how it was treated."""

    def __init__(self, exchange_id: str, random: Random, clock: Clock) -> None:
        self.exchange: Exchange = exchanges.get(exchange_id)
        self.simulated = simulated.get(self.exchange)
        self.random, self.clock = random, clock
        self.past: dict[Instrument, list[Trade]] = {}
        self.wires: dict[Wire, None] = {}
        self.every_wire: list[Wire] = []
        self.connects_ms: list[float] = []
        self.asked: list[tuple[float, float]] = []
        """(time, weight) of each REST request."""
        self.struck: Counter[str] = Counter()
        self.refuse_status: int | None = None
        self.retry_after_s: float | None = None
        self.silent = self.flapping = False
        self.mute: Instrument | None = None
        self.replay_s = self.shuffle_s = self.late_s = self.drop = 0.0
        self.unanswered = 0
        self.missing: Instrument | None = None
        self.refused: Instrument | None = None
        self.rest_status: int | None = None
        self.rest_wait_s = 20.0
        self.rest_closed: list[tuple[float, float]] = []
        """(when REST refused, until when it wants to be left alone)."""
        self.rest_hangs = False
        self.unnoticed: set[tuple[str, int]] = set()
        """(market, second) in which trades were withheld, or kept back for seconds until the connection ended, that no id can tell of:
        a short silence has no sign."""
        self.skew_ms = random.choice([0, 0, 1270, -900])
        """Its clock is ahead of ours by this."""
        self.delivered: Callable[[Sequence[Trade]], None] = lambda trades: None
        """Told of trades as their frames are handed to the client."""
        self.offered: Callable[[Sequence[Trade]], None] = lambda trades: None
        """Told of past trades that the client may have got: by REST, or with a subscription."""

    async def connect(
        self,
        url: str,
        on_frames: OnFrames,
        on_end: OnEnd,
        *,
        transport: TransportName = "picows",
        max_bytes: int,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        deflate: bool = False,
    ) -> Wire:
        """A `sqfd.feed.transport.Connector`."""
        self.connects_ms.append(self.clock.now_ms())
        await asyncio.sleep(self.random.uniform(0.02, 0.2))
        if self.refuse_status is not None:
            self.struck["refused"] += 1
            raise ConnectFailed(f"HTTP status {self.refuse_status}", self.refuse_status, self.retry_after_s)
        endpoint = next(e.name for e in self.exchange.endpoints if self.exchange.url(e.name) == url)
        wire = Wire(self, endpoint, on_frames, on_end)
        self.wires[wire] = None
        self.every_wire.append(wire)
        if self.flapping:
            self.struck["flapping"] += 1
            lives_s = self.random.uniform(0.05, 2.0)
            asyncio.get_running_loop().call_later(lives_s, wire.end, Closed("flapping", 1012))
        return wire

    def withheld(self, trade: Trade) -> bool:
        """Whether a fault keeps it from those who are connected."""
        if trade.instrument is self.refused:
            return True
        if self.silent or trade.instrument in (self.mute, self.missing):
            self.struck["silent"] += 1
        elif self.drop and self.random.random() < self.drop:
            self.struck["dropped"] += 1
        else:
            return False
        self.keeps([trade])
        return True

    def keeps(self, trades: Sequence[Trade]) -> None:
        """These never come, though the exchange says other things after they happened: only ids that count can tell."""
        for trade in trades:
            if not self.exchange.endpoint(trade.instrument.endpoint).gapless:
                self.unnoticed.add((trade.instrument.market, trade.ts_ms // 1000))

    def publish(self, trades: Sequence[Trade]) -> None:
        """Trades that happened."""
        for trade in trades:
            self.past[trade.instrument].append(trade)
        self.simulated.remember(trades)
        for wire in list(self.wires):
            wire.trades([t for t in trades if t.instrument.endpoint == wire.endpoint])

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        past = self.past[instrument]
        first, last = (bisect_left(past, at, key=lambda trade: trade.ts_ms) for at in (from_ms, to_ms))
        return past[first:last]


class MemoryRest(Rest):
    """The REST side of a venue, without a socket. Histories lag behind streams a little."""

    LAG_MS = 300

    def __init__(self, venue: Venue, settings: FeedSettings, clock: Clock) -> None:
        super().__init__(venue.exchange, settings, clock)
        self._venue = venue

    async def _fetch(self, request: Request) -> bytes:
        venue = self._venue
        self.requests += 1
        venue.asked.append((self._clock.now_ms(), request.weight))
        await asyncio.sleep(venue.random.uniform(0.02, 0.3))
        if venue.rest_hangs:
            venue.struck["rest hangs"] += 1
            await asyncio.sleep(self._settings.rest_timeout_s)
            raise RestFailed("TimeoutError: ")
        if venue.rest_status is not None:
            venue.struck["rest refused"] += 1
            if venue.rest_status in (418, 429):
                until_ms = self._clock.now_ms() + venue.rest_wait_s * 1e3
                self.limit.close(until_ms)
                venue.rest_closed.append((self._clock.now_ms(), until_ms))
            raise RestFailed(f"HTTP status {venue.rest_status}", venue.rest_status)
        name = next(n for n in venue.exchange.rest if request.url.startswith(venue.exchange.url(n)))
        parts = urlsplit(request.url.removeprefix(venue.exchange.url(name)))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        now_ms = int(self._clock.now_ms() + venue.skew_ms) - self.LAG_MS

        def known(instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
            found = venue.history(instrument, from_ms, min(to_ms, now_ms))
            venue.offered(found)
            return found

        status, body = venue.simulated.rest(request.method, name, parts.path, query, request.body, known, now_ms)
        if status != 200:
            raise RestFailed(f"HTTP status {status}", status)
        return body


class Limits:
    """Counts what happened in sliding windows, without any of sqfd's code."""

    @staticmethod
    def most(times: Sequence[tuple[float, float]], window_s: float) -> float:
        """The most weight in any window."""
        window: deque[tuple[float, float]] = deque()
        used = most = 0.0
        for at, weight in times:
            window.append((at, weight))
            used += weight
            while window[0][0] <= at - window_s * 1e3:
                used -= window.popleft()[1]
            most = max(most, used)
        return most
