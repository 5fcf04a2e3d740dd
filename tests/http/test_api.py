"""The HTTP interface with real stages behind it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sqfd.http.api import CannotListen
from sqfd.http.openapi import ENDPOINTS
from sqfd.http.settings import HttpSettings
from sqfd.http.stream import DEPTH, Broadcast, TooManyStreams
from tests.http.running import START, Rig, running
from tests.waiting import BUSY, LOOK_S

TOKEN = "a-long-enough-token"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def ask(rig: Rig, path: str, **options: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
    """Status, JSON (or text), response. The path is sent as it is."""
    import yarl

    method = options.pop("method", "GET")
    url = yarl.URL(rig.server.url.rstrip("/") + path, encoded=True)
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        text = await response.text()
        data = json.loads(text) if response.content_type == "application/json" and text else text
        return response.status, data, response


class Stream:
    """An open event stream."""

    def __init__(self, rig: Rig, path: str, headers: dict[str, str] | None = None) -> None:
        self._url, self._headers = rig.server.url.rstrip("/") + path, headers or {}

    async def __aenter__(self) -> Stream:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        self.response = await self._session.get(self._url, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.response.close()
        await self._session.close()

    async def event(self) -> dict[str, str]:
        """The next event's fields; empty at the end."""
        fields: dict[str, str] = {}
        async for raw in self.response.content:
            line = raw.decode().rstrip("\n")
            if not line and "data" in fields:
                return fields
            name, _, value = line.partition(": ")
            fields |= {name: value} if name else {}
        return {}


async def test_health_begins_as_starting_and_becomes_degraded(rig: Rig) -> None:
    """503 until a second is closed; then 200, and what is not fresh is named."""
    status, told, _ = await ask(rig, "/health")
    assert (status, told["status"]) == (503, "starting")
    await rig.second()
    await rig.second()
    status, told, _ = await ask(rig, "/health")
    assert (status, told["status"]) == (200, "degraded")
    assert "feed:BINANCE" in told["why"]
    _, detailed, _ = await ask(rig, "/health/detailed")
    names = [part["name"] for part in detailed["components"]]
    assert names == ["seconds", "feed:BINANCE", "feed:KRAKEN", "journal", "clock", "loop"]


async def test_detailed_health_tells_cuts_in_words(rig: Rig) -> None:
    """Since when, which market, how many trades were filled in, what remains lost: newest first, as `sqfd gaps` does."""
    await rig.second()
    await rig.second()
    feed = rig.intake.markets[0]
    feed.regain((START - 100) * 1e3)
    feed.lose((START - 60) * 1e3, "1012 service restart")
    feed.regain((START - 20) * 1e3)
    for hole in list(feed.watch.holes):
        hole.filled = 12
        feed.resolve(hole, "partial", missed=3, note="BINANCE does not have 3 of the missing trades")
    feed.lose((START - 1) * 1e3, "no data for 5.0 s")
    _, detailed, _ = await ask(rig, "/health/detailed")
    open_one, partial = detailed["gaps"]
    assert open_one["until_ms"] is None
    assert open_one["text"].endswith("BINANCE:btcusdt: no data for 5.0 s. Still going on.")
    assert (partial["recovered"], partial["missed"], partial["seconds"]) == (12, 3, 40.0)
    words = (
        "Partly recovered: 12 trades filled in; 3 trades still missing: BINANCE does not have 3 of the missing trades."
    )
    assert partial["text"].endswith(f"40 s, BINANCE:btcusdt: 1012 service restart. {words}")


@pytest.mark.parametrize(
    ("name", "status"), [("journal", 200), ("engine", 503), ("binance", 503), ("feed:BINANCE", 503), ("nobody", 404)]
)
async def test_health_of_one_part(rig: Rig, name: str, status: int) -> None:
    """By our names, the replaced monitors' names, or an exchange's."""
    found, told, _ = await ask(rig, f"/health/service/{name}")
    assert found == status
    assert status != 404 or "known: seconds" in told["error"]


