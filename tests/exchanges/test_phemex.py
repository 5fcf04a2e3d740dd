"""Phemex: scales, contracts of three kinds, and symbols whose case matters."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import Past, Trade
from tests.exchanges.support import NOW_MS

NS = NOW_MS * 1_000_000 + 999_999


def read(symbol: str, row: list[Any], key: str = "trades", kind: str = "incremental") -> list[Any]:
    exchange = exchanges.get("PHEMEX")
    decoder = exchange.decoder("market", {symbol: exchange.assume(symbol)})
    frame = {"sequence": 1, "symbol": symbol, key: [row], "type": kind}
    return list(decoder.decode(json.dumps(frame).encode(), NOW_MS))


@pytest.mark.parametrize(
    ("symbol", "row", "price", "size"),
    [
        ("sBTCUSDT", [NS, "Buy", 5_000_012_000_000, 12_500_000], 50_000.12, 0.125),
        ("BTCUSD", [NS, "Buy", 500_001_000, 100], 50_000.1, 100 / 50_000.1),
        ("cETHUSD", [NS, "Buy", 20_000_000, 100], 2000.0, 0.05),
        ("LINKUSD", [NS, "Buy", 43_780, 6], 4.378, 1.2),
    ],
)
def test_integers_become_prices_and_coins(symbol: str, row: list[Any], price: float, size: float) -> None:
    """Spot quantities have a scale, inverse contracts are dollars, dollar-settled ones have a size in coins."""
    (trade,) = read(symbol, row)
    assert isinstance(trade, Trade)
    assert (trade.price, trade.ts_ms, trade.buy) == (price, NOW_MS, True)
    assert trade.size == pytest.approx(size, rel=1e-12)


def test_text_is_taken_as_it_is() -> None:
    """`trades_p` has prices and coins as text."""
    (trade,) = read("SOLUSDT", [NS, "Sell", "150.05", "2.5"], "trades_p")
    assert (trade.price, trade.size, trade.buy) == (150.05, 2.5, False)


def test_snapshots_are_past() -> None:
    """What comes with `type: snapshot` is history."""
    (image,) = read("BTCUSD", [NS, "Buy", 500_001_000, 100], kind="snapshot")
    assert isinstance(image, Past)


def test_case_tells_spot_from_contracts() -> None:
    """`sOLUSDT` is spot OL, `SOLUSDT` the contract on SOL; nothing is ever capitalised."""
    exchange = exchanges.get("PHEMEX")
    spot, perp = exchange.assume("sOLUSDT"), exchange.assume("SOLUSDT")
    assert (spot.market, spot.kind, spot.base) == ("PHEMEX:sOLUSDT", "spot", "OL")
    assert (perp.market, perp.kind, perp.base) == ("PHEMEX:SOLUSDT", "perp", "SOL")


def test_listed_products_carry_their_scales_and_kinds() -> None:
    """Inverse is what lies on its quote currency; value scales are the currency's; other product types are left out."""
    older = {"quoteCurrency": "USD", "status": "Listed", "type": "Perpetual", "priceScale": 4}
    products = [
        older | {"symbol": "BTCUSD", "indexSymbol": ".BTC", "contractUnderlyingAssets": "USD", "contractSize": 1},
        older | {"symbol": "ETHUSD", "indexSymbol": ".ETH", "contractUnderlyingAssets": "ETH", "contractSize": 0.005},
        older | {"symbol": "sBTCUSDT", "type": "Spot", "baseCurrency": "BTC", "quoteCurrency": "USDT", "priceScale": 8},
        older | {"symbol": "X", "type": "PerpetualPilot"},
    ]
    data = {"currencies": [{"currency": "BTC", "valueScale": 7}], "products": products}
    (call,) = exchanges.get("PHEMEX").listings()
    btc, eth, spot = call.read(json.dumps({"code": 0, "data": data}).encode()).items
    assert (btc.inverse, btc.contract_size, btc.price_scale, btc.base) == (True, 1.0, 4, "BTC")
    assert (eth.inverse, eth.contract_size, eth.base) == (False, 0.005, "ETH")
    assert (spot.kind, spot.price_scale, spot.value_scale) == ("spot", 8, 7)
