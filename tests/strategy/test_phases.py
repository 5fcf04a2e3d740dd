"""Each phase over columns says what its slow, obvious twin says tick by tick."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from sqfd.bars.ring import FlowRing
from sqfd.strategy.features import distinct, range_extreme
from sqfd.strategy.position import Position
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import Evaluated, SqueezeFlow
from tests.flows import noise
from tests.strategy.twin import Twin

SMALL = StrategySettings(
    warmup_s=40,
    baseline_s=200,
    sample_s=5,
    swing_window_s=15,
    context_windows_s=(20, 45, 120),
    divergence_windows_s=(18, 40),
    divergence_gap_rank=0.7,
    armed_s=30,
    reset_windows_s=(10, 24, 40),
    reset_hold_s=12,
    reset_extreme_s=9,
    confirm_s=20,
    confirm_window_s=10,
    confirm_move_min=0.5,
    reset_stall_max=0.6,
    speed_window_s=6,
    candle_s=7,
    breakdown_candle_s=4,
    breakdown_candles=7,
    range_candles=5,
    bias_window_s=6,
    exit_lookback_s=25,
    new_extreme_s=8,
    structure_s=20,
    exit_flow=0.2,
)


class Case(NamedTuple):
    twin: Twin
    block: Evaluated
    ticks: list[int]


@pytest.fixture(scope="module", params=[0, 1, 2])
def case(request: pytest.FixtureRequest) -> Case:
    """A symbol judged in one block from the end of its warm-up on, and its twin."""
    rows = noise(420, request.param)
    ring = FlowRing(1000, 1000, 1000)
    ring.append(rows)
    block = SqueezeFlow(SMALL).watch("S", ring).evaluate(0, ring.end_tick)
    assert isinstance(block, Evaluated)
    return Case(Twin(rows, SMALL), block, block.features.ticks.tolist())


def test_context(case: Case) -> None:
    """Value and verdict, also while the longer windows have no baseline yet."""
    expected = [case.twin.context(tick) for tick in case.ticks]
    assert case.block.context.value.tolist() == pytest.approx([value for value, _ in expected], abs=1e-12)
    sides = [case.block.context.side(at) for at in range(len(expected))]
    assert sides == [side for _, side in expected]
    assert len(set(sides)) == 3


def test_divergence(case: Case) -> None:
    """What holds, what stays armed, and how strong it was; setups come, expire and are left."""
    expected = [case.twin.divergence(tick) for tick in case.ticks]
    found = case.block.divergence
    assert found.holds.tolist() == [holds for holds, _, _ in expected]
    assert found.armed.tolist() == [armed for _, armed, _ in expected]
    strength = np.where(found.armed != 0, found.strength, 0.0)
    assert strength.tolist() == pytest.approx([strength for _, _, strength in expected], abs=1e-12)
    assert {-1, 0, 1} <= set(found.armed.tolist()) | {0}
    assert (found.armed != 0).any()


@pytest.mark.parametrize("side", [1, -1])
def test_reset(case: Case, side: int) -> None:
    """Life, alignment and convergence of resets, with their confirmations."""
    case.twin.resets[side].clear()
    expected = [case.twin.reset(side, tick) for tick in case.ticks]
    place = 0 if side > 0 else 1
    assert case.block.reset.live[place].tolist() == [live for live, _, _ in expected]
    assert case.block.reset.alignment[place].tolist() == pytest.approx([value for _, value, _ in expected], abs=1e-12)
    columns = case.block.reset.alignment[place].tolist(), case.block.reset.convergence[place].tolist()
    one_by_one = [case.block.reset.aligned_at(place, at) for at in range(len(expected))]
    assert one_by_one == list(zip(*columns, strict=True))
    assert case.block.reset.convergence[place].tolist() == pytest.approx([value for *_, value in expected], abs=1e-12)


@pytest.mark.parametrize("side", [1, -1])
def test_score(case: Case, side: int) -> None:
    """All four parts at every tick where the side is armed."""
    case.twin.resets[side].clear()
    armed = case.block.divergence.armed
    for at, tick in enumerate(case.ticks):
        expected = case.twin.score(side, tick)
        if armed[at] == side:
            assert case.block.parts[:4, at].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("entry_at", "context"), [(60, 0.0), (150, -0.3), (150, 0.3)])
def test_exits(case: Case, side: int, entry_at: int, context: float) -> None:
    """All reasons at every tick of a position, young and old."""
    entry = case.ticks[entry_at]
    level = case.twin.L[entry] - side * 20_000
    position = Position("S", side, entry, case.twin.L[entry], level, 5.0, "medium", 0.5, 2, 0.6, context)
    ticks = np.array(case.ticks[entry_at + 1 :])
    found = case.block.held_exits(position, ticks)
    for at, tick in enumerate(ticks.tolist()):
        assert found[:, at].tolist() == case.twin.exits(side, tick, entry, level, context)
    closing = np.flatnonzero(found.any(axis=0))
    first = case.block.first_exit(position, entry + 1)
    assert (first.tick if first else None) == (int(ticks[closing[0]]) if len(closing) else None)


@pytest.mark.parametrize("count", [3, 200])
def test_range_extremes_equal_plain_minima(count: int) -> None:
    """Few ranges and many, of any length, forward and overlapping."""
    rng = np.random.default_rng(count)
    column = rng.integers(-1000, 1000, 500)
    start = rng.integers(0, 490, count)
    stop = start + rng.integers(1, 10 + count, count).clip(max=500 - start)
    expected = [min(column[left:right]) for left, right in zip(start, stop, strict=True)]
    assert range_extreme(column, start, stop, np.minimum).tolist() == expected


@pytest.mark.parametrize("values", [[], [3], [1, 1, 2, 5, 5, 5], [4, 4]])
def test_distinct_is_unique_for_ascending_values(values: list[int]) -> None:
    """The same values and places as numpy's, which sorts first."""
    found, expected = distinct(np.array(values, np.int64)), np.unique(np.array(values, np.int64), return_inverse=True)
    for one, other in zip(found, expected, strict=True):
        assert one.tolist() == other.tolist()
