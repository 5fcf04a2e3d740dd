"""What tests of exchanges share: simulated servers, instruments, frames, comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import exchanges
from exchanges.api import (
    Alive,
    Assumed,
    Call,
    Decoder,
    Event,
    Exchange,
    Excluded,
    Frame,
    Instrument,
    Kind,
    Trade,
)
from exchanges.simulated import get as simulate
from exchanges.simulated.api import SimulatedConnection, SimulatedExchange

NOW_MS = 1_800_000_000_000

SYMBOLS: Mapping[str, Sequence[tuple[str, Kind]]] = {
    "ASTER": [("BTCUSDT", "spot"), ("ETHUSDT", "spot"), ("BTCUSDT", "perp"), ("1000PEPEUSDT", "perp")],
    "BINANCE": [("BTCUSDT", "spot"), ("PEPEUSDC", "spot")],
    "BINANCE_FUTURES": [
        ("BTCUSDT", "perp"),
        ("1000PEPEUSDT", "perp"),
        ("BTCUSDT_270326", "future"),
        ("BTCUSD_PERP", "perp"),
        ("ETHUSD_270326", "future"),
    ],
    "BINANCE_US": [("BTCUSD", "spot"), ("ETHUSDT", "spot")],
    "BITFINEX": [("BTCUSD", "spot"), ("DOGE:USD", "spot"), ("BTCF0:USTF0", "perp"), ("ETHF0:USTF0", "perp")],
    "BITGET": [
        ("BTCUSDT", "spot"),
        ("ETHUSDC", "spot"),
        ("BTCUSDT", "perp"),
        ("1000PEPEUSDT", "perp"),
        ("BTCPERP", "perp"),
        ("BTCUSD_CM", "perp"),
        ("ETHUSDZ26_CM", "future"),
    ],
    "BITHUMB": [("KRW-BTC", "spot"), ("BTC-ETH", "spot")],
    "BITMART": [
        ("BTC_USDT", "spot"),
        ("ETH_BTC", "spot"),
        ("BTCUSDT", "perp"),
        ("1000PEPEUSDT", "perp"),
        ("BTCUSD", "perp"),
    ],
    "BITMEX": [("XBTUSD", "perp"), ("XBTEUR", "perp"), ("XBTZ26", "future"), ("SOL_USDT", "spot")],
    "BITSTAMP": [("btcusd", "spot"), ("ethusdt", "spot"), ("btcusd-perp", "perp")],
    "BITUNIX": [("BTCUSDT", "perp"), ("1000PEPEUSDT", "perp")],
    "BYBIT": [
        ("BTCUSDT", "spot"),
        ("ETHUSDT", "spot"),
        ("BTCUSDT", "perp"),
        ("1000PEPEUSDT", "perp"),
        ("BTCPERP", "perp"),
        ("BTC-27NOV26", "future"),
        ("ETHUSDT-27NOV26", "future"),
        ("BTCUSD", "perp"),
        ("BTCUSDZ26", "future"),
    ],
    "COINBASE": [("BTC-USD", "spot"), ("ETH-EUR", "spot"), ("BTC-PERP-INTX", "perp"), ("1000PEPE-PERP-INTX", "perp")],
    "CRYPTOCOM": [
        ("BTC_USDT", "spot"),
        ("ETH_USD", "spot"),
        ("BTCUSD-PERP", "perp"),
        ("1000PEPEUSD-PERP", "perp"),
        ("BTCUSD-270326", "future"),
    ],
    "DERIBIT": [
        ("BTC_USDC", "spot"),
        ("BTC-PERPETUAL", "perp"),
        ("ETH_USDC-PERPETUAL", "perp"),
        ("BTC-26MAR27", "future"),
        ("SOL_USDC-26MAR27", "future"),
    ],
    "DYDX": [("BTC-USD", "perp"), ("ETH-USD", "perp"), ("NEW,POOL,9BB6xyz-USD", "perp")],
    "GATEIO": [
        ("BTC_USDT", "spot"),
        ("NEO_BTC", "spot"),
        ("BTC_USDT", "perp"),
        ("1000PEPE_USDT", "perp"),
        ("BTC_USD", "perp"),
    ],
    "GEMINI": [("btcusd", "spot"), ("paxgusd", "spot"), ("btcgusdperp", "perp")],
    "HITBTC": [("BTCUSDT", "spot"), ("XMRETH", "spot"), ("BTCUSDT_PERP", "perp"), ("1000PEPEUSDT_PERP", "perp")],
    "HUOBI": [
        ("btcusdt", "spot"),
        ("ethbtc", "spot"),
        ("BTC-USD", "perp"),
        ("SHIB-USD", "perp"),
        ("BTC-USDT", "perp"),
        ("1000PEPE-USDT", "perp"),
        ("BTC-USDT-270326", "future"),
        ("BTC270326", "future"),
        ("ETH270326", "future"),
    ],
    "HYPERLIQUID": [("BTC", "perp"), ("kPEPE", "perp")],
    "KRAKEN": [
        ("BTC/USD", "spot"),
        ("DOGE/EUR", "spot"),
        ("PI_XBTUSD", "perp"),
        ("PF_XBTUSD", "perp"),
        ("FI_ETHUSD_270326", "future"),
        ("FF_XBTUSD_270326", "future"),
    ],
    "KUCOIN": [
        ("BTC-USDT", "spot"),
        ("ETH-BTC", "spot"),
        ("XBTUSDTM", "perp"),
        ("1000BONKUSDCM", "perp"),
        ("XBTUSDM", "perp"),
        ("XBTMH27", "future"),
    ],
    "MEXC": [
        ("BTCUSDT", "spot"),
        ("PEPEUSDC", "spot"),
        ("BTC_USDT", "perp"),
        ("1000BONK_USDT", "perp"),
        ("BTC_USD", "perp"),
    ],
    "OKEX": [
        ("BTC-USDT", "spot"),
        ("ETH-USDC", "spot"),
        ("BTC-USDT-SWAP", "perp"),
        ("BTC-USD-SWAP", "perp"),
        ("ETH-USD-270326", "future"),
        ("SOL-USDT-270326", "future"),
    ],
    "PHEMEX": [
        ("sBTCUSDT", "spot"),
        ("sETHUSDT", "spot"),
        ("BTCUSD", "perp"),
        ("LINKUSD", "perp"),
        ("cETHUSD", "perp"),
        ("SOLUSDT", "perp"),
        ("1000PEPEUSDT", "perp"),
    ],
    "POLONIEX": [("BTC_USDT", "spot"), ("ETH_BTC", "spot"), ("BTC_USDT_PERP", "perp"), ("1000PEPE_USDT_PERP", "perp")],
    "UPBIT": [("KRW-BTC", "spot"), ("USDT-DOGE", "spot")],
}
"""Instruments of each exchange, in its own spelling: at least two on each endpoint, linear and inverse, multiplied ones.

