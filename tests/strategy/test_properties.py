"""What holds for any flow: no scale, no side, no future and no way of blocking changes a verdict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sqfd.bars.ring import FlowRing
from sqfd.model import Flow
from sqfd.strategy.scoring import total
from sqfd.strategy.squeezeflow import Evaluated, SqueezeFlow
from tests.flows import mirrored, noise, scaled, squeeze
from tests.strategy.test_phases import SMALL

SECONDS = 420


class Verdicts(NamedTuple):
    """Columns of ticks. [side, tick] where a phase judges each side by itself."""

    context: np.ndarray
    armed: np.ndarray
    live: np.ndarray
    alignment: np.ndarray
    score: np.ndarray
    parts: np.ndarray
    entries: list[int]


def flow(seed: int, planted: bool) -> Flow:
    """Noise, or a squeeze squeezed into a few minutes."""
    return squeeze(seed, quiet_s=60)[::12][:SECONDS].copy() if planted else noise(SECONDS, seed)


def consecutive(rows: Flow) -> Flow:
    rows["second"] = rows["second"][0] + np.arange(len(rows))
    return rows


def judged(rows: Flow, cuts: tuple[int, ...] = ()) -> Verdicts:
    """Verdicts of all ticks, judged in blocks that end at `cuts` and the end."""
    ring = FlowRing(1000, 1000, 1000)
    watch = SqueezeFlow(SMALL).watch("S", ring)
    blocks = []
    for part in np.split(rows, sorted(set(cuts))):
        if len(part):
            first = max(ring.end_tick, int(part["second"][0]) + 1)
            ring.append(part)
            block = watch.evaluate(first, ring.end_tick)
            if isinstance(block, Evaluated):
                blocks.append(block)
    return Verdicts(
        np.concatenate([block.context.value for block in blocks]),
        np.concatenate([block.divergence.armed for block in blocks]),
        np.concatenate([block.reset.live for block in blocks], axis=1),
        np.concatenate([block.reset.alignment for block in blocks], axis=1),
        np.concatenate([total(block.parts) for block in blocks]),
        np.concatenate([block.parts for block in blocks], axis=1),
        [tick for block in blocks for tick in block.entries.tolist()],
    )


def equal(one: Verdicts, other: Verdicts) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


flows = st.builds(flow, st.integers(0, 10_000), st.booleans()).map(consecutive)


@settings(max_examples=25)
@given(rows=flows, up=st.integers(0, 8))
def test_no_scale(rows: Flow, up: int) -> None:
    """Volumes × 10⁻⁴ … 10⁴: every verdict stays. Cents are integers, so the smallest is what the others multiply."""
    assert equal(judged(scaled(rows, 10**4)), judged(scaled(rows, 10**up)))


@settings(max_examples=25)
@given(rows=flows)
def test_no_side(rows: Flow) -> None:
    """Buyers and sellers swapped, price turned over: longs become shorts, and nothing else changes."""
    one, other = judged(rows), judged(mirrored(rows))
    turned = Verdicts(
        -other.context,
        -other.armed,
        other.live[::-1],
        other.alignment[::-1],
        other.score,
        other.parts,
        other.entries,
    )
    assert equal(one, turned)


@settings(max_examples=25)
@given(rows=flows, other=flows, cut=st.integers(60, SECONDS - 60))
def test_no_future(rows: Flow, other: Flow, cut: int) -> None:
    """Whatever comes later changes no earlier verdict."""
    changed = rows.copy()
    changed[cut:] = other[:SECONDS][cut : len(rows)]
    changed["second"] = rows["second"]
    known = cut - SMALL.warmup_s
    one, two = judged(rows), judged(changed)
    last = int(rows["second"][cut])
    for before, after in zip(one[:-1], two[:-1], strict=True):
        assert np.array_equal(before[..., :known], after[..., :known])
    assert [tick for tick in one.entries if tick <= last] == [tick for tick in two.entries if tick <= last]


@settings(max_examples=25)
@given(rows=flows, cuts=st.lists(st.integers(1, SECONDS - 1), max_size=6))
def test_no_blocks(rows: Flow, cuts: list[int]) -> None:
    """However ticks are blocked, the same bits."""
    assert equal(judged(rows), judged(rows, tuple(cuts)))


@settings(max_examples=4)
@given(rows=flows)
def test_a_block_is_its_ticks(rows: Flow) -> None:
    """One tick at a time, as live, gives the bits of the block."""
    assert equal(judged(rows), judged(rows, tuple(range(1, len(rows)))))


def test_the_flows_make_the_phases_speak() -> None:
    """The properties above would say little about verdicts that are never given."""
    found = [judged(consecutive(flow(seed, planted))) for seed in range(6) for planted in (False, True)]
    assert {-1, 0, 1} == {int(side) for one in found for side in np.unique(one.armed)}
    assert any(one.live.any() for one in found)
    assert max(one.score.max() for one in found) > 2
