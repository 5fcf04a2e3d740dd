"""A line that is refused for a simulated day."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
import structlog

from exchanges.binance import Binance
from sqfd.clock import ManualClock
from sqfd.feed.intake import Intake
from sqfd.feed.line import Gate, Line
from sqfd.feed.looks import Looks
from sqfd.feed.rest import Rest
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import ConnectFailed, Connection
from tests.feed.doubles import Offsets, Sink

DAY_MS = 24 * 3600e3


class Sleeper(ManualClock):
    """Time passes by sleeping only; enough for one task."""

    async def sleep(self, seconds: float) -> None:
        self.set(self.now_ms() + seconds * 1e3)
        await asyncio.sleep(0)


@pytest.mark.parametrize("status", [None, 429])
async def test_a_day_of_refusals(status: int | None) -> None:
    """For 24 hours: no more attempts than allowed, none before Retry-After, none later than a minute after it may."""
    clock, exchange, settings = Sleeper(), Binance(), FeedSettings()
    log = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[log])
    attempts: list[float] = []

    async def refuse(*arguments: Any, **options: Any) -> Connection:
        attempts.append(clock.now_ms())
        if clock.now_ms() > DAY_MS:
            raise asyncio.CancelledError
        raise ConnectFailed("refused", status, 120.0 if status else None)

    instrument = exchange.assume("BTCUSDT")
    gate, rest = Gate(exchange, settings, clock), Rest(exchange, settings, clock)
    streams = list(exchange.streams(instrument, False))
    endpoint = exchange.endpoint("spot")
    intake = Intake(Sink(), Offsets())
    looks = Looks(clock, intake.over_in_s)
    line = Line(exchange, endpoint, streams, 0, gate, rest, intake, settings, clock, looks, logger, None, refuse)
    with pytest.raises(asyncio.CancelledError):
        await line.run()
    # To the microsecond: a sum of times of day is rounded, so that 250 ms may be less than that by a hair.
    pauses_s = [round((later - earlier) / 1e3, 6) for earlier, later in itertools.pairwise(attempts)]
    if status is None:
        assert max(pauses_s) <= 60
        assert 1500 < len(attempts) < 6000
    else:
        assert 120 <= min(pauses_s) <= max(pauses_s) <= 121
    assert min(pauses_s) >= settings.stagger_s
    assert gate.open == 0
    assert [entry["event"] for entry in log.entries] == ["cannot connect"]