An exchange joins the generic tests by being registered and named here.
"""


COUNTED = frozenset({"ASTER", "BINANCE", "BINANCE_FUTURES", "BINANCE_US", "OKEX"})
"""Exchanges whose rows say how many matches they stand for."""

TEXT_IDS = frozenset(
    {"BITGET", "BITHUMB", "BITMART futures", "BITMEX", "BYBIT", "CRYPTOCOM", "DYDX", "KRAKEN futures", "UPBIT"}
)
"""Exchanges whose trade ids are text, on all or on one of their endpoints."""

WHOLE_SECONDS = frozenset({"BITSTAMP"})
"""Exchanges whose history tells time in seconds only."""

UNTIMED = frozenset({"BITMEX"})
"""Exchanges whose liquidations have no time of their own."""

MARKED = frozenset({"BITMART", "DERIBIT", "DYDX", "KRAKEN"})
"""Exchanges whose liquidations are marks on trades rather than a feed."""

ONLY_ACTIVE = frozenset({"BITFINEX", "BITHUMB", "GEMINI", "UPBIT"})
"""Exchanges that leave out of their listings what does not trade."""

LONG_PAGES = frozenset({"BITFINEX"})
"""Exchanges whose history gives more than 2,500 trades at once."""

ANONYMOUS = frozenset({"BITMART futures"})
"""Endpoints whose history has no ids although their live trades do: edge milliseconds of a hole stay empty."""

SILENT = frozenset({"ASTER", "BINANCE", "BINANCE_FUTURES", "BINANCE_US", "BITHUMB", "BITSTAMP", "UPBIT"})
"""Exchanges that acknowledge subscriptions to what does not exist."""


def identity(exchange_id: str, number: int, endpoint: str) -> int | str | None:
    """A trade id as the exchange has them on that endpoint."""
    if exchanges.get(exchange_id).endpoint(endpoint).ids == "none":
        return None
    return str(number) if {exchange_id, f"{exchange_id} {endpoint}"} & TEXT_IDS else number


def instruments(exchange: Exchange) -> list[Instrument]:
    """The test instruments of an exchange."""
    return [exchange.assume(symbol, kind) for symbol, kind in SYMBOLS[exchange.id]]


def endpoints() -> list[tuple[str, str]]:
    """(exchange, endpoint) that carry trades of test instruments."""
    return sorted({(i.exchange, i.endpoint) for e in exchanges.IDS for i in instruments(exchanges.get(e))})


def liquidation_endpoint(exchange_id: str, endpoint: str) -> str:
    """Where the liquidations of an endpoint's instruments come: the same, unless there are sockets for them alone."""
    exchange = exchanges.get(exchange_id)
    of = [i for i in instruments(exchange) if i.endpoint == endpoint]
    return next(iter({s.endpoint for i in of for s in exchange.streams(i, True)} - {endpoint}), endpoint)


