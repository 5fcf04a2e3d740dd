"""When a connection is given up for its silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

import exchanges
from exchanges.api import Frame, Trade
from exchanges.simulated import get as simulate
from sqfd.bars.watermark import Watermark
from sqfd.clock import ManualClock
from sqfd.feed.intake import Intake
from sqfd.feed.link import Link
from sqfd.feed.looks import AHEAD_S, EVERY_S, Looks
from sqfd.feed.record import Recorder
from sqfd.feed.session import Session
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Closed
from sqfd.feed.waking import HELD_BYTES
from tests.exchanges.support import raw
from tests.feed.doubles import Offsets, Sink

PING_S = 5.0
STEP_MS = 2


def liquidations() -> tuple[Link, Session, ManualClock]:
    """HUOBI's socket that carries forced orders only."""
    exchange, clock = exchanges.get("HUOBI"), ManualClock()
    instrument = exchange.assume("BTC-USDT")
    streams = [s for s in exchange.streams(instrument, True) if s.endpoint != instrument.endpoint]
    endpoint = exchange.endpoint(streams[0].endpoint)
    session = Session(exchange, endpoint, streams, clock.now_ms())
    intake = Intake(Sink(), Offsets())
    source, log = intake.source("HUOBI", endpoint.name), structlog.get_logger()
    return (
        Link(exchange, session, source, intake, FeedSettings(), clock, Looks(clock, intake.over_in_s), log),
        session,
        clock,
    )


def trades(*symbols: str) -> tuple[Link, Session, ManualClock]:
    """A connection of BYBIT's perpetuals, opened and asked."""
    exchange, clock = exchanges.get("BYBIT"), ManualClock()
    instruments = [exchange.assume(symbol, "perp") for symbol in symbols]
    endpoint = exchange.endpoint(instruments[0].endpoint)
    streams = [s for i in instruments for s in exchange.streams(i, False)]
    session = Session(exchange, endpoint, streams, clock.now_ms())
    intake = Intake(Sink(), Offsets())
    for market, instrument in enumerate(instruments):
        intake.add(market, instrument, endpoint)
    source, log = intake.source("BYBIT", endpoint.name), structlog.get_logger()
    link = Link(exchange, session, source, intake, FeedSettings(), clock, Looks(clock, intake.over_in_s), log)
    session.opened(clock.now_ms())
    session.tick(clock.now_ms())
    peer = simulate(exchange).connection(endpoint.name)
    for frame in session.to_send(clock.now_ms()):
        assert frame is not None
        for answer in peer.receive(frame, 0):
            link.on_frames([raw(answer)], False)
    return link, session, clock


class Wire:
    """A connection whose frames wait in a kernel while it is held."""

    def __init__(self, link: Link) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.held = self.deaf = False
        self.pongs = self.looks = 0
        self.waiting: list[bytes] = []
        self._link = link
        ((topic, self._feed),) = link.feeds()
        self._peer = simulate(link._exchange).connection(link.session.endpoint.name)
        self._peer.topics.add(topic.stream.topic)
        self._id = 0
        link.on_end()

    def send(self, frame: Frame) -> None: ...

    def ping(self) -> None:
        self.pongs += not self.deaf

    def hold(self) -> None:
        self.held = True

    def look(self) -> None:
        self.held = False
        self.looks += 1
        self.read()

    def read(self) -> None:
        waiting, self.waiting = self.waiting, []
        for frame in waiting:
            self._link.on_frames([frame], True)
        self._link.on_end()

    def bring(self, ts_ms: int, trades: int = 1) -> None:
        """A frame comes."""
        made = []
        for _ in range(trades):
            self._id += 1
            made.append(Trade(self._feed.instrument, ts_ms, 100.0, 1.0, True, str(self._id)))
        self.waiting += [raw(frame) for frame in self._peer.trades(made, ts_ms)]
        if not self.held or sum(map(len, self.waiting)) >= HELD_BYTES:
            self.read()

    async def close(self, timeout_s: float) -> None:
        self.closed.set_result(Closed("left", by_us=True))


