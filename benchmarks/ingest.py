"""What a trade costs from the socket to its stored bar: the whole daemon against the floor of its building blocks.

A load process speaks an exchange's wire format on loopback and sends frames flat out. The *daemon* runs as it is (session,
duplicates, coverage, bars, closing, strategy, journal). The *floor* is picows + msgspec + one slotted bar per market and
second, and nothing else. Both are pinned to one core, the load to the other; runs are interleaved; every trade is counted.

    python -m benchmarks.ingest [--trades 300000] [--runs 5] [--exchange BINANCE]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import uvloop
from aiohttp import web
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

import exchanges
from benchmarks.harness import report
from exchanges import simulated
from exchanges.api import Frame, Trade

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
TRADES_HZ = 20_000
"""Rate in the trades' own time: frames are sent as fast as they are taken."""
BLOB_BYTES = 256 * 1024


def framed(frames: Sequence[Frame]) -> bytes:
    """Server-side websocket frames, unmasked (RFC 6455, 5.2)."""
    parts = []
    for frame in frames:
        data = frame.encode() if isinstance(frame, str) else frame
        head = bytes([0x81 if isinstance(frame, str) else 0x82])
        size = len(data)
        head += bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        parts.append(head + data)
    return b"".join(parts)


# --- the load --------------------------------------------------------------------------------------------------------


class Load(WSListener):
    """A client of the load: subscriptions are answered, then all frames go out, as fast as they are taken."""

    def __init__(self, exchange: simulated.SimulatedExchange, endpoint: str, blobs: list[bytes]) -> None:
        super().__init__()
        self._connection = exchange.connection(endpoint)
        self._blobs = blobs
        self._open = asyncio.Event()
        self._open.set()
        self._task: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        for reply in self._connection.receive(frame.get_payload_as_utf8_text(), int(time.time() * 1e3)):
            transport.send(WSMsgType.TEXT, reply.encode() if isinstance(reply, str) else reply)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send())

    def pause_writing(self) -> None:
        self._open.clear()

    def resume_writing(self) -> None:
        self._open.set()

    async def _send(self) -> None:
        await asyncio.sleep(0.3)  # all subscriptions are there
        for blob in self._blobs:
            await self._open.wait()
            self._transport.underlying_transport.write(blob)


