"""The report's figures, for plotly.js: see `page`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sqfd.backtest.charts import POINTS, Line
from sqfd.backtest.equity import Samples
from sqfd.backtest.page import Figure
from sqfd.backtest.prices import Floats, Ints
from sqfd.backtest.trades import Trade

Trace = dict[str, Any]


def market(line: Line, trades: Sequence[Trade]) -> Figure:
    """Price with entries and exits, spot and perp CVD, and the score, under one time axis."""
    at, scored = np.array(line.tick, np.int64), sorted(line.score)
    traces = [
        _line(at, line.price, "price", "ink"),
        _line(at, line.spot_cvd, "spot CVD", "spot", "y2"),
        _line(at, line.perp_cvd, "perp CVD", "perp", "y2"),
        _line(np.array(scored, np.int64), [line.score[tick] for tick in scored], "score", "score", "y3"),
    ]
    for side, symbol, colour in (("LONG", "triangle-up", "good"), ("SHORT", "triangle-down", "bad")):
        mine = [trade for trade in trades if trade.side == side]
        entries = [(trade.entry_tick, trade.entry_price, f"{side}, score {trade.score:.2f}") for trade in mine]
        traces.append(_marks(entries, side.lower(), symbol, colour))
    exits = [(t.exit_tick, t.exit_price, f"{', '.join(t.exit_reasons)}<br>net {t.net:,.2f} $") for t in trades]
    traces.append(_marks(exits, "exit", "x-thin-open", "ink"))
    axes = {
        "yaxis": axis("price", 0.5, 1.0),
        "yaxis2": axis("CVD, $", 0.2, 0.46),
        "yaxis3": axis("score", 0.0, 0.16, range=[0, 10]),
    }
    return figure(traces, 620, xaxis=_time("y3"), **axes)


def equity(samples: Samples, capital: float) -> Figure:
    """Equity beside buy-and-hold, and the drawdown below."""
    keep = slice(None, None, max(1, len(samples.tick) // POINTS))
    at, fall = samples.tick[keep], samples.equity / np.maximum.accumulate(samples.equity) - 1
    drawdown = _line(at, (fall * 100)[keep], "drawdown", "bad", "y2")
    traces = [
        _line(at, (samples.hold * capital)[keep], "buy-and-hold", "hold"),
        _line(at, samples.equity[keep], "equity", "good"),
        drawdown | {"fill": "tozeroy", "line": {"color": "@bad", "width": 1}},
    ]
    axes = {"yaxis": axis("$", 0.36, 1.0), "yaxis2": axis("%", 0.0, 0.3)}
    return figure(traces, 420, xaxis=_time("y2"), **axes)


def distribution(trades: Sequence[Trade]) -> Figure:
    """Histogram of net results in basis points of notional."""
    net = np.array([trade.net_share * 1e4 for trade in trades])
    width, mean = max(1.0, float(np.ptp(net)) / 40), float(net.mean())
    bins = {"start": float(width * np.floor(net.min() / width)), "end": float(net.max()) + width, "size": width}
    traces = [
        {"type": "histogram", "x": values.tolist(), "name": name, "xbins": bins, "marker": {"color": f"@{colour}"}}
        for name, values, colour in (("won", net[net > 0], "good"), ("lost", net[net <= 0], "bad"))
    ]
    line = {"type": "line", "x0": mean, "x1": mean, "yref": "paper", "y0": 0, "y1": 1}
    told = {"x": mean, "yref": "paper", "y": 1, "yanchor": "top", "text": f"mean {mean:.1f}", "showarrow": False}
    told |= {"xanchor": "left" if 2 * mean < bins["start"] + bins["end"] else "right", "bgcolor": "@paper"}
    return figure(
        traces,
        300,
        barmode="overlay",
        hovermode="closest",
        xaxis=axis("net, bps of notional"),
        yaxis=axis("trades"),
        shapes=[line | {"line": {"dash": "dash", "color": "@ink", "width": 1}}],
        annotations=[told],
    )


def _line(ticks: Ints, y: Sequence[float] | Floats, name: str, colour: str, below: str = "y") -> Trace:
    values = [None if value != value else float(f"{value:.9g}") for value in y]
    line = {"color": f"@{colour}", "width": 1.4}
    return {
        "type": "scatter",
        "x": _ms(ticks),
        "y": values,
        "name": name,
        "mode": "lines",
        "line": line,
        "yaxis": below,
    }


def _marks(points: Sequence[tuple[int, float, str]], name: str, symbol: str, colour: str) -> Trace:
    return {
        "type": "scatter",
        "x": _ms(np.array([point[0] for point in points], np.int64)),
        "y": [point[1] for point in points],
        "text": [point[2] for point in points],
        "name": name,
        "mode": "markers",
        "marker": {
            "symbol": symbol,
            "color": f"@{colour}",
            "size": 11,
            "line": {"width": 2, "color": f"@{colour}"},
        },
        "hovertemplate": "%{x}<br>%{y:.8~g}<br>%{text}<extra></extra>",
    }


def _ms(ticks: Ints) -> list[int]:
    """Times as plotly.js takes them, UTC."""
    found: list[int] = (ticks * 1_000).tolist()
    return found


def axis(title: str, low: float = 0.0, high: float = 1.0, **more: Any) -> dict[str, Any]:
    """One that is not of time; `low` and `high`: which share of the height it has, from below."""
    place = {"domain": [low, high]} if (low, high) != (0.0, 1.0) else {}
    return {"title": {"text": title}, "gridcolor": "@line", "zerolinecolor": "@line", **place, **more}


def _time(below: str) -> dict[str, Any]:
    """The time axis of all lines, drawn below the lowest of them."""
    return {"type": "date", "anchor": below, "gridcolor": "@line", "linecolor": "@line"}


def figure(traces: Sequence[Trace], height: int, **layout: Any) -> Figure:
    """Traces in the page's colours; `layout` as plotly.js takes it."""
    common = {
        "height": height,
        "margin": {"l": 56, "r": 10, "t": 30, "b": 34},
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@ink"},
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@line", "font": {"color": "@ink"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "x",
    }
    return {"data": list(traces), "layout": common | layout}