def sockets() -> list[tuple[str, str]]:
    """(exchange, endpoint) that carry anything of test instruments."""
    return sorted({(x, e) for x, trades in endpoints() for e in (trades, liquidation_endpoint(x, trades))})


def simulated(exchange_id: str) -> SimulatedExchange:
    """The server's half, listing the test instruments."""
    exchange = exchanges.get(exchange_id)
    server = simulate(exchange)
    server.list(instruments(exchange))
    return server


class Link:
    """A client's decoder and the server's connection, joined without a socket."""

    def __init__(self, server: SimulatedExchange, endpoint: str, liquidations: bool = False) -> None:
        self.server = server
        self.instruments = {
            i.symbol: i
            for i in server.instruments.values()
            if any(s.endpoint == endpoint for s in server.exchange.streams(i, liquidations))
        }
        self.decoder: Decoder = server.exchange.decoder(endpoint, self.instruments)
        self.connection: SimulatedConnection = server.connection(endpoint)
        streams = [s for i in self.instruments.values() for s in server.exchange.streams(i, liquidations)]
        self.topics = [*dict.fromkeys(s.topic for s in streams if s.endpoint == endpoint)]

    def subscribe(self, topics: Sequence[str] | None = None) -> list[Event]:
        """Subscribe to all or some topics; the events of the answers."""
        wanted = self.topics if topics is None else topics
        greeting = self.read(self.connection.greet(NOW_MS))
        return greeting + self.send(self.decoder.subscribe(wanted, NOW_MS))

    def send(self, frames: Sequence[Frame]) -> list[Event]:
        """Let the server receive frames, and read its answers."""
        return [event for frame in frames for event in self.read(self.connection.receive(frame, NOW_MS))]

    def read(self, frames: Sequence[Frame]) -> list[Event]:
        """Decode the server's frames."""
        return [e for f in frames for e in self.decoder.decode(raw(f), NOW_MS)]

    def deals(self, frames: Sequence[Frame]) -> list[Event]:
        """As `read`, without what exchanges say beside or repeat (Bitfinex sends each trade twice)."""
        return [e for e in self.read(frames) if not isinstance(e, Alive | Excluded)]


def alone(exchange_id: str, kind: Kind | None = None) -> Decoder:
    """A decoder that has asked for nothing and makes instruments up from their names."""
    exchange = exchanges.get(exchange_id)
    endpoint = next(i.endpoint for i in instruments(exchange) if kind in (None, i.kind))
    return exchange.decoder(endpoint, Assumed(exchange, kind))


def events(exchange_id: str, value: object, kind: Kind | None = None) -> list[Event]:
    """What one JSON frame means on a connection of its own."""
    return list(alone(exchange_id, kind).decode(json.dumps(value).encode(), NOW_MS))


def raw(frame: Frame) -> bytes:
    """A frame's payload."""
    return frame.encode() if isinstance(frame, str) else frame


def on_grid(value: float, scale: int) -> float:
    """The nearest value above zero that an exchange with so many decimal places can say; any where it sends none."""
    return max(1, round(value * 10**scale)) / 10**scale if scale else value


def same(got: Trade, sent: Trade) -> bool:
    """Equal, but for rounding of sizes through the wire's unit, and for ids that are text on the wire."""
    return (
        got.instrument == sent.instrument
        and got.ts_ms == sent.ts_ms
        and got.price == sent.price
        and math.isclose(got.size, sent.size, rel_tol=1e-9)
        and got.buy == sent.buy
        and (got.id is None or got.id == sent.id)
    )


class Rest:
    """A simulated exchange's REST side, asked by `Call`s."""

    def __init__(self, server: SimulatedExchange, past: Sequence[Trade] = (), now_ms: int = NOW_MS) -> None:
        self.server, self.past, self.now_ms = server, past, now_ms
        self.asked: list[str] = []

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        return [t for t in self.past if t.instrument == instrument and from_ms <= t.ts_ms < to_ms]

    def ask(self, call: Call[Any]) -> list[Any]:
        """Everything that a call and its pages give."""
        items: list[Any] = []
        left: Call[Any] | None = call
        while left is not None:
            self.asked.append(left.request.url)
            assert len(self.asked) < 500, "endless paging"
            status, body = self.answer(left)
            assert status == 200, body
            page = left.read(body)
            items += page.items
            left = page.next
        return items

    def answer(self, call: Call[Any]) -> tuple[int, bytes]:
        """The server's answer to one request."""
        name, base = next(
            (n, self.server.exchange.url(n))
            for n in self.server.exchange.rest
            if call.request.url.startswith(self.server.exchange.url(n))
        )
        parts = urlsplit(call.request.url.removeprefix(base))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        request = call.request
        return self.server.rest(request.method, name, parts.path, query, request.body, self.history, self.now_ms)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
