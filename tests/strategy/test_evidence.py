"""Open interest, funding and liquidations: a bounded bonus, off unless it is asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from sqfd.bars.ring import FlowRing
from sqfd.model import Flow
from sqfd.strategy.features import Features
from sqfd.strategy.scoring import _evidence, total
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import Evaluated, SqueezeFlow
from tests.flows import mirrored, noise
from tests.strategy.test_phases import SMALL

BOTH = msgspec.structs.replace(SMALL, use_open_interest=True, use_funding=True, use_liquidations=True)


def judged(rows: Flow, settings: StrategySettings = BOTH) -> Evaluated:
    ring = FlowRing(1000, 1000, 1000)
    ring.append(rows)
    block = SqueezeFlow(settings).watch("S", ring).evaluate(0, ring.end_tick)
    assert isinstance(block, Evaluated)
    return block


def evidence(features: Features, side: int) -> np.ndarray:
    return _evidence(features, side, features.ticks)


def test_it_is_off_unless_asked_for() -> None:
    """Collected or not, nothing is added by default."""
    rows = noise(300)
    rows["open_interest"] = np.arange(1, 301) * 1_000_000
    rows["liq_buy"] = rows["perp_volume"] // 2
    rows["funding_ppb"] = -1_000_000
    features = judged(rows, SMALL).features
    assert not evidence(features, 1).any()
    assert not judged(rows, SMALL).parts[4].any()


@pytest.mark.parametrize("rise", [0.0, 0.01, 0.02, 0.5])
def test_rising_open_interest_adds_in_proportion(rise: float) -> None:
    """A rise of 1 % gives half, 2 % and more all of its points; both sides alike."""
    rows = noise(300)
    rows["open_interest"] = 1_000_000_000
    rows["open_interest"][260:] = round(1_000_000_000 * (1 + rise))
    features = judged(rows).features
    for side in (1, -1):
        assert evidence(features, side)[-1] == pytest.approx(min(1.0, rise / 0.02), abs=1e-9)
        assert evidence(features, side)[100] == 0.0


def test_open_interest_that_falls_or_is_not_collected_adds_nothing() -> None:
    """Only a rise over the setup is evidence, and 0 means that nobody asked the exchange."""
    rows = noise(300)
    rows["open_interest"] = np.arange(300, 0, -1) * 1_000_000
    assert not evidence(judged(rows).features, 1).any()
    rows["open_interest"] = 0
    rows["open_interest"][290:] = 5_000_000
    assert not evidence(judged(rows).features, 1).any()


def context_of(rows: Flow) -> dict[str, Any]:
    block = judged(rows)
    found = block.report(block.features.last - 1, None)
    assert found is not None
    return dict(found.phases["context"])


@pytest.mark.parametrize(("ppb", "long", "short"), [(0, 0, 0), (1, 0, 0), (-150_000, 0.25, 0), (900_000, 0, 0.5)])
def test_funding_counts_for_the_side_that_is_paid(ppb: int, long: float, short: float) -> None:
    """Shorts that pay speak for a long, longs that pay for a short: 3 basis points in 8 hours give all points, 1.5 half."""
    rows = noise(300)
    rows["funding_ppb"] = ppb
    features = judged(rows).features
    assert evidence(features, 1)[-1] == pytest.approx(long, abs=1e-5)
    assert evidence(features, -1)[-1] == pytest.approx(short, abs=1e-5)


def test_a_report_names_open_interest_and_funding_where_they_are_collected() -> None:
    """Dollars, and basis points of 8 hours; neither is named where nobody asked an exchange."""
    rows = noise(300)
    context = context_of(rows)
    assert context.keys().isdisjoint({"open_interest_usd", "funding_8h_bps"})
    rows["open_interest"], rows["funding_ppb"] = 1_250_000_00, -125_000
    context = context_of(rows)
    assert (context["open_interest_usd"], context["funding_8h_bps"]) == (1_250_000.0, -1.25)


def test_liquidations_count_on_the_squeezed_side_only() -> None:
    """Shorts that are bought in speak for a long, not for a short; 5 % of perp volume gives all points."""
    rows = noise(300)
    rows["liq_buy"] = rows["perp_volume"] // 40
    features = judged(rows).features
    assert evidence(features, 1)[-1] == pytest.approx(0.5 * 0.5, rel=1e-3)
    assert evidence(features, -1)[-1] == 0.0
    rows["liq_buy"] = rows["perp_volume"]
    assert evidence(judged(rows).features, 1)[-1] == 0.5


def test_it_is_mirrored_and_never_lifts_a_score_above_ten() -> None:
    """Evidence for a long is evidence for the mirrored short, and the sum stays within the scale."""
    rows = noise(420, 1)
    rows["liq_buy"] = rows["perp_volume"]
    rows["open_interest"] = np.arange(1, 421) * 100_000_000
    rows["funding_ppb"] = -200_000
    one, other = judged(rows), judged(mirrored(rows))
    assert np.array_equal(evidence(one.features, 1), evidence(other.features, -1))
    rich = msgspec.structs.replace(BOTH, open_interest_points=10.0, liquidation_points=10.0)
    block = judged(rows, rich)
    assert block.parts[4].max() > 10
    assert total(block.parts).max() == 10.0
