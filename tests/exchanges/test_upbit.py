"""Upbit and Bithumb: what the tests for all exchanges leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import Acked, Alive, BadMessage, Past, Rejected, Trade
from tests.exchanges.support import NOW_MS, alone, events

KOREANS = ("UPBIT", "BITHUMB")
SIMPLE = {
    "ty": "trade",
    "cd": "KRW-BTC",
    "tp": 10.0,
    "tv": 2.0,
    "ab": "ASK",
    "ttms": NOW_MS,
    "sid": 17,
    "st": "REALTIME",
}
LONG = {"type": "trade", "code": "KRW-BTC", "trade_price": 10.0, "trade_volume": 2.0, "ask_bid": "BID"}
LONG |= {"trade_timestamp": NOW_MS, "sequential_id": 1_618_678_284_000_021, "stream_type": "REALTIME"}


def codes(frame: Any) -> list[str]:
    found: list[str] = json.loads(frame)[1]["codes"]
    return found


@pytest.mark.parametrize("exchange_id", KOREANS)
def test_each_request_names_everything(exchange_id: str) -> None:
    """A request replaces the earlier ones, so subscribing adds to them and unsubscribing leaves the rest."""
    decoder = alone(exchange_id)
    assert codes(*decoder.subscribe(["trade:KRW-BTC"], NOW_MS)) == ["KRW-BTC"]
    assert codes(*decoder.subscribe(["trade:KRW-ETH", "trade:KRW-BTC"], NOW_MS)) == ["KRW-BTC", "KRW-ETH"]
    assert codes(*decoder.unsubscribe(["trade:KRW-BTC"], NOW_MS)) == ["KRW-ETH"]
    (last,) = decoder.unsubscribe(["trade:KRW-ETH"], NOW_MS)
    assert json.loads(last)[1] == {"type": "trade", "codes": ["KRW-ETH"], "isOnlySnapshot": True}


@pytest.mark.parametrize("exchange_id", KOREANS)
def test_both_spellings_are_read(exchange_id: str) -> None:
    """Short field names mean what the long ones mean; a seller who takes is ASK."""
    (short,), (long,) = events(exchange_id, SIMPLE), events(exchange_id, LONG)
    assert isinstance(short, Trade)
    assert isinstance(long, Trade)
    assert (short.buy, short.size, short.id) == (False, 2.0, "17")
    assert (long.buy, long.size, long.id) == (True, 2.0, "1618678284000021")
    assert (long.instrument.base, long.instrument.quote) == ("BTC", "KRW")


@pytest.mark.parametrize("exchange_id", KOREANS)
def test_a_snapshot_confirms_what_was_asked_for_and_is_past(exchange_id: str) -> None:
    """It is the last trade before; one that nobody asked for confirms nothing."""
    decoder = alone(exchange_id)
    frame = json.dumps(LONG | {"stream_type": "SNAPSHOT"}).encode()
    assert [type(e) for e in decoder.decode(frame, NOW_MS)] == [Past]
    decoder.subscribe(["trade:KRW-BTC"], NOW_MS)
    acked, image = decoder.decode(frame, NOW_MS)
    assert acked == Acked(("trade:KRW-BTC",))
    assert isinstance(image, Past)


@pytest.mark.parametrize("exchange_id", KOREANS)
def test_trades_of_another_shape_are_not_passed_over(exchange_id: str) -> None:
    """A trade without one of its fields is a bad message, errors and status are what they are."""
    with pytest.raises(BadMessage):
        events(exchange_id, {**LONG, "ask_bid": "NEITHER"})
    assert events(exchange_id, {"status": "UP"}) == [Alive()]
    error = {"error": {"name": "NO_CODES", "message": "codes are missing"}}
    assert events(exchange_id, error) == [Rejected((), "NO_CODES codes are missing")]


def old(**more: Any) -> dict[str, Any]:
    row = {"symbol": "BTC_KRW", "buySellGb": "1", "contPrice": "10", "contQty": "2"}
    row |= {"contDtm": "2027-01-15 17:00:00.123456"} | more
    return {"type": "transaction", "content": {"list": [row]}}


def test_bithumbs_older_socket_has_korean_time_and_numbered_sides() -> None:
    """Nine hours ahead; 1 sells, 2 buys; its symbols are today's the other way round where those are known."""
    (sell,), (buy,) = events("BITHUMB", old()), events("BITHUMB", old(buySellGb="2"))
    assert isinstance(sell, Trade)
    assert isinstance(buy, Trade)
    assert (sell.ts_ms, sell.buy, buy.buy) == (NOW_MS + 123, False, True)
    bithumb = exchanges.get("BITHUMB")
    btc = bithumb.assume("KRW-BTC")
    assert sell.instrument.market == btc.market == "BITHUMB:KRW-BTC"
    (known,) = bithumb.decoder("spot", {"KRW-BTC": btc}).decode(json.dumps(old()).encode(), NOW_MS)
    assert isinstance(known, Trade)
    assert known.instrument is btc


def test_bithumbs_older_answers_are_told_apart() -> None:
    """0000 is well; anything else refuses."""
    assert events("BITHUMB", {"status": "0000", "resmsg": "Connected Successfully"}) == [Alive()]
    assert events("BITHUMB", {"status": "5100", "resmsg": "Invalid Filter"}) == [Rejected((), "5100 Invalid Filter")]
