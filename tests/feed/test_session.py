"""One connection's protocol, driven without any I/O against the simulated exchange and against its faults."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import (
    Acked,
    Alive,
    Buffer,
    Closing,
    Decoder,
    Endpoint,
    Event,
    Frame,
    Malformed,
    Rate,
    Rejected,
    Reply,
    Stream,
    Trade,
)
from exchanges.binance import Binance
from exchanges.simulated.binance import Simulated
from sqfd.feed.session import Session

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT"]
T0 = 1_700_000_000_000.0


class Scripted(Decoder):
    """Frames are JSON: [kind, topics or symbols]. Requests are the topics, one frame each call."""

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        kind, *names = msgspec.json.decode(frame)
        match kind:
            case "ack":
                return (Acked(tuple(names)),)
            case "reject":
                return (Rejected(tuple(names), "no such topic"),)
            case "trade":
                return [self.trade(name, recv_ms, 1.0, 1.0, True, recv_ms) for name in names]
            case "beat":
                return (Reply("beat"), Alive())
            case "closing":
                return (Closing("maintenance"),)
        raise ValueError(kind)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return ("+" + ",".join(topics),)

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return ("-" + ",".join(topics),)


class Exchange(Binance):
    """Binance's names with frames that are easy to write."""

    def decoder(self, endpoint: str, instruments: object) -> Decoder:
        return Scripted(instruments, endpoint)  # type: ignore[arg-type]  # handed through

    def streams(self, instrument: object, liquidations: bool) -> Sequence[Stream]:
        return (Stream("spot", instrument.symbol, instrument),)  # type: ignore[attr-defined, arg-type]  # an Instrument


def session(symbols: Sequence[str] = SYMBOLS, **endpoint: object) -> Session:
    exchange = Exchange()
    options = {"streams_per_connection": 100, "topics_per_frame": 10, "frames": Rate(100, 1)} | endpoint
    made = Session(
        exchange,
        Endpoint("spot", "ws://x", **options),  # type: ignore[arg-type]  # tests name fields of Endpoint
        [exchange.streams(exchange.assume(symbol), False)[0] for symbol in symbols],
        T0,
    )
    made.opened(T0)
    return made


def say(made: Session, now_ms: float, *words: str) -> Sequence[Event]:
    return take(made, msgspec.json.encode(words), now_ms)


def take(made: Session, frame: bytes, now_ms: float) -> Sequence[Event]:
    """As a link does: trades mark their topics, the session handles the rest; returns what is data."""
    events = made.received([frame], int(now_ms))
    trades = [trade for run in events if isinstance(run, list) for trade in run]
    for trade in trades:
        topic = made.trade_topics[trade.instrument.symbol]
        topic.data_ms = now_ms
        if topic.live_ms is None:
            made.proven(topic, now_ms)
    others = [event for event in events if not isinstance(event, list)]
    return [*trades, *(event for event in others if made.handle(event, now_ms))]


def asked(made: Session, now_ms: float) -> list[str]:
    made.tick(now_ms)
    return [str(frame) for frame in made.to_send(now_ms)]


def test_subscribing_in_full_frames() -> None:
    """Topics are asked for in few, full frames, and each is acked, then live with its first trade."""
    made = session(topics_per_frame=3)
    assert asked(made, T0) == ["+BTCUSDT,ETHUSDT,SOLUSDT", "+XRPUSDT,ADAUSDT"]
    assert made.state == "subscribing"
    assert say(made, T0 + 1, "ack", "BTCUSDT", "ETHUSDT", "SOLUSDT") == []
    (trade,) = say(made, T0 + 2, "trade", "BTCUSDT")
    assert type(trade) is Trade
    assert made.state == "live"
    assert [(t.state, t.live) for t in made.topics.values()] == [
        ("acked", True),
        ("acked", False),
        ("acked", False),
        ("asked", False),
        ("asked", False),
    ]


