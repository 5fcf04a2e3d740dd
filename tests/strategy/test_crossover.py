"""Another strategy than SqueezeFlow, in the engine: chosen by its name, live as in blocks."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from sqfd.engine import Engine
from sqfd.signals.signal import encode
from sqfd.strategy import registry
from sqfd.strategy.registry import UnknownStrategy, names, strategy_for
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import SqueezeFlow
from tests.flows import noise, ticks_of
from tests.strategy import crossover

CHOSEN = StrategySettings(name="crossover")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package offered the strategy of this folder."""
    point = EntryPoint("crossover", "tests.strategy.crossover:Crossover", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])


def engine() -> Engine:
    return Engine(["S"], strategy_for(CHOSEN, ["S"]), CHOSEN, "test", {}, 3600)


@pytest.mark.usefixtures("installed")
def test_a_crossover_trades_both_ways_and_closes_where_it_crosses_back() -> None:
    """Entries and closes alternate, and each close comes from a crossing."""
    rows = noise(24_000, 4)
    signals = engine().block(ticks_of(rows), rows)
    assert {"LONG", "SHORT", "CLOSE"} == {signal.action for signal in signals}
    assert all((signal.action == "CLOSE") == bool(place % 2) for place, signal in enumerate(signals))
    assert {signal.exit_reasons for signal in signals if signal.action == "CLOSE"} == {("crossed_back",)}
    assert {signal.strategy for signal in signals} == {"crossover"}


@pytest.mark.usefixtures("installed")
def test_ticks_equal_a_block() -> None:
    """What the engine promises holds for any strategy that judges each tick by itself."""
    rows = noise(17_000, 4)
    block, live = engine(), engine()
    together = block.block(ticks_of(rows), rows)
    early, late = rows[:16_000], rows[16_000:]
    apart = live.block(ticks_of(early), early)
    for row, tick in zip(np.split(late, len(late)), ticks_of(late).tolist(), strict=True):
        apart += live.tick(tick, row)
    assert together
    assert [encode(signal) for signal in apart] == [encode(signal) for signal in together]
    assert live.explain("S") == block.explain("S")


@pytest.mark.usefixtures("installed")
def test_strategies_are_found_by_name() -> None:
    """The setting chooses; an unknown name is answered with the known ones."""
    assert names() == ["crossover", "squeezeflow"]
    assert isinstance(strategy_for(CHOSEN), crossover.Crossover)
    assert isinstance(strategy_for(StrategySettings()), SqueezeFlow)
    with pytest.raises(UnknownStrategy, match="no strategy 'other'; known: crossover, squeezeflow"):
        strategy_for(StrategySettings(name="other"))


def test_the_strategy_is_as_short_as_the_documentation_says() -> None:
    """About 40 lines of code without blank lines and docstrings."""
    lines = [line for line in source(sys.modules[crossover.__name__]).splitlines() if line.strip()]
    assert len(lines) < 70


def source(module: Any) -> str:
    import inspect

    return inspect.getsource(module)