async def turn() -> None:
    """Tasks that wait for nothing but their turn have it."""
    for _ in range(8):
        await asyncio.sleep(0)


async def read_for(
    link: Link, clock: ManualClock, wire: Wire, frames_hz: int, seconds: int, trades: int = 1, delay_ms: int = 0
) -> float:
    """Share of the frames that had to wait, while so many come a second, in the time of `clock`. Seconds close by the link's offsets."""
    looks, offsets = link._looks, link._intake
    began_ms, waited, frames = clock.now_ms(), 0, 0
    for step in range(STEP_MS, seconds * 1000 + 1, STEP_MS):
        before_s = offsets.over_in_s(clock.now_ms())
        clock.set(began_ms + step)
        over_s = offsets.over_in_s(clock.now_ms())
        if step * frames_hz // 1000 > (step - STEP_MS) * frames_hz // 1000:
            wire.bring(int(clock.now_ms()) - delay_ms, trades)
            frames += 1
            waited += bool(wire.waiting)
        if (before_s - AHEAD_S) % EVERY_S < (over_s - AHEAD_S) % EVERY_S:
            await looks.look()
        if before_s < over_s:
            looks.closed()
        if step % 250 == 0:
            await turn()
    return waited / frames


@pytest.mark.parametrize(
    ("frames_hz", "trades_each", "calm_hz", "record", "held"),
    [
        pytest.param(20, 1, 300.0, False, True, id="little comes"),
        pytest.param(400, 1, 300.0, False, False, id="much comes"),
        pytest.param(20, 1, 0.0, False, False, id="switched off"),
        pytest.param(20, 1, 300.0, True, False, id="its times of arrival are recorded"),
    ],
)
async def test_a_calm_connection_is_held_between_looks(
    tmp_path: Path, frames_hz: int, trades_each: int, calm_hz: float, record: bool, held: bool
) -> None:
    """Once it is ten seconds old, after what was read, and only where nothing is lost by it."""
    link, _, clock = trades("BTCUSDT")
    link._settings = FeedSettings(calm_hz=calm_hz)
    link._record = (
        Recorder(tmp_path, 1 << 24, 1 << 24, structlog.get_logger()).file("BYBIT", "linear", 1) if record else None
    )
    wire = Wire(link)
    link.start(wire)
    assert await read_for(link, clock, wire, frames_hz, 9, trades_each) == 0.0
    await read_for(link, clock, wire, frames_hz, 3, trades_each)
    share = await read_for(link, clock, wire, frames_hz, 4, trades_each)
    assert share > 0.8 if held else share == 0.0
    wire.closed.set_result(Closed("the exchange closed"))
    await link.until_ended_or_replace()
    assert link.ended == Closed("the exchange closed")
    assert not link._looks.calm


async def calm() -> tuple[Link, ManualClock, Wire]:
    """A connection that is held."""
    link, _, clock = trades("BTCUSDT")
    wire = Wire(link)
    link.start(wire)
    await read_for(link, clock, wire, 20, 12)
    assert link in link._looks.calm
    link._looks.closed()
    link.hold()
    assert wire.held
    return link, clock, wire


@pytest.mark.parametrize(("frames_hz", "looks_hz"), [(4, 1), (20, 2)])
async def test_a_sparse_connection_is_read_once_a_second_until_a_market_is_silent(
    frames_hz: int, looks_hz: int
) -> None:
    """Just before a second closes; silence is judged by what was read half a second ago at the most, on every connection."""
    link, _, clock = trades("BTCUSDT")
    wire = Wire(link)
    link.start(wire)
    await read_for(link, clock, wire, frames_hz, 13)
    began = wire.looks
    await read_for(link, clock, wire, frames_hz, 8)
    assert wire.looks - began == pytest.approx(8 * looks_hz, abs=2)  # after one closing of four it is not held
    link._looks.closed()
    link.hold()
    for _ in range(4):
        clock.set(clock.now_ms() + 1000)
        link.tick()
    assert not link.sparse
    await link.close("the test ends")


