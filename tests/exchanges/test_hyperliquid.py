"""Hyperliquid: which push is history, and only that."""

from __future__ import annotations

import json

import exchanges
from exchanges.api import Acked, Decoder, Past, Rejected, Trade
from tests.exchanges.support import NOW_MS


def decoder() -> Decoder:
    exchange = exchanges.get("HYPERLIQUID")
    return exchange.decoder("perp", {coin: exchange.assume(coin) for coin in ("BTC", "kPEPE")})


def push(coin: str, *tids: int) -> bytes:
    row = {"coin": coin, "side": "A", "px": "10.5", "sz": "2", "time": NOW_MS, "users": ["0x1", "0x2"]}
    return json.dumps({"channel": "trades", "data": [row | {"tid": tid} for tid in tids]}).encode()


def test_each_coins_first_push_after_each_subscription_is_past() -> None:
    """Coins are told apart, and subscribing again brings the history again."""
    d = decoder()
    d.subscribe(["trades:BTC", "trades:kPEPE"], NOW_MS)
    kinds = [type(e) for f in (push("BTC", 1, 2), push("kPEPE", 3), push("BTC", 4)) for e in d.decode(f, NOW_MS)]
    assert kinds == [Past, Past, Trade]
    d.subscribe(["trades:BTC"], NOW_MS)
    assert [type(e) for f in (push("BTC", 5), push("kPEPE", 6)) for e in d.decode(f, NOW_MS)] == [Past, Trade]


def test_a_repeated_subscription_brings_no_history() -> None:
    """Subscribing to what is subscribed is refused in words; it goes on, and the next push is live."""
    d = decoder()
    d.decode(push("BTC", 1), NOW_MS)
    d.subscribe(["trades:BTC"], NOW_MS)
    text = 'Already subscribed: {"type":"trades","coin":"BTC"}'
    answer = d.decode(json.dumps({"channel": "error", "data": text}).encode(), NOW_MS)
    assert list(answer) == [Acked(("trades:BTC",))]
    assert [type(e) for e in d.decode(push("BTC", 2), NOW_MS)] == [Trade]


def test_refusals_name_their_coin() -> None:
    """The refused subscription stands in the text of the error."""
    text = 'Invalid subscription {"type":"trades","coin":"NOPE"}'
    (refused,) = decoder().decode(json.dumps({"channel": "error", "data": text}).encode(), NOW_MS)
    assert isinstance(refused, Rejected)
    assert refused.topics == ("trades:NOPE",)


def test_a_thousand_pepe_is_one_unit_of_trade() -> None:
    """kPEPE is PEPE with a multiplier; sizes and prices stay in thousands."""
    pepe = exchanges.get("HYPERLIQUID").assume("kPEPE")
    assert (pepe.market, pepe.base, pepe.multiplier) == ("HYPERLIQUID:kPEPE", "PEPE", 1000.0)
