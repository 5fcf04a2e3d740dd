"""HitBTC: what the tests for all exchanges leave out."""

from __future__ import annotations

from exchanges.api import Acked, Malformed, Past, Rejected, Trade
from tests.exchanges.support import NOW_MS, alone, events

ROW = {"t": NOW_MS, "i": 5, "p": "10", "q": "2", "s": "buy"}


def test_images_of_v3_are_past() -> None:
    """`snapshot` is history, `update` live; both are keyed by symbol."""
    (image,) = events("HITBTC", {"ch": "trades", "snapshot": {"BTCUSDT": [ROW], "ETHUSDT": [ROW]}})
    assert isinstance(image, Past)
    assert [t.instrument.symbol for t in image.trades] == ["BTCUSDT", "ETHUSDT"]
    (trade,) = events("HITBTC", {"ch": "trades", "update": {"BTCUSDT": [ROW]}})
    assert isinstance(trade, Trade)


def test_a_bad_batch_leaves_the_other_markets_of_its_frame() -> None:
    """What cannot be read of one symbol is malformed; the others trade."""
    found = events("HITBTC", {"ch": "trades", "update": {"BTCUSDT": 7, "ETHUSDT": [ROW, {"t": 1}]}})
    assert [type(e) for e in found] == [Malformed, Trade, Malformed]


def test_an_answer_lists_what_was_taken() -> None:
    """What was asked for and is not in the list is refused by name; an error refuses everything it answers."""
    decoder = alone("HITBTC")
    decoder.subscribe(["BTCUSDT", "NOPE"], NOW_MS)
    answer = b'{"jsonrpc":"2.0","result":{"ch":"trades","subscriptions":["BTCUSDT"]},"id":1}'
    acked, refused = decoder.decode(answer, NOW_MS)
    assert acked == Acked(("BTCUSDT",))
    assert isinstance(refused, Rejected)
    assert refused.topics == ("NOPE",)
    decoder.subscribe(["NOPE"], NOW_MS)
    error = b'{"jsonrpc":"2.0","error":{"code":2001,"message":"Symbol not found"},"id":2}'
    assert decoder.decode(error, NOW_MS) == (Rejected(("NOPE",), "2001 Symbol not found"),)


def test_answers_of_v2_are_read() -> None:
    """It says `true`."""
    assert events("HITBTC", {"jsonrpc": "2.0", "result": True, "id": 9}) == [Acked(())]
