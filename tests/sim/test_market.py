"""The synthetic market has the habits of real order flow, and repeats exactly."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sqfd.model import PPM
from sqfd.sim.hour import BLOCK_S, Seconds, hour_shape, profile
from sqfd.sim.market import Market
from sqfd.sim.plan import decoy
from tests.sim.conftest import START

DAY_S = 86_400


def delta(seconds: Seconds, kind: str) -> np.ndarray:
    return seconds[f"{kind}_buy"] - seconds[f"{kind}_sell"]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def moves(series: np.ndarray, window: int) -> np.ndarray:
    total = np.cumsum(series)
    return total[window:] - total[:-window]


@pytest.fixture(scope="module")
def seconds(day: Market) -> Seconds:
    return day.seconds(START, START + 4 * DAY_S)


def test_same_seed_same_market() -> None:
    """Equal arguments give equal seconds, in whatever order and slices they are asked for."""
    forward, backward = Market("ETH", 3, START), Market("ETH", 3, START)
    last = backward.seconds(START + 3 * BLOCK_S - 5, START + 3 * BLOCK_S + 5)
    whole = forward.seconds(START, START + 4 * BLOCK_S)
    assert np.array_equal(whole[3 * BLOCK_S - 5 : 3 * BLOCK_S + 5], last)
    assert np.array_equal(whole[100:200], backward.seconds(START + 100, START + 200))


def test_seeds_and_symbols_differ() -> None:
    """Another seed or symbol is another market."""
    one = Market("BTC", 1, START).second(START)
    assert one["spot_buy"] != Market("BTC", 2, START).second(START)["spot_buy"]
    assert one["spot_buy"] != Market("WIF", 1, START).second(START)["spot_buy"]


def test_forgotten_blocks_are_made_again() -> None:
    """A block that fell out of memory comes back equal; before the start there is nothing."""
    market = Market("BTC", 1, START, keep_blocks=1)
    first = market.seconds(START, START + 10)
    market.seconds(START + 5 * BLOCK_S, START + 5 * BLOCK_S + 1)
    assert np.array_equal(first, market.seconds(START, START + 10))
    with pytest.raises(ValueError, match="begins at"):
        market.seconds(START - 1, START)


def test_memory_is_bounded() -> None:
    """States are kept for a limited past; what lies before it is refused, not invented."""
    market = Market("BTC", 1, START, keep_blocks=2, keep_states=3)
    market.second(START + 6 * BLOCK_S)
    with pytest.raises(ValueError, match="too long ago"):
        market.second(START)


def test_volumes_are_as_stated(seconds: Seconds) -> None:
    """Mean notional and trade rates are the profile's, within a fifth over four days."""
    shape = profile("BTC")
    for kind, mean, rate in (
        ("spot", shape.spot_per_s, shape.spot_trades_per_s),
        ("perp", shape.perp_per_s, shape.perp_trades_per_s),
    ):
        assert (seconds[f"{kind}_buy"] + seconds[f"{kind}_sell"]).mean() == pytest.approx(mean, rel=0.2)
        assert (seconds[f"{kind}_buys"] + seconds[f"{kind}_sells"]).mean() == pytest.approx(rate, rel=0.2)


def test_price_moves_as_stated(seconds: Seconds) -> None:
    """Returns over a minute and over an hour have the profile's volatility: the price is nearly a random walk."""
    returns = np.diff(np.log(seconds["price"]))
    for window in (60, 3_600):
        day_volatility = moves(returns, window).std() * np.sqrt(DAY_S / window)
        assert 0.7 < day_volatility / profile("BTC").volatility < 1.4
    assert np.all(seconds["low"] <= np.minimum(seconds["open"], seconds["price"]))
    assert np.all(seconds["high"] >= np.maximum(seconds["open"], seconds["price"]))
    assert np.array_equal(seconds["open"][1:], seconds["price"][:-1])


