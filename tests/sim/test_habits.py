"""Habits of order flow are measured as their definitions say, and the simulated market has those of a real capture."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import exchanges
from sqfd.cli import cli
from sqfd.sim.capture import Capture
from sqfd.sim.habits import (
    HABITS,
    SHAPE,
    Prints,
    autocorrelation,
    burstiness,
    captured,
    correlation,
    flows,
    largest_share,
    measured,
    moved,
    order_trades,
    tail_exponent,
)

RNG_SEED = 7
DOCUMENT = Path(__file__).parents[2] / "docs" / "simulator.md"

FACTOR = {"trades in a second: variance over mean": 50.0}
"""How far the simulated figure may be from the captured one, as a factor; 5 where nothing is said."""
APART = {"perp signs: 10 trades later": 0.6, "perp signs: 100 trades later": 0.4, "spot with perp flow: over 10 s": 0.5}
"""The same for correlations, as a difference; 0.4 where nothing is said."""


def prints(ts_ms: list[int], notional: list[float], buy: list[bool], perp: list[bool]) -> Prints:
    price = np.full(len(ts_ms), 100.0)
    return Prints(np.array(ts_ms), price, np.array(notional), np.array(buy), np.array(perp))


@pytest.mark.parametrize("alpha", [1.5, 3.0])
def test_the_tail_exponent_is_that_of_a_pareto(alpha: float) -> None:
    """Sizes drawn from a Pareto distribution have its exponent, whatever their scale."""
    sizes = 1_000 * (1 + np.random.default_rng(RNG_SEED).pareto(alpha, 200_000))
    assert tail_exponent(sizes) == pytest.approx(alpha, rel=0.05)


def test_the_largest_hundredth_is_a_share_of_all() -> None:
    """One of a hundred trades that is as large as the others together is half of the volume."""
    assert largest_share(np.array([99.0] + [1.0] * 99)) == 0.5


def test_autocorrelation_tells_persistence_from_turning() -> None:
    """A series that turns each time has −1, one that is drawn anew about 0; what does not move has 0."""
    turning = np.array([1.0, -1.0] * 500)
    assert autocorrelation(turning, 1) == pytest.approx(-1)
    assert abs(autocorrelation(np.random.default_rng(RNG_SEED).normal(size=20_000), 1)) < 0.03
    assert correlation(np.ones(5), np.arange(5.0)) == 0


def test_trades_that_come_independently_have_no_bursts() -> None:
    """Poisson counts have a variance over mean of one; the same counts ten at a time have ten."""
    counts = np.random.default_rng(RNG_SEED).poisson(20.0, 50_000).astype(float)
    assert burstiness(counts) == pytest.approx(1, rel=0.05)
    assert burstiness(counts * 10) == pytest.approx(10, rel=0.05)


def test_seconds_hold_their_trades() -> None:
    """Counts, volume and net flow by the second of trade; the last, unfinished second is left out."""
    given = prints([1_000, 1_900, 3_100, 4_000], [5, 3, 2, 9], [True, False, True, True], [False, True, True, False])
    made = flows(given)
    assert made.trades.tolist() == [2, 0, 1]
    assert made.volume.tolist() == [8, 0, 2]
    assert (made.spot.tolist(), made.perp.tolist()) == ([5, 0, 0], [-3, 0, 2])
    assert moved(made.volume, 2).tolist() == [8, 2]


def test_an_order_is_a_run_of_one_side_in_one_millisecond() -> None:
    """Four trades: two of one order, then another side in the same millisecond, then another time."""
    assert order_trades(prints([1, 1, 1, 2], [1] * 4, [True, True, False, False], [True] * 4)) == pytest.approx(4 / 3)


def test_the_simulated_market_has_the_habits_of_the_capture(shared: Path) -> None:
    """Every habit has the capture's order of magnitude, for both symbols; where it is far off, the document says so."""
    folder = shared / "replay" / "binance-2024-08-08"
    shown = CliRunner().invoke(cli, ["habits", str(folder), "--windows", "3", "--json"])
    assert shown.exit_code == 0, shown.output
    told = msgspec.json.decode(shown.output)
    assert set(told) == {"BTC", "ETH"}
    for rows in told.values():
        assert [row["name"] for row in rows] == [*HABITS, SHAPE]
        for row in rows[:-1]:
            name, real, made = row["name"], row["captured"], row["simulated"]
            assert row["low"] <= made <= row["high"]
            if "correlation" in name or "later" in name or "over 10 s" in name:
                assert abs(real - made) <= APART.get(name, 0.4), row
            else:
                assert 1 / FACTOR.get(name, 5.0) <= real / made <= FACTOR.get(name, 5.0), row
        assert rows[-1]["captured"] is None
        assert 1.5 < rows[-1]["simulated"] < 3.5


def test_a_shuffled_market_would_be_noticed(shared: Path) -> None:
    """The comparison can fail: the capture with its sides drawn anew loses the persistence of signs."""
    capture = Capture(shared / "replay" / "binance-2024-08-08", {n: exchanges.get(n) for n in exchanges.IDS})
    real = captured([trade for _, _, trades in capture.frames() for trade in trades])["BTC"]
    shuffled = real._replace(buy=np.random.default_rng(RNG_SEED).permutation(real.buy))
    name = "perp signs: autocorrelation 1 trade later"
    assert measured(real)[name] - measured(shuffled)[name] > 0.4


def test_the_document_shows_every_habit() -> None:
    """docs/simulator.md has a row for each habit, for both symbols."""
    rows = [line.split("|")[1].strip() for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    for name in [*HABITS, SHAPE]:
        assert rows.count(name) == 2, name


def test_a_folder_without_a_capture_is_named(tmp_path: Path) -> None:
    """An error in one line, exit code 1."""
    shown = CliRunner().invoke(cli, ["habits", str(tmp_path)])
    assert shown.exit_code == 1
    assert str(tmp_path) in shown.output
