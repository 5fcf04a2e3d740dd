"""Bitfinex: channels, repeats, liquidations."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges import bitfinex
from exchanges.api import Acked, Assumed, BadMessage, Closing, Decoder, Event, Excluded, Gap, Liquidation, Past, Trade
from tests.exchanges.support import NOW_MS
from tests.exchanges.test_recovery import history, recovered

BITFINEX = exchanges.get("BITFINEX")
TRADES, FORCED = 17, 23


def frame(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def decoder() -> Decoder:
    """Subscribed to ETHF0:USTF0 and to liquidations, whose image has come."""
    made = BITFINEX.decoder("public", Assumed(BITFINEX))
    of = {"event": "subscribed", "channel": "trades", "chanId": TRADES, "symbol": "tETHF0:USTF0"}
    assert list(made.decode(frame(of), NOW_MS)) == [Acked(("trades:tETHF0:USTF0",))]
    of = {"event": "subscribed", "channel": "status", "chanId": FORCED, "key": "liq:global"}
    assert list(made.decode(frame(of), NOW_MS)) == [Acked(("status:liq:global",))]
    (image,) = made.decode(frame([FORCED, [position(-1.0)], 1]), NOW_MS)
    assert isinstance(image, Excluded)
    return made


def position(amount: float, match: int = 0, price: float | None = None) -> list[Any]:
    return ["pos", 5, NOW_MS, None, "tETHF0:USTF0", amount, 1500.0, None, match, 1, None, price]


def only(of: Decoder, value: Any) -> Event:
    (event,) = of.decode(frame(value), NOW_MS)
    return event


def test_the_same_trade_counts_once_whatever_is_appended(decoder: Decoder) -> None:
    """`te` is the trade, `tu` its repeat; sequence and timestamp at the end change nothing."""
    row = [9, NOW_MS, -0.5, 1600.0]
    event = only(decoder, [TRADES, "te", row, 77, NOW_MS])
    assert isinstance(event, Trade)
    assert (event.id, event.size, event.buy, event.price) == (9, 0.5, False, 1600.0)
    assert not [e for e in decoder.decode(frame([TRADES, "tu", row, 78]), NOW_MS) if isinstance(e, Trade)]
    assert isinstance(only(decoder, [TRADES, "fte", [*row, 30]]), Excluded)
    assert isinstance(only(decoder, [TRADES, [row, row], 80]), Past)


def test_a_liquidated_long_is_sold_once(decoder: Decoder) -> None:
    """A positive amount is a long position; the match of the same event is left out."""
    event = only(decoder, [FORCED, [position(2.0, price=1490.0)]])
    assert isinstance(event, Liquidation)
    assert (event.buy, event.size, event.price, event.id) == (False, 2.0, 1490.0, 5)
    assert isinstance(only(decoder, [FORCED, [position(2.0, match=1)]]), Excluded)


def test_a_liquidation_without_price_takes_the_last_trade_s(decoder: Decoder) -> None:
    """The fill's price, else the last trade's, else the position's entry price."""
    entry = only(decoder, [FORCED, [position(-2.0)]])
    only(decoder, [TRADES, "te", [9, NOW_MS, 0.5, 1600.0]])
    last = only(decoder, [FORCED, [position(-2.0)]])
    assert isinstance(entry, Liquidation)
    assert isinstance(last, Liquidation)
    assert (entry.price, last.price, last.buy) == (1500.0, 1600.0, True)


def test_unsubscribing_goes_by_channel(decoder: Decoder) -> None:
    """The exchange wants the channel id; a topic that was never acknowledged has none."""
    frames = decoder.unsubscribe(["trades:tETHF0:USTF0", "trades:tBTCUSD"], NOW_MS)
    assert [json.loads(f) for f in frames] == [{"event": "unsubscribe", "chanId": TRADES}]
    decoder.decode(frame({"event": "unsubscribed", "status": "OK", "chanId": TRADES}), NOW_MS)
    assert not decoder.unsubscribe(["trades:tETHF0:USTF0"], NOW_MS)


@pytest.mark.parametrize(("code", "closes"), [(20051, True), (20060, False), (20061, True)])
def test_notices_that_want_new_connections(decoder: Decoder, code: int, closes: bool) -> None:
    """A restart, and the end of a maintenance, ask to connect and subscribe again; its beginning does not."""
    assert isinstance(only(decoder, {"event": "info", "code": code, "msg": "x"}), Closing) == closes


def test_channels_are_bounded() -> None:
    """A server that assigns channels without end is refused."""
    made = BITFINEX.decoder("public", {})
    of = {"event": "subscribed", "channel": "trades", "symbol": "tX"}
    for channel in range(bitfinex.CHANNELS_MAX):
        made.decode(frame(of | {"chanId": channel}), NOW_MS)
    with pytest.raises(BadMessage):
        made.decode(frame(of | {"chanId": -1}), NOW_MS)


def test_names_are_translated() -> None:
    """The listing's own map makes UST USDT; futures lose their F0; paper money is not active."""
    body = frame([["BTCUST", "TESTBTC:TESTUSD"], ["BTCF0:USTF0"], [["UST", "USDt"]]])
    spot, paper, perp = BITFINEX.listings()[0].read(body).items
    assert (spot.market, spot.base, spot.quote, spot.kind) == ("BITFINEX:BTCUST", "BTC", "USDT", "spot")
    assert (perp.market, perp.base, perp.quote, perp.kind) == ("BITFINEX:BTCF0:USTF0", "BTC", "USDT", "perp")
    assert not paper.active


@pytest.mark.parametrize("step", [0, 1, 3])
def test_pages_of_history_meet_within_a_millisecond(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Pages go on from the last millisecond, which may be half told, and repeat nothing."""
    monkeypatch.setattr(bitfinex, "PAGE_ROWS", 10)
    past = history(BITFINEX.assume("BTCUSD"), [n // 3 * step for n in range(60 if step else 8)])
    found, rest = recovered(Gap(past[0].instrument, past[0].ts_ms, past[-1].ts_ms), past)
    assert [t.id for t in found] == [t.id for t in past]
    assert len(rest.asked) > 1 or not step