def test_data_before_the_ack_is_kept() -> None:
    """A trade that comes before its acknowledgement is handed on, and acknowledges."""
    made = session()
    asked(made, T0)
    assert len(say(made, T0 + 1, "trade", "ETHUSDT")) == 1
    assert made.topics["ETHUSDT"].state == "acked"
    say(made, T0 + 2, "reject")
    assert made.topics["ETHUSDT"].live


@given(st.sets(st.sampled_from(SYMBOLS), min_size=1, max_size=4), st.booleans(), st.integers(1, 5))
def test_bad_topics_do_not_stop_the_rest(bad: set[str], named: bool, per_frame: int) -> None:
    """However an exchange refuses frames with bad topics in them, every good topic ends subscribed and every bad refused."""
    made = session(topics_per_frame=per_frame)
    now_ms, frames = T0, 0
    for _ in range(40):
        now_ms += 250
        for frame in asked(made, now_ms):
            frames += 1
            topics = frame[1:].split(",")
            refused = set(topics) & bad
            say(made, now_ms, *(["reject", *(topics if named else ())] if refused else ["ack", *topics]))
    assert {name for name, topic in made.topics.items() if topic.state == "rejected"} == bad
    assert {name for name, topic in made.topics.items() if topic.state == "acked"} == set(SYMBOLS) - bad
    assert frames <= 3 * len(SYMBOLS)
    assert {name for n in made.take_notices() if n.kind == "rejected" for name in n.topics} == bad


@given(st.integers(0, len(SYMBOLS) - 1))
def test_a_missing_ack_is_asked_for_again_and_then_told(missing: int) -> None:
    """With N-1 acks the missing topic is asked for three times and reported once; the others are left alone."""
    made = session(topics_per_frame=1)
    silent, requests = SYMBOLS[missing], 0
    for step in range(240):
        now_ms = T0 + step * 250
        for frame in asked(made, now_ms):
            if frame[1:] == silent:
                requests += 1
            else:
                assert step < 4
                say(made, now_ms, "ack", frame[1:])
    assert requests == 3
    told = [notice for notice in made.take_notices() if notice.kind == "unanswered"]
    assert [notice.topics for notice in told] == [(silent,)]


@given(st.lists(st.floats(0, 700), max_size=80), st.integers(1, 5))
def test_no_more_frames_than_allowed(pauses: list[float], count: int) -> None:
    """Replies, pings and requests together stay within the endpoint's rate, in any second."""
    made = session(topics_per_frame=1, frames=Rate(count, 1), ping_s=1.0)
    now_ms, sent = T0, []
    for pause in pauses:
        now_ms += pause
        say(made, now_ms, "beat")
        made.tick(now_ms)
        sent += [now_ms] * len(made.to_send(now_ms))
    assert all(later - earlier > 1000 for earlier, later in zip(sent, sent[count:], strict=False))


def test_answers_go_first_and_do_not_pile_up() -> None:
    """Heartbeats are answered before anything else; of a flood only the newest few are answered."""
    made = session(topics_per_frame=1, frames=Rate(2, 1))
    for _ in range(1000):
        say(made, T0, "beat")
    assert made.pending
    sent: list[str] = []
    for step in range(200):
        sent += asked(made, T0 + step * 250)
    assert sent.count("beat") == 16
    assert sent[:16] == ["beat"] * 16
    assert sent[16].startswith("+")


def test_settling_and_pings() -> None:
    """Nothing is sent before the connection settled; keep-alives follow at their interval, as websocket pings here."""
    made = session(settle_s=1.0, ping_s=20.0)
    assert asked(made, T0 + 999) == []
    assert len(asked(made, T0 + 1000)) == 1
    made.tick(T0 + 20_000)
    assert made.to_send(T0 + 20_000)[0] is None
    made.tick(T0 + 20_250)
    assert None not in made.to_send(T0 + 20_250)


