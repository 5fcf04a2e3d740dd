"""A simulated exchange behind real loopback sockets: websocket by `websockets`, REST by aiohttp."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from exchanges.api import Exchange, Frame, Instrument, Trade
from exchanges.binance import Binance
from exchanges.simulated.api import SimulatedConnection
from exchanges.simulated.binance import Simulated
from tests.waiting import eventually


def now_ms() -> int:
    return int(time.time() * 1e3)


class Loopback:
    """BINANCE on 127.0.0.1. `kill` and `start` end and open its websocket port again."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.simulated = Simulated(Binance())
        self.instruments = [self.simulated.exchange.assume(symbol) for symbol in symbols]
        self.simulated.list(self.instruments)
        self.clients: dict[ServerConnection, SimulatedConnection] = {}
        self.accepted = 0
        self.mute = False
        """Accept and acknowledge, but send no trades."""
        self.deaf = False
        """Accept, but take no request until it hears again."""
        self.hang_up = False
        """Accept, and close at once."""
        self._ids = dict.fromkeys(symbols, 100)
        self._server: Server | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.rest_port = 0

    @property
    def addresses(self) -> dict[str, str]:
        return {"spot": f"ws://127.0.0.1:{self.port}/stream", "rest": f"http://127.0.0.1:{self.rest_port}"}

    def exchange(self) -> Exchange:
        return Binance(self.addresses)

    async def __aenter__(self) -> Loopback:
        await self.start()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._rest)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.rest_port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kill()
        if self._runner is not None:
            await self._runner.cleanup()

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port, compression=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def kill(self) -> None:
        if self._server is not None:
            for client in self.clients:
                client.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, client: ServerConnection) -> None:
        self.accepted += 1
        if self.hang_up:
            return
        peer = self.clients[client] = self.simulated.connection("spot")
        try:
            async for frame in client:
                await eventually(lambda: not self.deaf)
                await send_all(client, peer.receive(frame, now_ms()))
        except ConnectionClosed:
            pass
        finally:
            del self.clients[client]

    async def _rest(self, request: web.Request) -> web.Response:
        body = await request.read()
        status, answer = self.simulated.rest(
            request.method, "rest", request.path, dict(request.query), body, lambda *_: (), now_ms()
        )
        return web.Response(status=status, body=answer, content_type="application/json")

    async def trade(self, instrument: Instrument, price: float = 100.0, size: float = 1.0) -> Trade:
        """One trade, to all who subscribed."""
        self._ids[instrument.symbol] += 1
        trade = Trade(instrument, now_ms(), price, size, True, self._ids[instrument.symbol])
        if not self.mute:
            for client, peer in list(self.clients.items()):
                await send_all(client, peer.trades([trade], now_ms()))
        return trade

    async def trade_all(self, every_s: float) -> None:
        """Trades of all instruments until cancelled."""
        while True:
            for instrument in self.instruments:
                await self.trade(instrument)
            await asyncio.sleep(every_s)


async def send_all(client: ServerConnection, frames: Sequence[Frame]) -> None:
    try:
        for frame in frames:
            await client.send(frame)
    except ConnectionClosed:
        pass
