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