def test_a_connection_asks_to_be_replaced_before_its_end() -> None:
    """At 95 % of its known life at the latest, and when the exchange announces to close."""
    old = session(max_age_s=24 * 3600.0)
    old.tick(T0 + 22.7 * 3600e3)
    assert old.replace is None
    old.tick(T0 + 22.9 * 3600e3)
    assert old.replace == "its known life ends"
    closing = session()
    say(closing, T0, "closing")
    assert closing.replace == "the exchange will close: maintenance"


def test_a_frame_that_cannot_be_read_costs_itself() -> None:
    """Any bytes give one malformed event and leave the session as it was."""
    made = session()
    asked(made, T0)
    chance = random.Random(3)
    for _ in range(200):
        (event,) = made.received([chance.randbytes(20)], int(T0))
        assert type(event) is Malformed
    assert made.state == "subscribing"


def test_a_refused_topic_is_tried_again_much_later() -> None:
    """After five minutes, so that a passing refusal does not last as long as the connection."""
    made = session(["BTCUSDT"])
    asked(made, T0)
    say(made, T0, "reject", "BTCUSDT")
    assert asked(made, T0 + 299_000) == []
    assert asked(made, T0 + 300_000) == ["+BTCUSDT"]


def test_asking_again_for_a_silent_topic() -> None:
    """It is ended, asked for again, and only its own data proves it."""
    made = session(["BTCUSDT", "ETHUSDT"])
    asked(made, T0)
    say(made, T0, "trade", "BTCUSDT", "ETHUSDT")
    made.resubscribe(made.topics["BTCUSDT"], T0 + 5)
    sent = asked(made, T0 + 5) + asked(made, T0 + 300)
    assert sent == ["-BTCUSDT", "+BTCUSDT"]
    assert not made.topics["BTCUSDT"].live
    assert made.topics["BTCUSDT"].doubts
    say(made, T0 + 400, "trade", "BTCUSDT")
    assert not made.topics["BTCUSDT"].doubts


@pytest.mark.parametrize("what", ["trade", "ack"])
def test_what_is_still_under_way_does_not_stand_for_asking_again(what: str) -> None:
    """A trade or an answer between the end of a subscription and its renewal: it is asked for all the same."""
    made = session(["BTCUSDT"])
    asked(made, T0)
    say(made, T0, "trade", "BTCUSDT")
    made.resubscribe(made.topics["BTCUSDT"], T0 + 5)
    say(made, T0 + 6, what, "BTCUSDT")
    assert asked(made, T0 + 10) == ["-BTCUSDT"]
    say(made, T0 + 20, what, "BTCUSDT")
    assert asked(made, T0 + 260) == ["+BTCUSDT"]
    say(made, T0 + 300, what, "BTCUSDT")
    assert made.topics["BTCUSDT"].state == "acked"
    assert asked(made, T0 + 900) == []


def test_against_the_simulated_exchange() -> None:
    """The real decoder and the simulated Binance agree: subscribed, acked, trading."""
    exchange = Binance()
    server = Simulated(exchange)
    instruments = [exchange.assume(symbol) for symbol in SYMBOLS]
    server.list(instruments)
    peer = server.connection("spot")
    streams = [stream for i in instruments for stream in exchange.streams(i, True)]
    made = Session(exchange, exchange.endpoint("spot"), streams, T0)
    made.opened(T0)
    made.tick(T0)
    for frame in made.to_send(T0):
        assert frame is not None
        for answer in peer.receive(frame, int(T0)):
            assert take(made, str(answer).encode(), T0) == []
    assert {topic.state for topic in made.topics.values()} == {"acked"}
    (frame,) = peer.trades([Trade(instruments[0], int(T0), 2.0, 3.0, True, 7)], int(T0))
    (trade,) = take(made, str(frame).encode(), T0)
    assert isinstance(trade, Trade)
    assert (trade.instrument, trade.price, trade.size, trade.id) == (instruments[0], 2.0, 3.0, 7)
    assert made.state == "live"
