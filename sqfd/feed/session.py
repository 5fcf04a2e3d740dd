"""One connection's protocol without any I/O: what to send when, what an answer means, when to be replaced. Pure.

A shell drives it: `opened`, then `received` and `handle` for each frame and `tick` a few times a second; after each of them
it sends what `to_send` gives. Data events come out; everything about the connection itself stays in here and is told
by `state`, `topics`, `replace` and `take_notices`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from exchanges.api import (
    Acked,
    Alive,
    Buffer,
    Closing,
    Endpoint,
    Event,
    Exchange,
    Frame,
    Instrument,
    Liquidation,
    Rejected,
    Reply,
    Run,
    Stream,
)
from sqfd.feed.backoff import RateLimit

State = Literal["connecting", "subscribing", "live"]
TopicState = Literal["waiting", "asked", "acked", "rejected"]

Outgoing = Frame | None
"""A frame to send; None stands for a websocket ping."""

ACK_TIMEOUT_S = 10.0
TRIES = 3
"""Times that an unanswered subscription is asked for on one connection."""
REJECTED_RETRY_S = 300.0
"""A refused topic is asked for again after this long, then after twice, four times… as long."""
REJECTED_RETRY_MAX_S = 6 * 3600.0
REPLIES = 16
"""Answers to heartbeats that may wait; only the newest matter to the exchange."""
NOTICES = 256
AGE_SHARE = 0.95
"""A connection asks to be replaced at this share of its known life, or earlier by its `spread`."""


class Notice(msgspec.Struct, frozen=True):
    """Something about subscriptions that an operator should know."""

    kind: Literal["acked", "rejected", "unanswered", "closing"]
    topics: tuple[str, ...]
    reason: str = ""


class Heard:
    """When one connection brought a market's trades."""

    __slots__ = ("data_ms", "live_ms")

    def __init__(self) -> None:
        self.data_ms: float | None = None
        """When its data last arrived; None before: it is live from its first trade."""
        self.live_ms: float | None = None
        """When it became live."""


def prove(heard: Heard, now_ms: float) -> None:
    """Its first trade came, on a connection that nobody looks after: a recording."""
    heard.live_ms = now_ms


class Topic(Heard):
    """One subscription on this connection."""

    __slots__ = ("asked_ms", "doubts", "ending", "group", "retry_ms", "state", "stream", "tries")

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.state: TopicState = "waiting"
        self.asked_ms = 0.0
        self.doubts = 0
        """How often it was asked for again since it fell silent: then only its own data proves it again."""
        self.ending = False
        """Its end is requested, and it is not asked for again yet: what still comes of it proves nothing."""
        self.retry_ms = float("-inf")
        self.tries = 0
        self.group: int | None = None
        """Most topics that may share its frame: halved when a frame that named it was refused. None: no limit."""

    @property
    def live(self) -> bool:
        return self.data_ms is not None

    @property
    def unanswered(self) -> bool:
        """Whether a request for it is under way."""
        return self.state == "asked" and 0.0 < self.asked_ms < float("inf")


