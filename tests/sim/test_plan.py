"""Planted episodes are in the flows what their names say."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from sqfd.sim.market import Market
from sqfd.sim.plan import DECOYS, PUSH, RUN, Episode, Strength, decoy, plan, squeeze
from tests.sim.conftest import START

BEGIN = START + 4 * 3_600
SEEDS = range(6)
USUAL_900 = 52.0
"""As in the market: usual 15-minute move of CVD, in mean seconds of volume."""


def legs(market: Market, first: int, last: int) -> tuple[float, float]:
    """(spot, perp) change of CVD in usual 15-minute moves."""
    rows, shape = market.seconds(first, last), market.shape
    spot = (rows["spot_buy"] - rows["spot_sell"]).sum() / shape.spot_per_s
    perp = (rows["perp_buy"] - rows["perp_sell"]).sum() / shape.perp_per_s
    return spot / USUAL_900, perp / USUAL_900


def rise(market: Market, first: int, last: int) -> float:
    """Price change in usual 30-minute moves."""
    rows = market.seconds(first, last)
    usual = market.shape.volatility * (1_800 / 86_400) ** 0.5 * (2 / np.pi) ** 0.5
    return float(np.log(rows["price"][-1] / rows["open"][0]) / usual)


def means(episode: Episode, first: int, last: int) -> tuple[float, float, float]:
    """(spot, perp, price) changes of [first, last), as means over SEEDS."""
    markets = [Market("BTC", seed, START, [episode]) for seed in SEEDS]
    figures = np.array([(*legs(m, first, last), rise(m, first, last)) for m in markets])
    spot, perp, price = figures.mean(axis=0).tolist()
    return spot, perp, price


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("strength", ["medium", "strong"])
def test_squeeze_phases(direction: Literal[1, -1], strength: Strength) -> None:
    """Build-up diverges at a held price, reset takes part of it back at a stalled one, run takes all three along."""
    e = squeeze(BEGIN, 1_800, 600, 900, direction, strength)
    spot, perp, price = (direction * x for x in means(e, e.start, e.reset_start))
    assert spot > PUSH[strength]
    assert perp < -PUSH[strength]
    assert abs(price) < 0.5
    gap = spot - perp
    spot, perp, price = (direction * x for x in means(e, e.reset_start, e.run_start))
    assert spot < 0 < perp
    assert 0.2 < (perp - spot) / gap < 1.0
    assert abs(price) < 0.3
    spot, perp, price = (direction * x for x in means(e, e.run_start, e.run_end))
    assert min(spot, perp) > 0.7 * PUSH[strength]
    assert price > 0.7 * RUN[strength]


def test_reset_breaks_the_low_and_comes_back() -> None:
    """During the reset of a long the low of the build-up is broken for some seconds, and each minute closes above it."""
    for seed in SEEDS:
        e = squeeze(BEGIN, 1_800, 600, 900)
        market = Market("BTC", seed, START, [e])
        before = market.seconds(e.start, e.reset_start)["low"].min()
        reset = market.seconds(e.reset_start, e.run_start)
        assert reset["low"].min() < before
        first = -e.reset_start % 60
        closes = reset["price"][first + 59 :: 60]
        assert np.all(closes > before)


def test_run_liquidates_the_squeezed() -> None:
    """Shorts are liquidated (forced buys) in a run upwards, longs in one downwards."""
    for direction, squeezed, other in ((1, "liq_buy", "liq_sell"), (-1, "liq_sell", "liq_buy")):
        e = squeeze(BEGIN, 1_800, 600, 900, direction)  # type: ignore[arg-type]  # a literal in a tuple is an int to mypy
        run = Market("BTC", 1, START, [e]).seconds(e.run_start, e.run_end)
        assert run[squeezed].sum() > 5 * run[other].sum()
        assert np.all(run["liq_buy"] <= run["perp_buy"])


def test_decoys() -> None:
    """Each decoy has the one habit of a squeeze that it is named for, and lacks the run."""
    d = decoy("divergence", BEGIN, 1_800)
    spot, perp, price = means(d, d.start, d.end)
    assert (spot > 1.5, perp < -1.5, abs(price) < 0.6) == (True, True, True)
    d = decoy("reset", BEGIN, 600)
    spot, perp, price = means(d, d.start, d.end)
    assert (spot < -0.7, perp > 0.7, abs(price) < 0.4) == (True, True, True)
    d = decoy("trend", BEGIN, 3_600, strength="strong")
    spot, perp, price = means(d, d.start, d.end)
    assert min(spot, perp, price) > 2.5
    d = decoy("news", BEGIN, 600, direction=-1)
    *_, price = means(d, d.start, d.start + 10)
    assert price < -1.5
    with pytest.raises(ValueError, match="no decoy"):
        decoy("squeeze", BEGIN, 600)


def test_outside_nothing_changes_at_all() -> None:
    """Before an episode the market is, to the last bit, the one without it."""
    e = squeeze(BEGIN, 1_800, 600, 900)
    planted, bare = Market("BTC", 1, START, [e]), Market("BTC", 1, START)
    assert np.array_equal(planted.seconds(START, BEGIN), bare.seconds(START, BEGIN))
    assert not np.array_equal(planted.seconds(BEGIN, BEGIN + 60), bare.seconds(BEGIN, BEGIN + 60))


def test_plan() -> None:
    """A plan repeats, keeps its limits and rests, has every kind, and comes near the wanted number a day."""
    end = START + 60 * 86_400
    kinds = ("squeeze", *DECOYS)
    made = plan(1, "BTC", BEGIN, end, per_day=6, kinds=kinds)
    assert made == plan(1, "BTC", BEGIN, end, per_day=6, kinds=kinds)
    assert made != plan(2, "BTC", BEGIN, end, per_day=6, kinds=kinds)
    assert {e.kind for e in made} == set(kinds)
    assert {e.direction for e in made} == {1, -1}
    assert all(later.start - e.end >= 2_700 for e, later in pairwise(made))
    assert made[0].start >= BEGIN
    assert made[-1].end <= end
    assert 4 < len(made) / 60 < 9
    assert plan(1, "BTC", BEGIN, end, per_day=0) == []
    for e in made:
        if e.kind == "squeeze":
            assert 900 <= e.reset_start - e.start <= 2_400
            assert 180 <= e.run_start - e.reset_start <= 900
            assert 300 <= e.run_end - e.run_start <= 1_800