async def test_metrics_keep_their_rules(rig: Rig) -> None:
    """Prefix, labels and conservation: received = aggregated + dropped."""
    for _ in range(3):
        await rig.second(signals=1)
    rig.trade(START * 1000 + 100)  # late or revised: either way it is counted
    _, text, response = await ask(rig, "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(text))
    totals: dict[str, float] = {}
    for family in families:
        assert family.name.startswith("sqfd_"), family.name
        assert family.documentation, family.name
        for sample in family.samples:
            assert set(sample.labels) <= {"exchange", "market", "kind", "symbol"}, sample
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    assert totals["sqfd_trades_received_total"] == 4
    assert (
        totals["sqfd_trades_received_total"]
        == totals["sqfd_trades_aggregated_total"] + totals["sqfd_trades_dropped_total"]
    )
    assert totals["sqfd_signals_total"] == 3
    assert totals["sqfd_process_resident_memory_bytes"] > 1e6


async def test_aggr_reads_products_and_history(rig: Rig) -> None:
    """As its client asks: one encoded segment, times in ms; and from any origin."""
    first = await rig.second()
    for _ in range(4):
        await rig.second()
    _, products, response = await ask(rig, "/products")
    assert products == ["BINANCE:btcusdt", "KRAKEN:XBT/USD"]
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    path = f"/historical/{first * 1000}/{(first + 4) * 1000}/1000/BINANCE%3Abtcusdt%2BKRAKEN%3AXBT%2FUSD"
    status, told, response = await ask(rig, path)
    assert status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert [row[0] for row in told["results"]] == [first, first + 1, first + 2, first + 3]
    assert told["results"][0][told["columns"]["vbuy"]] == 30_000.0
    assert (await ask(rig, f"/historical/{first * 1000}/{(first + 4) * 1000}"))[1]["results"][0][0] == first // 60 * 60
    assert (await ask(rig, "/historical/1000/2000/1000/KRAKEN:XBT/USD"))[:2] == (404, {"error": "no results"})
    assert (await ask(rig, "/historical/2000/1000/1000/A"))[:2] == (400, {"error": "from > to"})


async def test_signals_catch_up(rig: Rig) -> None:
    """Last-Event-ID brings exactly what came after it, then the stream goes on; without it only new ones come."""
    await rig.second(signals=3)
    async with Stream(rig, "/signals", {"Last-Event-ID": "1"}) as stream, Stream(rig, "/signals") as fresh:
        assert [(await stream.event())["id"] for _ in range(2)] == ["2", "3"]
        await rig.second(signals=1)
        event = await stream.event()
        assert (event["id"], event["event"]) == ("4", "signal")
        assert json.loads(event["data"])["seq"] == 4
        assert (await fresh.event())["id"] == "4"
    assert (await ask(rig, "/signals?since=x"))[0] == 400
    recent = (await ask(rig, "/signals/recent?limit=2"))[1]
    assert [one["seq"] for one in recent] == [3, 4]


async def test_the_page_is_told_each_second(rig: Rig) -> None:
    """One event at once, one for each closed second."""
    await rig.second()
    async with Stream(rig, "/live") as stream:
        first = json.loads((await stream.event())["data"])
        closed = await rig.second()
        told = json.loads((await stream.event())["data"])
    assert told["second"] == closed == first["second"] + 1
    assert [market["market"] for market in told["markets"]] == ["BINANCE:btcusdt", "KRAKEN:XBT/USD"]
    assert "warming up" in told["symbols"]["BTC"]["words"]


async def test_tap_shows_trades_and_leaves_no_trace(rig: Rig) -> None:
    """Trades of the watched market as they come; afterwards the bars are fed directly again."""
    feed = rig.intake.markets[0]
    bars = feed.add, feed.force
    async with Stream(rig, "/tap/BINANCE:btcusdt") as stream:
        rig.trade(START * 1000 + 5, 61_000.0)
        told = json.loads((await stream.event())["data"])
        assert (feed.add, feed.force) != bars
    assert (told["market"], told["price"], told["side"], told["late"]) == ("BINANCE:btcusdt", 61_000.0, "buy", False)
    while (feed.add, feed.force) != bars:  # noticed where something is to be told
        rig.trade(START * 1000 + 7)
        await asyncio.sleep(LOOK_S)
    assert rig.intake.totals().aggregated == rig.intake.totals().received
    assert (await ask(rig, "/tap/KRAKEN:NO/NE"))[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nothing", 404, "Not Found"),
        ("/explain/XYZ", 404, "known: BTC"),
        ("/chart/BTC?step=0", 400, "step must be a number from 1 to 60"),
        ("/chart/BTC?bars=x", 400, "bars must be"),
        ("/signals/recent?limit=1e9", 400, "limit must be"),
        ("/page/../api.py", 404, ""),
        ("/page/%2e%2e%2fapi.py", 404, ""),
    ],
)
async def test_wrong_questions(rig: Rig, path: str, status: int, words: str) -> None:
    """JSON with `error`, one sentence."""
    found, told, _ = await ask(rig, path)
    assert found == status
    assert words in told["error"]


