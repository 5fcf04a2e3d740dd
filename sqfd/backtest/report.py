"""The HTML report: one file that needs nothing but a browser, readable on a phone."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqfd.backtest import figures
from sqfd.backtest.charts import Charts
from sqfd.backtest.output import head
from sqfd.backtest.page import page, plot, section
from sqfd.backtest.run import Result
from sqfd.backtest.source import moment
from sqfd.backtest.trades import Trade
from sqfd.config import Config

MOST_TRADES = 2_000
"""Rows of the table; a longer one makes browsers slow. The CSV has them all."""


def write_html(path: Path, result: Result, charts: Charts, config: Config) -> None:
    """Write the report of a run whose lines `charts` gathered."""
    path.write_text(report(result, charts, config), encoding="utf-8")


def report(result: Result, charts: Charts, config: Config) -> str:
    """The whole page."""
    stats = result.stats()
    samples, everything = result.curve.samples(), [*result.trades, *result.still_open]
    title = f"sqfd backtest: {', '.join(result.plan.symbols)}"
    span = f"{moment(result.plan.first - 1)} to {moment(result.plan.last - 1)} UTC"
    body = [
        f'<p class="note">{span}</p>',
        _coverage(result, config),
        section("Result", _cards(stats) + _costs(stats, config)),
        section("Equity and drawdown", plot(figures.equity(samples, result.curve.capital))),
    ]
    for symbol, line in charts.lines.items():
        mine = [trade for trade in everything if trade.symbol == symbol]
        body.append(section(f"{symbol}: price, flow and score", plot(figures.market(line, mine))))
    if result.trades:
        body.append(section("Trades by net result", plot(figures.distribution(result.trades))))
        body.append(section("By direction, tier and exit reason", _groups(stats)))
    body.append(section(f"Trades ({len(everything)})", _trades(everything)))
    return page(title, *body)


def _coverage(result: Result, config: Config) -> str:
    told = head(result, config)
    rows = [
        (
            symbol,
            _share(known["share"]),
            _share(known["coverage"]),
            f"{known['revisions']:,}",
            f"{len(known['markets'])}",
        )
        for symbol, known in told["coverage"].items()
    ]
    table = _table(("", "seconds stored", "volume whole", "revisions", "markets"), rows)
    speed = f"{result.ticks:,} ticks in {result.elapsed_s:.2f} s ({result.ticks_per_second:,.0f} ticks/s)"
    return section("Data", f'<p class="note">The data are {result.plan.data}. {speed}.</p>{table}')


def _cards(stats: dict[str, Any]) -> str:
    interval = stats["expectancy_bps_95"]
    between = f"95 %: {interval[0]:.1f} to {interval[1]:.1f} bps" if interval else "too few trades for an interval"
    cards = [
        ("Return", _share(stats["total_return"]), f"buy-and-hold {_share(stats['buy_and_hold']['total_return'])}"),
        ("Max drawdown", _share(stats["max_drawdown"]), f"{stats['max_drawdown_s'] / 3600:.1f} h under the peak"),
        ("Expectancy", _number(stats["expectancy_bps"], " bps"), between),
        ("Win rate", _share(stats["win_rate"]), f"{stats['trades']} trades"),
        ("Profit factor", _number(stats["profit_factor"]), "won / lost"),
        ("Sharpe", _number(stats["sharpe"]), f"Sortino {_number(stats['sortino'])}"),
        ("Calmar", _number(stats["calmar"]), f"CAGR {_share(stats['cagr'])}"),
        ("In the market", _share(stats["exposure"]), f"{_number(stats['trades_per_day'])} trades a day"),
        ("MAE / MFE", f"{_share(stats['mean_mae'])} / {_share(stats['mean_mfe'])}", "mean excursions"),
        ("Cost share", _share(stats["cost_share"]), "of gross moves"),
    ]
    shown = "".join(
        f'<div class="card"><span>{name}</span><b class="{_tone(name, value)}">{value}</b><span>{note}</span></div>'
        for name, value, note in cards
    )
    return f'<div class="cards">{shown}</div>'


def _tone(name: str, value: str) -> str:
    if name not in ("Return", "Expectancy") or value == "n/a":
        return ""
    return "bad" if value.startswith(("-", "−")) else "good"


def _costs(stats: dict[str, Any], config: Config) -> str:
    settings = config.backtest
    return (
        f'<p class="note">From {stats["capital"]:,.0f} to {stats["equity"]:,.2f} $. Paid: fees {stats["fees"]:,.2f}, '
        f"slippage {stats['slippage']:,.2f}, funding {stats['funding']:,.2f} $. {html.escape(settings.exchange)} "
        f"{settings.order} fees, {settings.slippage_bps:g} bps + {settings.impact_bps:g} bps × share of volume, filled "
        f"{settings.latency_s} s after the signal, {settings.margin_share:.0%} of equity as margin at size 1. "
        f"Ratios from {'daily' if stats['period_s'] == 86_400 else 'hourly'} returns. "
        "Past results promise nothing; prices are the index, not one exchange's book.</p>"
    )


def _groups(stats: dict[str, Any]) -> str:
    tables = []
    for name, title in (
        ("by_side", "direction"),
        ("by_quality", "tier"),
        ("by_symbol", "symbol"),
        ("by_exit_reason", "exit reason"),
    ):
        rows = [
            (
                key.replace("_", " "),
                str(group["trades"]),
                _share(group["win_rate"]),
                f"{group['net']:,.2f}",
                _number(group["expectancy_bps"]),
            )
            for key, group in stats[name].items()
        ]
        tables.append(f"<div>{_table((title, 'trades', 'won', 'net $', 'bps'), rows)}</div>")
    return f'<div class="groups">{"".join(tables)}</div>'


def _trades(trades: Sequence[Trade]) -> str:
    if not trades:
        return '<p class="note">No trade in this range.</p>'
    heads = "".join(f'<th class="{_place(name)}">{name}</th>' for name in COLUMNS)
    rows = "".join(_trade(trade) for trade in trades[:MOST_TRADES])
    more = f'<p class="note">The first {MOST_TRADES:,}; --trades writes all.</p>' if len(trades) > MOST_TRADES else ""
    return f'<div class="wide"><table class="stacked"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{more}'


COLUMNS = (
    "entry (UTC)",
    "symbol",
    "side",
    "net bps",
    "why",
    "net $",
    "held",
    "score",
    "lev.",
    "entry",
    "exit",
    "MAE",
    "MFE",
)
"""What matters first."""
TEXT = ("entry (UTC)", "symbol", "side", "why")
ASIDE = COLUMNS[COLUMNS.index("why") + 1 :]
"""On a phone these are told where a trade is unfolded."""


def _place(name: str) -> str:
    return "text" if name in TEXT else "aside" if name in ASIDE else ""


def _trade(trade: Trade) -> str:
    held = f"{trade.held_s // 3600}:{trade.held_s % 3600 // 60:02d}:{trade.held_s % 60:02d}"
    aside = (
        f"{trade.net:,.2f}",
        held,
        f"{trade.score:.2f}",
        f"{trade.leverage:g}",
        f"{trade.entry_price:.8g}",
        f"{trade.exit_price:.8g}",
        _share(trade.mae),
        _share(trade.mfe),
    )
    told = dict(zip(ASIDE, aside, strict=True))
    net, entered = f"{trade.net_share * 1e4:,.1f}", moment(trade.entry_tick)
    values = (entered, trade.symbol, trade.side, net, _why(trade, told), *aside)
    tone = "good" if trade.net > 0 else "bad"
    more = {"net bps": f"{tone} bps", "net $": tone, "why": "explain"}
    cells = (
        f'<td class="{_place(name)} {more.get(name, "")}">{value}</td>'
        for name, value in zip(COLUMNS, values, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _why(trade: Trade, aside: Mapping[str, str]) -> str:
    """Why it ended; unfolded, why it began, with the phases' verdicts and the score's parts."""
    told = ", ".join(f"{name} {value}" for name, value in aside.items())
    parts = "\n".join(
        f"{name.replace('_', ' ')}: {value:.2f}" for name, value in trade.explain["score_breakdown"].items()
    )
    phases = "\n".join(f"{name}: {phase.get('verdict')}" for name, phase in trade.explain["phases"].items())
    why = html.escape(", ".join(trade.exit_reasons).replace("_", " "))
    story = html.escape(f"{trade.explain['reasoning']}\n\n{phases}\n\n{parts}")
    more = f'<p class="note narrow">{html.escape(told)}</p>'
    return f"<details><summary>{why}</summary>{more}<pre>{story}</pre></details>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(
        f'<th class="{"" if place else "text"}">{html.escape(name)}</th>' for place, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{"" if place else "text"}">{html.escape(value)}</td>' for place, value in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2%}"


def _number(value: float | None, unit: str = "") -> str:
    return "n/a" if value is None else f"{value:,.2f}{unit}"
