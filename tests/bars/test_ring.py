"""The flow ring: exact windows, holes carried forward, revisions as if they had always been known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqfd.bars.ring import COVERAGE, FUNDING, HIGH, OPEN_INTEREST, PERP, PRICE, SPOT, FlowRing
from sqfd.model import FLOW, NO_PRICE, Flow
from tests.flows import START, noise


def ring_of(rows: Flow, *cuts: int, history_s: int = 200, detail_s: int = 80, headroom_s: int = 50) -> FlowRing:
    ring = FlowRing(history_s, detail_s, headroom_s)
    for part in np.split(rows, sorted(cuts)):
        ring.append(part)
    return ring


def windows(ring: FlowRing) -> list[list[int]]:
    """Everything that phases can read: columns as they are, sums as differences from one step to the next."""
    series, detail = ring.series, ring.detail
    return [
        series[PRICE].tolist(),
        *np.diff(series[[SPOT, PERP]]).tolist(),
        *detail[[0, 1, OPEN_INTEREST, FUNDING]].tolist(),
        *np.diff(detail[2:7]).tolist(),
    ]


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=8))
def test_windows_are_exact_however_rows_arrive(cuts: list[int]) -> None:
    """The flow of any window is the plain sum of its seconds, after any number of compactions."""
    rows = noise(700)
    ring = ring_of(rows, *cuts)
    assert ring.end_tick == START + 701
    assert ring.series.shape[1] >= 200
    held = rows[-(ring.series.shape[1] - 1) :]
    assert np.diff(ring.series[SPOT]).tolist() == held["spot_delta"].tolist()
    assert ring.series[PRICE, 1:].tolist() == held["price"].tolist()
    short = rows[-ring.detail.shape[1] :]
    assert ring.detail[HIGH].tolist() == short["high"].tolist()


@settings(max_examples=60, deadline=None)
@given(late=st.lists(st.tuples(st.integers(0, 399), st.integers(-500, 500)), min_size=1, max_size=12))
def test_a_revised_ring_equals_one_built_from_the_revised_rows(late: list[tuple[int, int]]) -> None:
    """After `amend` every window reads as if the best data had been there from the start."""
    rows = noise(400)
    ring, revised = ring_of(rows), rows.copy()
    changes = np.zeros(len(late), FLOW)
    for place, (at, value) in enumerate(late):
        changes[place] = rows[at]
        for name in (
            "price",
            "spot_delta",
            "perp_delta",
            "spot_volume",
            "liq_buy",
            "open_interest",
            "coverage_ppm",
            "funding_ppb",
        ):
            changes[place][name] += value
        revised[at] = changes[place]
    changed = ring.amend(changes)
    first = min((at for at, _ in late if START + at + 1 >= ring.base), default=None)
    assert changed == (None if first is None else START + first + 1)
    assert windows(ring) == windows(ring_of(revised))


def test_missing_seconds_are_carried_forward_without_coverage() -> None:
    """Price stands, nothing flows and nothing is covered while the daemon was down."""
    rows = noise(60)
    ring = ring_of(np.concatenate([rows[:20], rows[30:]]))
    hole = slice(20, 30)
    assert set(ring.series[PRICE, hole]) == {rows["price"][19]}
    assert set(ring.detail[HIGH, hole]) == {rows["price"][19]}
    assert np.diff(ring.series[SPOT, 19:30]).tolist() == [0] * 10
    assert np.diff(ring.detail[COVERAGE, 19:31]).tolist() == [0] * 10 + [1_000_000]


def test_the_ring_begins_with_the_first_price_and_keeps_the_last_one() -> None:
    """Rows without a price are no history at the start and stand for the last price later on."""
    rows = noise(40)
    for name in ("price", "high", "low"):
        rows[name][:10] = NO_PRICE
        rows[name][25:30] = NO_PRICE
    ring = ring_of(rows)
    assert ring.first_tick == START + 11
    assert set(ring.series[PRICE, 15:20]) == {rows["price"][24]}


def test_a_hole_longer_than_the_ring_leaves_its_last_part() -> None:
    """A daemon that was down for a month neither allocates nor walks a month."""
    rows = noise(20)
    late = noise(5)
    late["second"] += 30 * 86_400
    ring = ring_of(np.concatenate([rows, late]))
    assert ring.end_tick == START + 30 * 86_400 + 6
    assert ring.first_tick == START + 30 * 86_400 + 1 - 200
    assert ring.series.shape[1] <= 250
    assert set(ring.series[PRICE, :-5]) == {rows["price"][-1]}


def test_seconds_must_be_new() -> None:
    """A second that is held already is a revision, not a row to append."""
    ring = ring_of(noise(20))
    with pytest.raises(ValueError, match="ascend"):
        ring.append(noise(20)[-1:])


def test_five_symbols_fit_in_twenty_megabytes() -> None:
    """28 h of price and CVDs, 4 h of the rest, an hour of headroom."""
    assert 5 * FlowRing().nbytes <= 20e6
