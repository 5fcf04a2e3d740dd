"""A backtest over bars in a real InfluxDB equals the one over the journal that shipped them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from sqfd.backtest.coarse import Coarse
from sqfd.backtest.influx import Stored, fetch
from sqfd.backtest.run import Backtest, planned
from sqfd.backtest.source import AsSeen, NoData, Revised
from sqfd.cli.backtest import backtest
from sqfd.influx.client import Client
from sqfd.influx.lines import bar_lines, blocks, series
from sqfd.influx.schema import BARS_RP, compare, create, inspect, rollup_queries, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.journal import JournalStore
from tests.backtest.conftest import toml
from tests.backtest.live import MARKETS, config, lived
from tests.flows import START
from tests.real.servers import Influx

__all__ = ["toml"]


def run(influxd: Influx, database: str, toml: Path, *arguments: str) -> Result:
    named = ("--set", f"influx.port={influxd.port}", "--set", f"influx.database={database}")
    return CliRunner().invoke(backtest, ["-c", str(toml), "--source", "influx", *named, *arguments])


@pytest.fixture
async def bars_there(influxd: Influx, database: str, tmp_path: Path) -> Path:
    """The bars of a live run of a quarter of an hour, all in time, in its journal and in the database."""
    live = lived(tmp_path / "live", config(), 900, 3, late=0.0)
    rows = live.store.bars([market.name for market in MARKETS], START, START + 900)
    settings = InfluxSettings(port=influxd.port, database=database)
    async with Client(settings) as client:
        await create(client, compare(wanted(settings), await inspect(client, database)))
        await client.ask(f'ALTER RETENTION POLICY {BARS_RP} ON "{database}" DURATION INF SHARD DURATION 7d')
        lines = bar_lines(rows, [series(market.name) for market in MARKETS])
        for block in blocks(lines, 5_000, 1_000_000):
            assert (await client.write(block, BARS_RP)).ok
    live.store.close()
    return tmp_path / "live"


async def test_signals_equal_those_of_the_journal(
    influxd: Influx, database: str, toml: Path, bars_there: Path, tmp_path: Path
) -> None:
    """Prices, flow and so signals are the same; only who they name as instance, markets and coverage may differ."""
    store = JournalStore(bars_there, read_only=True)
    chosen = config()
    expected = Backtest(store, chosen, planned(store, chosen, (), None, None, True)).run()
    store.close()
    result = await asyncio.to_thread(run, influxd, database, toml, "--json", "-")
    assert result.exit_code == 0, result.output
    found = orjson.loads(result.output)
    assert found["revised"]
    assert [(s["second"], s["action"], s["score"], s["price"]) for s in found["signals"]] == [
        (s.second, s.action, s.score, s.price) for s in expected.signals
    ]
    assert len(expected.signals) >= 4


async def test_what_is_not_there_is_named(influxd: Influx, database: str, toml: Path, bars_there: Path) -> None:
    """Another symbol, another time, another database: one line each."""
    for arguments, words in (
        (("--symbol", "SOL"), "InfluxDB has no bars of SOL in trades_1s"),
        (("--timeframe", "5m"), "longer windows are needed"),
        (("--to", "1000"), "there is BTC 2023-11-14 22:14:00 to 2023-11-14 22:29:00"),
        (("--set", "influx.port=1"), "InfluxDB: "),
    ):
        result = await asyncio.to_thread(run, influxd, database, toml, *arguments)
        assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
        assert words in result.output


async def test_symbols_without_bars_are_left_out(influxd: Influx, database: str, toml: Path, bars_there: Path) -> None:
    """Configured and not stored: not in the result, as with a journal. Asked for by name: refused, with what there is."""
    known = ("--set", "symbols.symbols=SOL,BTC,ETH", "--json", "-")
    result = await asyncio.to_thread(run, influxd, database, toml, *known)
    assert result.exit_code == 0, result.output
    assert set(orjson.loads(result.output)["coverage"]) == {"BTC", "ETH"}, result.output
    result = await asyncio.to_thread(run, influxd, database, toml, "--symbol", "BTC,SOL")
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1), result.output
    assert (
        "no flow of SOL in 2023-11-14 22:14:00 to 2023-11-14 22:29:00; there is BTC 2023-11-14 22:14:00 to"
        in result.output
    )


async def test_rollups_are_what_bars_of_seconds_make(
    influxd: Influx, database: str, toml: Path, bars_there: Path
) -> None:
    """`--timeframe 1m` reads `trades_1m`: the flow of each minute is the sum of its seconds, its price the last one's."""
    settings = InfluxSettings(port=influxd.port, database=database)
    stored, bars = JournalStore(bars_there, read_only=True), JournalStore(bars_there.parent / "rollups", bulk=True)
    async with Client(settings) as client:
        await client.ask(f'ALTER RETENTION POLICY "aggr_1m" ON "{database}" DURATION INF SHARD DURATION 7d')
        await client.ask(next(query for query in rollup_queries(settings, START, START + 900) if "aggr_1m" in query))
        with pytest.raises(NoData, match="trades_5m"):
            await fetch(Stored(client, database, "5m"), bars, ("BTC",), (None, None), 0, lambda done, total: None)
        await fetch(Stored(client, database, "1m"), bars, ("BTC",), (None, None), 0, lambda done, total: None)
    expected, found = (Coarse(Revised(AsSeen(store), 600), 60) for store in (stored, bars))
    first, last = expected.extent("BTC") or (0, 0)
    assert last - first >= 13
    whole, again = expected.flow("BTC", first + 1, last + 1), found.flow("BTC", first + 1, last + 1)
    for name in ("tick", "second", "spot_delta", "perp_delta", "spot_volume", "perp_volume"):
        assert np.abs(whole[name] - again[name]).max() <= 60, name  # each second's cents are rounded by themselves
    assert np.abs(whole["price"] - again["price"]).max() <= 2e5
    assert (again["coverage_ppm"] == 1_000_000).all()
