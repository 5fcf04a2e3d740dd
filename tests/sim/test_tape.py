"""Trades of a second are that second, broken down."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pytest

import exchanges
from exchanges.api import Assumed, Trade
from sqfd.sim.capture import Capture
from sqfd.sim.market import Market
from sqfd.sim.plan import squeeze
from sqfd.sim.tape import FIRST_ID, Tape, Trades
from tests.sim.conftest import START, listings


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape(Market("BTC", 7, START, [squeeze(START + 600, 900, 300, 600)]), listings(), keep_minutes=4)


def test_trades_sum_to_the_second(tape: Tape) -> None:
    """Notional and number of trades of each kind and side are the second's; prices lie within its range."""
    kinds = [listing.instrument.kind for listing in tape.listings]
    for at in (START, START + 59, START + 60, START + 1_000):
        second = tape.market.second(at)
        rows = tape.trades(at, at + 1)
        assert set(rows["ts_ms"] // 1_000) <= {at}
        for kind in ("spot", "perp"):
            for side in ("buy", "sell"):
                mine = rows[[kinds[m] == kind for m in rows["market"]] & (rows["buy"] == (side == "buy"))]
                assert len(mine) == second[f"{kind}_{side}s"]
                assert (mine["price"] * mine["size"]).sum() == pytest.approx(
                    second[f"{kind}_{side}"], rel=1e-5, abs=0.01
                )
        assert np.all(rows["price"] <= second["high"] * 1.0002)
        assert np.all(rows["price"] >= second["low"] * 0.9998)


def test_order_of_asking_does_not_matter(tape: Tape) -> None:
    """Any slice is a part of the whole, also after its minute has been forgotten."""
    whole = tape.trades(START, START + 600)
    other = Tape(Market("BTC", 7, START, tape.market.episodes), listings(), keep_minutes=1)
    for first, last in ((500, 601), (0, 1), (59, 61), (120, 121)):
        inside = (whole["ts_ms"] >= (START + first) * 1_000) & (whole["ts_ms"] < (START + last) * 1_000)
        assert np.array_equal(other.trades(START + first, min(START + last, START + 600)), whole[inside])
    assert len(other.trades(START, START)) == 0


def test_ids_have_no_holes(tape: Tape) -> None:
    """Ids count up by one per market in order of time, over minutes and hours."""
    for first in (START, START + 3_500):
        rows = tape.trades(first, first + 300)
        for market in range(len(tape.listings)):
            ids = rows["id"][rows["market"] == market]
            assert np.all(np.diff(ids) == 1)
    start = tape.trades(START, START + 60)
    assert min(start["id"]) == FIRST_ID


def test_markets_get_their_share(tape: Tape) -> None:
    """Markets trade as often as their weights say."""
    rows = tape.trades(START, START + 600)
    perps = rows[rows["market"] >= 2]
    assert np.mean(perps["market"] == 2) == pytest.approx(0.9, abs=0.02)


def test_liquidations_are_the_seconds(tape: Tape) -> None:
    """Liquidations of the run add up to the seconds' figures, at perps only."""
    run = tape.market.episodes[0].run_start
    found = [forced for at in range(run, run + 60) for forced in tape.liquidations(at)]
    seconds = tape.market.seconds(run, run + 60)
    assert sum(f.size * f.price for f in found if f.buy) == pytest.approx(seconds["liq_buy"].sum(), rel=1e-4)
    assert {f.instrument.kind for f in found} == {"perp"}


def test_bars_equal_a_slow_twin(tape: Tape) -> None:
    """Bars are what one gets by going through the trades one by one."""
    first = tape.market.episodes[0].run_start
    twin: dict[tuple[int, str], dict[str, float]] = {}
    for at in range(first, first + 30):
        for t in tape.second(at):
            price, notional = t.price, t.price * t.size
            bar = twin.setdefault((at, t.instrument.market), defaultdict(float, open=price, high=price, low=price))
            bar["high"], bar["low"], bar["close"] = max(bar["high"], price), min(bar["low"], price), price
            bar["vbuy" if t.buy else "vsell"] += notional
            bar["cbuy" if t.buy else "csell"] += 1
        for forced in tape.liquidations(at):
            twin[at, forced.instrument.market]["lbuy" if forced.buy else "lsell"] += forced.size * forced.price
    bars = tape.bars(first, first + 30, first_market=0)
    assert len(bars) == len(twin)
    for row in bars:
        bar = twin[int(row["second"]), tape.listings[row["market"]].instrument.market]
        for name in ("open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell"):
            assert row[name] == pytest.approx(bar[name], rel=1e-12)


def test_nothing_listed_nothing_traded() -> None:
    """A symbol without listings has no trades and no bars."""
    tape = Tape(Market("BTC", 1, START), [])
    assert tape.second(START) == []
    assert len(tape.bars(START, START + 10)) == 0


# --- beside real trades ------------------------------------------------------------------------------------------------


def habits(trades: Trades) -> dict[str, float]:
    """Tail of sizes, persistence of signs, trades in the same millisecond."""
    notional, sign = trades["price"] * trades["size"], np.where(trades["buy"], 1.0, -1.0)
    top = np.sort(notional)[-len(notional) // 100 :].sum() / notional.sum()
    return {
        "top 1 % of trades, share of volume": float(top),
        "99th centile over median size": float(np.quantile(notional, 0.99) / np.median(notional)),
        "sign autocorrelation, lag 1": float(np.corrcoef(sign[1:], sign[:-1])[0, 1]),
        "sign autocorrelation, lag 5": float(np.corrcoef(sign[5:], sign[:-5])[0, 1]),
        "in the millisecond of the one before": float(np.mean(np.diff(trades["ts_ms"]) == 0)),
    }


BOUNDS = {
    "top 1 % of trades, share of volume": (0.1, 0.6),
    "99th centile over median size": (10, 1_000),
    "sign autocorrelation, lag 1": (0.3, 0.95),
    "sign autocorrelation, lag 5": (0.02, 0.8),
    "in the millisecond of the one before": (0.3, 0.9),
}


def check(found: dict[str, float], title: str) -> None:
    for name, (low, high) in BOUNDS.items():
        print(f"{title:28} {name:38} {found[name]:8.3f}   bounds {low} … {high}")
        assert low < found[name] < high, name


def test_habits_of_the_tape(tape: Tape) -> None:
    """Sizes are heavy-tailed, signs persist, and orders sweep several trades within a millisecond."""
    rows = tape.trades(START, START + 400)
    check(habits(rows[rows["market"] == 2]), "synthetic BTC perp")


@pytest.mark.shared
def test_habits_of_a_real_tape(shared: Path) -> None:
    """The same bounds hold for real trades: the synthetic tape is judged by a yardstick that reality passes."""
    file = shared / "replay" / "binance-2024-08-08" / "BINANCE-btcusdt.jsonl.gz"
    exchange = exchanges.get("BINANCE")
    decoder = exchange.decoder("spot", Assumed(exchange))
    with gzip.open(file) as stream:
        frames = [msgspec.json.decode(line)["frame"] for line in stream]
    events = [event for frame in frames for event in decoder.decode(frame.encode(), 0)]
    trades = [event for event in events if type(event) is Trade]
    table = np.zeros(len(trades), [("ts_ms", np.int64), ("price", float), ("size", float), ("buy", bool)])
    for name in table.dtype.names or ():
        table[name] = [getattr(trade, name) for trade in trades]
    check(habits(table), "BINANCE:btcusdt, 2024-08-08")


def test_capture_wants_frames(tmp_path: Path) -> None:
    """An empty folder is refused by name."""
    with pytest.raises(ValueError, match=r"no \*\.jsonl\.gz"):
        Capture(tmp_path, {})
