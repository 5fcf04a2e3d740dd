"""Feeds over real loopback sockets, with both transports."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import structlog

from exchanges.api import Call, Instrument, Page, Request, Trade
from exchanges.binance import Binance
from sqfd.clock import SystemClock
from sqfd.feed.intake import Intake
from sqfd.feed.record import RecordedFrame, Recorder
from sqfd.feed.settings import FeedSettings
from sqfd.feed.supervisor import Supervisor
from tests.feed.doubles import Offsets, Sink
from tests.feed.loopback import Loopback
from tests.waiting import PATIENCE_S, eventually

TRANSPORTS: list[Literal["picows", "websockets"]] = ["picows", "websockets"]


class Running:
    def __init__(self, server: Loopback, settings: FeedSettings, recorder: Recorder | None = None) -> None:
        self.sink = Sink()
        self.log = structlog.testing.LogCapture()
        logger = structlog.wrap_logger(None, processors=[self.log])
        self.intake = Intake(self.sink, Offsets())
        self.supervisor = Supervisor(
            {"BINANCE": server.exchange()}, settings, self.intake, SystemClock(), logger, recorder
        )

    @property
    def told(self) -> list[str]:
        return [entry["event"] for entry in self.log.entries]


def quick(transport: Literal["picows", "websockets"], **more: float) -> FeedSettings:
    values = {"transport": transport, "stagger_s": 0.0, "backoff_min_s": 0.1, "close_timeout_s": 0.5} | more
    return msgspec.convert(values, FeedSettings)


@asynccontextmanager
async def running(
    server: Loopback, settings: FeedSettings, instruments: list[Instrument], recorder: Recorder | None = None
) -> AsyncIterator[Running]:
    it = Running(server, settings, recorder)
    it.supervisor.add(instruments, range(len(instruments)))
    task = asyncio.create_task(it.supervisor.run())
    trading = asyncio.create_task(server.trade_all(0.05))
    try:
        yield it
    finally:
        trading.cancel()
        await it.supervisor.stop()
        async with asyncio.timeout(PATIENCE_S):
            await task
    assert it.intake.totals().conserved()
    assert "connection failed unexpectedly, starting it again" not in it.told


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_trades_arrive_and_a_killed_server_is_found_again(transport: Literal["picows", "websockets"]) -> None:
    """Trades arrive; when the server dies that is told once, a gap opens, and trades arrive after it is back."""
    async with Loopback(["BTCUSDT", "ETHUSDT"]) as server, running(server, quick(transport), server.instruments) as it:
        await eventually(lambda: it.supervisor.status().live == 2)
        await server.kill()
        await eventually(lambda: it.supervisor.status().live == 0)
        await asyncio.sleep(0.5)
        before = len(it.sink.trades)
        await server.start()
        await eventually(lambda: it.supervisor.status().live == 2)
        await eventually(lambda: len(it.sink.trades) > before + 4)
        await eventually(lambda: it.told.count("back") == 1)
        assert it.told.count("lost") == 1
        assert it.told.count("cannot connect") <= 1
        ledger = it.intake.markets[0].ledger
        assert [interval.state for interval in ledger.intervals] == ["gap", "gap"]
        gap = ledger.intervals[1]
        assert gap.until_ms is not None
        assert 400 < gap.until_ms - gap.from_ms < 1e3 * PATIENCE_S
        assert not it.supervisor.whole(int(gap.from_ms // 1000))[0]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_silent_server_is_left(transport: Literal["picows", "websockets"]) -> None:
    """A server that accepts, acknowledges and then sends nothing is given up and tried again."""
    async with Loopback(["BTCUSDT"]) as server:
        server.mute = True
        settings = msgspec.structs.replace(quick(transport), first_trade_s=0.6)
        async with running(server, settings, server.instruments) as it:
            await eventually(lambda: "lost" in it.told)
            assert next(e for e in it.log.entries if e["event"] == "lost")["reason"] == "no data for 0.6 s"
            assert it.supervisor.status().live == 0
            server.mute = False
            await eventually(lambda: it.supervisor.status().live == 1)
    assert server.accepted >= 2


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_replacement_overlaps_without_doubling(transport: Literal["picows", "websockets"]) -> None:
    """A connection that asks to be replaced ends after its successor carries data: no gap, no trade lost or doubled."""
    async with Loopback(["BTCUSDT"]) as server, running(server, quick(transport), server.instruments) as it:
        await eventually(lambda: it.supervisor.status().live == 1)
        line = it.supervisor.lines[0]
        first = line.link
        assert first is not None
        first.session.replace = "a test"
        await eventually(lambda: line.link is not None and line.link is not first)
        await eventually(lambda: first.ended)
        await asyncio.sleep(0.2)
        ids = [int(trade.id or 0) for _, trade in it.sink.trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert "lost" not in it.told
        assert len(it.intake.markets[0].ledger.intervals) == 1
    assert server.accepted == 2


async def test_a_replacement_that_does_not_carry_yet_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection ends before the new one is subscribed: what happens in between is in a gap, not called whole."""
    monkeypatch.setattr("sqfd.feed.line.OVERLAP_S", 0.3)
    made: list[Trade] = []
    async with Loopback(["BTCUSDT"]) as server:
        trade = server.trade

        async def noted(instrument: Instrument, price: float = 100.0, size: float = 1.0) -> Trade:
            made.append(await trade(instrument, price, size))
            return made[-1]

        monkeypatch.setattr(server, "trade", noted)
        async with running(server, quick("picows", recover=False), server.instruments) as it:
            await eventually(lambda: it.supervisor.status().live == 1)
            line = it.supervisor.lines[0]
            first = line.link
            assert first is not None
            server.deaf, first.session.replace = True, "a test"
            await eventually(lambda: first.ended)
            await asyncio.sleep(0.5)
            server.deaf = False
            await eventually(lambda: it.intake.markets[0].ledger.open is None)
            known = {int(trade.id or 0) for _, trade in it.sink.trades}
            times = {int(trade.id or 0): trade.ts_ms for trade in made}
            missing = [times[id] for id in range(min(known), max(known)) if id not in known]
            _, gap = it.intake.markets[0].ledger.intervals
            assert missing
            assert gap.from_ms <= missing[0] <= missing[-1] <= (gap.until_ms or 0.0)
            assert gap.reason == "replaced by a connection that does not carry it yet"


