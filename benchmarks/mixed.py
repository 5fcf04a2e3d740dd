"""The load of the case `mixed`: 112 markets of 25 exchanges and more, each in its own wire form, flat out over some 40 connections,
plain or over TLS with one record for each frame.

All markets trade equally often, so that exchanges with an odd wire form count as much as large ones. What happens at one instant are
1 to 20 trades of one market, two at the median, which the exchange's frames hold together or one by one as it frames them. Images
and answers to subscriptions are sent as each exchange sends them. Whoever reads asks `/go` when it is ready: it is answered when
every market has a subscriber, and then all trades go out, SLICE_S of them after the other on all connections alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import aiohttp
import numpy as np
import orjson
from aiohttp import web
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

import exchanges
from benchmarks.idle import SYMBOLS as SYMBOLS
from benchmarks.idle import chosen
from benchmarks.load import READY, Plan, framed, pieces, shown, step_aside
from benchmarks.wires import NO_TRADES, SlottedBar, reader
from exchanges import simulated
from exchanges.api import Instrument, Trade
from exchanges.simulated.api import SimulatedExchange

TRADES_HZ = 100_000
"""Rate in the trades' own time: half of what is taken here at best, so that seconds close about as often as in life."""
SLICE_S = 0.02
TOGETHER = 20
IMAGE_AGE_MS = 60_000
FIRST_ID = 10_000_000


