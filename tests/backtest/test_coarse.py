"""Backtests over bars coarser than a second: the bars, the settings in their unit, and what comes of both."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from sqfd.backtest.coarse import TIMEFRAMES, Coarse, bars_of, in_bars
from sqfd.backtest.run import Backtest, Result, planned
from sqfd.backtest.source import AsSeen, NoData, Revised
from sqfd.cli.backtest import backtest
from sqfd.config import Config
from sqfd.journal import JournalStore
from sqfd.model import NO_PRICE, FlowTable
from sqfd.sim.market import Market
from sqfd.sim.plan import plan
from sqfd.strategy.settings import StrategySettings
from tests.flows import noise

START, HOURS = 1_722_470_400, 20
"""Twelve hours in which nothing is planted are what is usual."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of one symbol with squeezes planted in the last hours."""
    path, end = tmp_path_factory.mktemp("coarse"), START + HOURS * 3_600
    store = JournalStore(path, bulk=True)
    store.register([], ["BTC"])
    store.load_flow(Market("BTC", 7, START, plan(7, "BTC", START + 12 * 3_600, end, per_day=24.0)).flow(START, end))
    store.close()
    return path


def run(folder: Path, timeframe: str, **backtest: int) -> Result:
    store, config = JournalStore(folder, read_only=True), Config()
    config = msgspec.structs.replace(config, backtest=msgspec.structs.replace(config.backtest, **backtest))
    wanted = planned(store, config, ["BTC"], None, None, bar_s=TIMEFRAMES[timeframe])
    return Backtest(store, config, wanted).run()


@pytest.mark.parametrize("bar_s", [60, 300])
def test_bars_equal_a_walk_over_the_seconds(bar_s: int) -> None:
    """Last prices, extremes, sums and mean coverage, with seconds missing and none priced at first."""
    rows = noise(2_000, 3)
    rng = np.random.default_rng(1)
    rows["funding_ppb"], rows["liq_buy"] = rng.integers(-9, 9, (2, len(rows)))
    rows["high"][rng.random(len(rows)) < 0.3] = NO_PRICE
    rows["price"][:70] = NO_PRICE
    rows = rows[rng.random(len(rows)) < 0.6]
    found = bars_of(FlowTable.of(rows["second"] + 1, rows), bar_s)
    expected = []
    for bar in sorted({int(row["second"]) // bar_s for row in rows if row["price"] != NO_PRICE}):
        mine = [row for row in rows if int(row["second"]) // bar_s == bar and row["price"] != NO_PRICE]
        sums = {name: sum(int(row[name]) for row in mine) for name in FlowTable.names[5:]}
        sums["coverage_ppm"] //= bar_s
        sums |= {name: int(mine[-1][name]) for name in ("open_interest", "funding_ppb")}
        high = max(int(row["price"] if row["high"] == NO_PRICE else row["high"]) for row in mine)
        low = min(int(row["low"]) for row in mine)
        expected.append([bar + 1, bar, int(mine[-1]["price"]), high, low, *sums.values()])
    assert found.cells.T.tolist() == expected
    assert len(bars_of(FlowTable(np.zeros((len(FlowTable.names), 0), np.int64)), bar_s)) == 0


def test_windows_keep_their_time_up_to_a_minute_and_their_bars_beyond() -> None:
    """900 s are 15 bars of 1m, and 15 bars of 1h; halved windows stay even; what a consumer waits stays in seconds."""
    settings = StrategySettings(per_symbol={"BTC": {"armed_s": 600, "min_entry_score": 5.0}})
    minutes = in_bars(settings, 60)
    assert minutes.divergence_windows_s == (15, 30)
    assert minutes.reset_windows_s == (6, 16, 30)
    assert (minutes.baseline_s, minutes.sample_s, minutes.candle_s, minutes.breakdown_candle_s) == (1_440, 1, 5, 1)
    assert (minutes.sensitivity, minutes.ttl_s) == (1.0, settings.ttl_s)
    assert minutes.for_symbol("BTC").armed_s == 10
    assert in_bars(settings, 3_600) == minutes
    assert in_bars(StrategySettings(sensitivity=0.7), 60).sensitivity == 0.7
    with pytest.raises(ValueError, match=r"divergence_windows_s.*longer windows are needed"):
        in_bars(StrategySettings(divergence_windows_s=(10, 20)), 60)


def test_bars_of_a_minute_see_what_seconds_see(folder: Path) -> None:
    """Planted squeezes are entered on the same sides within minutes; signals are of bars' last seconds and fill at later bars' ends."""
    seconds, minutes = run(folder, "1s"), run(folder, "1m")
    entries = {(one.second, one.side) for one in seconds.signals if one.action != "CLOSE"}
    again = [one for one in minutes.signals if one.action != "CLOSE"]
    near = [one for one in again if any(abs(one.second - at) <= 900 and one.side == side for at, side in entries)]
    assert len(again) >= 4
    assert len(near) >= 0.6 * len(again)
    assert all((one.second + 1) % 60 == 0 for one in minutes.signals)
    for trade in minutes.trades:
        assert trade.entry_tick % 60 == 0
        assert trade.entry_tick >= trade.signal_second + 1 + 60
    assert minutes.ticks == HOURS * 60
    assert minutes.coverage.symbols["BTC"].seconds == HOURS * 3_600
    windows = again[0].phases["divergence"]["windows"]
    assert [window["window_s"] for window in windows] == [900, 1_800]


def test_blocks_of_bars_change_nothing(folder: Path) -> None:
    """Four hours of bars at once, or all of them."""
    short, whole = run(folder, "1m", coarse_block_s=14_400), run(folder, "1m")
    assert short.signals == whole.signals
    assert len(whole.signals) > 0
    assert [trade.net for trade in short.trades] == [trade.net for trade in whole.trades]


def test_coarse_bars_are_of_whole_bars_only(folder: Path) -> None:
    """A range is cut to them, what is left out is not read, and one without any is refused by name."""
    store, config = JournalStore(folder, read_only=True), Config()
    wanted = planned(store, config, ["BTC"], START + 100, START + 7_300, bar_s=3_600)
    assert (wanted.first - 1, wanted.last - 1) == (START + 3_600, START + 7_200)
    assert "bars of 1h" in wanted.data
    source = Coarse(Revised(AsSeen(store), 600), 3_600)
    assert source.extent("BTC") == (START // 3_600 + 1, START // 3_600 + HOURS)
    assert source.flow("BTC", *wanted.ticks)["second"].tolist() == [START // 3_600 + 1]
    assert source.extent("DOGE") is None
    with pytest.raises(NoData, match="no whole bar of 4h"):
        planned(store, config, ["BTC"], START + 100, START + 14_000, bar_s=14_400)


def test_the_command_says_which_bars(folder: Path, tmp_path: Path) -> None:
    """`--timeframe 5m` in the summary and in the JSON's head."""
    arguments = ["--state", str(folder), "--symbol", "BTC", "--timeframe", "5m", "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(backtest, arguments)
    assert done.exit_code == 0, done.output
    assert "bars of 5m" in done.output
    found = msgspec.json.decode((tmp_path / "r.json").read_bytes())
    assert "bars of 5m" in found["data"]
    assert found["ticks"] == HOURS * 12
