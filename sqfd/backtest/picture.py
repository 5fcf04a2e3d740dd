"""A sweep as one self-contained picture: the metric over each setting that was varied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sqfd.backtest.figures import GOOD, SOFT
from sqfd.backtest.sweep import Row, Verdict
from sqfd.backtest.trials import Axis, key_of


def write_picture(path: Path, rows: Sequence[Row], axes: Sequence[Axis], metric: str, found: Verdict) -> None:
    """Write one chart per setting, trials as dots."""
    path.write_text(
        figure(rows, axes, metric, found).to_html(include_plotlyjs=True, config={"responsive": True}), encoding="utf-8"
    )


def figure(rows: Sequence[Row], axes: Sequence[Axis], metric: str, found: Verdict) -> go.Figure:
    """The chart: dots are trials (mean over parts), the best one is marked."""
    means = {key_of(trial): value for trial, value in found.ranked}
    trials = [(trial, means[key_of(trial)]) for trial, _ in found.ranked]
    chart = make_subplots(
        rows=len(axes), cols=1, subplot_titles=[axis.key for axis in axes], vertical_spacing=0.25 / len(axes)
    )
    best = found.ranked[0][0]
    for number, axis in enumerate(axes, start=1):
        for name, colour, size, chosen in (("trials", SOFT, 8, trials), ("best", GOOD, 13, trials[:1])):
            x = [_value(trial[axis.key]) for trial, _ in chosen]
            y, text = [value for _, value in chosen], [key_of(trial) for trial, _ in chosen]
            marker = {"color": colour, "size": size}
            dots = go.Scatter(x=x, y=y, text=text, mode="markers", marker=marker, name=name, showlegend=number == 1)
            chart.add_trace(dots, number, 1)
        chart.update_yaxes(title_text=metric, row=number, col=1)
    deflated = "n/a" if found.deflated is None else f"{found.deflated:.2f}"
    title = f"{found.trials} trials, {len(rows)} runs; best: {key_of(best)}; deflated Sharpe ratio {deflated}"
    chart.update_layout(
        template="plotly_white", height=110 + 320 * len(axes), title={"text": title, "font": {"size": 14}}
    )
    return chart


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
