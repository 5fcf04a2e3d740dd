"""Statistics: equal to an independent library's, and to sums by hand."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqfd.backtest.equity import Drawdown, EquityCurve
from sqfd.backtest.portfolio import Account
from sqfd.backtest.prices import Prices
from sqfd.backtest.statistics import _quantile, bootstrap, drawdown_of, of_trades, period_returns, ratios, statistics
from sqfd.backtest.trades import Trade

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library's own imports
    import empyrical

RETURNS = st.lists(st.floats(-0.2, 0.25).map(lambda x: round(x, 4)), min_size=5, max_size=60).map(np.array)


@settings(max_examples=60, deadline=None)
@given(returns=RETURNS, per_year=st.sampled_from([365.0, 8760.0]))
def test_ratios_equal_empyricals(returns: np.ndarray, per_year: float) -> None:
    """Total return, CAGR, volatility, Sharpe, Sortino, Calmar and drawdown, wherever both define them."""
    ours = ratios(returns, per_year)
    with np.errstate(all="ignore"):
        theirs = {
            "total_return": empyrical.cum_returns_final(returns),
            "cagr": empyrical.cagr(returns, annualization=per_year),
            "volatility": empyrical.annual_volatility(returns, annualization=per_year),
            "sharpe": empyrical.sharpe_ratio(returns, annualization=per_year),
            "sortino": empyrical.sortino_ratio(returns, annualization=per_year),
            "calmar": empyrical.calmar_ratio(returns, annualization=per_year),
        }
    for name, value in theirs.items():
        if ours[name] is not None and np.isfinite(value):
            assert ours[name] == pytest.approx(float(value), rel=1e-6, abs=1e-9), name
    assert drawdown_of(returns) == pytest.approx(-float(empyrical.max_drawdown(returns)), abs=1e-12)


def test_ratios_that_do_not_exist_are_none() -> None:
    """No returns, no spread, no loss: None instead of infinities."""
    assert set(ratios(np.zeros(0), 365).values()) == {None}
    never_lost = ratios(np.array([0.01, 0.02]), 365)
    assert (never_lost["sortino"], never_lost["calmar"]) == (None, None)
    assert ratios(np.zeros(3), 365)["sharpe"] is None


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(1, 200), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 59), max_size=4),
)
def test_drawdown_equals_a_walk(values: list[float], cuts: list[int]) -> None:
    """Depth and longest time under a peak, whatever the blocks."""
    drawdown = Drawdown(100.0)
    edges = [0, *sorted({cut for cut in cuts if cut < len(values)}), len(values)]
    for start, stop in pairwise(edges):
        drawdown.add(1000 + start, np.array(values[start:stop]))
    peak, since, depth, longest = 100.0, 0, 0.0, 0
    for value in values:
        peak, since = (value, 0) if value >= peak else (peak, since + 1)
        depth, longest = max(depth, 1 - value / peak), max(longest, since)
    assert drawdown.depth == pytest.approx(depth)
    assert drawdown.longest_s == longest


def test_period_returns_compound_to_the_whole() -> None:
    """Samples at any spacing, with a day missing: the periods' returns multiply to the total, the missing day is 0."""
    day = 86_400
    ticks = np.array([10, 50_000, day, day + 5, 3 * day + 7, 3 * day + 9])
    returns = period_returns(ticks, np.array([100.0, 90.0, 110.0, 120.0, 60.0, 66.0]), 100.0, day)
    assert returns.tolist() == pytest.approx([0.1, 120 / 110 - 1, 0.0, 66 / 120 - 1])


def trade(net: float, side: str = "LONG", reasons: tuple[str, ...] = ("flow_reversal",), **other: Any) -> Trade:
    values = dict.fromkeys(Trade.__struct_fields__, 0.0) | {
        "symbol": "BTC",
        "side": side,
        "quality": "high",
        "exit_reasons": reasons,
        "notional": 1000.0,
        "net": net,
        "gross": net + 2.0,
        "fees": 1.5,
        "slippage": 0.5,
        "exit_tick": 60,
        "entry_tick": 0,
        "explain": {},
    }
    merged: dict[str, Any] = values | other
    return Trade(**merged)


def test_trades_are_summed_as_by_hand() -> None:
    """Three trades: win rate, profit factor, expectancy, cost share."""
    found = of_trades([trade(30.0), trade(-10.0), trade(-5.0)])
    assert found["win_rate"] == pytest.approx(1 / 3)
    assert found["profit_factor"] == pytest.approx(2.0)
    assert found["expectancy"] == pytest.approx(5.0)
    assert found["expectancy_bps"] == pytest.approx(50.0)
    assert found["cost_share"] == pytest.approx(6.0 / (32 + 8 + 3))
    assert found["mean_held_s"] == 60


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    """Of 95 % intervals over normal samples about 95 % hold the true mean."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(60):
        low, high = bootstrap(rng.normal(1.0, 3.0, 80))
        assert low is not None
        assert high is not None
        inside += low <= 1.0 <= high
    assert 52 <= inside <= 60
    assert bootstrap(np.array([1.0])) == (None, None)


def curve_of(equity: np.ndarray, notional: np.ndarray, price: np.ndarray) -> EquityCurve:
    curve = EquityCurve(100.0, 1)
    prices = Prices(
        86_400,
        price[None],
        price[None],
        price[None],
        price[None],
        np.ones((1, len(price)), bool),
        np.zeros((1, len(price)), np.int64),
    )
    curve.add(Account(86_400, equity, equity, notional), prices)
    return curve


def test_statistics_of_a_run() -> None:
    """Exposure, leverage, buy-and-hold and groups of a made run of a day; no CAGR of a single day."""
    ticks = 86_400
    equity = np.linspace(100, 110, ticks)
    notional = np.where(np.arange(ticks) < ticks // 4, equity * 2, 0.0)
    stats = statistics(
        curve_of(equity, notional, np.linspace(50, 40, ticks)), [trade(6.0), trade(4.0, "SHORT", ("a", "b"))], []
    )
    assert stats["exposure"] == pytest.approx(0.25)
    assert stats["mean_leverage_held"] == pytest.approx(2.0)
    assert stats["total_return"] == pytest.approx(0.1)
    assert stats["buy_and_hold"]["total_return"] == pytest.approx(-0.2)
    assert stats["buy_and_hold"]["max_drawdown"] == pytest.approx(0.2)
    assert (stats["cagr"], stats["period_s"], stats["trades_per_day"]) == (None, 3600, 2.0)
    assert {side: group["net"] for side, group in stats["by_side"].items()} == {"LONG": 6.0, "SHORT": 4.0}
    assert set(stats["by_exit_reason"]) == {"flow_reversal", "a", "b"}


def test_statistics_of_nothing() -> None:
    """No ticks and no trades: every number is there or None."""
    stats = statistics(EquityCurve(100.0, 1), [], [])
    assert (stats["trades"], stats["win_rate"], stats["sharpe"], stats["equity"]) == (0, None, None, 100.0)


def test_quantiles_are_those_of_numpy() -> None:
    """The bounds of the interval are what `np.quantile` gives for the same resamples, to the last bit."""
    rng = np.random.default_rng(3)
    for count in (1, 2, 3, 40, 2_000):
        values = np.sort(rng.normal(0.0, 1e-3, count))
        for share in (0.0, 0.025, 0.3, 0.5, 0.975, 1.0):
            assert _quantile(values, share) == float(np.quantile(values, share))
