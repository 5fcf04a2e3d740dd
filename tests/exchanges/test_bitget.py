"""Bitget: what the tests for all exchanges leave out."""

from __future__ import annotations

from typing import Any

import exchanges
from exchanges.api import Gap, Liquidation, Past, Rejected, Trade, Unknown
from tests.exchanges.support import NOW_MS, alone, events

ROW = {"i": "77", "p": "50000", "v": "1000", "S": "sell", "T": str(NOW_MS), "L": "78", "isRPI": "yes"}


def push(category: str, symbol: str, action: str = "update", **row: Any) -> dict[str, Any]:
    arg = {"instType": category, "topic": "publicTrade", "symbol": symbol}
    return {"action": action, "arg": arg, "data": [ROW | row], "ts": NOW_MS}


def old(category: str, symbol: str, row: Any) -> dict[str, Any]:
    arg = {"instType": category, "channel": "trade", "instId": symbol}
    return {"action": "update", "arg": arg, "data": [row]}


def test_coin_margined_quantities_are_dollars() -> None:
    """1000 dollars of a contract at 50000 are 0.02 coins; our name of it has no `_CM`."""
    (trade,) = events("BITGET", push("coin-futures", "BTCUSD_CM"))
    assert isinstance(trade, Trade)
    assert (trade.size, trade.buy, trade.id) == (0.02, False, "77")
    assert trade.instrument.market == "BITGET:BTCUSD"


def test_an_image_is_past() -> None:
    """`snapshot` is what was traded before."""
    (image,) = events("BITGET", push("usdt-futures", "BTCUSDT", "snapshot"))
    assert isinstance(image, Past)
    assert [t.id for t in image.trades] == ["77"]


def test_liquidations_name_the_position_and_its_worth() -> None:
    """A long worth 3000 quote coins at 60 is closed by a sell of 50 coins; likewise where contracts are dollars."""
    row = {"symbol": "SOLUSDT", "side": "buy", "price": "60", "amount": "3000", "ts": NOW_MS}
    rows = [row, row | {"symbol": "SOLUSD_CM", "side": "short"}]
    frame = {"arg": {"instType": "usdt-futures", "topic": "liquidation"}, "data": rows}
    long, short = events("BITGET", frame)
    assert isinstance(long, Liquidation)
    assert isinstance(short, Liquidation)
    assert (long.size, long.buy, long.price) == (50.0, False, 60.0)
    assert (short.size, short.buy) == (50.0, True)


def test_older_formats_are_read_but_for_coin_margined_ones() -> None:
    """v2 and v1 trades of other markets count base coins; what coin-margined ones counted differs, so they are unknown."""
    v2 = {"ts": str(NOW_MS), "price": "10", "size": "3", "side": "buy", "tradeId": "5"}
    (trade,) = events("BITGET", old("USDT-FUTURES", "SOLUSDT", v2))
    assert isinstance(trade, Trade)
    assert (trade.size, trade.buy, trade.id) == (3.0, True, "5")
    (trade,) = events("BITGET", old("sp", "SOLUSDT", [str(NOW_MS), "10", "3", "sell"]), "spot")
    assert isinstance(trade, Trade)
    assert (trade.size, trade.buy, trade.id) == (3.0, False, None)
    assert isinstance(events("BITGET", old("COIN-FUTURES", "BTCUSD", v2))[0], Unknown)


def test_a_refusal_names_its_topic() -> None:
    """The argument that an error repeats is the topic that was asked for."""
    arg = {"instType": "spot", "topic": "publicTrade", "symbol": "NOPE"}
    assert events("BITGET", {"event": "error", "arg": arg, "code": 30001, "msg": "doesn't exist"}) == [
        Rejected(("spot:publicTrade:NOPE",), "30001 doesn't exist")
    ]


def test_liquidations_are_asked_for_once_per_category() -> None:
    """Their topic has no symbol, on the stream as in the frame."""
    bitget = exchanges.get("BITGET")
    streams = [s for name in ("BTCUSDT", "ETHUSDT") for s in bitget.streams(bitget.assume(name), True)]
    assert [s.topic for s in streams[1::2]] == ["usdt-futures:liquidation"] * 2
    (frame,) = alone("BITGET").subscribe(["usdt-futures:liquidation"], NOW_MS)
    assert frame == '{"op":"subscribe","args":[{"instType":"usdt-futures","topic":"liquidation"}]}'


def test_frames_fit_the_exchange() -> None:
    """It takes messages of 4096 bytes."""
    topics = [f"usdt-futures:publicTrade:1000000LONGNAME{n}USDT" for n in range(50)]
    assert all(len(frame) < 4096 for frame in alone("BITGET").subscribe(topics, NOW_MS))


def test_coin_margined_holes_stay_open() -> None:
    """Their history is of unknown unit: nothing is better than something wrong."""
    bitget = exchanges.get("BITGET")
    assert bitget.recover(Gap(bitget.assume("BTCUSD_CM"), 1, 2)) is None
