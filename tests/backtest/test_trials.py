"""What a sweep tries, and how the best of many is judged."""

from __future__ import annotations

import numpy as np
import pytest

from sqfd.backtest.trials import Axis, Moments, axis_of, deflated_sharpe, moments, parts_of, trials_of


def test_a_grid_is_every_combination() -> None:
    """Two settings of two and three values: six trials, in order."""
    trials = trials_of([axis_of("a=1,2"), axis_of("b=x, y,z")], None, 0)
    assert len(trials) == 6
    assert trials[0] == {"a": "1", "b": "x"}
    assert trials[-1] == {"a": "2", "b": "z"}


def test_a_draw_is_different_reproducible_and_in_range() -> None:
    """Fifty draws from a range of numbers, a range of integers and values; the same seed draws the same."""
    axes = [axis_of("a=0.25..0.75"), axis_of("b=3..9"), axis_of("c=u,v")]
    trials = trials_of(axes, 50, 1)
    assert trials == trials_of(axes, 50, 1)
    assert trials != trials_of(axes, 50, 2)
    assert len({tuple(trial.values()) for trial in trials}) == 50
    assert all(0.25 <= float(trial["a"]) <= 0.75 for trial in trials)
    assert {int(trial["b"]) for trial in trials} <= set(range(3, 10))
    assert {trial["c"] for trial in trials} == {"u", "v"}


def test_fewer_combinations_than_draws_are_all_tried_once() -> None:
    """No trial twice."""
    assert len(trials_of([axis_of("a=1,2,3")], 50, 0)) == 3


@pytest.mark.parametrize(
    ("text", "words"), [("a", "write KEY"), ("a=", "write KEY"), ("a=3..2", "empty"), ("a=x..y", "no range of numbers")]
)
def test_a_wrong_axis_is_named(text: str, words: str) -> None:
    """What stands there, and what to write."""
    with pytest.raises(ValueError, match=words):
        axis_of(text)


def test_a_range_needs_a_draw_and_a_grid_has_a_limit() -> None:
    """Neither is tried by accident."""
    with pytest.raises(ValueError, match="--random"):
        trials_of([axis_of("a=1..2")], None, 0)
    with pytest.raises(ValueError, match="combinations"):
        trials_of([Axis(str(n), tuple("0123456789")) for n in range(6)], None, 0)


def test_parts_cover_the_range_without_overlap() -> None:
    """Walk-forward over three windows has four parts."""
    parts = parts_of(100, 1103, 3)
    assert [part[0] for part in parts[1:]] == [part[1] for part in parts[:-1]]
    assert (parts[0][0], parts[-1][1], len(parts)) == (100, 1103, 4)
    assert parts_of(5, 9, 0) == [(5, 9)]


def test_moments_of_known_returns() -> None:
    """Sharpe per period, skew and kurtosis by their definitions; no spread has Sharpe 0."""
    found = moments(np.array([0.0, 0.0, 0.0, 4.0]))
    assert found.sharpe == pytest.approx(1.0 / 2.0)
    assert found.skew == pytest.approx(1.1547005)
    assert found.kurtosis == pytest.approx(7 / 3)
    assert moments(np.ones(5)) == Moments(0.0, 0.0, 3.0, 5)


def test_the_deflated_sharpe_ratio_is_the_papers_example() -> None:
    """Bailey and López de Prado (2014): annual 2.5 of 100 trials over five years of days, skew −3, kurtosis 10: 0.90."""
    by_trial = np.sqrt(0.5 / 250)  # standard deviation over trials, per day
    spread = np.array([-1.0, 1.0] * 50)
    sharpes = by_trial * spread / spread.std(ddof=1)
    best = Moments(2.5 / np.sqrt(250), -3.0, 10.0, 1250)
    assert deflated_sharpe(best, sharpes.tolist()) == pytest.approx(0.90, abs=0.005)


def test_the_best_of_many_trials_without_skill_is_seldom_taken_for_skill() -> None:
    """Noise: of the best of 50 trials few pass 0.95, although every one looks good by itself."""
    rng, passed, naive = np.random.default_rng(5), 0, 0
    for _ in range(40):
        trials = [moments(returns) for returns in rng.normal(0, 0.01, (50, 500))]
        best = max(trials, key=lambda one: one.sharpe)
        deflated = deflated_sharpe(best, [one.sharpe for one in trials])
        assert deflated is not None
        passed += deflated > 0.95
        naive += best.sharpe * np.sqrt(499) > 1.645
    assert passed <= 4
    assert naive >= 35


def test_a_range_of_whole_numbers_is_one_only_of_whole_settings() -> None:
    """`3..5` of a score draws any number between them, of seconds whole ones."""
    assert not axis_of("strategy.min_entry_score=3..5").whole
    assert axis_of("strategy.armed_s=600..900").whole
