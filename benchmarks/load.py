"""The load of `benchmarks.ingest`: a process that speaks an exchange's wire format on loopback and sends prepared trades.

Flat out (as fast as they are taken), or at a rate, then stamped with the time at which they leave. Plain, or over TLS with one record
for each frame, as exchanges send quiet markets. It prints its addresses as JSON and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import orjson
from aiohttp import web
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

import exchanges
from exchanges import simulated
from exchanges.api import Frame, Trade
from exchanges.simulated.api import SimulatedExchange

if TYPE_CHECKING:
    from sqfd.daemon import Daemon

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
TRADES_HZ = 20_000
"""Rate in the trades' own time where frames are sent as fast as they are taken."""
BLOB_BYTES = 256 * 1024
SETTLE_S = 0.5
"""Until all subscriptions are there."""
READY = "ready"
"""What a measured process prints when it has subscribed to all."""
STEP_S = 0.002
"""Paced trades leave this often, all that are due."""


class Plan(msgspec.Struct, frozen=True):
    """What is sent."""

    exchange: str = "BINANCE"
    trades: int = 300_000
    batch: int = 1
    """Trades in a frame."""
    tls: bool = False
    rate_hz: float = 0.0
    """0: flat out."""
    burst: float = 1.0
    """Times that rate in the middle…"""
    burst_s: float = 0.0
    """…for so long."""
    quiet_s: float = 0.0
    """The usual rate before it, and as long after it."""
    mixed: bool = False
    """All exchanges in place of one (`benchmarks.mixed`)."""
    gate: str = ""
    """Nothing leaves before this file is there; empty: SETTLE_S after the first subscription."""

    async def opened(self) -> None:
        """Until the first trade may leave."""
        if not self.gate:
            await asyncio.sleep(SETTLE_S)
        while self.gate and not Path(self.gate).exists():  # noqa: ASYNC110, ASYNC240  # another process makes it; a look is short
            await asyncio.sleep(0.001)

    def due(self, after_s: float) -> float:
        """Trades that have left by then, where they are paced."""
        in_burst_s = min(max(0.0, after_s - self.quiet_s), self.burst_s)
        return self.rate_hz * (after_s + (self.burst - 1.0) * in_burst_s)


async def started(addresses: dict[str, str], plan: Plan, folder: Path) -> tuple[Daemon, asyncio.Task[None]]:
    """The daemon on that load, ready, as `sqfd run` has it then but without HTTP; the task ends after its `stop`."""
    markets = tuple(exchanges.get(plan.exchange).assume(symbol).market for symbol in SYMBOLS)
    return await collecting(("BTC", "ETH", "SOL", "BNB"), markets, {plan.exchange: addresses}, folder)


async def collecting(
    symbols: tuple[str, ...], markets: tuple[str, ...], addresses: dict[str, dict[str, str]], folder: Path
) -> tuple[Daemon, asyncio.Task[None]]:
    """The same for these markets of any exchanges."""
    from sqfd import log
    from sqfd.config import Config, SymbolsSettings
    from sqfd.daemon import Daemon
    from sqfd.feed.settings import FeedSettings
    from sqfd.heap import settle, share_one
    from sqfd.http.settings import HttpSettings

    share_one()
    log.configure("error", "logfmt")
    config = Config(
        symbols=SymbolsSettings(symbols=symbols, markets=markets),
        feed=FeedSettings(addresses=addresses, liquidations=False),
        http=HttpSettings(enabled=False),
    )
    running = Daemon(config, folder)
    task = asyncio.get_running_loop().create_task(running.run())
    await running.ready.wait()
    settle()
    return running, task


def framed(frame: Frame) -> bytes:
    """A server's websocket frame, unmasked (RFC 6455, 5.2)."""
    data = frame.encode() if isinstance(frame, str) else frame
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([0x81 if isinstance(frame, str) else 0x82]) + length + data