class Session:
    """One connection to one endpoint. `now_ms` is steady local time everywhere."""

    def __init__(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        streams: Sequence[Stream],
        now_ms: float,
        *,
        instruments: Mapping[str, Instrument] | None = None,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        spread: float = 0.0,
    ) -> None:
        """`instruments` by wire symbol: what frames may speak of; by default the markets that streams name.

        `spread` of [0, 1) lets connections that were opened together end at different times.
        """
        self.endpoint = endpoint
        self.state: State = "connecting"
        self.created_ms = self.since_ms = now_ms
        self.opened_ms: float | None = None
        self.data_ms: float | None = None
        """When a trade or liquidation last arrived. Heartbeats do not count."""
        self.frames = 0
        self.frame_ms = now_ms
        """When anything last arrived."""
        self.replace: str | None = None
        """Why this connection wants to be replaced by a new one, before it ends."""
        self.topics = {stream.topic: Topic(stream) for stream in streams}
        self._by_symbol: dict[str, Topic] = {}
        self._liquidations_by_symbol: dict[str, Topic] = {}
        if instruments is None:
            instruments = {s.instrument.symbol: s.instrument for s in streams if s.instrument is not None}
        self._index(exchange, instruments)
        self._decoder = exchange.decoder(endpoint.name, instruments)
        self._rate = RateLimit(endpoint.frames)
        self._request_rate = RateLimit(endpoint.requests) if endpoint.requests is not None else None
        self._replies: deque[Frame] = deque(maxlen=REPLIES)
        self._requests: deque[tuple[Frame, tuple[Topic, ...]]] = deque()
        self._notices: deque[Notice] = deque(maxlen=NOTICES)
        self._ack_timeout_ms = ack_timeout_s * 1e3
        self._ping_ms: float | None = None
        self._ping_due = False
        self.probe_due = False
        """A websocket ping is asked for, and not sent yet."""
        self._end_ms: float | None = None
        if endpoint.max_age_s is not None:
            self._end_ms = now_ms + endpoint.max_age_s * 1e3 * (AGE_SHARE - 0.1 * spread)

    def _index(self, exchange: Exchange, instruments: Mapping[str, Instrument]) -> None:
        """Which topic a market's trades prove to be live, and which its liquidations."""
        for symbol, instrument in instruments.items():
            trades = {stream.topic for stream in exchange.streams(instrument, liquidations=False)}
            for stream in exchange.streams(instrument, liquidations=True):
                if (topic := self.topics.get(stream.topic)) is not None:
                    (self._by_symbol if stream.topic in trades else self._liquidations_by_symbol)[symbol] = topic

    @property
    def trade_topics(self) -> dict[str, Topic]:
        """The topics that carry trades, by the market's wire symbol."""
        return self._by_symbol

    # --- what happened ----------------------------------------------------------------------------------------------

    def opened(self, now_ms: float) -> None:
        """The handshake is done."""
        self.opened_ms = now_ms
        self._ping_ms = now_ms
        if self.state == "connecting":  # frames may have come with the handshake
            self._enter("subscribing", now_ms)

    def received(self, frames: Sequence[Buffer], recv_ms: int) -> Sequence[Run | Event]:
        """What some frames mean, in order, trades by market. One that cannot be read gives one `Malformed`.

        The caller adds the trades to the bars and marks their topics (`Source.take`), gives everything else to `handle`, and
        tells `heard` when it took all that was read at once.
        """
        return self._decoder.read_all(frames, recv_ms)

    def handle(self, event: Event, now_ms: float) -> bool:
        """Take what is no trade; whether it is data, which the caller counts, rather than about the connection."""
        if type(event) in _CONTROL:
            self._control(event, now_ms)
            return False
        if type(event) is Liquidation:
            topic = self._liquidations_by_symbol.get(event.instrument.symbol)
            if topic is not None:
                self._works(topic, now_ms)
            self._data(now_ms)
        return True

    def heard(self, frames: int, trades: bool, now_ms: float) -> None:
        """So many frames were read at once, with trades in them or without."""
        self.frames += frames
        self.frame_ms = now_ms
        if trades:
            self.data_ms = now_ms

    def proven(self, topic: Heard, now_ms: float) -> None:
        """A market's first trade came, after the start or a renewed subscription."""
        self._works(topic, now_ms)
        self._data(now_ms)

    def prove(self, symbol: str, now_ms: float) -> None:
        """The caller knows that this market's topic works although it has not traded on this connection yet."""
        topic = self._by_symbol.get(symbol)
        if topic is not None:
            self._works(topic, now_ms)

    def _works(self, topic: Heard, now_ms: float) -> None:
        if isinstance(topic, Topic) and topic.ending:
            return
        topic.data_ms = now_ms
        if topic.live_ms is None:
            topic.live_ms = now_ms
            if isinstance(topic, Topic):
                topic.tries, topic.doubts = 0, 0
        if isinstance(topic, Topic):
            topic.state = "acked"  # data is the better acknowledgement

    def _data(self, now_ms: float) -> None:
        self.data_ms = now_ms
        if self.state != "live":
            self._enter("live", now_ms)

    def _control(self, event: Event, now_ms: float) -> None:
        match event:
            case Acked():
                self._acked(event)
            case Rejected():
                self._rejected(event, now_ms)
            case Reply():
                self._replies.append(event.frame)
            case Closing():
                self.replace = self.replace or f"the exchange will close: {event.reason}"
                self._notices.append(Notice("closing", (), event.reason))

    def _acked(self, event: Acked) -> None:
        known = [topic for name in event.topics if (topic := self.topics.get(name)) is not None]
        for topic in known:
            if not topic.ending:
                topic.state = "acked"
        if known:
            self._notices.append(Notice("acked", tuple(topic.stream.topic for topic in known)))

    def _rejected(self, event: Rejected, now_ms: float) -> None:
        """One bad topic must not stop the rest: a group that was refused as a whole is asked for again in halves."""
        names = event.topics or tuple(name for name, topic in self.topics.items() if topic.unanswered)
        topics = [t for name in names if (t := self.topics.get(name)) is not None and not t.live]
        if len(topics) > 1:
            for topic in topics:
                topic.state, topic.group, topic.retry_ms = "waiting", max(1, len(topics) // 2), now_ms
            return
        for topic in topics:
            topic.state = "rejected"
            wait_s = min(REJECTED_RETRY_MAX_S, REJECTED_RETRY_S * 2.0 ** max(0, topic.tries - 1))
            topic.retry_ms = now_ms + wait_s * 1e3
        self._notices.append(Notice("rejected", tuple(topic.stream.topic for topic in topics), event.reason))

    # --- what is due -------------------------------------------------------------------------------------------------

    def tick(self, now_ms: float) -> None:
        """Look at the time: subscriptions, time-outs, keep-alive, age."""
        if self.opened_ms is None or self._ping_ms is None:
            return
        if self._end_ms is not None and now_ms >= self._end_ms and self.replace is None:
            self.replace = "its known life ends"
        if self.endpoint.ping_s is not None and now_ms - self._ping_ms >= self.endpoint.ping_s * 1e3:
            self._ping_ms, self._ping_due = now_ms, True
        if any(topic.state != "acked" for topic in self.topics.values()):
            self._time_out(now_ms)
            if now_ms >= self.opened_ms + self.endpoint.settle_s * 1e3:
                self._ask(now_ms)

    def to_send(self, now_ms: float) -> list[Outgoing]:
        """What to send now, within `Endpoint.frames`: answers first, then the keep-alive, then subscriptions."""
        frames: list[Outgoing] = []
        while self._replies and self._rate.take(now_ms):
            frames.append(self._replies.popleft())
        if self._ping_due and self._rate.take(now_ms):
            self._ping_due = False
            frames.append(self._decoder.ping(int(now_ms)))
        if self.probe_due and self._rate.take(now_ms):
            self.probe_due = False
            frames.append(None)
        while self._requests and self._may_request(now_ms) and self._rate.take(now_ms):
            frame, topics = self._requests.popleft()
            if self._request_rate is not None:
                self._request_rate.take(now_ms)
            for topic in topics:
                topic.asked_ms, topic.ending = now_ms, False
            frames.append(frame)
        return frames

    def _may_request(self, now_ms: float) -> bool:
        return self._request_rate is None or self._request_rate.wait_s(now_ms) == 0.0

    @property
    def pending(self) -> bool:
        """Whether an answer waits that should not wait for the next tick."""
        return bool(self._replies)

    def renew(self, topic: Topic, now_ms: float) -> None:
        """End a subscription that is very quiet and ask for it again; it is live once that is acknowledged."""
        name = topic.stream.topic
        self._requests.extend((frame, ()) for frame in self._decoder.unsubscribe((name,), int(now_ms)))
        topic.state, topic.ending, topic.data_ms, topic.retry_ms = "waiting", True, None, now_ms
        topic.tries, topic.group = 0, 1

    def resubscribe(self, topic: Topic, now_ms: float) -> None:
        """The same for one that fell silent: only its own data proves it again."""
        self.renew(topic, now_ms)
        topic.live_ms, topic.doubts = None, topic.doubts + 1

    def probe(self) -> None:
        """Send a websocket ping, beside the keep-alive that the exchange asks for."""
        self.probe_due = True

    def take_notices(self) -> list[Notice]:
        """What happened since the last call."""
        notices = list(self._notices)
        self._notices.clear()
        return notices

    def _enter(self, state: State, now_ms: float) -> None:
        self.state, self.since_ms = state, now_ms

    def _time_out(self, now_ms: float) -> None:
        """Ask again where no answer and no data came; after `TRIES` say so and wait for data only."""
        silent = []
        for name, topic in self.topics.items():
            if topic.state == "rejected" and now_ms >= topic.retry_ms:
                topic.state = "waiting"
            if topic.state != "asked" or not topic.asked_ms or now_ms < topic.asked_ms + self._ack_timeout_ms:
                continue
            if topic.tries < TRIES:
                topic.state = "waiting"
            elif topic.asked_ms != float("inf"):
                topic.asked_ms = float("inf")
                silent.append(name)
        if silent:
            self._notices.append(Notice("unanswered", tuple(silent), f"no answer to {TRIES} requests"))

    def _ask(self, now_ms: float) -> None:
        """Make frames for waiting topics, as few as allowed.

        After a refusal requests go one at a time, so that the next refusal can only mean what was asked last.
        """
        if self._requests:
            return
        waiting = [t for t in self.topics.values() if t.state == "waiting" and now_ms >= t.retry_ms]
        careful = any(topic.group is not None for topic in waiting)
        if careful and any(topic.unanswered for topic in self.topics.values()):
            return
        while waiting:
            size = self.endpoint.topics_per_frame
            if waiting[0].group is not None:
                size = min(size, waiting[0].group)
            chunk = [topic for topic in waiting if topic.group == waiting[0].group][:size]
            waiting = [topic for topic in waiting if topic not in chunk]
            frames = self._decoder.subscribe([topic.stream.topic for topic in chunk], int(now_ms))
            for topic in chunk:
                topic.state, topic.asked_ms, topic.tries = "asked", 0.0, topic.tries + 1
            for at, frame in enumerate(frames):
                self._requests.append((frame, tuple(chunk) if at == len(frames) - 1 else ()))
            if careful:
                return


_CONTROL = frozenset({Acked, Rejected, Reply, Alive, Closing})