async def test_markets_can_be_added_while_it_runs() -> None:
    """A market that is added later is collected without touching the connection of the others."""
    one = quick("picows")
    async with Loopback(["BTCUSDT", "ETHUSDT"]) as server, running(server, one, server.instruments[:1]) as it:
        await eventually(lambda: it.supervisor.status().live == 1)
        it.supervisor.add(server.instruments[1:], [1])
        await eventually(lambda: it.supervisor.status().live == 2)
        assert [line.losses for line in it.supervisor.lines] == [0, 0]
        assert list(it.supervisor.whole(0, 3)) == [False, False, False]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_server_that_accepts_and_closes_is_not_stormed(transport: Literal["picows", "websockets"]) -> None:
    """An accepted connection does not reset the back-off: only data does."""
    async with Loopback(["BTCUSDT"]) as server:
        server.hang_up = True
        async with running(server, quick(transport, backoff_min_s=0.4), server.instruments) as it:
            await eventually(lambda: it.supervisor.lines[0].losses >= 2)
            await asyncio.sleep(2)
            assert it.supervisor.lines[0]._backoff.failures >= 2
            assert server.accepted < 15
            assert it.supervisor.status().live == 0


class ByToken(Binance):
    """Says by REST where to connect, as KuCoin does."""

    def connect(self, endpoint: str, now_ms: int) -> Call[str]:
        return Call(Request(self.rest_url("spot") + "/exchangeInfo"), lambda body: Page([self.url(endpoint)]))


async def test_an_address_by_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an exchange hands out addresses by REST, each connection asks for its own, within the REST limit."""
    async with Loopback(["BTCUSDT"]) as server:
        monkeypatch.setattr(server, "exchange", lambda: ByToken(server.addresses))
        async with running(server, quick("picows"), server.instruments) as it:
            await eventually(lambda: it.supervisor.status().live == 1)
            assert it.supervisor.rests["BINANCE"].requests == 1


async def test_a_crash_of_one_connection_starts_it_again() -> None:
    """An error within one connection's task is told and counted, and its feed comes back."""
    async with Loopback(["BTCUSDT"]) as server:
        it = Running(server, quick("picows"))
        it.supervisor.add(server.instruments, [0])
        task = asyncio.create_task(it.supervisor.run())
        trading = asyncio.create_task(server.trade_all(0.05))
        await eventually(lambda: it.supervisor.status().live == 1)
        line = it.supervisor.lines[0]
        assert line.link is not None
        line.link.session.tick = None  # type: ignore[assignment, method-assign]  # the fault
        await eventually(lambda: line.crashes == 1)
        await eventually(lambda: it.supervisor.status().live == 1)
        trading.cancel()
        await it.supervisor.stop()
        await task
    assert "connection failed unexpectedly, starting it again" in it.told


def recorded(folder: Path) -> list[RecordedFrame]:
    lines = [line for path in folder.glob("*.jsonl.gz") for line in gzip.decompress(path.read_bytes()).splitlines()]
    return [msgspec.json.decode(line, type=RecordedFrame) for line in lines]


async def test_recordings_hold_every_frame(tmp_path: Path) -> None:
    """What is recorded are the frames as received, and what their symbols meant."""
    async with Loopback(["BTCUSDT"]) as server:
        recorder = Recorder(tmp_path, 1 << 20, 1 << 24, structlog.get_logger())
        async with running(server, quick("picows"), server.instruments, recorder) as it:
            await eventually(lambda: len(it.sink.trades) > 5)
    frames = recorded(tmp_path)
    assert sum("aggTrade" in frame.frame for frame in frames) == it.intake.totals().received
    assert {frame.exchange for frame in frames} == {"BINANCE"}
    listed = msgspec.json.decode((tmp_path / "instruments.json").read_bytes(), type=list[Instrument])
    assert listed == server.instruments
