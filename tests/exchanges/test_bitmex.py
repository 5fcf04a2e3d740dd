"""BitMEX: what contracts are worth, what is no trade."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import (
    Acked,
    Assumed,
    Decoder,
    Event,
    Excluded,
    Instrument,
    Liquidation,
    Malformed,
    Past,
    Rejected,
    Trade,
)

BITMEX = exchanges.get("BITMEX")
NOW_MS = 1_800_000_000_000


def table(name: str, action: str, **row: Any) -> bytes:
    return json.dumps({"table": name, "action": action, "data": [row]}).encode()


def trade(symbol: str, action: str = "insert", **more: Any) -> bytes:
    row = {"timestamp": "2026-01-01T00:00:00.123Z", "symbol": symbol, "side": "Sell", "size": 10, "price": 2000.0}
    return table("trade", action, **(row | more))


def forced(symbol: str) -> bytes:
    return table("liquidation", "insert", orderID="o1", symbol=symbol, side="Sell", price=2000.0, leavesQty=30)


def decoder(*instruments: Instrument) -> Decoder:
    return BITMEX.decoder("public", {i.symbol: i for i in instruments} or Assumed(BITMEX))


def only(of: Decoder, frame: bytes) -> Event:
    (event,) = of.decode(frame, NOW_MS)
    return event


def listed(symbol: str, **row: Any) -> Instrument:
    body = json.dumps([{"symbol": symbol, "typ": "FFWCSX", "quoteCurrency": "USD"} | row]).encode()
    (instrument,) = BITMEX.listings()[0].read(body).items
    return instrument


def test_inverse_contracts_are_dollars_and_others_what_home_notional_says() -> None:
    """The rounded homeNotional is used only where contracts alone do not tell."""
    inverse = only(decoder(), trade("XBTUSD", homeNotional=0.00499))
    linear = only(decoder(), trade("SOLUSDT", homeNotional=0.25))
    assert isinstance(inverse, Trade)
    assert isinstance(linear, Trade)
    assert (inverse.size, linear.size, linear.buy) == (10 / 2000.0, 0.25, False)


def test_a_quanto_liquidation_is_worth_what_the_newest_trade_was() -> None:
    """Before the first trade its worth is unknown and it is left out, loudly; the image counts as a trade here."""
    ether = listed("ETHUSD", underlying="ETH", isQuanto=True, multiplier=100, settlCurrency="XBt")
    assert (ether.contract_size, ether.quanto) == (1e-6, True)
    of = decoder(ether)
    assert isinstance(only(of, forced("ETHUSD")), Excluded)
    assert isinstance(only(of, trade("ETHUSD", "partial", homeNotional=0.5)), Past)
    event = only(of, forced("ETHUSD"))
    assert isinstance(event, Liquidation)
    assert (event.size, event.ts_ms, event.id) == (pytest.approx(30 * 0.05), NOW_MS, "o1")
    assert isinstance(only(of, trade("ETHUSD", homeNotional=None)), Malformed)


def test_linear_contracts_count_by_their_listing() -> None:
    """A million contracts of XBTUSDT are one coin; liquidations say contracts only."""
    row = {"underlying": "XBT", "quoteCurrency": "USDT", "settlCurrency": "USDt", "multiplier": 1}
    tether = listed("XBTUSDT", **row, underlyingToPositionMultiplier=1_000_000)
    assert (tether.base, tether.quote, tether.contract_size, tether.inverse) == ("BTC", "USDT", 1e-6, False)
    event = only(decoder(tether), forced("XBTUSDT"))
    assert isinstance(event, Liquidation)
    assert event.size == pytest.approx(30e-6)


@pytest.mark.parametrize("more", [{"trdType": "Settlement", "side": ""}, {"side": None}, {"trdType": "Referential"}])
def test_prints_without_aggressor_are_no_trades(more: dict[str, Any]) -> None:
    """Settlements and reference prices are counted as excluded."""
    assert isinstance(only(decoder(), trade("XBTUSD", **more)), Excluded)


def test_the_life_of_a_liquidation_order_after_its_start_counts_nothing() -> None:
    """Only `insert` is a new order."""
    for action in ("partial", "update", "delete"):
        frame = table("liquidation", action, orderID="o1", symbol="XBTUSD")
        assert not [e for e in decoder().decode(frame, NOW_MS) if isinstance(e, Liquidation | Malformed)]


@pytest.mark.parametrize(
    ("status", "error", "event"),
    [
        (400, "Unknown or expired symbol.", Rejected(("trade:B",), "Unknown or expired symbol.")),
        (400, "You are already subscribed to this topic: trade:B.", Acked(("trade:B",))),
        (429, "Rate limit exceeded", Rejected(("trade:B", "trade:C"), "Rate limit exceeded")),
    ],
)
def test_an_error_is_about_the_first_unanswered_topic(status: int, error: str, event: Event) -> None:
    """Errors repeat the request and name no topic; answers come in order. Too many requests refuses all the rest."""
    of = decoder()
    (asked,) = of.subscribe(["trade:A", "trade:B", "trade:C"], NOW_MS)
    request = json.loads(asked)
    of.decode(json.dumps({"success": True, "subscribe": "trade:A", "request": request}).encode(), NOW_MS)
    assert only(of, json.dumps({"status": status, "error": error, "meta": {}, "request": request}).encode()) == event


@pytest.mark.parametrize(
    ("symbol", "kind", "base", "quote", "inverse"),
    [
        ("XBTUSD", "perp", "BTC", "USD", True),
        ("XBTEUR", "perp", "BTC", "EUR", True),
        ("XBTZ26", "future", "BTC", "USD", True),
        ("ETHUSD", "perp", "ETH", "USD", False),
        ("ETHUSDH21", "future", "ETH", "USD", False),
        ("XRPU21", "future", "XRP", "BTC", False),
        ("SOLUSDT", "perp", "SOL", "USDT", False),
        ("XBT_USDT", "spot", "BTC", "USDT", False),
    ],
)
def test_names_tell_what_they_can(symbol: str, kind: str, base: str, quote: str, inverse: bool) -> None:
    """Perpetual, dated or spot, and inverse or not, by the name alone."""
    found = BITMEX.assume(symbol)
    assert (found.kind, found.base, found.quote, found.inverse) == (kind, base, quote, inverse)


def test_open_interest_of_quanto_contracts_needs_the_price_of_xbt() -> None:
    """Contracts × XBT per dollar × XBT price are coins; without that price nothing is said."""
    ether: dict[str, Any] = {
        "symbol": "ETHUSD",
        "typ": "FFWCSX",
        "isQuanto": True,
        "multiplier": 100,
        "openInterest": 1e6,
    }
    bitcoin = {"symbol": "XBTUSD", "typ": "FFWCSX", "isInverse": True, "multiplier": -1e8, "lastPrice": 50_000.0}
    (call,) = BITMEX.open_interest([listed(**ether)])
    (row,) = call.read(json.dumps([ether, bitcoin]).encode()).items
    assert row.base == pytest.approx(50_000.0)
    assert not call.read(json.dumps([ether]).encode()).items
