"""The usual markets of each exchange, under the names that traders and their charts already use."""

from __future__ import annotations

import msgspec
import pytest

import exchanges
from exchanges.api import Kind

NAMED: dict[str, set[tuple[str, Kind]]] = {
    "ASTER": {("BTCUSDT", "perp")},
    "BINANCE": {("btcusdt", "spot")},
    "BINANCE_FUTURES": {("btcusdt", "perp"), ("btcusd_perp", "perp")},
    "BINANCE_US": {("btcusd", "spot")},
    "BITFINEX": {("BTCUSD", "spot"), ("BTCF0:USTF0", "perp")},
    "BITGET": {("BTCUSDT-SPOT", "spot"), ("BTCUSDT", "perp")},
    "BITMEX": {("XBTUSD", "perp")},
    "BYBIT": {("BTCUSDT-SPOT", "spot"), ("BTCUSDT", "perp")},
    "COINBASE": {("BTC-USD", "spot"), ("BTC-PERP-INTX", "perp")},
    "DERIBIT": {("BTC-PERPETUAL", "perp")},
    "DYDX": {("BTC-USD", "perp")},
    "GATEIO": {("BTC_USDT-SPOT", "spot"), ("BTC_USDT", "perp")},
    "HUOBI": {("btcusdt", "spot"), ("BTC-USDT", "perp"), ("BTC-USD", "perp")},
    "HYPERLIQUID": {("BTC", "perp")},
    "KRAKEN": {("XBT/USD", "spot"), ("PI_XBTUSD", "perp"), ("PF_XBTUSD", "perp")},
    "KUCOIN": {("BTC-USDT", "spot"), ("XBTUSDTM", "perp")},
    "OKEX": {("BTC-USDT", "spot"), ("BTC-USDT-SWAP", "perp"), ("BTC-USD-SWAP", "perp")},
    "PHEMEX": {("sBTCUSDT", "spot"), ("BTCUSDT", "perp")},
}
"""Names that users of aggr-server have in their charts, of the exchanges where they follow from nothing else."""


@pytest.mark.parametrize("exchange_id", NAMED)
def test_markets_have_the_names_that_users_know(exchange_id: str) -> None:
    """Charts and dashboards made for older collectors find their markets."""
    assert {(i.pair, i.kind) for i in exchanges.get(exchange_id).usual_markets("BTC")} == NAMED[exchange_id]


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
@pytest.mark.parametrize("base", ["BTC", "ETH", "SOL"])
def test_each_template_means_a_market_of_the_coin(exchange_id: str, base: str) -> None:
    """The naming rules read the coin, a quote, a kind that the exchange has and a stream out of each."""
    exchange = exchanges.get(exchange_id)
    found = exchange.usual_markets(base)
    assert found
    assert len({i.market for i in found}) == len(found)
    for instrument in found:
        assert (instrument.exchange, instrument.base) == (exchange_id, base)
        assert instrument.quote in ("USD", "USDT", "USDC", "KRW")
        assert instrument.kind in exchange.kinds
        assert exchange.streams(instrument, False)


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_names_and_symbols_mean_the_same(exchange_id: str) -> None:
    """Reading a market's symbol, its kind known, gives the market again: the rules do not depend on the spelling asked."""
    exchange = exchanges.get(exchange_id)
    for instrument in exchange.usual_markets("ETH"):
        again = exchange.assume(instrument.symbol, instrument.kind)
        assert again == msgspec.structs.replace(instrument)
