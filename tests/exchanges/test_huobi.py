"""HTX: heartbeats of both shapes, images in either order, sides counted once."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

import exchanges
from exchanges.api import Acked, BadMessage, Closing, Decoder, Excluded, Gap, Liquidation, Past, Reply, Trade
from exchanges.numbers import INFLATED_MAX_BYTES
from tests.exchanges.support import NOW_MS

SWAP = "market.BTC-USD.trade.detail"


def decoder(endpoint: str, *symbols: str) -> Decoder:
    exchange = exchanges.get("HUOBI")
    return exchange.decoder(endpoint, {s: exchange.assume(s) for s in symbols})


def packed(value: object) -> bytes:
    return gzip.compress(json.dumps(value).encode())


def push(channel: str, *rows: dict[str, Any]) -> bytes:
    usual = {"ts": NOW_MS, "price": 50_000.0, "amount": 8, "direction": "buy"}
    data = [usual | {"id": 421232963570000 + n} | row for n, row in enumerate(rows)]
    return packed({"ch": channel, "ts": NOW_MS, "tick": {"id": 1, "ts": NOW_MS, "data": data}})


def ack(channel: str, ts_ms: int) -> bytes:
    return packed({"id": channel, "status": "ok", "subbed": channel, "ts": ts_ms})


def test_heartbeats_of_both_shapes_are_answered() -> None:
    """Market sockets ask `ping`, notification sockets `op: ping` with the time as text or number."""
    d = decoder("linear")
    assert list(d.decode(packed({"ping": 123}), NOW_MS)) == [Reply('{"pong":123}')]
    assert list(d.decode(packed({"op": "ping", "ts": "123"}), NOW_MS)) == [Reply('{"op":"pong","ts":"123"}')]
    assert list(d.decode(packed({"op": "ping", "ts": 123}), NOW_MS)) == [Reply('{"op":"pong","ts":123}')]
    (closing,) = d.decode(packed({"op": "close", "ts": 123}), NOW_MS)
    assert isinstance(closing, Closing)


def test_the_image_is_past_before_and_after_the_acknowledgement() -> None:
    """Derivatives push the last trade before the acknowledgement, spot after it: neither is live, what follows is."""
    for before in (True, False):
        d = decoder("swap", "BTC-USD")
        d.subscribe([SWAP], NOW_MS)
        image, answer = push(SWAP, {"ts": NOW_MS - 9000}), ack(SWAP, NOW_MS)
        events = [e for f in ((image, answer) if before else (answer, image)) for e in d.decode(f, NOW_MS)]
        assert {type(e) for e in events} == {Past, Acked}
        assert [type(e) for e in d.decode(push(SWAP, {"ts": NOW_MS + 5}), NOW_MS)] == [Trade]


def test_what_is_newer_than_the_acknowledgement_is_live() -> None:
    """A market that has never traded has no image: its first trade after the acknowledgement counts."""
    d = decoder("swap", "BTC-USD")
    d.subscribe([SWAP], NOW_MS)
    d.decode(ack(SWAP, NOW_MS), NOW_MS)
    old, new = d.decode(push(SWAP, {"ts": NOW_MS}, {"ts": NOW_MS + 1}), NOW_MS)
    assert isinstance(old, Past)
    assert isinstance(new, Trade)
    d.subscribe([SWAP], NOW_MS)
    assert [type(e) for e in d.decode(push(SWAP, {}), NOW_MS)] == [Past]


@pytest.mark.parametrize(
    ("endpoint", "symbol", "size"),
    [
        ("spot", "btcusdt", 8.0),
        ("linear", "BTC-USDT", 0.004),
        ("swap", "BTC-USD", 0.008),
        ("coin", "ETH_CQ", 0.0008),
    ],
)
def test_derivatives_count_one_side(endpoint: str, symbol: str, size: float) -> None:
    """8 contracts reported are 4 traded: × size in coins, or × dollars ÷ price; spot is what it says."""
    d = decoder(endpoint, symbol)
    channel = f"market.{symbol}.trade.detail"
    d.decode(push(channel, {}), NOW_MS)
    (trade,) = d.decode(push(channel, {}), NOW_MS)
    assert isinstance(trade, Trade)
    assert trade.size == pytest.approx(size, rel=1e-12)


def test_a_trade_without_a_side_is_left_out_and_said() -> None:
    """An empty direction is excluded; the rows beside it are traded."""
    d = decoder("swap", "BTC-USD")
    d.decode(push(SWAP, {}), NOW_MS)
    assert [type(e) for e in d.decode(push(SWAP, {}, {"direction": ""}), NOW_MS)] == [Trade, Excluded]


def test_liquidations_take_coins_where_given_and_are_not_halved() -> None:
    """`amount` is coins; without it contracts are converted. The side is that of the order."""
    d = decoder("swap-liquidations", "BTC-USD")
    row = {"contract_code": "BTC-USD", "direction": "sell", "volume": 10, "price": 50_000, "created_at": NOW_MS}
    rows = [row, row | {"amount": 0.03}]
    events = d.decode(packed({"op": "notify", "topic": "public.BTC-USD.liquidation_orders", "data": rows}), NOW_MS)
    converted, given = events
    assert isinstance(converted, Liquidation)
    assert isinstance(given, Liquidation)
    assert (converted.size, given.size) == (pytest.approx(0.02), pytest.approx(0.03))
    assert not converted.buy


def test_long_ids_are_kept_as_text_and_never_rounded() -> None:
    """Spot's `id` exceeds 64 bits: `tradeId` is used, else the digits as they stand."""
    d = decoder("spot", "btcusdt")
    channel = "market.btcusdt.trade.detail"
    d.decode(push(channel, {}), NOW_MS)
    long = 100201717928521000104520001
    rows: list[dict[str, Any]] = [{"id": long, "tradeId": 7}, {"id": long}, {"id": str(long)}, {"id": 1.0e26}]
    events = d.decode(push(channel, *rows), NOW_MS)
    assert [e.id for e in events if isinstance(e, Trade)] == [7, str(long), str(long), None]


def test_frames_that_unpack_to_too_much_are_refused() -> None:
    """A zip bomb and a damaged frame raise BadMessage."""
    bomb = gzip.compress(b" " * (INFLATED_MAX_BYTES + 1))
    for frame in (bomb, packed({"ping": 1})[:-9], b"\x1f\x8b"):
        with pytest.raises(BadMessage):
            decoder("spot").decode(frame, NOW_MS)


def test_history_is_halved_like_the_feed() -> None:
    """Recovered trades of derivatives have the sizes of live ones."""
    exchange = exchanges.get("HUOBI")
    call = exchange.recover(Gap(exchange.assume("BTC-USDT"), NOW_MS - 9, NOW_MS + 9))
    assert call is not None
    row = {"id": 5, "ts": NOW_MS, "price": 50_000, "amount": 8, "direction": "sell"}
    (trade,) = call.read(json.dumps({"status": "ok", "data": [{"id": 1, "data": [row]}]}).encode()).items
    assert trade.size == pytest.approx(0.004)
