"""Simulated exchanges on loopback sockets.

One websocket server has a path `/<EXCHANGE>/<endpoint>` for each endpoint, one HTTP server a path `/<EXCHANGE>/<name>` for
each REST base. They speak through `exchanges.simulated`, so that the daemon connects to them as to the real exchanges, with
the addresses that `Venues.start` returns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from exchanges import simulated
from exchanges.api import Exchange, Trade
from exchanges.simulated.api import SimulatedExchange
from sqfd.clock import Clock
from sqfd.sim.client import Client
from sqfd.sim.faults import Fault, FaultKind, Faults
from sqfd.sim.source import Burst, Source

Addresses = dict[str, dict[str, str]]
"""Exchange id → endpoint or REST name → base address: the form of `[feed.addresses]`."""

STEP_S = 0.02
"""Trades are sent this often (host's time)."""
BUFFER_BYTES = 2_000_000
"""A client with more than this unread is cut."""
PATIENT_BYTES = 200_000
"""A patient source waits while a client has more than this unread."""
CLIENTS = 1_000
FRAME_BYTES = 1 << 20
REQUEST_BYTES = 1 << 20

_log = logging.getLogger("sqfd.sim.venues")


class Venues:
    """Servers of several exchanges, fed by one source."""

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        source: Source,
        clock: Clock,
        *,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        step_s: float = STEP_S,
    ) -> None:
        """`port` is the websockets' and `port + 1` REST's; 0 takes free ones. What is listed is `source.instruments`."""
        self.faults = faults or Faults()
        self.counts: Counter[str] = Counter()
        """What happened, by name; among them every client that was cut."""
        self.addresses: Addresses = {}
        self._exchanges, self._source, self._clock = tuple(exchanges), source, clock
        self._host, self._port, self._step_s = host, port, step_s
        self._simulated: dict[str, SimulatedExchange] = {}
        self._clients: dict[tuple[str, str], set[Client]] = {}
        self._server: Server | None = None
        self._runner: web.AppRunner | None = None
        self._pump: asyncio.Task[None] | None = None
        self._done = asyncio.Event()

    # --- start and stop ------------------------------------------------------------------------------------------------

    async def start(self) -> Addresses:
        """Bind the sockets and begin to send. Raises OSError when a port is taken."""
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            process_request=self._admit,
            compression=None,
            max_size=FRAME_BYTES,
            ping_interval=20,
            ping_timeout=60,
            close_timeout=1,
        )
        try:
            self._runner = await self._start_rest()
        except OSError:
            await self.stop()
            raise
        self._list()
        self._pump = asyncio.create_task(self._run(), name="venues")
        return self.addresses

    async def _start_rest(self) -> web.AppRunner:
        app = web.Application(client_max_size=REQUEST_BYTES)
        app.router.add_route("*", "/{exchange}/{name}{path:.*}", self._rest)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port + 1 if self._port else 0).start()
        return runner

    def _list(self) -> None:
        """Give every exchange its addresses and markets."""
        assert self._server is not None
        assert self._runner is not None
        socket = f"ws://{self._host}:{self._server.sockets[0].getsockname()[1]}"
        rest = f"http://{self._host}:{self._runner.addresses[0][1]}"
        for exchange in self._exchanges:
            mine = {endpoint.name: f"{socket}/{exchange.id}/{endpoint.name}" for endpoint in exchange.endpoints}
            mine |= {name: f"{rest}/{exchange.id}/{name}" for name in exchange.rest}
            self.addresses[exchange.id] = mine
            made = simulated.get(type(exchange)(mine))
            made.list([i for i in self._source.instruments if i.exchange == exchange.id])
            self._simulated[exchange.id] = made
            self._clients |= {(exchange.id, endpoint.name): set() for endpoint in exchange.endpoints}

    async def stop(self) -> None:
        """Close everything. Raises what the pump raised, if it did."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait((self._pump,))
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._pump is not None and not self._pump.cancelled() and (error := self._pump.exception()) is not None:
            raise error

    async def finished(self) -> None:
        """Wait for the end of the source (a capture's). The servers stay up."""
        await self._done.wait()

    async def failed(self) -> None:
        """Raise what stopped the sending, when something does."""
        assert self._pump is not None
        await asyncio.shield(self._pump)

    # --- websockets ----------------------------------------------------------------------------------------------------

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse unknown paths, refused connects and too many clients."""
        exchange, endpoint = _place(request.path)
        if (exchange, endpoint) not in self._clients:
            return socket.respond(HTTPStatus.NOT_FOUND, f"no endpoint {exchange}/{endpoint}\n")
        fault = self.faults.find(FaultKind.REFUSE_CONNECT, exchange, endpoint)
        if fault is not None:
            fault.strike()
            response = socket.respond(HTTPStatus(fault.code), "simulated fault\n")
            if fault.seconds > 0:
                response.headers["Retry-After"] = str(int(fault.seconds))
            return response
        if sum(map(len, self._clients.values())) >= CLIENTS:
            self.counts["clients over the limit"] += 1
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        exchange, endpoint = _place(socket.request.path)
        made = self._simulated[exchange]
        client = Client(socket, made, endpoint, self.faults, self.counts, BUFFER_BYTES)
        self._clients[exchange, endpoint].add(client)
        self.counts["connects"] += 1
        try:
            await client.serve(self._clock.now_ms, self._image)
        finally:
            self._clients[exchange, endpoint].discard(client)

    def _image(self, client: Client, fault: Fault) -> Sequence[Trade]:
        """The last trades of what a client follows."""
        now = int(self._clock.now_ms())
        since = now - int(fault.seconds * 1_000)
        followed = [i for i in self._source.instruments if i.exchange == client.exchange.id and client.follows(i)]
        found = [trade for i in followed for trade in self._source.history(i, since, now)]
        return sorted(found, key=lambda trade: trade.ts_ms)

    # --- sending -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Send what is due, step by step."""
        beat_ms = self._clock.now_ms()
        while True:
            now_ms = self._clock.now_ms()
            if not self._source.patient or self._ready():
                self._send(self._source.due(now_ms), now_ms)
            for client in self._everyone():
                client.tick(now_ms)
            if now_ms - beat_ms >= 1_000:
                beat_ms = now_ms
                for client in self._everyone():
                    client.heartbeat(now_ms)
            if self._source.finished:
                self._done.set()
            await asyncio.sleep(self._step_s)

    def _send(self, bursts: Sequence[Burst], now_ms: float) -> None:
        for burst in bursts:
            self.counts["trades"] += len(burst.trades)
            if burst.trades:  # also when nobody listens: images show what was last
                self._simulated[burst.exchange].remember(burst.trades)
            for client in tuple(self._clients.get((burst.exchange, burst.endpoint), ())):
                client.deliver(burst, now_ms)

    def _ready(self) -> bool:
        """Every market has a subscriber and nobody is behind."""
        clients = self._everyone()
        return all(client.backlog_bytes() < PATIENT_BYTES for client in clients) and all(
            any(c.exchange.id == i.exchange and c.endpoint == i.endpoint and c.follows(i) for c in clients)
            for i in self._source.instruments
        )

    def _everyone(self) -> list[Client]:
        return [client for clients in self._clients.values() for client in clients]

    # --- REST ----------------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        exchange, name = request.match_info["exchange"], request.match_info["name"]
        made = self._simulated.get(exchange)
        if made is None or name not in made.exchange.rest:
            return web.json_response({"error": f"no {exchange}/{name}"}, status=404)
        self.counts["rest requests"] += 1
        fault = self.faults.find(FaultKind.REFUSE_REST, exchange)
        if fault is not None:
            fault.strike()
            retry: Mapping[str, str] = {"Retry-After": str(int(fault.seconds))} if fault.seconds > 0 else {}
            return web.json_response({"error": "simulated fault"}, status=fault.code, headers=retry)
        return self._answer(made, request, name, await request.read())

    def _answer(self, made: SimulatedExchange, request: web.Request, name: str, body: bytes) -> web.Response:
        path, query = request.match_info["path"], dict(request.query)
        now = int(self._clock.now_ms())
        try:
            status, answer = made.rest(request.method, name, path, query, body, self._source.history, now)
        except (ValueError, LookupError, TypeError) as error:
            self.counts["unreadable requests"] += 1
            _log.info("cannot answer %s: %s", request.path_qs, error)
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return web.Response(status=status, body=answer, content_type="application/json")


def _place(path: str) -> tuple[str, str]:
    """`/BINANCE/spot?x=1` and what lies below → (`BINANCE`, `spot`)."""
    parts = [*path.partition("?")[0].split("/"), "", ""]
    return parts[1], parts[2]
