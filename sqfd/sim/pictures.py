"""A picture of an episode: price, both CVDs, the score, what the phases said, and what the strategy did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sqfd.model import PRICE_SCALE, Flow
from sqfd.sim.evaluate import HISTORY_S, START, Observed, Scenario, Taken, market_of, positions_of, signals_of
from sqfd.sim.plan import DAY_S, Episode
from sqfd.strategy.api import Judged, Strategy
from sqfd.strategy.settings import StrategySettings

AROUND_S = 1_800
STEP_S = 10
PHASES = ("context", "divergence", "reset", "coverage")


class Noted(Observed):
    """Observes, and notes the mind between two ticks."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self._first, self._last = first, last
        self.minds: dict[int, dict[str, float]] = {}

    def __call__(self, first: int, last: int, judged: Mapping[str, Judged]) -> None:
        super().__call__(first, last, judged)
        begin = -(-max(first, self._first) // STEP_S) * STEP_S
        for tick in range(begin, min(last, self._last), STEP_S):
            for block in judged.values():
                self.minds[tick] = block.mind(tick)


def draw(
    folder: Path, scenario: Scenario, seed: int, days: float, strategy: Strategy, settings: StrategySettings
) -> Path | None:
    """Write the first episode of a scenario's market as a page; None where nothing is planted in it."""
    market = market_of(scenario, seed, days)
    if not market.episodes:
        return None
    episode = market.episodes[0]
    flow = market.flow(START, START + HISTORY_S + int(days * DAY_S))
    noted = Noted(episode.start - AROUND_S, episode.end + AROUND_S)
    taken = positions_of(signals_of(flow, market.symbol, strategy, settings, noted), flow)
    title = f"{scenario.name} · {market.symbol} · seed {seed} · {'up' if episode.direction > 0 else 'down'}"
    path = folder / f"{scenario.name}.html"
    figure = picture(title, episode, flow, noted.minds, taken, settings.min_entry_score)
    figure.write_html(path, include_plotlyjs="directory")
    return path


def picture(
    title: str, episode: Episode, flow: Flow, minds: dict[int, dict[str, float]], taken: list[Taken], needed: float
) -> Any:
    """The figure, over the ticks of `minds`."""
    from plotly.subplots import make_subplots

    ticks = np.array(sorted(minds))
    shown = make_subplots(4, 1, shared_xaxes=True, vertical_spacing=0.03, row_heights=[0.4, 0.25, 0.15, 0.2])
    origin = int(flow["second"][0]) + 1
    when = ticks.astype("datetime64[s]")
    price = np.exp(flow["price"] / PRICE_SCALE)
    shown.add_scatter(x=when, y=price[ticks - origin], name="price", row=1, col=1)
    for name in ("spot", "perp"):
        total = np.cumsum(flow[f"{name}_delta"]) / 100.0
        shown.add_scatter(
            x=when, y=(total - total[ticks[0] - origin])[ticks - origin], name=f"{name} CVD", row=2, col=1
        )
    score = [minds[tick].get("score", 0.0) for tick in ticks.tolist()]
    shown.add_scatter(x=when, y=score, name="score", row=3, col=1)
    shown.add_hline(needed, line_dash="dot", row=3, col=1)
    for name in PHASES:
        values = [minds[tick].get(name, 0.0) for tick in ticks.tolist()]
        shown.add_scatter(x=when, y=values, name=name, row=4, col=1)
    _mark(shown, episode, taken, (int(ticks[0]), int(ticks[-1])), price, origin)
    shown.update_layout(title=title, height=900, template="plotly_white")
    return shown


def _mark(
    shown: Any, episode: Episode, taken: list[Taken], span: tuple[int, int], price: np.ndarray[Any, Any], origin: int
) -> None:
    """Phases of the truth as bands, entries and exits as markers."""
    bands = (
        ("build-up", episode.start, episode.reset_start, "lightsteelblue"),
        ("reset", episode.reset_start, episode.run_start, "khaki"),
        ("run", episode.run_start, episode.run_end, "palegreen"),
    )
    for name, first, last, colour in bands:
        if last > first:
            left, right = np.datetime64(first, "s"), np.datetime64(last, "s")
            shown.add_vrect(x0=left, x1=right, fillcolor=colour, opacity=0.3, line_width=0, annotation_text=name)
    for position in taken:
        way = "up" if position.side > 0 else "down"
        for name, tick, symbol in (("entry", position.opened, f"triangle-{way}"), ("exit", position.closed, "x")):
            if tick is not None and span[0] <= tick <= span[1]:
                at, value = np.array([tick], "datetime64[s]"), [price[tick - origin]]
                marker = {"symbol": symbol, "size": 13, "color": "black"}
                shown.add_scatter(x=at, y=value, name=name, mode="markers", marker=marker, row=1, col=1)
