"""What a block knows of its minutes' ranks before they are looked at one by one."""

from __future__ import annotations

import numpy as np
import pytest

from sqfd.bars.ring import PERP, PRICE, SPOT, FlowRing
from sqfd.strategy.baseline import PIECE, Baseline, Bounds, Ints, Samples
from tests.flows import START, noise
from tests.strategy.test_phases import SMALL

WINDOW = SMALL.divergence_windows_s[0]
HISTORY_S = SMALL.baseline_s + WINDOW + 2 * SMALL.sample_s


def baseline(seed: int, minutes: int, first: int) -> tuple[Baseline, Ints]:
    """That of some minutes, `first` seconds after the flow's beginning, and the minutes' places."""
    ring = FlowRing(4_000, 4_000, 4_000)
    rows = noise(first + (minutes + 1) * SMALL.sample_s, seed)
    rows["perp_delta"] //= 1 + np.arange(len(rows)) // 200  # what is usual changes
    ring.append(rows)
    step = SMALL.sample_s
    samples = Samples(ring, SMALL.windows_s, SMALL.divergence_windows_s, step, SMALL.baseline_s // step)
    begin = (START + first) // step * step
    return Baseline(samples, SMALL, begin, begin + (minutes - 1) * step), np.arange(minutes)


def holds(bounds: Bounds, ranks: np.ndarray) -> bool:
    return bool(((bounds.low <= ranks) & (ranks <= bounds.high)).all())


@pytest.mark.parametrize("minutes", [2, PIECE, 2 * PIECE + 7])
@pytest.mark.parametrize("rank", [0.0, 0.4, 0.95, 1.0])
def test_bounds_hold_the_ranks(minutes: int, rank: float) -> None:
    """No minute's rank lies outside of its piece's bounds, and these say something."""
    for seed in range(4):
        found, all_minutes = baseline(seed, minutes, HISTORY_S)
        for series in (PRICE, SPOT, PERP):
            bounds = found.move_bounds(WINDOW, series, rank)
            assert holds(bounds, found.move_ranks(WINDOW, series, rank, all_minutes))
            assert np.isfinite(bounds.high).all()
        bounds = found.gap_bounds(WINDOW, rank)
        assert holds(bounds, found.gap_ranks(WINDOW, rank, all_minutes))
        assert np.isfinite(bounds.high).all()


def test_nothing_is_bounded_while_history_grows() -> None:
    """Minutes that have seen unequally many samples: each rank is looked at."""
    found, all_minutes = baseline(0, 20, SMALL.warmup_s)
    for bounds in (found.move_bounds(WINDOW, SPOT, 0.4), found.gap_bounds(WINDOW, 0.95)):
        assert not bounds.low.any()
        assert np.isinf(bounds.high).all()
    assert holds(found.gap_bounds(WINDOW, 0.95), found.gap_ranks(WINDOW, 0.95, all_minutes))
