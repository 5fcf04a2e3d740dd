"""Bars equal a slow, obvious twin for any order and delay of trades."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Instrument, Liquidation, Trade
from sqfd.bars.builder import SEAM_S, Builder
from sqfd.model import BAR_FIELDS, ClosedSecond

BTC = Instrument("X", "btc", "BTC", "spot", "BTC", "USD", "spot")
START_MS = 1_700_000_000_000


def trade(ts_ms: int, price: float = 100.0, size: float = 1.0, buy: bool = True, **rest: object) -> Trade:
    return Trade(BTC, START_MS + ts_ms, price, size, buy, **rest)  # type: ignore[arg-type]  # test shorthand


def twin(trades: Sequence[tuple[int, Trade]]) -> dict[tuple[int, int], list[float]]:
    """(market, second) → bar, by sorting each second's trades by (trade time, arrival) and reading it off."""
    groups: dict[tuple[int, int], list[tuple[int, int, Trade]]] = defaultdict(list)
    for arrival, (market, one) in enumerate(trades):
        groups[market, one.ts_ms // 1000].append((one.ts_ms, arrival, one))
    bars = {}
    for key, group in groups.items():
        ordered = [one for _, _, one in sorted(group, key=lambda entry: entry[:2])]
        prices = [one.price for one in ordered]
        buys = [one for one in ordered if one.buy]
        sells = [one for one in ordered if not one.buy]
        bars[key] = [
            prices[0],
            max(prices),
            min(prices),
            prices[-1],
            sum(one.price * one.size for one in buys),
            sum(one.price * one.size for one in sells),
            sum(one.count for one in buys),
            sum(one.count for one in sells),
        ]
    return bars


def newest(closed: Sequence[ClosedSecond]) -> dict[tuple[int, int], list[float]]:
    """(market, second) → the bar of the newest tick that speaks of it."""
    bars = {}
    for one in closed:
        for row in one.bars:
            bars[int(row["market"]), int(row["second"])] = [float(row[name]) for name in BAR_FIELDS]
    return bars


def close(builder: Builder) -> ClosedSecond:
    return builder.close(np.ones(2, np.bool_))


arrivals = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 9_999),
        st.floats(0.01, 1e5),
        st.floats(1e-6, 1e4),
        st.booleans(),
        st.integers(1, 9),
        st.booleans(),
    ),
    max_size=60,
)


