"""A result as JSON and as text for a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson

from sqfd.backtest.run import Result
from sqfd.backtest.source import moment
from sqfd.config import Config
from sqfd.signals.signal import encode


def head(result: Result, config: Config) -> dict[str, Any]:
    """What was run: range, data, settings that matter to the result."""
    plan = result.plan
    return {
        "symbols": plan.symbols,
        "from": plan.first - 1,
        "to": plan.last - 1,
        "data": plan.data,
        "revised": plan.revised,
        "coverage": result.coverage.told(plan.last - plan.first),
        "ticks": result.ticks,
        "elapsed_s": round(result.elapsed_s, 6),
        "ticks_per_second": round(result.ticks_per_second, 1),
        "backtest": msgspec.to_builtins(config.backtest),
        "strategy": msgspec.to_builtins(config.strategy),
    }


def to_json(result: Result, config: Config) -> bytes:
    """One JSON object; each of `signals` is byte for byte what the journal and Redis get."""
    return orjson.dumps(
        {
            **head(result, config),
            "stats": result.stats(),
            "refused": dict(result.refused),
            "signals": [orjson.Fragment(encode(signal)) for signal in result.signals],
            "trades": [msgspec.to_builtins(trade) for trade in (*result.trades, *result.still_open)],
        }
    )


def write_json(path: Path, result: Result, config: Config) -> None:
    """Write `to_json`, to standard output for `-`."""
    text = to_json(result, config) + b"\n"
    if str(path) == "-":
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
    else:
        path.write_bytes(text)


def summary(result: Result, config: Config) -> str:
    """A screenful: coverage, speed, account, trades, buy-and-hold."""
    plan, stats = result.plan, result.stats()
    lines = [
        f"{', '.join(plan.symbols)}  {moment(plan.first - 1)} to {moment(plan.last - 1)} UTC, {plan.data}",
    ]
    for symbol, known in result.coverage.told(plan.last - plan.first).items():
        lines.append(
            f"  {symbol}: {known['share']:.2%} of the seconds stored, feeds whole for {known['coverage']:.2%} of the "
            f"volume, {known['revisions']:,} revisions"
        )
    lines.append(f"{result.ticks:,} ticks in {result.elapsed_s:.2f} s: {result.ticks_per_second:,.0f} ticks/s")
    called = sum("margin_call" in trade.exit_reasons for trade in result.trades)
    lines.append(
        f"{len(result.signals)} signals, {stats['trades']} trades, {len(result.still_open)} open"
        + (f", {called} closed by a margin call" if called else "")
        + "".join(
            f", {count} not traded: {reason.replace('_', ' ')}" for reason, count in sorted(result.refused.items())
        )
    )
    settings = config.backtest
    lines += [
        "",
        f"return {_share(stats['total_return'])}  after fees of {settings.exchange} ({settings.order}), "
        f"{settings.slippage_bps:g} bps slippage; buy-and-hold {_share(stats['buy_and_hold']['total_return'])}",
        f"max drawdown {_share(stats['max_drawdown'])} ({stats['max_drawdown_s'] / 3600:.1f} h)  Sharpe "
        f"{_number(stats['sharpe'])}  Sortino {_number(stats['sortino'])}  Calmar {_number(stats['calmar'])}  "
        f"in the market {_share(stats['exposure'])}",
    ]
    if stats["trades"]:
        lines.append(
            f"win rate {_share(stats['win_rate'])}  profit factor {_number(stats['profit_factor'])}  expectancy "
            f"{_number(stats['expectancy_bps'])} bps {_interval(stats['expectancy_bps_95'])}  costs are "
            f"{_share(stats['cost_share'])} of gross moves"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.2%}" if value < 0 else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _interval(values: list[float] | None) -> str:
    return "" if values is None else f"(95 %: {values[0]:.1f} to {values[1]:.1f})"