def test_volume_clusters(seconds: Seconds) -> None:
    """Volume is followed by volume, within seconds and within minutes."""
    volume = np.log1p(seconds["perp_buy"] + seconds["perp_sell"])
    assert correlation(volume[1:], volume[:-1]) > 0.05
    minutes = (seconds["perp_buy"] + seconds["perp_sell"]).reshape(-1, 60).sum(axis=1)
    assert correlation(minutes[1:], minutes[:-1]) > 0.15


def test_signs_persist(seconds: Seconds) -> None:
    """Buying is followed by buying, ever less so with distance."""
    sign = np.sign(delta(seconds, "perp"))
    near, far = (correlation(sign[lag:], sign[:-lag]) for lag in (1, 60))
    assert 0.03 < near < 0.3
    assert 0 < far < near


def test_spot_and_perp_go_together(seconds: Seconds) -> None:
    """The two flows are correlated over a second and over a quarter of an hour, far from perfectly."""
    for window in (1, 900):
        together = correlation(moves(delta(seconds, "spot"), window), moves(delta(seconds, "perp"), window))
        assert 0.25 < together < 0.8


def test_price_follows_flow(seconds: Seconds) -> None:
    """Net flow explains part of the return, over a minute and over a quarter of an hour."""
    returns = np.diff(np.log(seconds["price"]), prepend=np.log(seconds["price"][0]))
    for window in (60, 900):
        assert 0.3 < correlation(moves(delta(seconds, "perp"), window), moves(returns, window)) < 0.9


def test_day_is_u_shaped(seconds: Seconds) -> None:
    """Around 15:00 UTC trades about twice what trades around 03:00, and the shape's mean is one."""
    hour = (START + np.arange(len(seconds))) // 3_600 % 24
    volume = seconds["spot_buy"] + seconds["spot_sell"]
    busy, quiet = volume[(hour == 14) | (hour == 15)].mean(), volume[(hour == 2) | (hour == 3)].mean()
    assert 1.5 < busy / quiet < 3.5
    assert hour_shape(np.arange(DAY_S)).mean() == pytest.approx(1.0, abs=1e-3)


def test_flow_rows_say_the_same(day: Market) -> None:
    """FLOW holds the seconds in cents and log prices."""
    seconds, flow = day.seconds(START, START + 60), day.flow(START, START + 60, symbol=2)
    assert np.allclose(flow["spot_delta"] / 100, delta(seconds, "spot"), atol=0.011)
    assert np.allclose(np.exp(flow["price"] / 1e9), seconds["price"], rtol=1e-8)
    assert set(flow["coverage_ppm"]) == {PPM}
    assert flow["symbol"][0] == 2
    assert flow["second"].tolist() == list(range(START, START + 60))


def test_small_coin() -> None:
    """A coin of whom nothing is known has a thin market of its own: seconds without a trade have no notional."""
    seconds = Market("XYZ", 1, START).seconds(START, START + 7_200)
    quiet = seconds["spot_buys"] == 0
    assert quiet.mean() > 0.2
    assert np.all(seconds["spot_buy"][quiet] == 0)


def test_day_is_fast() -> None:
    """A day of one symbol takes well under a second (0.35 s of CPU on the slow box where it was written; 3 s fails)."""
    start = time.process_time()
    Market("BTC", 9, START).flow(START, START + DAY_S)
    assert time.process_time() - start < 3.0


def test_gap_is_seen_in_coverage() -> None:
    """A feed gap is missing from FLOW and lowers its coverage; the truth has it."""
    gap = decoy("gap", START + 600, 600)
    market = Market("BTC", 1, START, [gap])
    flow, seconds = market.flow(START, START + 1_800), market.seconds(START, START + 1_800)
    inside = slice(600, 1_200)
    assert flow["coverage_ppm"][inside].max() < 0.9 * PPM
    assert flow["coverage_ppm"][:600].min() == PPM
    truth = delta(seconds, "perp")[inside].sum()
    assert flow["perp_delta"][inside].sum() / 100 < truth - seconds["perp_buy"][inside].sum() * 0.2
