"""What 25 exchanges send and mean: pure decoders, one file each, imported when asked for.

`get("BINANCE")` gives the `Exchange`; everything that it promises is in `exchanges.api`. `docs/add-an-exchange.md` walks
through adding one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from exchanges.api import Exchange

_REGISTRY: dict[str, str] = {
    "ASTER": "aster:Aster",
    "BINANCE": "binance:Binance",
    "BINANCE_FUTURES": "binance_futures:BinanceFutures",
    "BINANCE_US": "binance_us:BinanceUs",
    "BITFINEX": "bitfinex:Bitfinex",
    "BITGET": "bitget:Bitget",
    "BITHUMB": "bithumb:Bithumb",
    "BITMART": "bitmart:Bitmart",
    "BITMEX": "bitmex:Bitmex",
    "BITSTAMP": "bitstamp:Bitstamp",
    "BITUNIX": "bitunix:Bitunix",
    "BYBIT": "bybit:Bybit",
    "COINBASE": "coinbase:Coinbase",
    "CRYPTOCOM": "cryptocom:Cryptocom",
    "DERIBIT": "deribit:Deribit",
    "DYDX": "dydx:Dydx",
    "GATEIO": "gateio:Gateio",
    "GEMINI": "gemini:Gemini",
    "HITBTC": "hitbtc:Hitbtc",
    "HUOBI": "huobi:Huobi",
    "HYPERLIQUID": "hyperliquid:Hyperliquid",
    "KRAKEN": "kraken:Kraken",
    "KUCOIN": "kucoin:Kucoin",
    "MEXC": "mexc:Mexc",
    "OKEX": "okex:Okex",
    "PHEMEX": "phemex:Phemex",
    "POLONIEX": "poloniex:Poloniex",
    "UPBIT": "upbit:Upbit",
}

IDS: tuple[str, ...] = tuple(_REGISTRY)
"""All exchange ids, in alphabetical order."""

_VENUES = {
    "COINBASE_EXCHANGE": "COINBASE",
    "COINBASE_INTERNATIONAL": "COINBASE",
    "CRYPTO_COM": "CRYPTOCOM",
    "GATE": "GATEIO",
    "GATE_IO": "GATEIO",
    "HTX": "HUOBI",
    "KRAKEN_FUTURES": "KRAKEN",
    "OKX": "OKEX",
}
"""What others call exchanges whose id is not simply the same name in capitals."""


def get(exchange_id: str, addresses: Mapping[str, str] | None = None) -> Exchange:
    """The exchange of that id, with published addresses replaced by `addresses`. KeyError when there is none."""
    module, _, name = _REGISTRY[exchange_id].partition(":")
    exchange: type[Exchange] = getattr(import_module(f"exchanges.{module}"), name)
    return exchange(addresses)


def by_venue(name: str, market: str | None = None) -> str | None:
    """The id of the exchange that others call `name` in any spelling (`okx`, `Binance-Futures`); None if unknown.

    `market` (`spot` or `perp`) tells apart those that we keep as two exchanges: `binance` with `perp` is BINANCE_FUTURES.
    """
    wanted = name.strip().upper().replace("-", "_").replace(".", "_").replace(" ", "_")
    wanted = _VENUES.get(wanted, wanted)
    if market == "perp" and f"{wanted}_FUTURES" in _REGISTRY:
        wanted += "_FUTURES"
    return wanted if wanted in _REGISTRY else None
