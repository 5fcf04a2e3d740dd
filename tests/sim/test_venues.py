"""Simulated exchanges over real loopback sockets: what they send, answer, and break."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import exchanges
from exchanges.api import Acked, Decoder, Exchange, Gap, Instrument, Trade
from sqfd.sim.capture import Capture, Playback
from sqfd.sim.clock import ScaledClock
from sqfd.sim.faults import Fault, FaultKind, Faults
from sqfd.sim.history import World, world
from sqfd.sim.source import Burst, Source, Synthetic
from sqfd.sim.venues import Venues
from tests.sim.conftest import START
from tests.waiting import PATIENCE_S, eventually, until

NOW = START + 3_600
SPEED = 20.0
"""Simulated seconds per second, so that a few hundred trades take a moment."""


def clock() -> ScaledClock:
    """Shows NOW at this moment and runs at SPEED."""
    made = ScaledClock(0.0, SPEED)
    made.anchor_ms = (NOW * 1e3 - made._host.now_ms() * SPEED) / (1 - SPEED)
    return made


@asynccontextmanager
async def serving(source: Source, faults: Faults | None = None) -> AsyncIterator[tuple[Venues, Exchange]]:
    """Venues of BINANCE and the exchange with their addresses."""
    venues = Venues([exchanges.get("BINANCE")], source, clock(), faults=faults)
    addresses = await venues.start()
    try:
        yield venues, exchanges.get("BINANCE", addresses["BINANCE"])
    finally:
        await venues.stop()


class Feed:
    """A plain client: subscribes, decodes, and keeps what it hears."""

    def __init__(self, socket: ClientConnection, exchange: Exchange, instruments: tuple[Instrument, ...]) -> None:
        self.socket = socket
        self.decoder: Decoder = exchange.decoder("spot", {i.symbol: i for i in instruments})
        self.topics = [s.topic for i in instruments for s in exchange.streams(i, False)]
        self.trades: list[Trade] = []
        self.acked: list[str] = []

    async def subscribe(self) -> None:
        for frame in self.decoder.subscribe(self.topics, 0):
            await self.socket.send(frame)

    async def read(self, until: int, timeout_s: float = PATIENCE_S) -> None:
        """Read until there are so many trades, or time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.trades) < until:
                    self.take(await self.socket.recv())
        except TimeoutError:
            return

    def take(self, frame: str | bytes) -> None:
        payload = frame.encode() if isinstance(frame, str) else frame
        for event in self.decoder.decode(payload, 0):
            if type(event) is Trade:
                self.trades.append(event)
            elif type(event) is Acked:
                self.acked += event.topics


@asynccontextmanager
async def feeding(exchange: Exchange, source: Source) -> AsyncIterator[Feed]:
    async with connect(exchange.url("spot"), proxy=None, ping_interval=None, max_queue=None, close_timeout=1) as socket:
        yield Feed(socket, exchange, tuple(source.instruments))


