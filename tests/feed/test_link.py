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


def test_a_socket_of_liquidations_alone_lives_by_its_heartbeats() -> None:
    """Hours without a liquidation are normal there; without even heartbeats it is given up."""
    exchange, clock, settings = exchanges.get("HUOBI"), ManualClock(), FeedSettings()
    instrument = exchange.assume("BTC-USDT")
    streams = [s for s in exchange.streams(instrument, True) if s.endpoint != instrument.endpoint]
    endpoint = exchange.endpoint(streams[0].endpoint)
    session = Session(exchange, endpoint, streams, clock.now_ms())
    intake = Intake(Sink(), Offsets())
    link = Link(
        exchange, session, intake.source("HUOBI", endpoint.name), intake, settings, clock, structlog.get_logger()
    )
    session.opened(clock.now_ms())
    (ping,) = simulate(exchange).connection(endpoint.name).heartbeat(0)
    for _ in range(int(7200 / PING_S)):
        clock.set(clock.now_ms() + PING_S * 1e3)
        link.on_frame(raw(ping), False)
        assert link._silence(clock.now_ms()) is None
    clock.set(clock.now_ms() + settings.silence_max_s * 1e3 + 1)
    assert link._silence(clock.now_ms()) == f"no frame for {settings.silence_max_s:.1f} s"
