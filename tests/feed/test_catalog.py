"""Choosing markets, fetching listings, remembering them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import structlog
from aiohttp import web

from exchanges.api import Call, Instrument, Page, Rate, Request
from exchanges.binance import Binance
from sqfd.clock import SystemClock
from sqfd.feed.catalog import Catalog, UnknownMarket, choose, split_market
from sqfd.feed.rest import Rest, RestFailed
from sqfd.feed.settings import FeedSettings, Wanted
from tests.feed.loopback import Loopback
from tests.waiting import PATIENCE_S


def market(name: str, base: str = "BTC", kind: str = "perp", quote: str = "USDT", **more: object) -> Instrument:
    exchange, pair = split_market(name)
    values = {"exchange": exchange, "pair": pair, "symbol": pair, "kind": kind, "base": base, "quote": quote}
    return msgspec.convert(values | {"endpoint": "e"} | more, Instrument)


LISTED = [
    market("BYBIT:BTCUSDT"),
    market("BYBIT:BTCUSDT-SPOT", kind="spot"),
    market("BYBIT:BTCEUR", quote="EUR"),
    market("BYBIT:BTCUSD-Z26", kind="future"),
    market("BYBIT:OLDBTC", active=False),
    market("BITMEX:ETHUSD", "ETH", quanto=True),
    market("BITFINEX:BTCF0:USTF0"),
    market("BYBIT:ETHUSDT", "ETH"),
]


def names(wanted: Wanted) -> list[str]:
    return [instrument.market for instrument in choose(LISTED, wanted)]


def test_markets_of_the_symbols() -> None:
    """Active spot and perps of the symbols in the allowed quotes; no quanto, no dated futures, no other exchange."""
    assert names(Wanted(symbols=("BTC",), quotes=("USDT",))) == [
        "BITFINEX:BTCF0:USTF0",
        "BYBIT:BTCUSDT",
        "BYBIT:BTCUSDT-SPOT",
    ]
    assert names(Wanted(symbols=("ETH", "BTC"), kinds=("perp",), exchanges=("BYBIT",))) == [
        "BYBIT:BTCEUR",
        "BYBIT:BTCUSDT",
        "BYBIT:ETHUSDT",
    ]


async def test_listings_are_followed_one_exchange_at_a_time(tmp_path: Path) -> None:
    """Each exchange is asked once in the given time; one that fails is left for the next round."""
    heard: list[tuple[str, int]] = []

    class Two(Catalog):
        async def fetch(self, exchange_id: str) -> list[Instrument]:
            if exchange_id == "B" and not heard:
                raise RestFailed("HTTP status 503", 503)
            return LISTED

    log = structlog.get_logger()
    catalog = Two({"B": Binance(), "A": Binance()}, {}, tmp_path, FeedSettings(), SystemClock(), log)
    task = asyncio.create_task(catalog.follow(0.02, lambda id, listed: heard.append((id, len(listed)))))
    async with asyncio.timeout(PATIENCE_S):
        while len(heard) < 3:  # noqa: ASYNC110  # a list has no event
            await asyncio.sleep(0.01)
    task.cancel()
    assert heard[:3] == [("A", len(LISTED)), ("B", len(LISTED)), ("A", len(LISTED))]


def test_markets_by_name() -> None:
    """Names are split at the first colon; what is named is taken, whatever it is; unlisted exchanges wait."""
    assert split_market("BITFINEX:BTCF0:USTF0") == ("BITFINEX", "BTCF0:USTF0")
    wanted = Wanted(markets=("BITFINEX:BTCF0:USTF0", "BYBIT:BTCUSD-Z26", "OKEX:BTC-USDT"))
    assert names(wanted) == ["BITFINEX:BTCF0:USTF0", "BYBIT:BTCUSD-Z26"]


def test_unknown_names_suggest_the_nearest() -> None:
    """A wrong symbol or market is an error that names what it may have meant."""
    with pytest.raises(UnknownMarket, match="no exchange lists BTCC; did you mean BTC"):
        names(Wanted(symbols=("BTCC",)))
    with pytest.raises(UnknownMarket, match="no market BYBIT:btcusdt; did you mean BYBIT:BTCUSDT"):
        names(Wanted(markets=("BYBIT:btcusdt",)))
    with pytest.raises(UnknownMarket, match="write EXCHANGE:pair"):
        names(Wanted(markets=("BTCUSDT",)))


@asynccontextmanager
async def catalog_of(server: Loopback, folder: Path) -> AsyncIterator[Catalog]:
    exchange, settings, clock = server.exchange(), FeedSettings(backoff_min_s=0.1), SystemClock()
    rest = Rest(exchange, settings, clock)
    try:
        yield Catalog({"BINANCE": exchange}, {"BINANCE": rest}, folder, settings, clock, structlog.get_logger())
    finally:
        await rest.close()


async def test_listings_are_fetched_and_remembered(tmp_path: Path) -> None:
    """What the exchange lists is used; when it does not answer, what it listed last."""
    async with Loopback(["BTCUSDT", "ETHUSDT"]) as server, catalog_of(server, tmp_path / "listings") as catalog:
        assert await catalog.load("BINANCE") == server.instruments
    async with catalog_of(server, tmp_path / "listings") as catalog:
        assert await catalog.load("BINANCE") == server.instruments
    (tmp_path / "listings" / "BINANCE.json").write_text("{")  # a few bytes in a test
    async with catalog_of(server, tmp_path / "listings") as catalog:
        assert await catalog.load("BINANCE") is None


async def test_an_exchange_that_did_not_list_is_asked_again(tmp_path: Path) -> None:
    """As soon as it answers, its listing is handed over, once."""
    async with Loopback(["BTCUSDT"]) as server:
        server.rest_port, port = 1, server.rest_port
        found: list[str] = []
        async with catalog_of(server, tmp_path) as catalog:
            task = asyncio.create_task(catalog.retry(["BINANCE"], lambda id, listed: found.append(id)))
            await asyncio.sleep(0.3)
            assert found == []
            exchange = Binance({"rest": f"http://127.0.0.1:{port}"})
            catalog._exchanges = {"BINANCE": exchange}
            async with asyncio.timeout(PATIENCE_S):
                await task
        assert found == ["BINANCE"]


@asynccontextmanager
async def answering(response: web.Response, asked: list[str]) -> AsyncIterator[tuple[Rest, str]]:
    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=response.status, headers=response.headers, body=response.body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rest = Rest(Binance(), FeedSettings(max_listing_bytes=1 << 20), SystemClock())
    try:
        yield rest, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await rest.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (web.Response(status=302, headers={"Location": "/other"}), "HTTP status 302"),
        (web.Response(body=b"x" * (1 << 20) + b"x"), "more than 1048576 bytes"),
        (web.Response(body=b"{"), "unexpected answer"),
        (web.Response(status=500), "HTTP status 500"),
    ],
)
async def test_bad_answers_are_refused(response: web.Response, reason: str) -> None:
    """Redirects, oversize and unreadable answers are failures with a reason; nothing is asked twice."""
    asked: list[str] = []
    async with answering(response, asked) as (rest, base):
        with pytest.raises(RestFailed, match=reason):
            await rest.call(Call(Request(base + "/x"), lambda body: Page([msgspec.json.decode(body)])))
    assert asked == ["/x"]


async def test_an_exchange_that_says_stop_is_left_alone() -> None:
    """After 429 nothing is asked until Retry-After has passed."""
    async with answering(web.Response(status=429, headers={"Retry-After": "40"}), []) as (rest, base):
        with pytest.raises(RestFailed):
            await rest.call(Call(Request(base), lambda body: Page([])))
        assert 38 < rest.limit.wait_s(SystemClock().now_ms()) <= 40


async def test_pages_are_followed_and_bounded() -> None:
    """Further pages are asked for; an answer without end is given up."""
    asked: list[str] = []
    async with answering(web.Response(body=b"1"), asked) as (rest, base):
        rest.limit = type(rest.limit)(Rate(1000, 1))

        def endless(body: bytes) -> Page[int]:
            return Page([1], Call(Request(base + "/next"), endless))

        with pytest.raises(RestFailed, match="more than 5 pages"):
            await rest.all(Call(Request(base + "/first"), endless), pages=5)
    assert asked == ["/first"] + ["/next"] * 4
