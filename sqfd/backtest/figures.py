"""The report's figures, drawn with plotly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sqfd.backtest.charts import POINTS, Line
from sqfd.backtest.equity import Samples
from sqfd.backtest.prices import Floats, Ints
from sqfd.backtest.trades import Trade

INK, SPOT, PERP, SCORE, GOOD, BAD, SOFT = "#17202a", "#1f77b4", "#e67e22", "#7d3c98", "#0a7d4f", "#c0392b", "#9aa5b1"


def market(line: Line, trades: Sequence[Trade]) -> go.Figure:
    """Price with entries and exits, spot and perp CVD, and the score, under one time axis."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.5, 0.3, 0.2], vertical_spacing=0.04)
    at = _times(np.array(line.tick, np.int64))
    figure.add_trace(_line(at, line.price, "price", INK), 1, 1)
    figure.add_trace(_line(at, line.spot_cvd, "spot CVD", SPOT), 2, 1)
    figure.add_trace(_line(at, line.perp_cvd, "perp CVD", PERP), 2, 1)
    scored = sorted(line.score)
    figure.add_trace(_line(_times(np.array(scored, np.int64)), [line.score[t] for t in scored], "score", SCORE), 3, 1)
    for side, symbol, colour in (("LONG", "triangle-up", GOOD), ("SHORT", "triangle-down", BAD)):
        mine = [trade for trade in trades if trade.side == side]
        entries = [(trade.entry_tick, trade.entry_price, f"{side}, score {trade.score:.2f}") for trade in mine]
        figure.add_trace(_marks(entries, side.lower(), symbol, colour), 1, 1)
    exits = [(t.exit_tick, t.exit_price, f"{', '.join(t.exit_reasons)}<br>net {t.net:,.2f} $") for t in trades]
    figure.add_trace(_marks(exits, "exit", "x-thin-open", INK), 1, 1)
    figure.update_yaxes(title_text="price", row=1, col=1)
    figure.update_yaxes(title_text="CVD, $", row=2, col=1)
    figure.update_yaxes(title_text="score", row=3, col=1, range=[0, 10])
    return _styled(figure, 620)


def equity(samples: Samples, capital: float) -> go.Figure:
    """Equity beside buy-and-hold, and the drawdown below."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.05)
    keep = slice(None, None, max(1, len(samples.tick) // POINTS))
    at, peak = _times(samples.tick[keep]), np.maximum.accumulate(samples.equity)
    figure.add_trace(_line(at, (samples.hold * capital)[keep], "buy-and-hold", SOFT), 1, 1)
    figure.add_trace(_line(at, samples.equity[keep], "equity", GOOD), 1, 1)
    fall = _line(at, ((samples.equity / peak - 1) * 100)[keep], "drawdown", BAD)
    figure.add_trace(fall.update(fill="tozeroy", line_width=1), 2, 1)
    figure.update_yaxes(title_text="$", row=1, col=1)
    figure.update_yaxes(title_text="drawdown, %", row=2, col=1)
    return _styled(figure, 420)


def distribution(trades: Sequence[Trade]) -> go.Figure:
    """Histogram of net results in basis points of notional."""
    net = np.array([trade.net_share * 1e4 for trade in trades])
    figure, width = go.Figure(), max(1.0, float(np.ptp(net)) / 40)
    bins = {"start": float(width * np.floor(net.min() / width)), "end": float(net.max()) + width, "size": width}
    for name, values, colour in (("won", net[net > 0], GOOD), ("lost", net[net <= 0], BAD)):
        figure.add_trace(go.Histogram(x=values.tolist(), name=name, marker_color=colour, xbins=bins, opacity=0.85))
    figure.add_vline(x=float(net.mean()), line_dash="dash", annotation_text=f"mean {net.mean():.1f}")
    figure.update_layout(barmode="overlay", xaxis_title="net, bps of notional", yaxis_title="trades")
    return _styled(figure, 300)


def _line(x: Sequence[str], y: Sequence[float] | Floats, name: str, colour: str) -> go.Scatter:
    values = [float(f"{value:.9g}") for value in y]
    return go.Scatter(x=x, y=values, name=name, mode="lines", line={"color": colour, "width": 1.4})


def _marks(points: Sequence[tuple[int, float, str]], name: str, symbol: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=_times(np.array([point[0] for point in points], np.int64)),
        y=[point[1] for point in points],
        text=[point[2] for point in points],
        name=name,
        mode="markers",
        marker={"symbol": symbol, "color": colour, "size": 11, "line": {"width": 2, "color": colour}},
        hovertemplate="%{x}<br>%{y:.8g}<br>%{text}<extra></extra>",
    )


def _times(ticks: Ints) -> list[str]:
    return [str(text) for text in np.datetime_as_string(ticks.astype("datetime64[s]"))]


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 56, "r": 10, "t": 30, "b": 34},
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x",
    )
    return figure
