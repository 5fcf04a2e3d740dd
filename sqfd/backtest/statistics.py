"""Statistics of a backtest as practitioners define them. Pure.

Returns are taken over whole periods (a day, or an hour where there are few days) and annualised for a market that never
closes: 365 days. A number that does not exist (a ratio over no losses, too few values) is None. Definitions of ratios
follow empyrical, against which a test holds them: Sharpe uses the sample standard deviation, Sortino the root mean square of
returns below zero over all periods, Calmar the CAGR over the largest drawdown of those periods' returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sqfd.backtest.equity import EquityCurve
from sqfd.backtest.prices import Floats, Ints
from sqfd.backtest.trades import Trade

DAY_S, HOUR_S = 86_400, 3_600
YEAR_S = 365 * DAY_S
DAILY_FROM_S = 20 * DAY_S
"""Ranges at least this long are judged by daily returns, shorter ones by hourly."""
ANNUAL_FROM_S = 30 * DAY_S
"""Shorter ranges say nothing about a year: no CAGR, no Calmar."""
FEWEST_PERIODS = 12
"""Fewer returns have no spread to speak of: no volatility, Sharpe or Sortino."""
RESAMPLES = 2_000
DRAWS_AT_ONCE = 250_000
"""Of the bootstrap, so that its memory does not grow with the number of trades."""
DIGITS = 8


def statistics(curve: EquityCurve, trades: Sequence[Trade], still_open: Sequence[Trade]) -> dict[str, Any]:
    """Everything about a run, ready for JSON: of the account, of its trades, and of buying and holding instead."""
    samples = curve.samples()
    span_s = int(samples.tick[-1] - samples.tick[0]) if len(samples.tick) else 0
    period_s = DAY_S if span_s >= DAILY_FROM_S else HOUR_S
    returns = period_returns(samples.tick, samples.equity, curve.capital, period_s)
    hold = period_returns(samples.tick, samples.hold, 1.0, period_s)
    days = curve.ticks / DAY_S
    out: dict[str, Any] = {
        "days": days,
        "period_s": period_s,
        "capital": curve.capital,
        "equity": float(samples.equity[-1]) if len(samples.equity) else curve.capital,
        **ratios(returns, YEAR_S / period_s),
        "max_drawdown": curve.drawdown.depth,
        "max_drawdown_s": curve.drawdown.longest_s,
        "exposure": curve.exposed / curve.ticks if curve.ticks else 0.0,
        "mean_leverage_held": curve.turnover_s / curve.exposed if curve.exposed else None,
        "trades_per_day": len(trades) / days if days else None,
        **of_trades(trades),
        "open_trades": len(still_open),
        "open_net": sum(trade.net for trade in still_open),
        "by_side": grouped(trades, lambda trade: (trade.side,)),
        "by_quality": grouped(trades, lambda trade: (trade.quality,)),
        "by_symbol": grouped(trades, lambda trade: (trade.symbol,)),
        "by_exit_reason": grouped(trades, lambda trade: trade.exit_reasons),
        "buy_and_hold": {**ratios(hold, YEAR_S / period_s), "max_drawdown": curve.hold_drawdown.depth},
    }
    if len(returns) < FEWEST_PERIODS:
        for account in (out, out["buy_and_hold"]):
            account["volatility"] = account["sharpe"] = account["sortino"] = None
    if span_s < ANNUAL_FROM_S:
        for account in (out, out["buy_and_hold"]):
            account["cagr"] = account["calmar"] = None
    return {name: short(value) for name, value in out.items()}


def short(value: Any) -> Any:
    """Floats to eight significant digits, and None for those that are no number: JSON has none."""
    if isinstance(value, dict):
        return {name: short(one) for name, one in value.items()}
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def period_returns(ticks: Ints, values: Floats, start: float, period_s: int) -> Floats:
    """Returns of periods that end at multiples of `period_s`; the first and the last may be cut short.

    A period without samples (the daemon was down) has return 0.
    """
    if not len(ticks):
        return np.zeros(0)
    period = -(-ticks // period_s)
    ends = np.full(int(period[-1] - period[0]) + 1, np.nan)
    ends[period - period[0]] = values  # of several samples in one period the last stays
    held = np.maximum.accumulate(np.where(np.isnan(ends), 0, np.arange(len(ends))))
    levels = np.concatenate([[start], ends[held]])
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = levels[1:] / levels[:-1] - 1
    return np.asarray(np.where(levels[:-1] > 0, returns, 0.0))


def ratios(returns: Floats, per_year: float) -> dict[str, float | None]:
    """Return, CAGR, volatility, Sharpe, Sortino and Calmar of returns of equal periods."""
    if not len(returns):
        return dict.fromkeys(("total_return", "cagr", "volatility", "sharpe", "sortino", "calmar"))
    growth = float(np.prod(1 + returns))
    cagr = _annual(growth, per_year / len(returns))
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    below = math.sqrt(float((np.minimum(returns, 0) ** 2).mean()))
    worst = drawdown_of(returns)
    mean, scale = float(returns.mean()), math.sqrt(per_year)
    return {
        "total_return": growth - 1,
        "cagr": cagr,
        "volatility": spread * scale,
        "sharpe": mean / spread * scale if spread > 0 else None,
        "sortino": mean * per_year / (below * scale) if below > 0 else None,
        "calmar": cagr / worst if worst > 0 else None,
    }


def _annual(growth: float, times: float) -> float:
    """Growth to the power of `times`, less 1; infinite where a good hour would make too much of a year."""
    if growth <= 0:
        return -1.0
    power = math.log(growth) * times
    return math.expm1(power) if power < 700 else math.inf


def drawdown_of(returns: Floats) -> float:
    """Largest fall from a peak of the value that these returns compound to, ≥ 0."""
    values = np.concatenate([[1.0], np.cumprod(1 + returns)])
    return float((1 - values / np.maximum.accumulate(values)).max())


def of_trades(trades: Sequence[Trade], interval: bool = True) -> dict[str, Any]:
    """What closed trades were on average; money in dollars, `*_bps` per notional. Without `interval` no `expectancy_bps_95`, the dearest."""
    net = np.array([trade.net for trade in trades])
    share = np.array([trade.net_share for trade in trades])
    won, lost = net[net > 0], net[net <= 0]
    gross = sum(abs(trade.gross) for trade in trades)
    costs = sum(trade.slippage + trade.fees + trade.funding for trade in trades)
    low, high = bootstrap(share) if interval else (None, None)
    return {
        "trades": len(trades),
        "win_rate": len(won) / len(net) if len(net) else None,
        "profit_factor": float(won.sum() / -lost.sum()) if len(lost) and lost.sum() < 0 else None,
        "expectancy": float(net.mean()) if len(net) else None,
        "expectancy_bps": float(share.mean() * 1e4) if len(net) else None,
        "expectancy_bps_95": [low * 1e4, high * 1e4] if low is not None and high is not None else None,
        "mean_win": float(won.mean()) if len(won) else None,
        "mean_loss": float(lost.mean()) if len(lost) else None,
        "net": float(net.sum()),
        "gross": sum(trade.gross for trade in trades),
        "fees": sum(trade.fees for trade in trades),
        "slippage": sum(trade.slippage for trade in trades),
        "funding": sum(trade.funding for trade in trades),
        "cost_share": costs / gross if gross else None,
        "mean_mae": _mean([trade.mae for trade in trades]),
        "mean_mfe": _mean([trade.mfe for trade in trades]),
        "mean_held_s": _mean([float(trade.held_s) for trade in trades]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def grouped(trades: Sequence[Trade], keys: Callable[[Trade], Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Trades, win rate, net and expectancy by key; a trade with several keys counts for each."""
    groups: dict[str, list[Trade]] = {}
    for trade in trades:
        for key in keys(trade):
            groups.setdefault(key, []).append(trade)
    names = ("trades", "win_rate", "net", "expectancy_bps", "mean_mae", "mean_mfe")
    found = {key: of_trades(group, interval=False) for key, group in sorted(groups.items())}
    return {key: {name: figures[name] for name in names} for key, figures in found.items()}


def bootstrap(values: Floats, level: float = 0.95, seed: int = 0) -> tuple[float | None, float | None]:
    """Percentile interval of the mean over resamples with replacement; None for fewer than two values.

    Trades are taken as independent, which overlapping ones are not: the true interval is wider.
    """
    if len(values) < 2:
        return None, None
    rng, means = np.random.default_rng(seed), np.empty(RESAMPLES)
    at_once = max(1, DRAWS_AT_ONCE // len(values))
    for first in range(0, RESAMPLES, at_once):
        drawn = means[first : first + at_once]
        drawn[:] = values[rng.integers(0, len(values), (len(drawn), len(values)))].mean(axis=1)
    means.sort()
    return _quantile(means, (1 - level) / 2), _quantile(means, (1 + level) / 2)


def _quantile(ascending: Floats, share: float) -> float:
    """Between the two nearest values in proportion, as `np.quantile`, which imports a tenth of a second of numpy for it."""
    below, part = divmod(share * (len(ascending) - 1), 1.0)
    low, high = float(ascending[int(below)]), float(ascending[min(int(below) + 1, len(ascending) - 1)])
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
