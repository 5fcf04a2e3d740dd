"""MEXC's protobuf frames: what the generic tests, which swap JSON values, do not reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import exchanges
from exchanges.api import Acked, Alive, BadMessage, Decoder, Malformed, Rejected, Stream, Trade, Unknown
from exchanges.mexc import DEALS
from exchanges.mexc_protobuf import Wrapper
from tests.exchanges.support import NOW_MS

CHANNEL = DEALS + "BTCUSDT"


def decoder(endpoint: str = "spot") -> Decoder:
    exchange = exchanges.get("MEXC")
    symbol = "BTCUSDT" if endpoint == "spot" else "BTC_USDT"
    return exchange.decoder(endpoint, {symbol: exchange.assume(symbol)})


def frame(*changes: dict[str, Any], channel: str = CHANNEL, symbol: str = "BTCUSDT") -> bytes:
    """A push of one deal for each change to the usual one."""
    wrapper = Wrapper(channel=channel, symbol=symbol, sendTime=NOW_MS)
    for change in changes:
        usual = {"price": "60000.5", "quantity": "0.25", "tradeType": 1, "time": NOW_MS}
        wrapper.publicAggreDeals.deals.add(**(usual | change))
    return bytes(wrapper.SerializeToString())


def test_deals_are_trades_of_the_taker() -> None:
    """Type 1 bought, 2 sold; sizes are coins, times milliseconds."""
    bought, sold = decoder().decode(frame({}, {"tradeType": 2, "price": "6e4"}), NOW_MS)
    assert isinstance(bought, Trade)
    assert isinstance(sold, Trade)
    assert (bought.price, bought.size, bought.ts_ms, bought.buy) == (60000.5, 0.25, NOW_MS, True)
    assert (sold.price, sold.buy) == (60000.0, False)


@pytest.mark.parametrize(
    "bad",
    [
        {"price": "nan"},
        {"price": "inf"},
        {"price": "1_0"},
        {"price": ""},
        {"price": "-1"},
        {"quantity": "0"},
        {"quantity": "1e999"},
        {"tradeType": 0},
        {"tradeType": 3},
        {"time": 0},
        {"time": -1},
    ],
    ids=str,
)
def test_a_bad_deal_costs_only_itself(bad: dict[str, Any]) -> None:
    """A deal with absurd text, side or time is malformed; those around it are traded."""
    events = decoder().decode(frame({}, bad, {}), NOW_MS)
    assert [type(e) for e in events] == [Trade, Malformed, Trade]


def test_fields_that_we_do_not_know_are_skipped() -> None:
    """A length-delimited field, a varint and a fixed64 of unknown numbers change nothing."""
    extra = b"\xfa\x01\x03abc" + b"\xf8\x02\x96\x01" + b"\xf1\x03" + bytes(8)
    assert decoder().decode(frame({}) + extra, NOW_MS) == decoder().decode(frame({}), NOW_MS)


def test_a_frame_without_its_symbol_is_of_the_one_in_its_channel() -> None:
    """The symbol field may be left out."""
    (trade,) = decoder().decode(frame({}, symbol=""), NOW_MS)
    assert isinstance(trade, Trade)


@pytest.mark.parametrize("cut", range(1, 29))
def test_cut_frames_are_refused(cut: int) -> None:
    """A frame that ends within its deals raises BadMessage; none of them is traded."""
    with pytest.raises(BadMessage):
        decoder().decode(frame({})[:-cut], NOW_MS)


def test_other_channels_are_unknown_and_no_deals_are_nothing() -> None:
    """A wrapper of another channel is counted as unknown; one without deals is only a sign of life."""
    (other,) = decoder().decode(frame(channel="spot@public.limit.depth.v3.api.pb@BTCUSDT@5"), NOW_MS)
    assert isinstance(other, Unknown)
    assert list(decoder().decode(frame(), NOW_MS)) == [Alive()]


def test_refusals_come_with_code_0() -> None:
    """Spot refuses in words: its code says success either way."""
    refusal = f'{{"id":0,"code":0,"msg":"Not Subscribed successfully! [{CHANNEL}].  Reason: Blocked! "}}'
    (refused,) = decoder().decode(refusal.encode(), NOW_MS)
    assert isinstance(refused, Rejected)
    assert refused.topics == (CHANNEL,)
    (acked,) = decoder().decode(f'{{"id":0,"code":0,"msg":"{CHANNEL}"}}'.encode(), NOW_MS)
    assert acked == Acked((CHANNEL,))


def test_older_futures_frames_hold_one_deal() -> None:
    """`data` may be an object instead of a list; contracts become coins."""
    old = b'{"channel":"push.deal","symbol":"BTC_USDT","data":{"p":60000.5,"v":7,"T":2,"O":3,"M":1,"t":1800000000000}}'
    (trade,) = decoder("futures").decode(old, NOW_MS)
    assert isinstance(trade, Trade)
    assert (trade.size, trade.buy) == (pytest.approx(0.0007), False)


def test_a_refusal_names_whole_contracts() -> None:
    """A refused WBTC_USDT leaves the subscription to BTC_USDT alone."""
    futures = exchanges.get("MEXC").decoder("futures", {})
    wanted = [stream.topic for one in ("BTC_USDT", "WBTC_USDT") for stream in _streams(one)]
    futures.subscribe(wanted, NOW_MS)
    (refused,) = futures.decode(b'{"channel":"rs.error","data":"Contract [WBTC_USDT] does not exist"}', NOW_MS)
    assert isinstance(refused, Rejected)
    assert refused.topics == (wanted[1],)


def _streams(symbol: str) -> Sequence[Stream]:
    exchange = exchanges.get("MEXC")
    return exchange.streams(exchange.assume(symbol, "perp"), False)


ODD_DEALS = [
    {"price": "0"}, {"price": "-1"}, {"price": "1e400"}, {"price": "nan"}, {"price": ""}, {"price": "1_0"}, {"quantity": "0"},
    {"quantity": "1e30"}, {"quantity": "x"}, {"tradeType": 0}, {"tradeType": 3}, {"tradeType": 2}, {"time": 0}, {"time": -5}, {"time": 1 << 60},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_DEALS)
def test_spot_frames_that_arrive_together_mean_what_each_means_alone(odd: dict[str, object]) -> None:
    """The shorter way of protobuf frames gives the same as `read`, for each odd value beside usual deals."""
    usual = frame({}, {"tradeType": 2})
    frames = [
        usual,
        frame({}, odd, {}),
        frame(odd),
        usual,
        frame(),
        frame({}, symbol=""),
        frame({}, channel="spot@public.other@X"),
        b"\x0a\xff",
    ]
    made, slow = decoder(), decoder()
    together = [event for one in made.read_all(frames, NOW_MS) for event in (one if isinstance(one, list) else (one,))]
    assert together == [event for one in frames for event in slow.slowly(one, NOW_MS)]
