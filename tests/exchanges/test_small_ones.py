"""Aster, Bitstamp and dYdX: what the tests for all exchanges leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges import dydx
from exchanges.api import Acked, Assumed, BadMessage, Closing, Event, Excluded, Gap, Past, Rejected, Trade
from tests.exchanges.support import NOW_MS
from tests.exchanges.test_recovery import history, recovered


def decode(exchange_id: str, value: Any) -> list[Event]:
    exchange = exchanges.get(exchange_id)
    decoder = exchange.decoder(exchange.endpoints[0].name, Assumed(exchange))
    return list(decoder.decode(json.dumps(value).encode(), NOW_MS))


def row(**more: Any) -> dict[str, Any]:
    """A trade of dYdX."""
    of = {"id": "0165e5e30000000200000002", "side": "SELL", "size": "2", "price": "10", "type": "LIMIT"}
    return of | {"createdAt": "2027-01-15T08:00:00.005Z", "createdAtHeight": "23455203"} | more


def push(kind: str, contents: Any) -> dict[str, Any]:
    return {"type": kind, "channel": "v4_trades", "id": "BTC-USD", "contents": contents}


def test_aster_spot_is_told_from_perpetuals_of_the_same_symbol() -> None:
    """BTCUSDT is the perpetual, BTCUSDT-SPOT the spot pair, each with its own socket and history."""
    aster = exchanges.get("ASTER")
    perp, spot = aster.assume("BTCUSDT"), aster.assume("BTCUSDT", "spot")
    assert (perp.market, perp.kind, perp.endpoint) == ("ASTER:BTCUSDT", "perp", "perp")
    assert (spot.market, spot.symbol, spot.endpoint) == ("ASTER:BTCUSDT-SPOT", "BTCUSDT", "spot")
    assert [s.topic for s in aster.streams(spot, True)] == ["btcusdt@aggTrade"]
    assert [s.topic for s in aster.streams(perp, True)] == ["btcusdt@aggTrade", "btcusdt@forceOrder"]
    hosts = [aster.recover(Gap(i, 1, 2)) for i in (perp, spot)]
    assert [c.request.url.partition("?")[0] for c in hosts if c is not None] == [
        "https://fapi.asterdex.com/fapi/v3/aggTrades",
        "https://sapi.asterdex.com/api/v3/aggTrades",
    ]


def test_bitstamp_asks_to_reconnect() -> None:
    """The exchange's request to reconnect closes; an error names its channel where the exchange could read it."""
    assert isinstance(decode("BITSTAMP", {"event": "bts:request_reconnect", "channel": "", "data": ""})[0], Closing)
    error = {"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad subscription string."}}
    assert decode("BITSTAMP", error) == [Rejected((), "Bad subscription string.")]


def test_bitstamp_needs_the_side_of_a_trade() -> None:
    """A trade without `type`, as older frames have it, is refused rather than taken for a buy."""
    data = {"id": 1, "price": 1.0, "amount": 1.0, "microtimestamp": str(NOW_MS * 1000)}
    with pytest.raises(BadMessage):
        decode("BITSTAMP", {"event": "trade", "channel": "live_trades_btcusd", "data": data})


def test_bitstamp_reads_the_whole_day_where_the_hour_is_too_short() -> None:
    """A hole that began hours ago is filled from the day's history, and no trade comes twice."""
    hours = [n * 600_000 for n in range(-30, 0)]
    past = history(exchanges.get("BITSTAMP").assume("btcusd"), hours)
    gap = Gap(past[0].instrument, past[3].ts_ms, past[28].ts_ms, past[3].id, past[28].id)
    found, rest = recovered(gap, past)
    assert [t.id for t in found] == [t.id for t in past[4:28]]
    assert [url.rpartition("=")[2] for url in rest.asked] == ["hour", "day"]


def test_dydx_tells_history_from_trades_by_the_message() -> None:
    """What comes with the acknowledgement is past; single and batched pushes are live."""
    assert decode("DYDX", push("subscribed", {"trades": [row()]}))[0] == Acked(("BTC-USD",))
    (image,) = decode("DYDX", push("subscribed", {"trades": [row()]}))[1:]
    (single,) = decode("DYDX", push("channel_data", {"trades": [row()]}))
    (first, second) = decode("DYDX", push("channel_batch_data", [{"trades": [row()]}, {"trades": [row(id="b")]}]))
    assert isinstance(image, Past)
    assert image.trades == [single] == [first]
    assert isinstance(second, Trade)


def test_dydx_deleveraging_is_no_trade_and_liquidations_are_marked() -> None:
    """DELEVERAGED is counted as excluded; the taker of a LIQUIDATED trade is the forced order."""
    batch = [row(type="DELEVERAGED"), row(type="LIQUIDATED")]
    away, forced = decode("DYDX", push("channel_data", {"trades": batch}))
    assert isinstance(away, Excluded)
    assert isinstance(forced, Trade)
    assert (forced.buy, forced.forced) == (False, False)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("Invalid subscription id for channel: (v4_trades-NO-USD)", Rejected),
        ("Too many subscribe attempts for channel v4_trades-NO-USD. Please  reconnect and try again.", Rejected),
        ("Invalid subscribe message: already subscribed (v4_trades-NO-USD)", Acked),
    ],
)
def test_dydx_errors_name_their_market_in_words(message: str, event: type) -> None:
    """Errors have no field for it; what is subscribed to already is not refused."""
    (got,) = decode("DYDX", {"type": "error", "message": message, "message_id": 1})
    assert type(got) is event
    assert getattr(got, "topics", ()) == ("NO-USD",)


def test_dydx_reads_blocks_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that ends within a block goes on from that block, and gives none of its trades twice."""
    monkeypatch.setattr(dydx, "PAGE_ROWS", 10)
    past = history(exchanges.get("DYDX").assume("BTC-USD"), [n // 4 for n in range(60)])
    found, rest = recovered(Gap(past[0].instrument, past[8].ts_ms, past[51].ts_ms), past)
    assert [t.id for t in found] == [t.id for t in past[8:52]]
    assert len(rest.asked) > 4
