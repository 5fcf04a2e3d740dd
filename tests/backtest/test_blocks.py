"""How a range is cut into blocks changes no byte of what comes of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from sqfd.backtest.run import Backtest, Result, planned
from sqfd.config import Config
from sqfd.journal import JournalStore
from sqfd.signals.signal import encode
from sqfd.sim.market import Market
from sqfd.sim.plan import plan
from tests.backtest.live import Live

START, HOURS = 1_722_470_400, 26
HOLES = ((5 * 3_600 + 2_400, 6 * 3_600 + 900), (14 * 3_600 + 7, 17 * 3_600))
"""Seconds of which there is nothing: over the edge of a block, and over several edges and a funding."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> JournalStore:
    """A journal of one symbol, squeezes from its fourth hour on, with holes."""
    end, path = START + HOURS * 3_600, tmp_path_factory.mktemp("blocks")
    rows = Market("BTC", 7, START, plan(7, "BTC", START + 3 * 3_600, end, per_day=24.0)).flow(START, end)
    there = np.ones(len(rows), np.bool_)
    for first, last in HOLES:
        there[first:last] = False
    store = JournalStore(path, bulk=True)
    store.register([], ["BTC"])
    store.load_flow(rows[there])
    store.close()
    return JournalStore(path, read_only=True)


def everything(store: JournalStore, config: Config, symbols: list[str], bar_s: int = 1, **blocks: int) -> list[object]:
    """All that a backtest gives, in an order in which it can be compared."""
    chosen = msgspec.structs.replace(config.backtest, **blocks)
    config = msgspec.structs.replace(config, backtest=chosen)
    run = Backtest(store, config, planned(store, config, symbols, None, None, bar_s=bar_s))
    result: Result = run.run()
    assert run.engine is not None
    return [
        [encode(signal) for signal in result.signals],
        result.trades,
        result.still_open,
        dict(result.refused),
        result.stats(),
        [column.tobytes() for column in result.curve.samples()],
        result.coverage.told(1),
        run.engine.positions(),
    ]


@pytest.mark.parametrize("block_s", [7_200, 86_400, 5_000])
def test_seconds_give_the_same_in_blocks_of_any_length(store: JournalStore, block_s: int) -> None:
    """Signals, trades, accounts, statistics and memory in blocks of 2 h, of 24 h and of no whole hours are those in blocks of 6 h."""
    expected = everything(store, Config(), ["BTC"], block_s=21_600)
    assert len(expected[0]) >= 8  # type: ignore[arg-type]
    assert everything(store, Config(), ["BTC"], block_s=block_s) == expected


def test_bars_of_a_minute_give_the_same_in_blocks_of_any_length(store: JournalStore) -> None:
    """A day at once gives what four hours at once give, the holes included."""
    short, whole = (everything(store, Config(), ["BTC"], 60, coarse_block_s=length) for length in (14_400, 259_200))
    assert short == whole


@pytest.mark.parametrize("block_s", [60, 777])
def test_restarts_give_the_same_in_blocks_of_any_length(live: Live, block_s: int) -> None:
    """Late trades, outages and restarts of two symbols: minutes at once give what hours at once give."""
    symbols = list(live.config.symbols.symbols)
    short, whole = (everything(live.store, live.config, symbols, block_s=length) for length in (block_s, 7_200))
    assert short == whole