async def test_trades_received_are_trades_made(btc: World) -> None:
    """A subscriber gets every trade of the markets, with time, price, size, side and id as they were made, in order."""
    source = Synthetic(btc, NOW)
    async with serving(source) as (venues, exchange), feeding(exchange, source) as feed:
        await feed.subscribe()
        await feed.read(400)
        assert feed.acked == feed.topics
        assert venues.counts["unreadable client frames"] == 0
    got = feed.trades
    assert len(got) >= 400
    made = list(btc.tapes[0].values(btc.tapes[0].trades(got[0].ts_ms // 1_000, got[-1].ts_ms // 1_000 + 1)))
    for instrument in btc.instruments:
        mine = [t for t in got if t.instrument.symbol == instrument.symbol]
        theirs = {t.id: t for t in made if t.instrument.symbol == instrument.symbol}
        assert [t.id for t in mine] == list(range(int(mine[0].id or 0), int(mine[0].id or 0) + len(mine)))
        for t in mine:
            twin = theirs[t.id]
            assert (t.ts_ms, t.price, t.size, t.buy) == (twin.ts_ms, twin.price, twin.size, twin.buy)


async def test_only_what_was_asked_for(btc: World) -> None:
    """Without a subscription nothing comes, and one market's subscriber does not get the other's trades."""
    source = Synthetic(btc, NOW)
    async with serving(source) as (_, exchange), feeding(exchange, source) as feed:
        await feed.read(1, timeout_s=0.3)
        assert feed.trades == []
        feed.topics = feed.topics[:1]
        await feed.subscribe()
        await feed.read(50)
        assert {t.instrument.symbol for t in feed.trades} == {source.instruments[0].symbol}


async def test_listing_and_history(btc: World) -> None:
    """REST lists the markets, and gives back every trade between two that a client has seen."""
    source = Synthetic(btc, NOW)
    async with serving(source) as (_, exchange), feeding(exchange, source) as feed, aiohttp.ClientSession() as session:
        async with session.get(exchange.listings()[0].request.url) as answer:
            listing = exchange.listings()[0].read(await answer.read()).items
        assert [i.symbol for i in listing] == [i.symbol for i in source.instruments]
        await feed.subscribe()
        await feed.read(300)
        mine = [t for t in feed.trades if t.instrument.symbol == source.instruments[0].symbol]
        gap = Gap(source.instruments[0], mine[10].ts_ms, mine[-10].ts_ms, mine[10].id, mine[-10].id)
        call, found = exchange.recover(gap), []
        while call is not None:
            async with session.get(call.request.url) as answer:
                page = call.read(await answer.read())
            found += page.items
            call = page.next
        ids = {t.id for t in found}
        assert {t.id for t in mine[11:-10]} <= ids
        async with session.get(exchange.url("rest") + "/nothing") as answer:
            assert answer.status == 404


async def test_nonsense_is_survived(btc: World) -> None:
    """An unreadable client frame is counted and answered by nothing; unknown paths get 404."""
    source = Synthetic(btc, NOW)
    async with serving(source) as (venues, exchange), feeding(exchange, source) as feed:
        await feed.socket.send("{nonsense")
        await feed.subscribe()
        await feed.read(5)
        assert len(feed.trades) >= 5
        assert venues.counts["unreadable client frames"] == 1
        with pytest.raises(InvalidStatus) as refused:
            await connect(exchange.url("spot").replace("spot", "nowhere"), proxy=None)
        assert refused.value.response.status_code == 404


class Flood:
    """A source that never lets up: megabytes of one market at each step, as frames of 100 kB."""

    patient = False
    finished = False

    def __init__(self, instrument: Instrument) -> None:
        self.instruments = (instrument,)

    def due(self, now_ms: float) -> list[Burst]:
        return [Burst("BINANCE", "spot", raw=[(self.instruments[0], "x" * 100_000)] * 10)]

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> list[Trade]:
        return []


async def test_slow_client_is_cut() -> None:
    """A client that does not read is cut when its buffer is full; one that reads is not."""
    source = Flood(exchanges.get("BINANCE").assume("BTCUSDT"))
    async with serving(source) as (venues, exchange), feeding(exchange, source) as lazy:
        await lazy.subscribe()
        lazy.socket.transport.pause_reading()
        await eventually(lambda: venues.counts["slow clients cut"] == 1)
        async with feeding(exchange, source) as other:
            await other.subscribe()
            for _ in range(100):
                await other.socket.recv()
        assert venues.counts["slow clients cut"] == 1
        lazy.socket.transport.abort()


# --- faults ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def faulty(btc: World, kind: FaultKind, **settings: object) -> AsyncIterator[tuple[Feed, Fault, Exchange]]:
    """A subscribed feed that has its first trades, and then a fault that has been switched on."""
    source, faults = Synthetic(btc, NOW), Faults()
    async with serving(source, faults) as (_, exchange), feeding(exchange, source) as feed:
        await feed.subscribe()
        await feed.read(20)
        yield feed, faults.add(Fault(kind, "BINANCE", **settings)), exchange  # type: ignore[arg-type]  # from keywords


async def test_close(btc: World) -> None:
    """CLOSE ends the connection with its code."""
    async with faulty(btc, FaultKind.CLOSE, code=1012, times=1) as (feed, fault, _):
        with pytest.raises(ConnectionClosed) as closed:
            await feed.read(10_000)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert fault.fired == 1


async def test_close_of_a_client_that_does_not_answer(btc: World) -> None:
    """CLOSE strikes once for each connection: one that does not answer the close at once hurts nobody."""
    async with faulty(btc, FaultKind.CLOSE) as (feed, fault, _):
        feed.socket.transport.pause_reading()
        await eventually(lambda: fault.fired)
        await asyncio.sleep(0.2)  # for a second one
        assert fault.fired == 1
        feed.socket.transport.resume_reading()
        with pytest.raises(ConnectionClosed):
            await feed.read(10_000)


async def test_abort(btc: World) -> None:
    """ABORT breaks off in the middle of a frame, without a close."""
    async with faulty(btc, FaultKind.ABORT, times=1) as (feed, fault, _):
        with pytest.raises(ConnectionClosed) as closed:
            await feed.read(10_000)
        assert closed.value.rcvd is None
        assert fault.fired == 1


async def test_silent(btc: World) -> None:
    """SILENT keeps answering subscriptions and pings, and sends no trade until it is over."""
    async with faulty(btc, FaultKind.SILENT, times=30) as (feed, fault, _):
        await feed.read(10_000, timeout_s=0.2)
        known = len(feed.trades)
        feed.acked.clear()
        await feed.subscribe()
        await asyncio.wait_for(await feed.socket.ping(), 1.0)
        await feed.read(known + 10)
        assert feed.acked == feed.topics
        assert fault.fired == 30


async def test_half_open(btc: World) -> None:
    """HALF_OPEN sends nothing at all any more, not even a pong."""
    async with faulty(btc, FaultKind.HALF_OPEN, times=1) as (feed, fault, _):
        await eventually(lambda: fault.fired == 1)
        await feed.read(10_000, timeout_s=0.2)
        known = len(feed.trades)
        pong = asyncio.ensure_future(await feed.socket.ping())
        await feed.read(10_000, timeout_s=0.3)
        assert len(feed.trades) == known
        assert not pong.done()
        feed.socket.transport.abort()


async def test_refuse_connect(btc: World) -> None:
    """REFUSE_CONNECT answers the handshake with its status and Retry-After; the open connection stays."""
    async with faulty(btc, FaultKind.REFUSE_CONNECT, code=429, seconds=7) as (feed, fault, exchange):
        with pytest.raises(InvalidStatus) as refused:
            await connect(exchange.url("spot"), proxy=None)
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["Retry-After"] == "7"
        assert fault.fired == 1
        await feed.read(len(feed.trades) + 5)


async def test_refuse_rest(btc: World) -> None:
    """REFUSE_REST answers requests with its status and Retry-After."""
    async with faulty(btc, FaultKind.REFUSE_REST, code=418, seconds=30) as (_, fault, exchange):
        async with (
            aiohttp.ClientSession() as session,
            session.get(exchange.listings()[0].request.url) as answer,
        ):
            assert (answer.status, answer.headers["Retry-After"]) == (418, "30")
        assert fault.fired == 1


async def test_refuse_symbol(btc: World) -> None:
    """REFUSE_SYMBOL leaves out one symbol as the exchange does (BINANCE: acked, and silent); the rest trades."""
    source, faults = Synthetic(btc, NOW), Faults()
    refused, other = (i.symbol for i in source.instruments)
    fault = faults.add(Fault(FaultKind.REFUSE_SYMBOL, "BINANCE", symbol=refused))
    async with serving(source, faults) as (_, exchange), feeding(exchange, source) as feed:
        await feed.subscribe()
        await feed.read(60)
        assert {t.instrument.symbol for t in feed.trades} == {other}
        assert fault.fired == 1


async def test_duplicate(btc: World) -> None:
    """DUPLICATE sends the last seconds again after a reconnect, under the same ids."""
    async with faulty(btc, FaultKind.DUPLICATE, seconds=5, times=1) as (feed, fault, exchange):
        async with connect(exchange.url("spot"), proxy=None, max_queue=None, close_timeout=1) as socket:
            again = Feed(socket, exchange, tuple(btc.instruments))
            await again.subscribe()
            await again.read(20)
        assert fault.fired == 1
        assert {t.id for t in feed.trades} & {t.id for t in again.trades}


async def test_out_of_order(btc: World) -> None:
    """OUT_OF_ORDER sends each second's trades in reverse; none is missing."""
    async with faulty(btc, FaultKind.OUT_OF_ORDER) as (feed, fault, _):
        await feed.read(len(feed.trades) + 200)
        mine = [int(t.id or 0) for t in feed.trades if t.instrument == btc.instruments[0]]
        assert mine != sorted(mine)
        assert fault.fired > 0
        settled = sorted(mine)[:-60]
        assert settled == list(range(settled[0], settled[0] + len(settled)))


async def test_delay(btc: World) -> None:
    """DELAY holds trades back for its seconds; all come, in order."""
    source, faults = Synthetic(btc, NOW), Faults()
    async with serving(source, faults) as (venues, exchange), feeding(exchange, source) as feed:
        await feed.subscribe()
        await feed.read(20)
        began_ms, fault = venues._clock.now_ms(), faults.add(Fault(FaultKind.DELAY, "BINANCE", seconds=10))
        while feed.trades[-1].ts_ms <= began_ms:
            await feed.read(len(feed.trades) + 1)
        assert venues._clock.now_ms() - feed.trades[-1].ts_ms >= 10_000
        await feed.read(len(feed.trades) + 100)
        assert fault.fired
        mine = [int(t.id or 0) for t in feed.trades if t.instrument == btc.instruments[0]]
        assert mine == list(range(mine[0], mine[0] + len(mine)))


def test_fault_table() -> None:
    """Faults are for their exchange and endpoint only, end after their times, and cannot pile up."""
    faults = Faults()
    fault = faults.add(Fault(FaultKind.CLOSE, "BINANCE", "spot", times=1))
    assert faults.find(FaultKind.CLOSE, "BINANCE", "spot") is fault
    assert faults.find(FaultKind.CLOSE, "BINANCE", "other") is None
    assert faults.find(FaultKind.CLOSE, "BYBIT", "spot") is None
    assert fault.code == 1001
    fault.strike()
    assert faults.find(FaultKind.CLOSE, "BINANCE", "spot") is None
    for _ in range(1_000):
        last = faults.add(Fault(FaultKind.DELAY, "BINANCE"))
    with pytest.raises(ValueError, match="are on already"):
        faults.add(Fault(FaultKind.DELAY, "BINANCE"))
    faults.remove(last)
    faults.add(Fault(FaultKind.DELAY, "BINANCE"))


# --- captures ----------------------------------------------------------------------------------------------------------


def written(folder: Path, count: int) -> list[str]:
    """A capture of two markets, in receive order; returns its frames. One frame in it cannot be read."""
    frames: list[str] = []
    lines: dict[str, list[str]] = {"BTCUSDT": [], "ETHUSDT": []}
    for n in range(count):
        symbol = ("BTCUSDT", "ETHUSDT")[n % 3 == 0]
        data = {"e": "trade", "s": symbol, "t": n, "p": "100.5", "q": "2", "T": START * 1_000 + n, "m": n % 2 == 0}
        frame = json.dumps({"stream": f"{symbol.lower()}@trade", "data": data}) if n != 7 else '{"data":7}'
        frames.append(frame)
        line = {"recv_ms": START * 1_000 + n * 2.5, "exchange": "BINANCE", "frame": frame}
        lines[symbol].append(json.dumps(line) + "\n")
    for symbol, texts in lines.items():
        (folder / f"BINANCE-{symbol.lower()}.jsonl.gz").write_bytes(gzip.compress("".join(texts).encode()))
    return frames


@pytest.mark.parametrize("speed", [None, 100.0])
async def test_capture_is_sent_verbatim(tmp_path: Path, speed: float | None) -> None:
    """A subscriber of all markets gets every frame of a capture as it was, in order; nothing is sent before it is there."""
    frames = written(tmp_path, 2_000)
    source = Playback(Capture(tmp_path, {"BINANCE": exchanges.get("BINANCE")}), speed)
    async with serving(source) as (venues, exchange), feeding(exchange, source) as feed:
        await asyncio.sleep(0.1)
        assert source.sent == 0
        await feed.subscribe()
        acked = await feed.socket.recv()
        assert '"id":1' in str(acked)
        async with asyncio.timeout(PATIENCE_S):
            got = [await feed.socket.recv() for _ in frames]
            await venues.finished()
        assert got == frames
        assert source.sent == len(frames)


def test_capture_with_a_broken_line(tmp_path: Path) -> None:
    """A line that is not of the form is named by file and number."""
    written(tmp_path, 10)
    with gzip.open(tmp_path / "BINANCE-btcusdt.jsonl.gz", "at") as file:
        file.write("{}\n")
    capture = Capture(tmp_path, {"BINANCE": exchanges.get("BINANCE")})
    with pytest.raises(ValueError, match=r"btcusdt\.jsonl\.gz:7"):
        list(capture.frames())
    with pytest.raises(ValueError, match="not among the exchanges"):
        Capture(tmp_path, {})


@pytest.mark.shared
async def test_real_capture(shared: Path, tmp_path: Path) -> None:
    """All 15,863 spot frames of the real capture arrive, in the order in which they were received."""
    for name in ("btcusdt", "ethusdt"):
        file = f"BINANCE-{name}.jsonl.gz"
        (tmp_path / file).symlink_to(shared / "replay" / "binance-2024-08-08" / file)
    capture = Capture(tmp_path, {"BINANCE": exchanges.get("BINANCE")})
    source = Playback(capture, None)
    async with serving(source) as (_, exchange), feeding(exchange, source) as feed:
        await feed.subscribe()
        await feed.read(15_863, timeout_s=PATIENCE_S)
    assert len(feed.trades) == 15_863
    wanted = [trade.id for _, _, trades in capture.frames() for trade in trades]
    assert [t.id for t in feed.trades] == wanted


# --- the process -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "parent"])
def test_process(ending: str) -> None:
    """`python -m sqfd.sim` says where it listens in one line, and goes with a signal or with its parent."""
    command = [sys.executable, "-m", "sqfd.sim", "--exchanges", "BINANCE", "--symbols", "BTC", "--seed", "3"]
    if ending == "parent":
        child = "import subprocess,sys,time; p=subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); time.sleep(60)"
        command = [sys.executable, "-c", child, *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child_pid = int(process.stdout.readline()) if ending == "parent" else process.pid
        facts = json.loads(process.stdout.readline())
        assert facts["addresses"]["BINANCE"]["spot"].startswith("ws://127.0.0.1:")
        assert facts["markets"] == ["BINANCE:btcusdt"]
        process.send_signal(signal.SIGKILL if ending == "parent" else getattr(signal, ending))
        code = process.wait(PATIENCE_S)
    if ending == "parent":
        until(lambda: not _runs(child_pid), "it goes with its parent")
    else:
        assert code == 0


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")


def test_two_processes_have_one_world() -> None:
    """The same arguments give the same past and the same future."""
    made = [world([exchanges.get("BINANCE")], ["SOL"], 4, NOW, history_s=7_200) for _ in range(2)]
    past = [w.history(NOW) for w in made]
    assert past[0].flow.tobytes() == past[1].flow.tobytes()
    assert past[0].bars.tobytes() == past[1].bars.tobytes()
    assert made[0].tapes[0].second(NOW + 5) == made[1].tapes[0].second(NOW + 5)