async def test_a_burst_is_read_as_it_comes() -> None:
    """More than a calm connection brings does not wait for the look, and what follows does not either."""
    link, clock, wire = await calm()
    wire.bring(int(clock.now_ms()))
    assert wire.waiting
    wire.bring(int(clock.now_ms()), HELD_BYTES // 50)
    assert not wire.waiting
    assert not wire.held
    for _ in range(100):
        wire.bring(int(clock.now_ms()))
        assert not wire.waiting
    await link.close("the test ends")


async def test_what_waits_is_read_before_a_connection_is_left() -> None:
    """Its replacement may not have brought it."""
    link, clock, wire = await calm()
    before = link.source.feeds["BTCUSDT"].received
    wire.bring(int(clock.now_ms()))
    assert link.source.feeds["BTCUSDT"].received == before
    await link.close("replaced")
    assert link.source.feeds["BTCUSDT"].received == before + 1


async def test_what_came_in_time_is_read_before_its_second_closes() -> None:
    """Also where the look that goes before each closing was late or fell out."""
    link, clock, wire = await calm()
    wire.bring(int(clock.now_ms()))
    await link._looks.before_closing()
    assert not wire.waiting
    wire.bring(int(clock.now_ms()))
    assert not wire.waiting
    await link.close("the test ends")


async def test_what_fails_at_a_look_ends_its_own_connection_and_not_the_looks() -> None:
    """A held connection looks at the time in the looks' turn: what goes wrong there is raised where its line hears of it."""
    link, clock, _ = await calm()
    link._prove = None  # type: ignore[method-assign, assignment]
    clock.set(clock.now_ms() + 500)
    await link._looks.look()
    with pytest.raises(TypeError):
        await link.until_ended_or_replace()
    await link._looks.look()
    assert not link._looks.calm


async def test_a_held_connection_that_falls_silent_is_given_up() -> None:
    """As soon as the looks find that no data came for as long as its pace allows."""
    link, clock, _ = await calm()
    for _, feed in link.feeds():
        feed.pace.assume(3500, 3600)
    clock.set(clock.now_ms() + 500)
    for _ in range(15):
        clock.set(clock.now_ms() + 1000)
        link._looks.closed()
        await link._looks.look()
        await turn()
    assert link.ended is not None
    assert link.ended.reason.startswith("no data for")
    assert not link._looks.calm


@pytest.mark.parametrize("frames_hz", [4, 20])
async def test_delays_are_learnt_as_they_are_whatever_the_cadence(frames_hz: int) -> None:
    """An exchange that sends in step with our looks seems no slower than it is, and one that becomes slower is noticed."""
    link, _, clock = trades("BTCUSDT")
    mark = link._intake._offsets = link.source._offsets = Watermark()
    wire = Wire(link)
    link.start(wire)
    for delay_ms, seconds in ((50, 70), (80, 100)):
        for _ in range(seconds // 5):
            await read_for(link, clock, wire, frames_hz, 5, delay_ms=delay_ms)
            mark.newest_over(clock.now_ms())
        assert (mark.offset_ms(), link.source.delay_ms) == (delay_ms, delay_ms)
    await link.close("the test ends")


def given_up_s(link: Link, clock: ManualClock) -> float:
    """How long an acknowledged connection that never carries anything is waited for."""
    began_ms = clock.now_ms()
    while link._silence(clock.now_ms()) is None:
        clock.set(clock.now_ms() + 1000)
    return (clock.now_ms() - began_ms) / 1e3


def test_a_feed_that_is_dead_from_the_start_is_found_by_its_last_rate() -> None:
    """Half open before the first trade: within 10 s where the last run saw it trade all the time, not after a minute."""
    link, _, clock = trades("BTCUSDT", "ETHUSDT")
    for _, feed in link.feeds():
        feed.pace.assume(3500, 3600)
    assert given_up_s(link, clock) <= 10


def test_a_quiet_feed_is_waited_for_as_its_last_rate_has_it() -> None:
    """Forty trades in the hour before the restart: a minute without one is nothing, a first run gives up after that."""
    link, _, clock = trades("BTCUSDT")
    for _, feed in link.feeds():
        feed.lose(0.0, "connecting")
    assert 60 <= given_up_s(link, clock) <= 62
    link, _, clock = trades("BTCUSDT")
    for _, feed in link.feeds():
        feed.lose(0.0, "connecting")
        feed.pace.assume(40, 3600)
    assert given_up_s(link, clock) >= 240


def test_a_socket_of_liquidations_takes_over_on_its_acknowledgement() -> None:
    """No liquidation may come for hours: the old connection must not wait for one before it is left."""
    link, session, clock = liquidations()
    session.opened(clock.now_ms())
    peer = simulate(link._exchange).connection(session.endpoint.name)
    assert not link.carrying
    session.tick(clock.now_ms())
    for frame in session.to_send(clock.now_ms()):
        assert frame is not None
        assert not link.carrying
        for answer in peer.receive(frame, 0):
            link.on_frames([raw(answer)], False)
    assert link.carrying


def test_a_socket_of_liquidations_alone_lives_by_its_heartbeats() -> None:
    """Hours without a liquidation are normal there; without even heartbeats it is given up."""
    link, session, clock = liquidations()
    settings = FeedSettings()
    session.opened(clock.now_ms())
    (ping,) = simulate(link._exchange).connection(session.endpoint.name).heartbeat(0)
    for _ in range(int(7200 / PING_S)):
        clock.set(clock.now_ms() + PING_S * 1e3)
        link.on_frames([raw(ping)], False)
        link.on_end()
        assert link._silence(clock.now_ms()) is None
    clock.set(clock.now_ms() + settings.silence_max_s * 1e3 + 1)
    assert link._silence(clock.now_ms()) == f"no frame for {settings.silence_max_s:.1f} s"


async def quiet_for(link: Link, clock: ManualClock, seconds: float) -> None:
    """Time passes, and nothing comes."""
    until_ms = clock.now_ms() + seconds * 1e3
    while clock.now_ms() < until_ms:
        clock.set(clock.now_ms() + 250)
        link.tick()
        await turn()


@pytest.mark.parametrize(("answered", "ended"), [(True, True), (False, False)])
async def test_a_peer_that_answers_no_ping_any_more_is_left(answered: bool, ended: bool) -> None:
    """Of a market too quiet to tell, within 21 s; one that never answered a ping proves nothing by its silence."""
    link, _, clock = trades("BTCUSDT")
    wire = Wire(link)
    link.start(wire)
    await turn()
    wire.bring(int(clock.now_ms()))
    wire.deaf = not answered
    await quiet_for(link, clock, 35)
    assert link.ended is None
    assert wire.pongs == (3 if answered else 0)
    wire.deaf = True
    await quiet_for(link, clock, 21)
    assert (link.ended is not None) is ended
    if link.ended is not None:
        assert link.ended.reason == "no answer to a ping for 10.0 s"
    await link.close("the test ends")


async def test_a_ping_that_the_exchanges_limit_holds_back_is_not_missed() -> None:
    """What was not asked cannot be answered."""
    link, session, clock = trades("BTCUSDT")
    wire = Wire(link)
    link.start(wire)
    await turn()
    wire.bring(int(clock.now_ms()))
    await quiet_for(link, clock, 12)
    assert wire.pongs == 1
    session._rate.close(clock.now_ms() + 3600e3)
    await quiet_for(link, clock, 35)
    assert (link.ended, wire.pongs) == (None, 1)
    await link.close("the test ends")


async def test_what_was_not_read_while_nothing_ran_is_no_silence() -> None:
    """After minutes of suspension nothing is judged before what came meanwhile was read."""
    link, session, clock = trades("BTCUSDT")
    wire = Wire(link)
    link.start(wire)
    await read_for(link, clock, wire, 4, 60)
    clock.set(clock.now_ms() + 400_000)
    link.tick()
    assert (link.ended, session.replace) == (None, None)
    assert session.trade_topics["BTCUSDT"].doubts == 0
    wire.bring(int(clock.now_ms()))
    link.tick()
    await turn()
    assert (link.ended, session.replace) == (None, None)
    await link.close("the test ends")
