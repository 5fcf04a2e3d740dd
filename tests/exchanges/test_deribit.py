"""Deribit: marks of liquidations, units, answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import Acked, Alive, Assumed, Decoder, Event, Rejected, Reply, Trade

DERIBIT = exchanges.get("DERIBIT")
NOW_MS = 1_800_000_000_000


@pytest.fixture
def decoder() -> Decoder:
    return DERIBIT.decoder("public", Assumed(DERIBIT))


def decode(of: Decoder, value: Any) -> list[Event]:
    return list(of.decode(json.dumps(value).encode(), NOW_MS))


def push(symbol: str = "BTC-PERPETUAL", **more: Any) -> dict[str, Any]:
    row = {"trade_seq": 7, "timestamp": NOW_MS, "price": 50_000.0, "amount": 100.0, "direction": "buy"}
    params = {"channel": f"trades.{symbol}.100ms", "data": [row | {"instrument_name": symbol} | more]}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


@pytest.mark.parametrize(("mark", "forced"), [("T", True), ("M", False), ("MT", True), ("none", None), (None, None)])
def test_the_forced_order_is_on_the_liquidated_side(decoder: Decoder, mark: str | None, forced: bool | None) -> None:
    """A liquidated taker bought what this buy says; a liquidated maker was on its other side."""
    (event,) = decode(decoder, push(liquidation=mark))
    assert isinstance(event, Trade)
    assert (event.buy, event.forced, event.id) == (True, forced, 7)


@pytest.mark.parametrize(
    ("symbol", "size", "kind"),
    [
        ("BTC-PERPETUAL", 0.002, "perp"),
        ("BTC-26MAR27", 0.002, "future"),
        ("BTC_USDC-PERPETUAL", 100.0, "perp"),
        ("BTC_USDC-26MAR27", 100.0, "future"),
        ("BTC_USDC", 100.0, "spot"),
    ],
)
def test_amounts_are_dollars_of_inverse_contracts_only(decoder: Decoder, symbol: str, size: float, kind: str) -> None:
    """Names with a quote are linear and count coins."""
    (event,) = decode(decoder, push(symbol))
    assert isinstance(event, Trade)
    assert (event.size, event.instrument.kind) == (pytest.approx(size), kind)


def test_channels_left_out_of_the_answer_are_refused(decoder: Decoder) -> None:
    """The exchange answers with the channels that exist."""
    (frame,) = decoder.subscribe(["trades.A.100ms", "trades.B.100ms"], NOW_MS)
    answer = {"id": json.loads(frame)["id"], "result": ["trades.A.100ms"]}
    assert decode(decoder, answer) == [Acked(("trades.A.100ms",)), Rejected(("trades.B.100ms",), "no such channel")]
    (frame,) = decoder.unsubscribe(["trades.A.100ms"], NOW_MS)
    assert decode(decoder, answer | {"id": json.loads(frame)["id"]}) == [Alive()]


def test_an_error_refuses_all_that_its_request_asked_for(decoder: Decoder) -> None:
    """Errors name the request."""
    (frame,) = decoder.subscribe(["trades.A.100ms"], NOW_MS)
    error = {"id": json.loads(frame)["id"], "error": {"code": 10028, "message": "too_many_requests"}}
    assert decode(decoder, error) == [Rejected(("trades.A.100ms",), "10028 too_many_requests")]


def test_the_exchange_s_test_is_answered(decoder: Decoder) -> None:
    """A test_request must be answered at once; a plain heartbeat must not."""
    beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
    (event,) = decode(decoder, beat)
    assert isinstance(event, Reply)
    assert json.loads(event.frame)["method"] == "public/test"
    assert decode(decoder, beat | {"params": {"type": "heartbeat"}}) == [Alive()]


def test_open_interest_is_asked_once_for_each_settlement_currency() -> None:
    """Dollars of inverse contracts, coins of linear ones."""
    of = [DERIBIT.assume(s) for s in ("BTC-PERPETUAL", "BTC-26MAR27", "ETH_USDC-PERPETUAL", "BTC_USDC")]
    calls = {call.request.url.partition("currency=")[2]: call for call in DERIBIT.open_interest(of)}
    assert set(calls) == {"BTC&kind=future", "USDC&kind=future"}
    body = {"result": [{"instrument_name": "ETH_USDC-PERPETUAL", "open_interest": 5.5, "creation_timestamp": NOW_MS}]}
    (row,) = calls["USDC&kind=future"].read(json.dumps(body).encode()).items
    assert (row.base, row.usd, row.ts_ms) == (5.5, None, NOW_MS)
    body = {"result": [{"instrument_name": "BTC-26MAR27", "open_interest": 1000.0}]}
    (row,) = calls["BTC&kind=future"].read(json.dumps(body).encode()).items
    assert (row.base, row.usd) == (None, 1000.0)
