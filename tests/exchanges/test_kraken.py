"""Kraken: two generations of names, linear and inverse futures, what is no trade."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import Acked, Assumed, BadMessage, Event, Excluded, Rejected, Trade

KRAKEN = exchanges.get("KRAKEN")
NOW_MS = 1_800_000_000_000


def decode(value: Any, *symbols: str) -> list[Event]:
    known = {symbol: KRAKEN.assume(symbol) for symbol in symbols}
    return list(KRAKEN.decoder("spot", known or Assumed(KRAKEN)).decode(json.dumps(value).encode(), NOW_MS))


def contract(**more: Any) -> dict[str, Any]:
    row = {"feed": "trade", "product_id": "PF_XBTUSD", "uid": "u", "side": "sell", "type": "fill", "seq": 3}
    return row | {"time": NOW_MS, "qty": 5000.0, "price": 50_000.0} | more


def only(value: Any, *symbols: str) -> Trade:
    (event,) = decode(value, *symbols)
    assert isinstance(event, Trade)
    return event


def test_both_generations_of_names_are_one_market() -> None:
    """v1 says XBT/USD, v2 BTC/USD; a subscribed market is found by either, under v1's name."""
    row = {"symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 2, "trade_id": 7}
    new = only(
        {"channel": "trade", "type": "update", "data": [row | {"timestamp": "2026-01-01T00:00:00.1239Z"}]}, "BTC/USD"
    )
    old = only([0, [["1.5", "2", "1767225600.123900", "b", "l", ""]], "trade", "XBT/USD"], "BTC/USD")
    assert new.instrument == old.instrument
    assert (new.instrument.market, new.instrument.symbol) == ("KRAKEN:XBT/USD", "BTC/USD")
    assert (new.ts_ms, old.ts_ms) == (1767225600123, 1767225600123)
    assert (new.id, old.id) == (7, None)


@pytest.mark.parametrize("ms", range(0, 1000, 37))
def test_times_in_seconds_lose_no_millisecond(ms: int) -> None:
    """Decimals are read as such: a float would put some of them one millisecond early."""
    assert only([0, [["1", "2", f"1561939258.{ms:03d}000", "s", "l", ""]], "trade", "XBT/USD"]).ts_ms % 1000 == ms


@pytest.mark.parametrize("time", ["1e30", "-5", "NaN", "Infinity", "1e999999"])
def test_absurd_times_are_malformed(time: str) -> None:
    """A time out of range costs its row, and no time to compute."""
    assert not [e for e in decode([0, [["1", "2", time, "s"]], "trade", "XBT/USD"]) if isinstance(e, Trade)]


@pytest.mark.parametrize(
    ("symbol", "size"),
    [("PF_XBTUSD", 5000.0), ("FF_XBTUSD_270326", 5000.0), ("PI_XBTUSD", 0.1), ("fi_xbtusd_270326", 0.1)],
)
def test_linear_contracts_count_coins_and_inverse_ones_dollars(symbol: str, size: float) -> None:
    """By the second letter; the case of names varies and means nothing."""
    trade = only(contract(product_id=symbol))
    assert trade.size == pytest.approx(size)
    assert trade.instrument.symbol == symbol.upper()


@pytest.mark.parametrize("kind", ["assignment", "termination", "block"])
def test_what_is_not_of_the_book_is_no_trade(kind: str) -> None:
    """Other types than fill and liquidation are counted as excluded."""
    (event,) = decode(contract(type=kind))
    assert isinstance(event, Excluded)


def test_a_liquidation_has_its_mark_and_side() -> None:
    """The trade's side is the forced order's; trades without uid (older frames) go by seq."""
    trade = only(contract(type="liquidation"))
    assert (trade.forced, trade.buy, trade.id) == (False, False, "u")
    row = contract()
    del row["uid"]
    assert (only(row).id, only(row).forced) == (3, None)


def test_refusals_name_their_market() -> None:
    """On either socket, also where v1's name was asked for."""
    failed = {"event": "subscribed_failed", "feed": "trade", "product_ids": ["PI_NONE"]}
    assert decode(failed) == [Rejected(("PI_NONE",), "subscribed_failed")]
    error = {"method": "subscribe", "success": False, "error": "Currency pair not supported A/B", "symbol": "A/B"}
    assert decode(error) == [Rejected(("A/B",), "Currency pair not supported A/B")]
    status = {"event": "subscriptionStatus", "status": "subscribed", "pair": "XBT/USD", "channelName": "trade"}
    assert decode(status) == [Acked(("BTC/USD",))]


def test_listings_give_our_names() -> None:
    """Dark pools and indices are left out; XDG is DOGE; sizes, kinds and settlement come from the listing."""
    pairs = {"XXDGZUSD": {"wsname": "XDG/USD", "status": "online"}, "XXBTZUSD.d": {"altname": "XBTUSD.d"}}
    rows = [
        {"symbol": "PF_PEPEUSD", "type": "flexible_futures", "tradeable": True, "contractSize": 1},
        {"symbol": "fi_ethusd_270326", "type": "futures_inverse", "tradeable": False, "contractSize": 1},
        {"symbol": "in_xbtusd", "type": "spot index", "tradeable": False},
    ]
    spot, futures = KRAKEN.listings()
    (doge,) = spot.read(json.dumps({"error": [], "result": pairs}).encode()).items
    assert (doge.market, doge.symbol, doge.base, doge.quote) == ("KRAKEN:XDG/USD", "DOGE/USD", "DOGE", "USD")
    pepe, ether = futures.read(json.dumps({"result": "success", "instruments": rows}).encode()).items
    assert (pepe.market, pepe.kind, pepe.inverse, pepe.base) == ("KRAKEN:PF_PEPEUSD", "perp", False, "PEPE")
    assert (ether.market, ether.kind, ether.inverse, ether.active) == ("KRAKEN:FI_ETHUSD_270326", "future", True, False)


def test_errors_of_rest_are_not_empty_answers() -> None:
    """The exchange answers errors with status 200."""
    with pytest.raises(BadMessage, match="EGeneral:Temporary lockout"):
        KRAKEN.listings()[0].read(b'{"error":["EGeneral:Temporary lockout"]}')
