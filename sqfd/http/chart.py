"""A symbol's recent past as columns for a chart: index-price candles and both CVDs, from the ring in memory. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PRICE, SPOT, FlowRing, Ints
from sqfd.model import PRICE_SCALE

CENTS = 100.0
CVD_S = 3_600
DIGITS = 9
"""Significant digits of prices."""


def candles(ring: FlowRing, step_s: int, bars: int) -> dict[str, Any]:
    """The last `bars` candles of `step_s` seconds, the last one unfinished.

    Columns: `time` (epoch seconds, open of the candle), `open high low close` (index price), `spot perp` (CVD at the
    candle's end, quote units, 0 at the first candle's beginning). Empty columns where the ring is empty.
    """
    names = ("time", "open", "high", "low", "close", "spot", "perp")
    if ring.empty:
        return {"step_s": step_s, **{name: [] for name in names}}
    first = max(ring.base, ring.detail_base, ((ring.end_tick - 2) // step_s - bars + 1) * step_s + 1)
    series = ring.series[:, first - ring.base :]
    detail = ring.detail[:, first - ring.detail_base :]
    buckets = (np.arange(first, ring.end_tick) - 1) // step_s
    starts = np.flatnonzero(np.diff(buckets, prepend=buckets[0] - 1))
    ends = np.append(starts[1:], len(buckets)) - 1
    flows = [(series[row] - _before(ring, row, first))[ends] / CENTS for row in (SPOT, PERP)]
    columns = (
        buckets[starts] * step_s,
        _prices(series[PRICE][starts]),
        _prices(np.maximum.reduceat(detail[HIGH], starts)),
        _prices(np.minimum.reduceat(detail[LOW], starts)),
        _prices(series[PRICE][ends]),
        *(flow.tolist() for flow in flows),
    )
    shown = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]
    return {"step_s": step_s, **dict(zip(names, shown, strict=True))}


def newest(ring: FlowRing) -> dict[str, float]:
    """The last second: `price high low`, the net taker flow of that second, and both CVDs over the last CVD_S seconds (or
    since the ring begins); empty where there is none."""
    if ring.empty or ring.end_tick - ring.base < 2:
        return {}
    price, high, low = _prices(np.array([ring.series[PRICE, -1], ring.detail[HIGH, -1], ring.detail[LOW, -1]]))
    spot, perp = ((ring.series[row, -1] - ring.series[row, -2]) / CENTS for row in (SPOT, PERP))
    back = max(-CVD_S - 1, ring.base - ring.end_tick)
    cvds = {
        name: float((ring.series[row, -1] - ring.series[row, back]) / CENTS)
        for name, row in (("spot_cvd", SPOT), ("perp_cvd", PERP))
    }
    return {"price": price, "high": high, "low": low, "spot_delta": float(spot), "perp_delta": float(perp), **cvds}


def _before(ring: FlowRing, row: int, first: int) -> int:
    """The sum before the first tick shown, so that the chart begins at zero."""
    at = first - ring.base
    return int(ring.series[row, at - 1]) if at > 0 else 0


def _prices(logs: Ints) -> list[float]:
    return [float(f"{price:.{DIGITS}g}") for price in np.exp(logs / PRICE_SCALE).tolist()]
