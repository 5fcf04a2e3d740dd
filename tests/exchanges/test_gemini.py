"""Gemini: names, both generations of its socket, trades that have no aggressor."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import Acked, Alive, Excluded, Gap, Kind, Past, Rejected, Trade, Unknown
from tests.exchanges.support import NOW_MS

OLD = {"type": "trade", "symbol": "BTCUSD", "event_id": 7, "timestamp": NOW_MS, "price": "60000.5", "quantity": "0.25"}


def read(frame: object) -> list[object]:
    exchange = exchanges.get("GEMINI")
    decoder = exchange.decoder("market", {"btcusd": exchange.assume("btcusd")})
    return list(decoder.decode(json.dumps(frame).encode(), NOW_MS))


@pytest.mark.parametrize(
    ("symbol", "base", "quote", "kind"),
    [
        ("btcusd", "BTC", "USD", "spot"),
        ("paxgusd", "PAXG", "USD", "spot"),
        ("btcgusd", "BTC", "GUSD", "spot"),
        ("btcrlusd", "BTC", "RLUSD", "spot"),
        ("ethbtc", "ETH", "BTC", "spot"),
        ("pepegusdperp", "PEPE", "GUSD", "perp"),
    ],
)
def test_names_are_split_by_known_quotes(symbol: str, base: str, quote: str, kind: Kind) -> None:
    """Base, quote and kind stand in the spelling alone."""
    instrument = exchanges.get("GEMINI").assume(symbol)
    assert (instrument.base, instrument.quote, instrument.kind) == (base, quote, kind)


def test_nanoseconds_are_floored_and_makers_turned_round() -> None:
    """`m` true: the buyer was the maker, so the taker sold."""
    (trade,) = read({"E": NOW_MS * 10**6 + 999_999, "s": "btcusd", "t": 5, "p": "1.5", "q": "2", "m": True})
    assert isinstance(trade, Trade)
    assert (trade.ts_ms, trade.buy, trade.id) == (NOW_MS, False, 5)


def test_the_older_socket_is_read_too() -> None:
    """Its trades are live, those in `l2_updates` past, those without a side left out; heartbeats are signs of life."""
    (trade,) = read(OLD | {"side": "buy"})
    assert isinstance(trade, Trade)
    assert (trade.instrument.pair, trade.buy) == ("btcusd", True)
    assert [type(e) for e in read({"type": "l2_updates", "trades": [OLD | {"side": "sell"}]})] == [Past]
    assert [type(e) for e in read(OLD)] == [Excluded]
    assert read({"type": "heartbeat", "timestamp": NOW_MS}) == [Alive()]
    assert [type(e) for e in read({"type": "candles_1m_updates"})] == [Unknown]


def test_a_refusal_costs_only_the_topic_that_it_names() -> None:
    """Of names that hold one another the right one is refused, all of the request where none is named."""
    decoder = exchanges.get("GEMINI").decoder("market", {})
    topics = ("btcusd@trade", "wbtcusd@trade")
    answers: list[dict[str, Any]] = [
        {"status": 400, "error": {"code": -1121, "msg": "Invalid stream wbtcusd@trade"}},
        {"status": 400, "error": {"code": -1000, "msg": "Bad request"}},
        {"status": 200},
    ]
    events = []
    for answer in answers:
        (frame,) = decoder.subscribe(topics, NOW_MS)
        number = str(json.loads(frame)["id"])
        events += decoder.decode(json.dumps(answer | {"id": number}).encode(), NOW_MS)
    assert events == [
        Rejected(topics[1:], "-1121 Invalid stream wbtcusd@trade"),
        Rejected(topics, "-1000 Bad request"),
        Acked(topics),
    ]


def test_history_that_does_not_go_on_ends() -> None:
    """A full page that leads no further than the one before is the last: paging cannot go round for ever."""
    exchange = exchanges.get("GEMINI")
    call = exchange.recover(Gap(exchange.assume("btcusd"), NOW_MS, NOW_MS + 9, after_id=1000))
    assert call is not None
    row = {"timestampms": NOW_MS + 1, "price": "1", "amount": "1", "type": "sell"}
    same = json.dumps([row | {"tid": 1001 + n} for n in range(500)]).encode()
    following = call.read(same).next
    assert following is not None
    assert following.read(same).next is None


def test_history_leaves_out_what_is_no_market_trade() -> None:
    """Auctions, blocks and broken trades are not recovered; rows come newest first and leave oldest first."""
    exchange = exchanges.get("GEMINI")
    call = exchange.recover(Gap(exchange.assume("btcusd"), NOW_MS - 9, NOW_MS + 9))
    assert call is not None
    row = {"timestampms": NOW_MS, "tid": 9, "price": "1", "amount": "1", "type": "sell"}
    rows = [row, row | {"tid": 8, "type": "auction"}, row | {"tid": 7, "broken": True}, row | {"tid": 6, "type": "buy"}]
    assert [(t.id, t.buy) for t in call.read(json.dumps(rows).encode()).items] == [(6, True), (9, False)]
