"""Gate: what the tests for all exchanges leave out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import exchanges
from exchanges.api import Acked, Excluded, Liquidation, Malformed, Rejected, Trade, Unknown
from tests.exchanges.support import NOW_MS, events

SPOT = {"id": 7, "side": "buy", "currency_pair": "BTC_USDT", "amount": "2", "price": "10"}
FUTURES = {"id": 7, "contract": "BTC_USDT", "size": -3, "price": "10"}


def one(channel: str, result: Any) -> Any:
    frame = {"time": 1, "channel": channel, "event": "update", "result": result}
    (event,) = events("GATEIO", frame, "spot" if channel.startswith("spot") else "perp")
    return event


@pytest.mark.parametrize("time", [f"{NOW_MS}.9999999", f"{NOW_MS}", NOW_MS])
def test_times_are_floored_without_rounding_first(time: Any) -> None:
    """Decimals of any length are cut off, though a float would round them up to the next millisecond."""
    assert one("spot.trades", SPOT | {"create_time_ms": time}).ts_ms == NOW_MS


@pytest.mark.parametrize(
    "time", ["1e999999999", "nan", "inf", "-1", "", "1_0", "\u0661", ".5", "5.", 1e300, "9" * 5000]
)
def test_absurd_times_cost_their_row_alone(time: Any) -> None:
    """Only plain numbers are times: no exponent without measure, no digits of other scripts."""
    assert isinstance(one("spot.trades", SPOT | {"create_time_ms": time}), Malformed)


def test_the_sign_is_the_side_and_contracts_become_coins() -> None:
    """Minus three contracts of 0.0001 coins are a sell of 0.0003; fractions come as text."""
    trade = one("futures.trades", [FUTURES | {"create_time_ms": NOW_MS}])
    assert (trade.buy, trade.size, trade.id) == (False, pytest.approx(0.0003), 7)
    trade = one("futures.trades", [FUTURES | {"create_time_ms": NOW_MS, "size": "0.5"}])
    assert (trade.buy, trade.size) == (True, pytest.approx(0.00005))


def test_dollar_contracts_become_coins_at_their_price() -> None:
    """BTC_USD is inverse, one dollar a contract; frames with whole seconds alone are read too."""
    trade = one("futures.trades", [FUTURES | {"contract": "BTC_USD", "create_time": NOW_MS // 1000}])
    assert (trade.size, trade.ts_ms) == (0.3, NOW_MS)


def test_internal_prints_are_no_trades() -> None:
    """What the insurance fund and deleveraging did is left out and counted."""
    row = FUTURES | {"create_time_ms": NOW_MS, "is_internal": True}
    assert one("futures.trades", [row]) == Excluded("internal print")


@pytest.mark.parametrize("listed", [True, False])
def test_liquidations_have_the_side_of_the_order(listed: bool) -> None:
    """A negative size sold: a long was liquidated. One row or a list of them."""
    row = {"price": 215.1, "size": -124, "time_ms": NOW_MS, "contract": "ETH_USDT"}
    forced = one("futures.public_liquidates", [row] if listed else row)
    assert isinstance(forced, Liquidation)
    assert (forced.buy, forced.size, forced.price) == (False, 1.24, 215.1)


def test_answers_are_told_by_number_or_by_payload() -> None:
    """Of a connection that we did not see asking, the payload names the topics."""
    answer = {"time": 1, "id": 3, "channel": "spot.trades", "event": "subscribe", "payload": ["A_B"]}
    assert events("GATEIO", answer | {"result": {"status": "success"}}) == [Acked(("spot.trades:A_B",))]
    error = {"code": 2, "message": "unknown currency pair: A_B"}
    assert events("GATEIO", answer | {"error": error}) == [
        Rejected(("spot.trades:A_B",), "2 unknown currency pair: A_B")
    ]


def test_the_older_api_is_unknown() -> None:
    """Its trades come without a mark on history: counted as unknown, not guessed at."""
    frame = {"method": "trades.update", "params": ["BTC_USDT", [{"id": 1}]], "id": None}
    assert events("GATEIO", frame, "spot") == [Unknown("channel trades.update")]


def test_quanto_contracts_are_not_offered() -> None:
    """Of contracts settled in BTC only the one without a multiplier is of dollars; the others have no size in coins."""
    rows = [{"name": "BTC_USD", "quanto_multiplier": "0"}, {"name": "ETH_USD", "quanto_multiplier": "0.000001"}]
    call = exchanges.get("GATEIO").listings()[2]
    btc, eth = call.read(msgspec.json.encode(rows)).items
    assert (btc.inverse, btc.contract_size, btc.active, btc.quanto) == (True, 1.0, True, False)
    assert (eth.inverse, eth.active, eth.quanto) == (False, False, True)


def test_spot_and_futures_are_two_markets_of_one_name() -> None:
    """The bare name is the perpetual; the header that keeps fractions of contracts goes with futures."""
    gate = exchanges.get("GATEIO")
    assert gate.assume("BTC_USDT").market == "GATEIO:BTC_USDT"
    assert gate.assume("BTC_USDT", "spot").market == "GATEIO:BTC_USDT-SPOT"
    assert gate.assume("BTC_USDT-SPOT").symbol == "BTC_USDT"
    assert [dict(e.headers) for e in gate.endpoints] == [{}, *[{"X-Gate-Size-Decimal": "1"}] * 2]


def test_history_says_milliseconds_as_seconds() -> None:
    """REST's futures trades have seconds with decimals where the socket has milliseconds."""
    trade = one("futures.trades", [FUTURES | {"create_time": 1_800_000_000.123, "create_time_ms": 1_800_000_000.123}])
    assert isinstance(trade, Trade)
    assert trade.ts_ms == 1_800_000_000_123
