"""Poloniex: two shapes of trades, refusals that name nothing, liquidations."""

from __future__ import annotations

import json

import exchanges
from exchanges.api import Acked, Decoder, Liquidation, Malformed, Rejected, Trade
from tests.exchanges.support import NOW_MS

PERP = {"s": "BTC_USDT_PERP", "id": 7, "side": "sell", "px": "60000.5", "qty": "250", "cT": NOW_MS, "ts": NOW_MS + 9}
SPOT = {
    "symbol": "BTC_USDT",
    "amount": "30000",
    "quantity": "0.5",
    "takerSide": "buy",
    "createTime": NOW_MS,
    "price": "60000",
    "id": "8",
    "ts": NOW_MS + 9,
}


def decoder(endpoint: str) -> Decoder:
    exchange = exchanges.get("POLONIEX")
    return exchange.decoder(endpoint, {s: exchange.assume(s) for s in ("BTC_USDT", "BTC_USDT_PERP")})


def test_both_shapes_are_read_on_both_sockets() -> None:
    """Spot sizes are the base amount, futures' are contracts; the time is that of the trade."""
    for endpoint in ("spot", "futures"):
        frame = json.dumps({"channel": "trades", "data": [PERP, SPOT, {"s": 1}]}).encode()
        perp, spot, bad = decoder(endpoint).decode(frame, NOW_MS)
        assert isinstance(perp, Trade)
        assert isinstance(spot, Trade)
        assert isinstance(bad, Malformed)
        assert (perp.size, perp.ts_ms, perp.buy, perp.id) == (0.25, NOW_MS, False, 7)
        assert (spot.size, spot.ts_ms, spot.buy, spot.id) == (0.5, NOW_MS, True, 8)


def test_refusals_are_of_the_oldest_request_without_an_answer() -> None:
    """A refusal names nothing; requests are answered in their order."""
    d = decoder("futures")
    d.subscribe(["trades:BTC_USDT_PERP"], NOW_MS)
    d.unsubscribe(["trades:OLD_USDT_PERP"], NOW_MS)
    d.subscribe(["liquidation_orders:NO_SUCH_PERP"], NOW_MS)
    answers = [
        {"event": "subscribe", "channel": "trades", "symbols": ["BTC_USDT_PERP"]},
        {"event": "unsubscribe", "channel": "trades", "symbols": ["OLD_USDT_PERP"]},
        {"event": "error", "message": "no valid symbols"},
    ]
    events = [e for a in answers for e in d.decode(json.dumps(a).encode(), NOW_MS)]
    assert events[0] == Acked(("trades:BTC_USDT_PERP",))
    assert events[2] == Rejected(("liquidation_orders:NO_SUCH_PERP",), "no valid symbols")


def test_liquidations_have_the_side_of_the_order() -> None:
    """Contracts become coins, the price is the bankruptcy price."""
    row = {"s": "BTC_USDT_PERP", "side": "SELL", "posSide": "LONG", "sz": "100", "bkPx": "59000", "uTime": NOW_MS}
    frame = json.dumps({"channel": "liquidation_orders", "data": [row]}).encode()
    (forced,) = decoder("futures").decode(frame, NOW_MS)
    assert isinstance(forced, Liquidation)
    assert (forced.size, forced.price, forced.buy) == (0.1, 59000.0, False)