@given(arrivals)
def test_any_order_gives_the_twins_bars(steps: list[tuple[int, int, float, float, bool, int, bool]]) -> None:
    """However trades and closings interleave, the newest bars are those of all trades."""
    builder = Builder(revisable_s=60)
    builder.add_markets(2)
    builder.start(START_MS // 1000)
    taken, closed = [], []
    for market, ts_ms, price, size, buy, count, then_close in steps:
        one = trade(ts_ms, price, size, buy, count=count)
        assert builder.trade(market, one)
        taken.append((market, one))
        if then_close and builder.next_second < START_MS // 1000 + 12:  # type: ignore[operator]  # started above
            closed.append(close(builder))
    closed += [close(builder) for _ in range(24)]
    bars = newest(closed)
    expected = twin(taken)
    assert bars.keys() == expected.keys()
    for key, values in expected.items():
        assert bars[key][:8] == pytest.approx(values, rel=1e-9)


def test_each_tick_appears_once_and_in_order() -> None:
    """Tick k closes second k − 1, revisions first."""
    builder = Builder()
    builder.add_markets(2)
    builder.trade(0, trade(100))
    first = close(builder)
    builder.trade(1, trade(1200))
    builder.trade(1, trade(300, price=7.0))
    second = close(builder)
    assert (first.tick, second.tick) == (START_MS // 1000 + 1, START_MS // 1000 + 2)
    assert second.bars["second"].tolist() == [first.second, second.second]
    assert builder.late == 1


def test_too_late_and_too_far_ahead_are_counted() -> None:
    """What cannot count is refused with a reason."""
    builder = Builder(revisable_s=5, ahead_s=60)
    builder.add_markets(1)
    builder.start(START_MS // 1000 + 100)
    assert not builder.trade(0, trade(0))
    assert not builder.trade(0, trade(200_000))
    assert builder.dropped == {"late": 1, "ahead": 1}


def test_what_an_exchange_owed_for_minutes_is_kept() -> None:
    """Closing waited for an exchange that was two minutes behind: when it catches up within a moment nothing is dropped."""
    builder = Builder()
    builder.add_markets(1)
    builder.start(START_MS // 1000)
    assert all(builder.trade(0, trade(second * 1000)) for second in range(120))
    assert not builder.dropped
    assert [len(close(builder).bars) for _ in range(120)] == [1] * 120


def test_liquidation_only_second_has_no_prices_and_no_volume() -> None:
    """A forced order from a liquidation feed is in lbuy/lsell only."""
    builder = Builder()
    builder.add_markets(1)
    builder.liquidation(0, Liquidation(BTC, START_MS + 5, 100.0, 2.0, False))
    bar = close(builder).bars[0]
    assert bar["lsell"] == 200.0
    assert bar["lbuy"] == bar["vbuy"] == bar["vsell"] == bar["cbuy"] == 0
    assert all(np.isnan(bar[name]) for name in ("open", "high", "low", "close"))
    builder.trade(0, trade(6, price=3.0))
    revised = close(builder).bars[0]
    assert (revised["open"], revised["high"], revised["low"], revised["lsell"]) == (3.0, 3.0, 3.0, 200.0)


def test_forced_trade_is_volume_and_liquidation() -> None:
    """A liquidation flag on an ordinary trade counts in both, on the forced order's side."""
    builder = Builder()
    builder.add_markets(1)
    builder.trade(0, trade(5, size=2.0, buy=True, forced=False))
    bar = close(builder).bars[0]
    assert (bar["vbuy"], bar["lbuy"], bar["lsell"]) == (200.0, 0.0, 200.0)


def test_markets_can_join_later() -> None:
    """Markets added while running get the next indices, and keep what others have."""
    builder = Builder()
    assert builder.add_markets(1) == range(1)
    builder.trade(0, trade(1))
    assert builder.add_markets(2) == range(1, 3)
    builder.trade(2, trade(2))
    assert close(builder).bars["market"].tolist() == [0, 2]


def test_recovered_trades_find_their_place() -> None:
    """What was missing comes after what is known of its millisecond, or before it: open and close are as if it had come."""
    builder = Builder()
    builder.add_markets(1)
    builder.start(START_MS // 1000)
    builder.trade(0, trade(500, 10.0))
    builder.trade(0, trade(700, 20.0))
    builder.close(np.ones(1, np.bool_))
    for ts_ms, price, first in ((500, 11.0, False), (700, 19.0, True), (600, 30.0, False)):
        assert builder.recovered(0, trade(ts_ms, price), first)
    bar = builder.close(np.ones(1, np.bool_)).bars[0]
    assert (bar["open"], bar["high"], bar["close"], bar["cbuy"]) == (10.0, 30.0, 20.0, 5)
    assert builder.recovered(0, trade(500, 9.0), True)
    assert builder.recovered(0, trade(700, 21.0), False)
    bar = builder.close(np.ones(1, np.bool_)).bars[0]
    assert (bar["open"], bar["close"]) == (9.0, 21.0)
    assert not builder.recovered(0, trade(-2_000_000), False)
    assert builder.dropped["late"] == 1


def test_seconds_of_an_earlier_run_are_left_alone() -> None:
    """After a restart the bars before it are in the journal only: a late trade must not put a new bar in their place."""
    builder, first = Builder(), START_MS // 1000
    builder.add_markets(1)
    builder.resume(first)
    assert not builder.trade(0, trade(-1))  # as the first trade of the run, too
    assert builder.trade(0, trade(5000))
    assert builder.next_second == first
    close(builder)
    assert not builder.recovered(0, trade(-1), False)
    assert builder.recovered(0, trade(0), False)
    assert builder.oldest_ms == START_MS
    assert builder.dropped["late"] == 2


def test_the_last_seconds_of_an_earlier_run_are_told_again() -> None:
    """Its bar stays until more trades of that second are told again than it has; then they are the bar, and those that are new count."""
    earlier, first = Builder(), START_MS // 1000
    earlier.add_markets(2)
    for market, ts_ms, price in ((0, -900, 10.0), (0, -100, 12.0), (1, -900, 5.0)):
        earlier.trade(market, trade(ts_ms, price))
    earlier.liquidation(0, Liquidation(BTC, START_MS - 100, 7.0, 1.0, True))
    known = earlier.close(np.ones(2, np.bool_)).bars
    builder = Builder()
    builder.add_markets(2)
    builder.resume(first, known)
    builder.add_markets(1)
    assert builder.oldest_ms == 0
    told = (
        (0, -900, 10.0),
        (0, -500, 30.0),
        (1, -900, 5.0),
        (0, -100, 12.0),
        (0, -2500, 9.0),
        (0, -3500, 9.0),
        (2, -500, 1.0),
    )
    assert [builder.trade(market, trade(ts_ms, price)) for market, ts_ms, price in told[:3]] == [False] * 3
    assert not builder.revised
    assert [builder.recovered(m, trade(ts_ms, price), False) for m, ts_ms, price in told[3:]] == [
        True,
        True,
        False,
        False,
    ]
    assert builder.oldest_ms == START_MS - SEAM_S * 1000
    assert (builder.revised, builder.dropped["late"], builder.late) == (True, 5, 2)
    bars = builder.close(np.ones(3, np.bool_)).bars
    assert [(row["market"], row["second"], row["cbuy"], row["lbuy"]) for row in bars] == [
        (0, first - 3, 1, 0.0),
        (0, first - 1, 3, 7.0),
    ]
    assert (bars["open"][1], bars["high"][1], bars["close"][1]) == (10.0, 30.0, 12.0)
    assert not builder.liquidation(0, Liquidation(BTC, START_MS - 100, 7.0, 1.0, True))


def test_newest_is_the_last_trade_of_the_newest_time_whatever_the_batches() -> None:
    """Of all that was added, in any order, while seconds close; too late ones and recovered ones of that time are not it."""
    chance = random.Random(5)
    builder = Builder(revisable_s=30)
    builder.add_markets(1)
    way, added = builder.way(0), list[Trade]()
    for step in range(300):
        batch = [trade(max(0, step * 200 + chance.randrange(-40_000, 1500))) for _ in range(chance.randrange(1, 5))]
        dropped = {id(one) for one in way.add(batch)}
        added += [one for one in batch if id(one) not in dropped]
        newest_ms = max(one.ts_ms for one in added)
        expected = [one for one in added if one.ts_ms == newest_ms][-1]
        assert way.newest is expected
        assert builder.recovered(0, trade(newest_ms - START_MS), False)
        assert way.newest is expected
        while builder.next_second is not None and builder.next_second * 1000 < START_MS + step * 200 - 3000:
            close(builder)