class Load(WSListener):
    """A client of the load: subscriptions are answered, then all frames go out."""

    def __init__(self, exchange: SimulatedExchange, endpoint: str, frames: list[bytes], plan: Plan) -> None:
        super().__init__()
        self._connection = exchange.connection(endpoint)
        self._frames, self._plan = frames, plan
        self._open = asyncio.Event()
        self._open.set()
        self._task: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if "streams=" in transport.request.path.decode():  # subscribed by the address
            self._begin()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        for reply in self._connection.receive(frame.get_payload_as_utf8_text(), int(time.time() * 1e3)):
            transport.send(WSMsgType.TEXT, reply.encode() if isinstance(reply, str) else reply)
        self._begin()

    def pause_writing(self) -> None:
        self._open.clear()

    def resume_writing(self) -> None:
        self._open.set()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._paced() if self._plan.rate_hz else self._send())

    async def _send(self) -> None:
        await self._plan.opened()
        write = self._transport.underlying_transport.write
        for piece in pieces(self._frames, self._plan):
            await self._open.wait()
            write(piece)

    async def _paced(self) -> None:
        """Frames carry a time of START_MS that is replaced by the time at which they leave."""
        await self._plan.opened()
        write, begun, sent = self._transport.underlying_transport.write, time.monotonic(), 0
        while sent < len(self._frames):
            due = min(len(self._frames), int(self._plan.due(time.monotonic() - begun) / self._plan.batch))
            now = str(int(time.time() * 1e3)).encode()
            if due > sent:
                await self._open.wait()
                write(b"".join(self._frames[sent:due]).replace(str(START_MS).encode(), now))
                sent = due
            await asyncio.sleep(STEP_S)


START_MS = 1_600_000_000_000
"""Stands in paced frames for the time at which they leave."""


def pieces(frames: Sequence[bytes], plan: Plan) -> Sequence[bytes]:
    """What is written at once: pieces of about BLOB_BYTES, or over TLS each frame by itself, in a record of its own."""
    if plan.tls:
        return frames
    found: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for frame in frames:
        waiting.append(frame)
        size += len(frame)
        if size > BLOB_BYTES:
            found.append(b"".join(waiting))
            waiting, size = [], 0
    return [*found, b"".join(waiting)]


def encoded(plan: Plan) -> tuple[SimulatedExchange, str, list[bytes]]:
    """(the simulated exchange, its endpoint, all frames)."""
    exchange = exchanges.get(plan.exchange)
    made = simulated.get(exchange)
    traded = [exchange.assume(symbol) for symbol in SYMBOLS]
    made.list(traded)
    connection = made.connection(traded[0].endpoint)
    connection.topics |= {stream.topic for one in traded for stream in exchange.streams(one, False)}
    rng = np.random.default_rng(1)
    prices = np.round(100 + rng.standard_normal(plan.trades) * 0.1, 2).tolist()
    sizes = np.round(rng.exponential(1.0, plan.trades) + 0.001, 5).tolist()
    start_ms = START_MS if plan.rate_hz else int(time.time()) * 1000
    frames = []
    for number in range(0, plan.trades, plan.batch):
        ts_ms = start_ms if plan.rate_hz else start_ms + number * 1000 // TRADES_HZ
        market = number // plan.batch % len(traded)
        trades = [
            Trade(traded[market], ts_ms, prices[at], sizes[at], at % 3 == 0, _id(at, plan.batch, len(traded)))
            for at in range(number, min(number + plan.batch, plan.trades))
        ]
        sent = connection.trades(trades, ts_ms)
        frames += [framed(frame) for frame in sent]
    return made, traded[0].endpoint, frames


def _id(number: int, batch: int, markets: int) -> int:
    """Ids that count up by one within each market."""
    return number // (batch * markets) * batch + number % batch + 1


def certificate(folder: Path) -> None:
    """Write `cert.pem` and `key.pem` of a localhost that clients trust by SSL_CERT_FILE."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)


def shown(folder: Path) -> ssl.SSLContext:
    """What a server shows that certificate with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def step_aside() -> None:
    """From now on this process runs on the first core, and leaves the others to what is measured."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


async def serve(plan: Plan, folder: Path) -> None:
    """Print the addresses and serve until killed. `folder` holds the certificate."""
    made, endpoint, frames = encoded(plan)
    step_aside()
    context = shown(folder) if plan.tls else None
    server = await ws_create_server(lambda _: Load(made, endpoint, frames, plan), "127.0.0.1", 0, ssl=context)
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
    addresses = {endpoint: f"{'wss' if plan.tls else 'ws'}://127.0.0.1:{port}/"}
    addresses |= {name: f"http://127.0.0.1:{rest_port}/{name}" for name in made.exchange.rest}
    print(orjson.dumps(addresses).decode(), flush=True)
    await asyncio.Event().wait()
