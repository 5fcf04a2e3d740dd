"""A sweep as one page: the metric over each setting that was varied, and the best trials."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from sqfd.backtest.figures import Trace, axis, figure
from sqfd.backtest.page import Figure, page, plot, section
from sqfd.backtest.sweep import Verdict
from sqfd.backtest.trials import Axis, Trial, key_of


def write_picture(path: Path, runs: int, axes: Sequence[Axis], metric: str, found: Verdict) -> None:
    """Write one chart per setting, trials as dots. `runs`: trials times parts."""
    deflated = "n/a" if found.deflated is None else f"{found.deflated:.3f}"
    told = f"{found.trials} trials, {runs} runs. Best: {key_of(found.ranked[0][0])}. Deflated Sharpe ratio {deflated}."
    charts = [section(varied.key, plot(chart(found.ranked, varied, metric))) for varied in axes]
    path.write_text(page("sqfd sweep", f'<p class="note">{html.escape(told)}</p>', *charts), encoding="utf-8")


def chart(ranked: Sequence[tuple[Trial, float | None]], varied: Axis, metric: str) -> Figure:
    """The metric over one setting: dots are trials (mean over parts), the best one is marked."""
    dots = [_dots(ranked, varied.key, "trials", "hold", 8), _dots(ranked[:1], varied.key, "best", "good", 13)]
    return figure(dots, 320, hovermode="closest", xaxis=axis(""), yaxis=axis(metric))


def _dots(ranked: Sequence[tuple[Trial, float | None]], key: str, name: str, colour: str, size: int) -> Trace:
    return {
        "type": "scatter",
        "x": [_value(trial[key]) for trial, _ in ranked],
        "y": [value for _, value in ranked],
        "text": [key_of(trial) for trial, _ in ranked],
        "name": name,
        "mode": "markers",
        "marker": {"color": f"@{colour}", "size": size},
        "hovertemplate": "%{y:.4~g}<br>%{text}<extra></extra>",
    }


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