async def test_only_get(rig: Rig) -> None:
    """Everything else is 405, a body 413."""
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        status, _, response = await ask(rig, "/status", method=method)
        assert (status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert (await ask(rig, "/status", data=b"x"))[0] == 413
    assert (await ask(rig, "/health", method="HEAD"))[0] == 503


async def test_hosts_are_allowed_by_name(rig: Rig) -> None:
    """A page of another name that resolves to this machine is refused."""
    assert (await ask(rig, "/status", headers={"Host": "evil.example"}))[0] == 403
    assert (await ask(rig, "/status", headers={"Host": "localhost:99"}))[0] == 200
    assert (await ask(rig, "/status", headers={"Host": "[::1]:99"}))[0] == 200


async def test_every_answer_carries_its_policy(rig: Rig) -> None:
    """CSP without inline scripts, no sniffing, no frames."""
    for path in ("/", "/status", "/nothing", "/page/app.js"):
        _, _, response = await ask(rig, path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_has_no_address_of_others(rig: Rig) -> None:
    """Files of the page name no other host (SVG's namespace is a name, not an address)."""
    for name in ("", "page/app.js", "page/chart.js", "page/style.css", "page/icon.svg"):
        _, text, _ = await ask(rig, f"/{name}")
        assert not re.findall(r"https?://(?!www\.w3\.org/)", text), name


async def test_long_headers_are_refused(rig: Rig) -> None:
    """More than 8 kB in a line is not read."""
    assert (await ask(rig, "/status", headers={"X": "y" * 9_000}))[0] == 400
    assert (await ask(rig, f"/status?{'y' * 9_000}"))[0] in (400, 414)


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    """By header, by cookie after /?token=…; /health answers without, nothing else does."""
    async with running(tmp_path, HttpSettings(port=0, token=TOKEN)) as rig:
        assert (await ask(rig, "/status"))[0] == 401
        assert (await ask(rig, "/page/app.js"))[0] == 401
        assert (await ask(rig, "/health"))[0] == 503
        assert (await ask(rig, "/status", headers={"Authorization": "Bearer wrong"}))[0] == 401
        assert (await ask(rig, "/status", headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200
        status, _, response = await ask(rig, f"/?token={TOKEN}", allow_redirects=False)
        assert status == 303
        cookie = response.cookies["sqfd_token"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert (await ask(rig, "/status", cookies={"sqfd_token": TOKEN}))[0] == 200


async def test_a_taken_port_is_one_clear_line(rig: Rig, tmp_path: Path) -> None:
    """The line says which port, and what to do."""
    port = int(rig.server.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(CannotListen, match=rf"port {port} of 127.0.0.1 is taken \(another sqfd\?\): set http.port"):
        async with running(tmp_path / "other", HttpSettings(port=port)):
            pass


async def test_stopping_ends_streams(tmp_path: Path) -> None:
    """Open streams do not hold up the end."""
    async with (
        running(tmp_path) as rig,
        Stream(rig, "/live") as live,
        Stream(rig, "/signals") as signals,
        Stream(rig, "/tap/BINANCE:btcusdt"),
    ):
        await live.event()
        async with asyncio.timeout(2 * BUSY):
            await rig.server.close()
        assert await signals.event() == {}


async def test_streams_are_limited(tmp_path: Path) -> None:
    """The one too many is told to come again."""
    async with running(tmp_path, HttpSettings(port=0, max_streams=1)) as rig, Stream(rig, "/live") as first:
        await first.event()
        status, told, response = await ask(rig, "/live")
        assert (status, response.headers["Retry-After"]) == (503, "5")
        assert "http.max_streams" in told["error"]


async def test_a_slow_reader_is_cut_off_and_others_are_not() -> None:
    """The writer never waits, memory is bounded, the cut is counted."""
    readers = Broadcast(2)
    with readers.reader() as slow, readers.reader() as quick:
        with pytest.raises(TooManyStreams), readers.reader():
            pass
        for number in range(DEPTH + 10):
            readers.send(b"%d" % number)
            assert await quick.get() == b"%d" % number
        assert slow.qsize() <= DEPTH + 1
        items = [slow.get_nowait() for _ in range(slow.qsize())]
        assert items[-1] is None
    assert readers.cut_off == 1


async def test_openapi_lists_every_path(rig: Rig) -> None:
    """The document and the routes are the same list."""
    _, told, _ = await ask(rig, "/openapi.json")
    assert told["openapi"].startswith("3.")
    routes = {resource.canonical for resource in rig.server._app().router.resources()}
    routes = {re.sub(r":[^}]*}", "}", route) for route in routes} - {"/", "/page/{name}", "/historical/{rest}"}
    documented = {endpoint.path for endpoint in ENDPOINTS}
    assert documented == routes | {"/historical/{from}/{to}/{timeframe}/{markets}"}
    assert set(told["paths"]) == documented


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "0.0.0.0"}, "allow_remote = true"),
        ({"host": "0.0.0.0", "allow_remote": True}, "needs http.token"),
        ({"host": "::", "allow_remote": True, "token": "short"}, "at least 16"),
    ],
)
def test_remote_needs_to_be_wanted_and_secured(values: dict[str, Any], words: str) -> None:
    """An address that others can reach is refused without allow_remote and a token."""
    with pytest.raises(ValueError, match=re.escape(words)):
        HttpSettings(**values)
    assert HttpSettings(host="::1").port == 8686
    assert HttpSettings(host="0.0.0.0", allow_remote=True, token=TOKEN).allow_remote


def test_the_listener_is_local() -> None:
    """By default nobody else can connect."""
    assert socket.gethostbyname(HttpSettings().host).startswith("127.")
