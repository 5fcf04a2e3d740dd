"""Candles from the ring: index prices and exact flow, by a slow twin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sqfd.bars.ring import FlowRing
from sqfd.http.chart import candles, newest
from sqfd.model import FLOW, PRICE_SCALE


def ring(seconds: int, first: int = 1_000) -> FlowRing:
    made = FlowRing(3_600, 1_800, 600)
    rows = np.zeros(seconds, FLOW)
    rows["second"] = np.arange(first, first + seconds)
    prices = 100 + np.arange(seconds)
    for name, values in (("price", prices), ("high", prices + 1), ("low", prices - 1)):
        rows[name] = np.round(np.log(values) * PRICE_SCALE)
    rows["spot_delta"], rows["perp_delta"] = 100 * np.arange(seconds), -50
    made.append(rows)
    return made


@pytest.mark.parametrize(("step", "bars"), [(1, 10), (5, 4), (7, 100), (60, 2)])
def test_candles(step: int, bars: int) -> None:
    """Open, high, low, close by second; CVDs are sums that begin at the first candle."""
    found = candles(ring(103), step, bars)
    groups: dict[int, list[int]] = {}
    for index in range(103):
        groups.setdefault((1_000 + index) // step * step, []).append(index)
    shown = sorted(groups)[-bars:]
    assert found["time"] == shown
    assert found["open"] == pytest.approx([100 + groups[time][0] for time in shown])
    assert found["high"] == pytest.approx([101 + groups[time][-1] for time in shown])
    assert found["low"] == pytest.approx([99 + groups[time][0] for time in shown])
    assert found["close"] == pytest.approx([100 + groups[time][-1] for time in shown])
    first = groups[shown[0]][0]
    assert found["spot"] == [sum(range(first, groups[time][-1] + 1)) for time in shown]
    assert found["perp"] == [-0.5 * (groups[time][-1] + 1 - first) for time in shown]


def test_an_empty_ring_has_no_candles() -> None:
    """Empty columns, not an error."""
    assert candles(FlowRing(60, 60, 60), 5, 10)["time"] == []
    assert newest(FlowRing(60, 60, 60)) == {}


def test_newest() -> None:
    """The last second alone."""
    found = newest(ring(10))
    assert found["price"] == pytest.approx(109)
    assert (found["spot_delta"], found["perp_delta"]) == (9.0, -0.5)
    assert math.isclose(found["high"], 110, rel_tol=1e-8)
    assert (found["spot_cvd"], found["perp_cvd"]) == (sum(range(1, 10)), -0.5 * 9)


def test_cvds_are_of_the_last_hour() -> None:
    """Exactly 3,600 seconds where there are more."""
    found = newest(ring(3_700))
    assert (found["spot_cvd"], found["perp_cvd"]) == (sum(range(100, 3_700)), -0.5 * 3_600)
