"""The HTTP server: routes, and the loop that tells the page once a second. Knows the daemon only through `View`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from sqfd.http import openapi
from sqfd.http.aggr import Elsewhere, Refused, Wish, document, from_influx, from_journal, from_journal_alone, parse
from sqfd.http.assets import Assets
from sqfd.http.chart import candles
from sqfd.http.guard import COOKIE, MAX_TARGET, add_headers, answer, guard, refusal
from sqfd.http.health import FEED, Component, Health
from sqfd.http.metrics import CONTENT_TYPE, Metrics
from sqfd.http.settings import HttpSettings
from sqfd.http.stream import Broadcast, TooManyStreams, event, serve
from sqfd.http.tap import Tap
from sqfd.http.view import UnknownName, View
from sqfd.influx.client import QueryError
from sqfd.influx.history import History
from sqfd.journal import JournaledSignal
from sqfd.signals.envelope import with_envelope

QUIET_S = 2.0
"""Without a closed second the page is told anyway after this long, so that it sees the lag grow."""
MAX_CAUGHT_UP = 1_000
MAX_CANDLES = 1_000
MAX_STEP_S = 60
STOP_S = 2.0
ALIASES = {"influxdb": "influx", "engine": "seconds", "storage": "journal", "signals": "redis"}
"""Names of parts under which the replaced monitors asked."""
ANYONE = {"Access-Control-Allow-Origin": "*"}
"""Market data for charts that are served from elsewhere; no other endpoint can be read across origins."""


class CannotListen(OSError):
    """The address is taken or not ours; the text says what to do."""


class Server:
    """Serves one daemon."""

    def __init__(
        self,
        settings: HttpSettings,
        view: View,
        history: History | Elsewhere | None = None,
        on_health: Callable[[str, Health], None] = lambda before, found: None,
    ) -> None:
        """`on_health` is told the state before and the new health when the state changes."""
        self._settings, self._view, self._history = settings, view, history
        self._on_health, self._state = on_health, "starting"
        self._metrics = Metrics(view)
        self._page = Assets()
        self._live = Broadcast(settings.max_streams)
        self._signals = Broadcast(settings.max_streams)
        self._tap = Tap(view.intake, settings.max_streams)
        self._ticked = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where it listens, once started."""

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=STOP_S,
            max_line_size=MAX_TARGET,
            max_field_size=MAX_TARGET,
            keepalive_timeout=30.0,
        )
        await runner.setup()
        host, port = self._settings.host, self._settings.port
        try:
            await web.TCPSite(runner, host, port, reuse_address=True).start()
        except OSError as error:
            await runner.cleanup()
            raise CannotListen(_why(error, host, port)) from error
        self._runner = runner
        bound = runner.addresses[0]
        self.url = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}/"

    async def run(self) -> None:
        """Tell the page what happens, until cancelled."""
        while True:
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with the tick.
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._ticked.wait()
            self._ticked.clear()
            self._watch_health()
            if len(self._live):
                self._live.send(event(_json(self._view.live())))

    def _watch_health(self) -> None:
        """Health is looked at each second, so that it knows since when; its changes are told."""
        found = self._view.health()
        if found.state != self._state and found.settled:
            before, self._state = self._state, found.state
            self._on_health(before, found)

    def tick(self, records: Sequence[JournaledSignal]) -> None:
        """A second was closed, with these signals. Never waits."""
        for record in records:
            self._signals.send(self._told(record))
        self._ticked.set()

    async def close(self) -> None:
        """End all streams and stop listening."""
        for streams in (self._live, self._signals, self._tap):
            streams.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[guard(self._settings)], client_max_size=0)
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/", self._index)
        app.router.add_get("/page/{name}", self._asset)
        app.router.add_get("/historical/{rest:.*}", self._historical)
        app.router.add_get("/tap/{market:.+}", self._tapped)
        for path, handler in {
            "/health": self._health,
            "/health/detailed": self._health_detailed,
            "/health/service/{name}": self._health_service,
            "/metrics": self._metrics_text,
            "/status": self._status,
            "/markets": self._markets,
            "/explain/{symbol}": self._explain,
            "/chart/{symbol}": self._chart,
            "/signals": self._signal_stream,
            "/signals/recent": self._recent,
            "/live": self._live_stream,
            "/products": self._products,
            "/openapi.json": self._openapi,
        }.items():
            app.router.add_get(path, handler)
        return app

    # --- page

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if "token" not in request.query:
            return await self._page.serve("index.html", request)
        response = web.Response(status=303, headers={"Location": "/"})
        # The token was right: into a cookie with it, and out of the address bar.
        response.set_cookie(COOKIE, request.query["token"], httponly=True, samesite="Strict", max_age=30 * 86_400)
        return response

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return await self._page.serve(request.match_info["name"], request)

    # --- health, metrics, state

    async def _health(self, request: web.Request) -> web.Response:
        found = self._view.health()
        return answer({"status": found.state, "why": found.why}, found.status)

    async def _health_detailed(self, request: web.Request) -> web.Response:
        return answer(self._view.health_detailed(), self._view.health().status)

    async def _health_service(self, request: web.Request) -> web.Response:
        wanted = request.match_info["name"]
        parts = {one.name: one for one in self._view.health().components}
        found = parts.get(ALIASES.get(wanted, wanted)) or parts.get(FEED + wanted.upper().removeprefix(FEED.upper()))
        if found is None:
            return refusal(404, f"no part {wanted}; known: {', '.join(parts)}")
        return answer(found._asdict(), _status_of(found))

    async def _metrics_text(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _status(self, request: web.Request) -> web.Response:
        return answer(self._view.status() | {"streams": self._streams()})

    def _streams(self) -> dict[str, int]:
        return {
            "live": len(self._live),
            "signals": len(self._signals),
            "cut_off": self._live.cut_off + self._signals.cut_off,
        }

    async def _markets(self, request: web.Request) -> web.Response:
        return answer(self._view.markets())

    async def _openapi(self, request: web.Request) -> web.Response:
        return answer(openapi.document())

    # --- symbols

    async def _explain(self, request: web.Request) -> web.Response:
        try:
            symbol = self._view.symbol(request.match_info["symbol"])
        except UnknownName as error:
            return refusal(404, str(error))
        return answer(self._view.explain(symbol))

    async def _chart(self, request: web.Request) -> web.Response:
        try:
            symbol = self._view.symbol(request.match_info["symbol"])
            step_s = _number(request.query, "step", 5, MAX_STEP_S)
            bars = _number(request.query, "bars", 720, MAX_CANDLES)
        except UnknownName as error:
            return refusal(404, str(error))
        except ValueError as error:
            return refusal(400, str(error))
        return answer({"symbol": symbol, **candles(self._view.engine.rings[symbol], step_s, bars)})

    # --- streams

    async def _live_stream(self, request: web.Request) -> web.StreamResponse:
        try:
            with self._live.reader() as queue:
                return await serve(request, queue, [event(_json(self._view.live()))])
        except TooManyStreams as error:
            return refusal(503, str(error), {"Retry-After": "5"})

    async def _signal_stream(self, request: web.Request) -> web.StreamResponse:
        since = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        if since and not (since.isdecimal() and len(since) < 19):
            return refusal(400, f"Last-Event-ID must be the seq of a signal, not {since!r}")
        try:
            with self._signals.reader() as queue:  # first listen, then read: what comes meanwhile is in one of both
                missed = [] if not since else await self._after(int(since))
                last = missed[-1].seq if missed else 0
                return await serve(request, _later(queue, last), [self._told(record) for record in missed])
        except TooManyStreams as error:
            return refusal(503, str(error), {"Retry-After": "5"})

    async def _after(self, seq: int) -> list[JournaledSignal]:
        await self._view.journal.flush()
        newest = await self._view.journal.signals(limit=MAX_CAUGHT_UP)
        return [record for record in newest if record.seq > seq]

    def _told(self, record: JournaledSignal) -> bytes:
        clock = self._view
        line = with_envelope(record, clock.clock.wall_ms(), clock.exchange_clock.now_ms())
        return event(line, id=str(record.seq), name="signal")

    async def _recent(self, request: web.Request) -> web.Response:
        try:
            limit = _number(request.query, "limit", 100, MAX_CAUGHT_UP)
        except ValueError as error:
            return refusal(400, str(error))
        records = await self._view.journal.signals(limit=limit)
        lines = b",".join(record.line.rstrip()[:-1] + b',"seq":%d}' % record.seq for record in records)
        return web.Response(body=b"[" + lines + b"]", content_type="application/json")

    async def _tapped(self, request: web.Request) -> web.StreamResponse:
        try:
            market = self._view.market(unquote(request.match_info["market"]))
            with self._tap.watch(market) as trades, trades.reader() as queue:
                return await serve(request, queue)
        except UnknownName as error:
            return refusal(404, str(error))
        except TooManyStreams as error:
            return refusal(503, str(error), {"Retry-After": "5"})

    # --- aggr

    async def _products(self, request: web.Request) -> web.Response:
        return answer([market.name for market in self._view.seconds.markets], headers=ANYONE)

    async def _historical(self, request: web.Request) -> web.Response:
        try:
            wish = parse(request.raw_path, self._settings.max_bars)
            if not wish.markets:
                wish = wish._replace(markets=tuple(market.name for market in self._view.seconds.markets))
            bars = await self._bars(wish)
        except Refused as error:
            return refusal(error.status, str(error), ANYONE)
        except QueryError as error:
            return refusal(500, f"InfluxDB: {error}", ANYONE)
        if not len(bars):
            return refusal(404, "no results", ANYONE)
        return answer(document(bars, wish.markets), headers=ANYONE)

    async def _bars(self, wish: Wish) -> Any:
        now_s = int(self._view.exchange_clock.now_ms() / 1e3)
        if self._history is None:
            return await from_journal(self._view.journal, wish)
        if isinstance(self._history, Elsewhere):
            return await from_journal_alone(self._view.journal, self._history, wish)
        return await from_influx(self._history, self._view.journal, wish, now_s)


def _json(data: object) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


def _status_of(part: Component) -> int:
    return 200 if part.state in ("ok", "degraded") else 503


def _later(queue: asyncio.Queue[bytes | None], last: int) -> asyncio.Queue[bytes | None]:
    """The queue without what the catch-up has told already."""
    waiting = [queue.get_nowait() for _ in range(queue.qsize())]
    for item in waiting:
        if item is None or _seq(item) > last:
            queue.put_nowait(item)
    return queue


def _seq(item: bytes) -> int:
    return int(item.partition(b"\n")[0].removeprefix(b"id: "))


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise ValueError(f"{name} must be a number from 1 to {most}, not {text!r}")
    return int(text)


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"http: port {port} of {host} is taken (another sqfd?): set http.port, or http.enabled = false"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"http: {host} is no address of this machine: set http.host"
    if error.errno == errno.EACCES:
        return f"http: port {port} needs rights that sqfd does not have: set http.port above 1023"
    return f"http: cannot listen on {host}:{port}: {error.strerror or error}: set http.host and http.port"
