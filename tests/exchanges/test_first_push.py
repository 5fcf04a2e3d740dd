"""Crypto.com and Bitunix: the first push of every channel is history and does not say so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exchanges.api import Acked, Past, Rejected, Reply, Trade, Unknown
from tests.exchanges.support import NOW_MS, alone, events

BITUNIX = {"t": "2027-01-15T08:00:00.000999999Z", "p": "10", "v": "2", "s": "buy"}
CRYPTOCOM = {"s": "BUY", "p": "10", "q": "2", "t": NOW_MS, "d": "5"}


def push(exchange_id: str, symbol: str, *rows: dict[str, Any]) -> bytes:
    if exchange_id == "BITUNIX":
        return json.dumps({"ch": "trade", "symbol": symbol, "ts": NOW_MS, "data": rows}).encode()
    result = {"channel": "trade", "instrument_name": symbol, "data": rows}
    return json.dumps({"id": -1, "method": "subscribe", "code": 0, "result": result}).encode()


@pytest.mark.parametrize(
    ("exchange_id", "row", "of", "topic"),
    [("BITUNIX", BITUNIX, ("BTCUSDT", "ETHUSDT"), "trade:{}"), ("CRYPTOCOM", CRYPTOCOM, ("A_B", "C_D"), "trade.{}")],
)
def test_every_market_begins_with_history_and_again_when_asked_again(
    exchange_id: str, row: dict[str, Any], of: tuple[str, str], topic: str
) -> None:
    """Past per market, even of a connection that we did not see asking; live from the second push on."""
    decoder = alone(exchange_id)
    first, second = of
    assert [type(decoder.decode(push(exchange_id, s, row), 0)[0]) for s in (first, second)] == [Past, Past]
    assert [type(decoder.decode(push(exchange_id, s, row), 0)[0]) for s in (first, second)] == [Trade, Trade]
    decoder.subscribe([topic.format(first)], NOW_MS)
    assert [type(decoder.decode(push(exchange_id, s, row), 0)[0]) for s in (first, second)] == [Past, Trade]


def test_empty_history_is_history() -> None:
    """A market without trades begins with an empty push: the next is live."""
    decoder = alone("CRYPTOCOM")
    assert decoder.decode(push("CRYPTOCOM", "A_B"), 0) == [Past([])]
    assert isinstance(decoder.decode(push("CRYPTOCOM", "A_B", CRYPTOCOM), 0)[0], Trade)


def test_cryptocom_orders_rows_and_identifies_matches_only() -> None:
    """Rows come newest first. `d` is shared by the matches of an order, so that only `m` can be an id."""
    decoder = alone("CRYPTOCOM")
    decoder.decode(push("CRYPTOCOM", "A_B"), 0)
    newer = CRYPTOCOM | {"t": NOW_MS + 1, "m": "8"}
    trades = decoder.decode(push("CRYPTOCOM", "A_B", newer, CRYPTOCOM), 0)
    assert [(t.ts_ms, t.id) for t in trades if isinstance(t, Trade)] == [(NOW_MS, None), (NOW_MS + 1, "8")]


def test_cryptocom_heartbeats_are_answered() -> None:
    """With the number that they came with, within the five seconds that the exchange gives."""
    (reply,) = events("CRYPTOCOM", {"id": 11, "method": "public/heartbeat", "code": 0})
    assert reply == Reply('{"id":11,"method":"public/respond-heartbeat"}')


def test_bitunix_refusals_and_times() -> None:
    """A result that is false refuses; nanoseconds are floored."""
    answer = {"op": "subscribe", "ch": "trade", "symbol": "NOPE", "data": {"result": False}}
    assert events("BITUNIX", answer) == [Rejected(("trade:NOPE",), "refused")]
    assert events("BITUNIX", answer | {"data": {"result": True}}) == [Acked(("trade:NOPE",))]
    (image,) = events("BITUNIX", json.loads(push("BITUNIX", "BTCUSDT", BITUNIX)))
    assert isinstance(image, Past)
    assert [t.ts_ms for t in image.trades] == [NOW_MS]
    assert isinstance(events("BITUNIX", {"ch": "ticker", "symbol": "BTCUSDT", "data": {}})[0], Unknown)