def encoded(exchange_id: str, count: int) -> tuple[simulated.SimulatedExchange, list[bytes]]:
    """(the simulated exchange, all frames of `count` trades in blobs)."""
    exchange = exchanges.get(exchange_id)
    made = simulated.get(exchange)
    traded = [exchange.assume(symbol) for symbol in SYMBOLS]
    made.list(traded)
    connection = made.connection(traded[0].endpoint)
    connection.topics |= {stream.topic for one in traded for stream in exchange.streams(one, False)}
    rng = np.random.default_rng(1)
    prices = np.round(100 + rng.standard_normal(count) * 0.1, 2).tolist()
    sizes = np.round(rng.exponential(1.0, count) + 0.001, 5).tolist()
    start_ms = int(time.time()) * 1000
    blobs, frames, size = [], [], 0
    for number in range(count):
        ts_ms = start_ms + number * 1000 // TRADES_HZ
        one = traded[number % len(traded)]
        trade = Trade(one, ts_ms, prices[number], sizes[number], number % 3 == 0, number // len(traded) + 1)
        made_frames = list(connection.trades([trade], ts_ms))
        frames += made_frames
        size += sum(map(len, made_frames))
        if size > BLOB_BYTES:
            blobs.append(framed(frames))
            frames, size = [], 0
    return made, [*blobs, framed(frames)]


async def serve(exchange_id: str, count: int) -> None:
    """The load process: prints its addresses, serves until killed."""
    made, blobs = encoded(exchange_id, count)
    endpoint = made.exchange.endpoints[0].name
    server = await ws_create_server(lambda _: Load(made, endpoint, blobs), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def rest(request: web.Request) -> web.Response:
        name, _, path = request.path.lstrip("/").partition("/")
        status, body = made.rest(
            request.method, name, f"/{path}", dict(request.query), b"", lambda *_: [], int(time.time() * 1e3)
        )
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", rest)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rest_port = runner.addresses[0][1]
    addresses = {endpoint: f"ws://127.0.0.1:{port}/"}
    addresses |= {name: f"http://127.0.0.1:{rest_port}/{name}" for name in made.exchange.rest}
    print(orjson.dumps(addresses).decode(), flush=True)
    await asyncio.Event().wait()


# --- what is measured ------------------------------------------------------------------------------------------------


class SlottedBar:
    """The least that a bar is."""

    __slots__ = ("close", "count", "high", "low", "open", "vbuy", "vsell")

    def __init__(self, price: float) -> None:
        self.open = self.high = self.low = self.close = price
        self.vbuy = self.vsell = 0.0
        self.count = 0


class AggTrade(msgspec.Struct, gc=False):
    s: str
    p: float
    q: float
    T: int
    m: bool


class Combined(msgspec.Struct, gc=False):
    data: AggTrade | None = None


class Floor(WSListener):
    """picows, one typed decode, one look-up, one slotted bar."""

    def __init__(self, count: int, done: asyncio.Event) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(Combined, strict=False).decode
        self._bars: dict[tuple[str, int], SlottedBar] = {}
        self._left = count
        self._done = done

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        trade = self._decode(frame.get_payload_as_bytes()).data
        if trade is None:
            return
        key = (trade.s, trade.T // 1000)
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = SlottedBar(trade.p)
        notional = trade.p * trade.q
        if trade.m:
            bar.vsell += notional
        else:
            bar.vbuy += notional
        if trade.p > bar.high:
            bar.high = trade.p
        if trade.p < bar.low:
            bar.low = trade.p
        bar.close = trade.p
        bar.count += 1
        self._left -= 1
        if self._left == 0:
            self._done.set()


async def floor(addresses: dict[str, str], count: int) -> float:
    """CPU seconds for all trades."""
    done = asyncio.Event()
    transport, _ = await ws_connect(lambda: Floor(count, done), next(iter(addresses.values())))
    topics = [f"{symbol.lower()}@aggTrade" for symbol in SYMBOLS]
    transport.send(WSMsgType.TEXT, orjson.dumps({"method": "SUBSCRIBE", "params": topics, "id": 1}))
    begun = time.process_time()
    await done.wait()
    return time.process_time() - begun


async def daemon(addresses: dict[str, str], count: int, exchange_id: str, folder: Path) -> float:
    """CPU seconds for all trades, to the journal."""
    from sqfd import log
    from sqfd.config import Config, SymbolsSettings
    from sqfd.daemon import Daemon
    from sqfd.feed.settings import FeedSettings
    from sqfd.http.settings import HttpSettings

    log.configure("error", "logfmt")
    markets = tuple(exchanges.get(exchange_id).assume(symbol).market for symbol in SYMBOLS)
    config = Config(
        symbols=SymbolsSettings(symbols=("BTC", "ETH", "SOL", "BNB"), markets=markets),
        feed=FeedSettings(addresses={exchange_id: addresses}, liquidations=False),
        http=HttpSettings(enabled=False),
    )
    running = Daemon(config, folder)
    task = asyncio.get_running_loop().create_task(running.run())
    await running.ready.wait()
    begun = time.process_time()
    while running.counts().aggregated < count:
        await asyncio.sleep(0.05)
        assert not task.done(), task
    taken = time.process_time() - begun
    counts = running.counts()
    assert counts.aggregated == counts.received == count, counts
    running.stop()
    await task
    return taken


def measured(role: str, exchange_id: str, count: int) -> dict[str, Any]:
    """One run of one role against a fresh load."""
    command = [sys.executable, "-m", "benchmarks.ingest", "--exchange", exchange_id, "--trades", str(count), "--role"]
    load = subprocess.Popen([*command, "load"], stdout=subprocess.PIPE, text=True)
    try:
        assert load.stdout is not None
        addresses = load.stdout.readline()
        result = subprocess.run(
            [*command, role, "--addresses", addresses], stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        load.kill()
        load.wait()
        assert load.stdout is not None
        load.stdout.close()
    made: dict[str, Any] = orjson.loads(result.stdout)
    return made


def child(role: str, addresses: dict[str, str], count: int, exchange_id: str) -> None:
    """Run one role in this process and print its result."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0] if role == "load" else cores[-1]})
    if role == "load":
        uvloop.run(serve(exchange_id, count))
    elif role == "floor":
        print(orjson.dumps({"cpu_s": uvloop.run(floor(addresses, count))}).decode())
    else:
        with tempfile.TemporaryDirectory(prefix="sqfd-ingest-") as folder:
            cpu_s = uvloop.run(daemon(addresses, count, exchange_id, Path(folder)))
        print(orjson.dumps({"cpu_s": cpu_s}).decode())


def main() -> None:
    """Interleave the roles and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchange", default="BINANCE")
    parser.add_argument("--trades", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--role", choices=("load", "floor", "daemon"))
    parser.add_argument("--addresses", default="{}")
    options = parser.parse_args()
    if options.role:
        child(options.role, orjson.loads(options.addresses), options.trades, options.exchange)
        return
    taken: dict[str, list[float]] = {"floor": [], "daemon": []}
    for _ in range(options.runs):
        for role, runs in taken.items():
            runs.append(measured(role, options.exchange, options.trades)["cpu_s"] / options.trades * 1e6)
    base = float(np.median(taken["floor"]))
    rows = [
        {
            "path": role,
            "µs CPU per trade, median": round(float(np.median(runs)), 2),
            "min": round(min(runs), 2),
            "max": round(max(runs), 2),
            "× floor": round(float(np.median(runs)) / base, 2),
        }
        for role, runs in taken.items()
    ]
    report("ingest", f"ingest: {options.trades:,} one-trade frames of {options.exchange}, {options.runs} runs", rows)


if __name__ == "__main__":
    main()
