"""P7: the backtest over a live run's journal gives the live run's signals, byte for byte."""

from __future__ import annotations

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqfd.backtest.run import Backtest, Result, planned
from sqfd.config import Config
from sqfd.journal import JournalStore
from sqfd.signals.signal import encode
from tests.backtest.live import SECONDS, Live, config, lived
from tests.flows import START


def backtest(store: JournalStore, chosen: Config, *, block_s: int = 7200, revised: bool = False) -> Result:
    chosen = msgspec.structs.replace(chosen, backtest=msgspec.structs.replace(chosen.backtest, block_s=block_s))
    return Backtest(store, chosen, planned(store, chosen, (), None, None, revised)).run()


def lines(result: Result) -> list[bytes]:
    return [encode(signal) for signal in result.signals]


def test_the_live_run_was_eventful(live: Live) -> None:
    """What parity is claimed of did happen: signals of every action, revisions, feeds with holes, a gap."""
    actions = {orjson.loads(line)["action"] for line in live.lines}
    flow = live.store.flow("BTC", 0, 2**40)
    late = flow.rows["second"] < flow.ticks - 1
    assert actions == {"LONG", "SHORT", "CLOSE"}
    assert len(live.lines) >= 8
    assert np.count_nonzero(late) > 20
    assert np.count_nonzero(flow.rows["coverage_ppm"][~late] < 1_000_000) > 0
    assert np.diff(np.unique(flow.ticks)).max() > 60


@pytest.mark.parametrize("block_s", [60, 777, 7200])
def test_signals_equal_the_live_runs(live: Live, block_s: int) -> None:
    """The bytes of every signal, in order, whatever the size of blocks."""
    assert lines(backtest(live.store, live.config, block_s=block_s)) == live.lines


def test_signals_equal_what_the_journal_holds(live: Live) -> None:
    """The journal's own record of the live signals agrees."""
    stored = [record.line for record in live.store.signals()]
    assert lines(backtest(live.store, live.config)) == stored


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(2, 10_000), restart=st.integers(350, 600), down_s=st.integers(1, 90))
def test_signals_equal_for_any_run(
    tmp_path_factory: pytest.TempPathFactory, seed: int, restart: int, down_s: int
) -> None:
    """Any order and lateness of trades, any moment of restart."""
    run = lived(tmp_path_factory.mktemp("any"), config(), 700, seed, (restart,), down_s)
    try:
        assert lines(backtest(run.store, run.config)) == run.lines
    finally:
        run.store.close()


def test_revised_data_gives_other_signals_and_says_so(live: Live) -> None:
    """With the newest revisions no row is a revision any more, and signals may differ from live."""
    result = backtest(live.store, live.config, revised=True)
    assert result.plan.revised
    assert all(known["revisions"] == 0 for known in result.coverage.told(SECONDS).values())
    seen = backtest(live.store, live.config)
    assert all(known["revisions"] > 20 for known in seen.coverage.told(SECONDS).values())
    assert lines(result) != live.lines


def test_a_later_start_warms_up_from_what_came_before(live: Live) -> None:
    """From a second at which live was flat on, signals are the live ones: history before it fills the rings."""
    pause = live.config.strategy.cooldown_s
    seconds = [orjson.loads(line)["second"] for line in live.lines]
    closes = [orjson.loads(line)["action"] == "CLOSE" for line in live.lines]
    idle = [
        s
        for s, closed, following in zip(seconds, closes, seconds[1:], strict=False)
        if closed and following > s + pause
    ]
    start = next(second for second in idle if second > START + 500) + pause
    plan = planned(live.store, live.config, (), start, None)
    later = [line for line in live.lines if orjson.loads(line)["second"] >= start]
    assert lines(Backtest(live.store, live.config, plan).run()) == later
