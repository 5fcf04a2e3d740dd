"""BitMart: what the tests for all exchanges leave out."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest

import exchanges
from exchanges.api import BadMessage, Excluded, Gap, Malformed, Rejected, Trade
from tests.exchanges.support import NOW_MS, Rest, alone, events, simulated

SPOT = {"symbol": "BTC_USDT", "price": "10", "size": "2", "side": "sell", "s_t": NOW_MS // 1000, "ms_t": NOW_MS + 7}
FUTURES = {"trade_id": "9", "symbol": "BTCUSDT", "deal_price": "10", "deal_vol": "2000"}
TIME = {"created_at": "2027-01-15T08:00:00.123987654Z"}


def futures(**more: Any) -> Any:
    (event,) = events("BITMART", {"group": "futures/trade:BTCUSDT", "data": [FUTURES | TIME | more]}, "perp")
    return event


def test_spot_time_is_in_milliseconds_where_there_are_any() -> None:
    """`ms_t` counts; without it, whole seconds."""
    (trade,) = events("BITMART", {"table": "spot/trade", "data": [SPOT]}, "spot")
    (coarse,) = events("BITMART", {"table": "spot/trade", "data": [SPOT | {"ms_t": 0}]}, "spot")
    assert isinstance(trade, Trade)
    assert isinstance(coarse, Trade)
    assert (trade.ts_ms, coarse.ts_ms, trade.buy) == (NOW_MS + 7, NOW_MS, False)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_packed_and_plain_frames_are_told_apart(level: int) -> None:
    """Raw deflate of any level, stored blocks included, is never taken for text, nor text for deflate."""
    plain = msgspec.json.encode({"table": "spot/trade", "data": [SPOT] * 3})
    packer = zlib.compressobj(level, wbits=-15)
    packed = packer.compress(plain) + packer.flush()
    decoder = alone("BITMART", "spot")
    assert decoder.decode(packed, NOW_MS) == decoder.decode(plain, NOW_MS)
    assert decoder.decode(memoryview(packed), NOW_MS) == decoder.decode(plain, NOW_MS)


def test_a_frame_that_grows_without_end_is_refused() -> None:
    """A zip bomb costs no more than its bound."""
    packer = zlib.compressobj(9, wbits=-15)
    with pytest.raises(BadMessage, match="larger than"):
        alone("BITMART", "spot").decode(packer.compress(b" " * 50_000_000) + packer.flush(), NOW_MS)


@pytest.mark.parametrize(
    ("more", "buy"),
    [({"m": True, "way": 1}, False), ({"m": False, "way": 8}, True), ({"way": 4}, True), ({"way": 5}, False)],
)
def test_the_maker_flag_decides_the_side_and_the_way_stands_in(more: dict[str, Any], buy: bool) -> None:
    """`m` says that the buyer is the maker; rows without it say the side by `way`."""
    trade = futures(**more)
    assert (trade.buy, trade.size, trade.ts_ms, trade.id) == (buy, 2.0, NOW_MS + 123, "9")


def test_what_is_no_market_trade_is_left_out() -> None:
    """Type 1 is a liquidation and traded; deleveraging and settlement are excluded; without a side, a row is malformed."""
    assert (futures(m=True, type=1).forced, futures(m=True, type=8).forced) == (False, None)
    assert futures(m=True, type=2) == Excluded("trade type 2")
    assert isinstance(futures(), Malformed)


def test_errors_name_their_topic_where_they_can() -> None:
    """By field or in words."""
    error = {"event": "error", "message": "channel spot/trade:NOPE doesn't exist", "errorCode": 90004}
    assert events("BITMART", error, "spot") == [
        Rejected(("spot/trade:NOPE",), "90004 channel spot/trade:NOPE doesn't exist")
    ]
    request = {"action": "subscribe", "args": ["futures/trade:NOPE"]}
    error = {"action": "subscribe", "group": "", "success": False, "request": request, "error": "Invalid"}
    assert events("BITMART", error, "perp") == [Rejected(("futures/trade:NOPE",), "Invalid")]


def test_contracts_are_dollars_only_where_the_quote_is() -> None:
    """A contract of ten coins is linear; one quoted in USD is inverse. Contracts that end are not listed."""
    row = {"symbol": "DOGEUSDT", "base_currency": "DOGE", "quote_currency": "USDT", "contract_size": "10"}
    coin = {"symbol": "BTCUSD", "base_currency": "BTC", "quote_currency": "USD", "contract_size": "1"}
    rows = [row | {"product_type": 1}, coin | {"product_type": 1, "status": "Delisted"}, row | {"product_type": 2}]
    call = exchanges.get("BITMART").listings()[1]
    doge, btc = call.read(msgspec.json.encode({"code": 1000, "data": {"symbols": rows}})).items
    assert (doge.contract_size, doge.inverse, doge.active) == (10.0, False, True)
    assert (btc.contract_size, btc.inverse, btc.active) == (1.0, True, False)


@pytest.mark.parametrize(("symbol", "first", "end"), [("BTC_USDT", 10, 32), ("BTCUSDT", 12, 30)])
def test_holes_of_contracts_are_filled_strictly_between_the_known_trades(symbol: str, first: int, end: int) -> None:
    """Live trades of contracts have ids that history lacks: what shares a millisecond with a known trade is left out."""
    exchange = exchanges.get("BITMART")
    instrument = exchange.assume(symbol)
    past = [Trade(instrument, NOW_MS - 100 + n // 2, 10.0, 1.0 + n, True) for n in range(40)]
    call = exchange.recover(Gap(instrument, past[10].ts_ms, past[30].ts_ms))
    assert call is not None
    found = Rest(simulated("BITMART"), past).ask(call)
    assert [t.size for t in found] == [t.size for t in past[first:end]]
