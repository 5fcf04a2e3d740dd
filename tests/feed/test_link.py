"""When a connection is given up for its silence."""

from __future__ import annotations

import structlog

import exchanges
from exchanges.simulated import get as simulate
from sqfd.clock import ManualClock
from sqfd.feed.intake import Intake
from sqfd.feed.link import Link
from sqfd.feed.session import Session
from sqfd.feed.settings import FeedSettings
from tests.exchanges.support import raw
from tests.feed.doubles import Offsets, Sink

PING_S = 5.0


def liquidations() -> tuple[Link, Session, ManualClock]:
    """HUOBI's socket that carries forced orders only."""
    exchange, clock = exchanges.get("HUOBI"), ManualClock()
    instrument = exchange.assume("BTC-USDT")
    streams = [s for s in exchange.streams(instrument, True) if s.endpoint != instrument.endpoint]
    endpoint = exchange.endpoint(streams[0].endpoint)
    session = Session(exchange, endpoint, streams, clock.now_ms())
    intake = Intake(Sink(), Offsets())
    source, log = intake.source("HUOBI", endpoint.name), structlog.get_logger()
    return Link(exchange, session, source, intake, FeedSettings(), clock, log), session, clock


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
    link = Link(exchange, session, source, intake, FeedSettings(), clock, log)
    session.opened(clock.now_ms())
    session.tick(clock.now_ms())
    peer = simulate(exchange).connection(endpoint.name)
    for frame in session.to_send(clock.now_ms()):
        assert frame is not None
        for answer in peer.receive(frame, 0):
            link.on_frames([raw(answer)], False)
    return link, session, clock


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
