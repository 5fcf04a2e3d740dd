"""A server with real stages behind it and no exchange: seconds are closed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

import exchanges
from exchanges.api import Instrument, Trade
from sqfd import log
from sqfd.bars.seconds import Seconds
from sqfd.clock import ManualClock
from sqfd.config import Config
from sqfd.feed.intake import Intake
from sqfd.feed.settings import FeedSettings
from sqfd.feed.supervisor import Supervisor
from sqfd.http.api import Server
from sqfd.http.settings import HttpSettings
from sqfd.http.view import View
from sqfd.journal import JournaledSignal
from sqfd.journal.journal import Journal
from sqfd.model import market_of
from sqfd.stalls import Stalls
from sqfd.wiring import engine_for

START = 1_790_000_000
PAIR = Instrument("BINANCE", "btcusdt", "BTCUSDT", "spot", "BTC", "USDT", "spot")
SLASHED = Instrument("KRAKEN", "XBT/USD", "XBTUSD", "spot", "BTC", "USD", "spot")


class Rig:
    """The stages of a daemon, and a hand that closes seconds."""

    def __init__(self, journal: Journal, settings: HttpSettings) -> None:
        self.clock = ManualClock(START * 1e3)
        self.seconds = Seconds(("BTC",))
        self.intake = Intake(self.seconds.builder, self.seconds.watermark)
        found = exchanges.get("BINANCE")
        self.instrument = Instrument(*[getattr(PAIR, name) for name in PAIR.__struct_fields__])
        endpoint = found.endpoints[0]
        self.seconds.add_markets([market_of(self.instrument), market_of(SLASHED)])
        self.intake.add(0, self.instrument, endpoint)
        self.intake.add(1, SLASHED, endpoint)
        self.source = self.intake.source("BINANCE", self.instrument.endpoint)
        supervisor = Supervisor({}, FeedSettings(), self.intake, self.clock, log.get("test"))
        engine = engine_for(Config(), {"BTC": ["BINANCE:btcusdt"]})
        self.journal = journal
        self.view = View(
            instance="test",
            clock=self.clock,
            exchange_clock=self.clock,
            symbols=("BTC",),
            exchanges=("BINANCE", "KRAKEN"),
            missing=set(),
            seconds=self.seconds,
            intake=self.intake,
            supervisor=supervisor,
            engine=engine,
            journal=journal,
            stalls=Stalls(log.get("test")),
        )
        self.server = Server(settings, self.view)
        self._seq = 0

    def trade(self, ts_ms: int, price: float = 60_000.0) -> None:
        """One trade arrives."""
        self._seq += 1
        self.intake.take(self.source, [Trade(self.instrument, ts_ms, price, 0.5, True, self._seq)], float(ts_ms))

    async def second(self, signals: int = 0) -> int:
        """A second with one trade passes and is closed; with `signals` in it."""
        now_s = int(self.clock.now_ms() / 1e3)
        self.trade(now_s * 1000 + 100)
        self.clock.set((now_s + 1) * 1e3)
        closed = self.seconds.close(lambda second: np.ones(2, np.bool_))
        self.view.engine.tick(closed.tick, closed.flow)
        records = self.journal.number([signal(now_s, number) for number in range(signals)])
        self.journal.append(closed.tick, closed.second.bars, closed.flow, records, None, closed.second.whole)
        self.view.note(len(closed.second.bars), 0, records, ["LONG"] * signals)
        self.server.tick(records)
        await self.journal.flush()
        return now_s


def signal(second: int, number: int) -> JournaledSignal:
    line = b'{"signal_id":"%d-%d","action":"LONG"}' % (second, number)
    return JournaledSignal(f"{second}-{number}", second + 1, second, 0, "BTCUSDT", second + 600, line)


@asynccontextmanager
async def running(folder: Path, settings: HttpSettings | None = None) -> AsyncIterator[Rig]:
    """A rig whose server listens on a free port."""
    journal = await Journal.open(folder)
    rig = Rig(journal, settings or HttpSettings(port=0))
    await journal.register(rig.seconds.markets, ("BTC",))
    await rig.server.start()
    telling = asyncio.create_task(rig.server.run())
    try:
        yield rig
    finally:
        telling.cancel()
        await rig.server.close()
        await journal.close()