class Client(WSListener):
    """One connection to a simulated exchange."""

    def __init__(self, made: SimulatedExchange, endpoint: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.exchange = made.exchange
        self.connection = made.connection(endpoint)
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._answer(self.connection.greet(_now_ms()))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone = True
        self.writable.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._answer(self.connection.receive(frame.get_payload_as_utf8_text(), _now_ms()))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _answer(self, frames: Sequence[str | bytes]) -> None:
        self.write(b"".join(map(framed, frames)))

    def write(self, data: bytes) -> None:
        if data:
            self._transport.underlying_transport.write(data)

    def state(self) -> tuple[str, ...]:
        """What its frames depend on."""
        known = {name: value for name, value in vars(self.connection).items() if name != "exchange"}
        told = [f"{name}={sorted(value) if isinstance(value, set) else value}" for name, value in known.items()]
        return self.exchange.id, *told

    def follows(self, instrument: Instrument) -> bool:
        """Whether it asked for the trades of that market."""
        if (instrument.exchange, instrument.endpoint) != (self.exchange.id, self.endpoint):
            return False
        return any(stream.topic in self.connection.topics for stream in self.exchange.streams(instrument, False))


class Mixed:
    """All simulated exchanges, and what they have to say."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._markets = chosen()
        self._made = {name: simulated.get(exchanges.get(name)) for name in {one.exchange for one in self._markets}}
        for name, made in self._made.items():
            mine = [one for one in self._markets if one.exchange == name]
            made.list(mine)
            made.remember([_trade(one, 0, _now_ms() - IMAGE_AGE_MS, 100.0, 1.0) for one in mine])
        self._start_ms = _now_ms()
        self._clients: list[Client] = []
        self._encoded: dict[object, list[tuple[int, bytes]]] = {}
        """What connections in this state get; frames depend on it."""
        self._sending: asyncio.Task[None] | None = None

    def accept(self, path: str) -> Client:
        """A client at `/EXCHANGE/endpoint`."""
        name, _, endpoint = path.partition("?")[0].strip("/").partition("/")
        client = Client(self._made[name], endpoint)
        self._clients = [one for one in self._clients if not one.gone] + [client]
        return client

    async def rest(self, request: web.Request) -> web.Response:
        """`/go`, and what exchanges answer by REST: listings, tokens, no history."""
        if request.path == "/go":
            await self._go()
            return web.Response(text="all trades follow")
        name, address, path = (*request.path.lstrip("/").split("/", 2), "")[:3]
        query, body = dict(request.query), await request.read()
        status, answer = self._made[name].rest(
            request.method, address, f"/{path}", query, body, lambda *_: [], _now_ms()
        )
        return web.Response(status=status, body=answer, content_type="application/json")

    async def _go(self) -> None:
        while not self._followed():  # noqa: ASYNC110  # nothing tells of the last subscription
            await asyncio.sleep(0.05)
        clients = [client for client in self._clients if client.connection.topics and not client.gone]
        self._sending = asyncio.create_task(self._send(clients, self._written(clients)))

    def _followed(self) -> bool:
        clients = [client for client in self._clients if not client.gone]
        return all(any(client.follows(one) for client in clients) for one in self._markets)

    async def _send(self, clients: Sequence[Client], written: Sequence[tuple[int, bytes]]) -> None:
        await self._plan.opened()
        for at, piece in written:
            await clients[at].writable.wait()
            clients[at].write(piece)

    def _written(self, clients: Sequence[Client]) -> list[tuple[int, bytes]]:
        """(which client, what it gets at once), in order. What was encoded once serves again: runs differ in nothing."""
        key = tuple(client.state() for client in clients)
        if key not in self._encoded:
            self._encoded[key] = self._encode(clients)
        return self._encoded[key]

    def _encode(self, clients: Sequence[Client]) -> list[tuple[int, bytes]]:
        """Slice by slice for all, so that no connection is ahead of another by more than what the sockets hold."""
        carries = {one.market: at for at, client in enumerate(clients) for one in self._markets if client.follows(one)}
        found: list[tuple[int, bytes]] = []
        waiting: list[list[bytes]] = [[] for _ in clients]

        def end_slice() -> None:
            for at, frames in enumerate(waiting):
                found.extend((at, piece) for piece in pieces(frames, self._plan))
                frames.clear()

        until_ms = self._start_ms + int(SLICE_S * 1e3)
        for trades in instants(self._markets, self._plan.trades, self._start_ms):
            if trades[0].ts_ms >= until_ms:
                end_slice()
                until_ms += int(SLICE_S * 1e3)
            at = carries[trades[0].instrument.market]
            waiting[at] += map(framed, clients[at].connection.trades(trades, trades[0].ts_ms))
        end_slice()
        return found


def instants(markets: Sequence[Instrument], trades: int, start_ms: int) -> list[list[Trade]]:
    """That many trades: of one market at one instant each, TRADES_HZ in all."""
    rng = np.random.default_rng(1)
    counts = np.minimum(rng.geometric(0.5, trades), TOGETHER).tolist()
    which = rng.integers(0, len(markets), trades).tolist()
    prices = np.round(100 + rng.standard_normal(trades) * 0.1, 2).tolist()
    sizes = np.round(rng.exponential(1.0, trades) + 0.001, 5).tolist()
    made, found, numbers = 0, [], dict.fromkeys(range(len(markets)), 0)
    for at, count in zip(which, counts, strict=True):
        together = range(made, min(trades, made + count))
        if not together:
            break
        ts_ms = start_ms + made * 1000 // TRADES_HZ
        found.append([_trade(markets[at], numbers[at] + n - made + 1, ts_ms, prices[n], sizes[n]) for n in together])
        numbers[at] += len(together)
        made += len(together)
    return found


def _trade(instrument: Instrument, number: int, ts_ms: int, price: float, size: float) -> Trade:
    ids = exchanges.get(instrument.exchange).endpoint(instrument.endpoint).ids
    return Trade(instrument, ts_ms, price, size, number % 3 == 0, None if ids == "none" else FIRST_ID + number)


def _now_ms() -> int:
    return int(time.time() * 1e3)


async def serve(plan: Plan, folder: Path) -> None:
    """Print the addresses (`go` among them) and serve until killed. `folder` holds the certificate."""
    mixed = Mixed(plan)
    step_aside()
    context, scheme = (shown(folder), "wss") if plan.tls else (None, "ws")
    server = await ws_create_server(lambda request: mixed.accept(request.path.decode()), "127.0.0.1", 0, ssl=context)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", mixed.rest)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    socket, rest = server.sockets[0].getsockname()[1], runner.addresses[0][1]
    addresses: dict[str, dict[str, str]] = {"go": {"": f"http://127.0.0.1:{rest}/go"}}
    for name in sorted({one.exchange for one in chosen()}):
        exchange = exchanges.get(name)
        addresses[name] = {one.name: f"{scheme}://127.0.0.1:{socket}/{name}/{one.name}" for one in exchange.endpoints}
        addresses[name] |= {of: f"http://127.0.0.1:{rest}/{name}/{of}" for of in exchange.rest}
    print(orjson.dumps(addresses).decode(), flush=True)
    await asyncio.Event().wait()


def names() -> tuple[str, ...]:
    """The markets, as settings name them."""
    return tuple(one.market for one in chosen())


async def go(addresses: dict[str, dict[str, str]]) -> None:
    """Ask for the trades; returns when every market has a subscriber, before the first of them is sent."""
    async with aiohttp.ClientSession() as session, session.get(addresses["go"][""]) as answer:
        answer.raise_for_status()


# --- the floor -------------------------------------------------------------------------------------------------------------


class Bars:
    """A slotted bar per market and second of one connection, and the books of all."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._bars: dict[tuple[str, int], SlottedBar] = {}

    def add(self, symbol: str, ts_ms: int, price: float, size: float, sell: bool) -> None:
        floor = self._floor
        key = (symbol, ts_ms // 1000)
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = SlottedBar(price)
        if sell:
            bar.vsell += price * size
            bar.csell += 1
        else:
            bar.vbuy += price * size
            bar.cbuy += 1
        if price > bar.high:
            bar.high = price
        if price < bar.low:
            bar.low = price
        bar.close = price
        floor.left -= 1
        if floor.left == 0:
            floor.done.set()


class Reading(WSListener):
    """One connection of the floor."""

    def __init__(self, exchange: str, endpoint: str, floor: Floor) -> None:
        super().__init__()
        self._floor = floor
        self._read = reader(exchange, endpoint, Bars(floor).add)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        try:
            self._read(frame.get_payload_as_bytes())
        except NO_TRADES:
            self._floor.others += 1


class Floor:
    """All connections of the floor: one for each endpoint."""

    def __init__(self, trades: int) -> None:
        self.left = self._trades = trades
        self.done = asyncio.Event()
        self.others = 0
        """Frames of no trades."""
        self._transports: list[WSTransport] = []

    async def connect(self, addresses: dict[str, dict[str, str]]) -> None:
        """Open and subscribe."""
        by_endpoint: dict[tuple[str, str], list[Instrument]] = {}
        for one in chosen():
            by_endpoint.setdefault((one.exchange, one.endpoint), []).append(one)
        for (name, endpoint), instruments in by_endpoint.items():
            exchange = exchanges.get(name)
            decoder = exchange.decoder(endpoint, {one.symbol: one for one in instruments})
            transport, _ = await ws_connect(partial(Reading, name, endpoint, self), addresses[name][endpoint])
            topics = [stream.topic for one in instruments for stream in exchange.streams(one, False)]
            for frame in decoder.subscribe(list(dict.fromkeys(topics)), _now_ms()):
                transport.send(WSMsgType.TEXT, frame.encode() if isinstance(frame, str) else frame)
            self._transports.append(transport)

    async def run(self, addresses: dict[str, dict[str, str]]) -> tuple[tuple[float, float], int]:
        """Read all; ((CPU time, time) after the first trades, how many were left then)."""
        await self.connect(addresses)
        await go(addresses)
        self.left = self._trades  # what came until now were images
        print(READY, flush=True)
        while self.left == self._trades:  # noqa: ASYNC110  # as the daemon's side waits
            await asyncio.sleep(0.001)
        begun, left = (time.process_time(), time.monotonic()), self.left
        await self.done.wait()
        return begun, left
