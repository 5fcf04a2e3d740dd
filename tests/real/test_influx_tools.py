"""Around the shipper, against a real InfluxDB: reading back, warm start, `sqfd influx check | init`."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np
import pytest
from click.testing import CliRunner

from sqfd.bars.seconds import Seconds
from sqfd.cli import cli
from sqfd.cli.influx import influx
from sqfd.clock import ManualClock, SystemClock
from sqfd.config import Config, SymbolsSettings
from sqfd.influx.client import Client
from sqfd.influx.lines import bar_lines, blocks, series
from sqfd.influx.schema import compare, create, inspect, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.shipper import Shipper
from sqfd.influx.warm import DETAIL_S, FlowReader
from sqfd.influx.watchdog import Watchdog
from sqfd.journal import JournalStore
from sqfd.journal.journal import Journal
from sqfd.model import BAR, FLOW_VALUES, PPM, PRICE_SCALE, Market
from sqfd.warm import warm_up
from sqfd.wiring import engine_for
from tests.journal.rows import MARKETS, NAMES, SYMBOLS, bars, flow
from tests.waiting import eventually

HOUR_S = 3600
NOW = int(time.time()) // HOUR_S * HOUR_S - HOUR_S


@pytest.fixture
def settings(influxd, database):
    return InfluxSettings(port=influxd.port, database=database, poll_s=0.02)


async def made(client, settings):
    await create(client, compare(wanted(settings), await inspect(client, settings.database)))


async def test_what_was_accepted_and_is_gone_is_an_error(influxd, database, settings, tmp_path):
    """All there: fine. A market's points vanish behind our back: the next look names it, until they are back."""
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    for tick in range(NOW + 1, NOW + 61):
        journal.append(tick, bars((0, tick - 1), (1, tick - 1)), flow())
    await journal.flush()
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        watchdog = Watchdog(journal, shipper, client, settings, SystemClock())
        task = asyncio.create_task(shipper.run())
        await eventually(lambda: shipper.cursor == NOW + 60)
        task.cancel()
        assert await watchdog.look()
        assert watchdog.status()["newest_s"] == NOW + 59
        influxd.ask(f"DROP SERIES FROM trades_1s WHERE market = '{NAMES[1]}'", database)
        assert not await watchdog.look()
        assert watchdog.status()["missing"] == {NAMES[1]: 60}
        assert not watchdog.status()["ok"]
        found = await journal.bars(None, NOW, NOW + 60)
        await client.write([line.encode() for line in bar_lines(found, [series(n) for n in NAMES])], "aggr_1s")
        assert await watchdog.look()
        assert watchdog.status()["since_ms"] is None
        await asyncio.to_thread(influxd.kill)
        assert await watchdog.look(), "no answer says nothing about what is stored"
        await asyncio.to_thread(influxd.start)
    await journal.close()


def filled(markets, seconds, rng):
    """Bars of these seconds for all markets, in whole cents so that sums are exact."""
    rows = np.zeros(len(markets) * len(seconds), BAR)
    rows["market"] = np.tile(np.arange(len(markets)), len(seconds))
    rows["second"] = np.repeat(seconds, len(markets))
    for name in ("open", "high", "low", "close"):
        rows[name] = 100.0 * (1 + rows["market"]) + rng.integers(0, 100, len(rows)) / 100
    for name in ("vbuy", "vsell", "lbuy", "lsell"):
        rows[name] = rng.integers(1, 10_000, len(rows)) / 100 * np.where(rows["market"] % 2, 1, 10)
    rows["cbuy"] = rows["csell"] = 1
    return rows


async def test_a_warm_start_from_influxdb_is_fast_and_right(settings):
    """28 h for 5 symbols of two markets each in less than 5 s: the newest minutes second by second, before that by the minute."""
    symbols = ("BTC", "ETH", "SOL", "XRP", "ADA")
    markets = [
        Market(exchange, f"{symbol}USDT", kind, symbol, "USDT")
        for symbol in symbols
        for exchange, kind in (("BINANCE", "spot"), ("BINANCE_FUTURES", "perp"))
    ]
    rng = np.random.default_rng(1)
    fine = filled(markets, np.arange(NOW - DETAIL_S, NOW), rng)
    coarse = filled(markets, np.arange(NOW - 28 * HOUR_S, NOW - DETAIL_S, 60), rng)
    fine = fine[(fine["second"] < NOW - 500) | (fine["second"] >= NOW - 300)]
    async with Client(settings) as client:
        await made(client, settings)
        for measurement, policy, rows in (("trades_1s", "aggr_1s", fine), ("trades_1m", "aggr_1m", coarse)):
            heads = [series(market.name, measurement) for market in markets]
            for block in blocks(bar_lines(rows, heads), 5_000, 1_000_000):
                assert (await client.write(block, policy)).status == 204
        started = time.process_time()
        earlier = await FlowReader(client, settings.database).earlier(markets, symbols, NOW - 28 * HOUR_S, NOW)
        assert time.process_time() - started < 5.0
    for index in range(len(symbols)):
        rows = earlier.flow[index]
        assert rows["second"].tolist() == list(range(NOW - 28 * HOUR_S, NOW))
        assert set(rows["symbol"].tolist()) == {index}
        for part, market in (("spot", 2 * index), ("perp", 2 * index + 1)):
            mine = dict.fromkeys(("fine",), fine[fine["market"] == market])["fine"]
            delta = np.round((mine["vbuy"] - mine["vsell"]) * 100).astype(int)
            seconds = np.isin(rows["second"], mine["second"])
            assert rows[f"{part}_delta"][seconds].tolist() == delta.tolist()
            old = coarse[coarse["market"] == market]
            before = rows[rows["second"] < NOW - DETAIL_S]
            assert before[f"{part}_volume"].sum() == np.round((old["vbuy"] + old["vsell"]) * 100).sum()
        spot = fine[fine["market"] == 2 * index]
        seconds = np.isin(rows["second"], spot["second"])
        assert rows["price"][seconds].tolist() == np.round(np.log(spot["close"]) * PRICE_SCALE).astype(int).tolist()
        gap = rows[(rows["second"] >= NOW - 430) & (rows["second"] < NOW - 300)]
        assert gap["coverage_ppm"].max() == 0
        assert len(set(gap["price"].tolist())) == 1
        assert rows["coverage_ppm"][-1] == PPM
        assert {name for name in FLOW_VALUES if rows[name].any()} == set(FLOW_VALUES) - {"open_interest", "funding_ppb"}
    last_hour = coarse[coarse["second"] >= NOW - HOUR_S]
    for market in range(len(markets)):
        mine = last_hour[last_hour["market"] == market]
        weight = earlier.notional[earlier.notional["market"] == market]["vbuy"].sum()
        assert weight == pytest.approx(mine["vbuy"].sum() + mine["vsell"].sum())


async def test_no_history_is_no_flow(settings):
    """An empty database, or one that lacks a symbol, gives no rows."""
    async with Client(settings) as client:
        await made(client, settings)
        earlier = await FlowReader(client, settings.database).earlier(MARKETS, SYMBOLS, NOW - HOUR_S, NOW)
    assert [len(rows) for rows in earlier.flow] == [0, 0]
    assert len(earlier.notional) == 0


def test_check_tells_and_init_makes_it_so(influxd, database, tmp_path):
    """Nothing there: told, exit 1. `init` prints; `--apply` makes it; then check is content. A shorter policy is refused."""
    path = tmp_path / "sqfd.toml"
    text = f'[influx]\nport = {influxd.port}\ndatabase = "{database}"\n'
    path.write_text(text)
    run = CliRunner().invoke
    found = run(influx, ["check", "-c", str(path)])
    assert (found.exit_code, f"database {database}: missing" in found.output) == (1, True)
    assert "cq_trades_1s is not wanted" in found.output
    printed = run(influx, ["init", "-c", str(path)])
    assert f'CREATE DATABASE "{database}"' in printed.output
    assert [database] not in influxd.ask("SHOW DATABASES")[0].get("values", [])
    assert run(influx, ["init", "-c", str(path), "--apply"]).exit_code == 0
    assert run(influx, ["check", "-c", str(path)]).exit_code == 0
    influxd.ask(f'DROP CONTINUOUS QUERY "cq_1h_aggregation" ON "{database}"')
    influxd.ask(f'ALTER RETENTION POLICY "aggr_1s" ON "{database}" DURATION 60d')
    influxd.ask(f'ALTER RETENTION POLICY "aggr_1m" ON "{database}" DURATION 7d')
    applied = run(influx, ["init", "-c", str(path), "--apply"])
    assert "data would be deleted" in applied.output
    durations = {row[0]: row[1] for row in influxd.ask(f'SHOW RETENTION POLICIES ON "{database}"')[0]["values"]}
    assert durations["aggr_1s"] == "1440h0m0s"
    assert durations["aggr_1m"] == "2160h0m0s"
    assert run(influx, ["check", "-c", str(path)]).output.count("expected") == 1
    path.write_text("[influx]\nport = 1\n")
    assert "InfluxDB:" in run(influx, ["check", "-c", str(path)]).output


async def test_bars_of_others_come_into_the_journal(influxd, database, settings, tmp_path):
    """What another writer left in InfluxDB: its bars, coverage where bars are near, flow; twice changes nothing."""
    market = MARKETS[0]
    seconds = np.concatenate([np.arange(NOW - 5_000, NOW - 3_000, 7), np.arange(NOW - 1_000, NOW)])
    rows = filled([market], seconds, np.random.default_rng(3))
    async with Client(settings) as client:
        await made(client, settings)
        for block in blocks(bar_lines(rows, [series(market.name)]), 5_000, 1_000_000):
            assert (await client.write(block, "aggr_1s")).status == 204
    path = tmp_path / "sqfd.toml"
    path.write_text(f'[influx]\nport = {influxd.port}\ndatabase = "{database}"\n')
    arguments = ["import", "influx", "--market", market.name, "-c", str(path), "--state", str(tmp_path / "s")]
    arguments += ["--from", str(NOW - 6_000), "--to", str(NOW)]
    found = []
    for _ in range(2):
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        assert done.exit_code == 0, done.output
        store = JournalStore(tmp_path / "s", read_only=True)
        bars_now, whole = store.bars([market.name], 0, 2**40), store.coverage([market.name], NOW - 6_000, NOW)[0]
        found.append((bars_now.tolist(), whole.tolist(), store.flow(market.base, 0, 2**40).rows.tolist()))
        store.close()
    assert found[0] == found[1]
    assert found[0][0] == rows.tolist()
    assert whole[1_000 - 30 : 3_000].all()
    assert not whole[: 1_000 - 30].any()
    assert not whole[3_000 + 40 : 5_000 - 30].any()
    assert whole[5_000:].all()
    assert len(found[0][2]) == np.count_nonzero(whole)


async def test_an_outage_is_caught_up_fast(influxd, database, settings, tmp_path):
    """Ten minutes of 45 markets that waited are shipped at more than 20 times real time, live seconds among them."""
    markets = [Market("BINANCE", f"m{number}usdt", "spot", "BTC", "USDT") for number in range(45)]
    rows = filled(markets, np.arange(NOW, NOW + 600), np.random.default_rng(1))
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(markets, SYMBOLS)
    for tick in range(NOW + 1, NOW + 601):
        journal.append(tick, rows[(tick - 1 - NOW) * 45 : (tick - NOW) * 45], flow())
    await journal.flush()
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        started = time.monotonic()
        task = asyncio.create_task(shipper.run())
        await eventually(lambda: shipper.cursor >= NOW + 600)
        assert time.monotonic() - started < 600 / 20
        journal.append(NOW + 601, rows[-45:], flow())
        await eventually(lambda: shipper.cursor == NOW + 601)
        task.cancel()
    (count,) = influxd.ask('SELECT count(close) FROM "aggr_1s"."trades_1s"', database)
    assert count["values"][0][1] == 600 * 45
    await journal.close()


async def test_replaying_any_part_of_the_journal_changes_nothing(influxd, database, settings, tmp_path):
    """The cursor set back to anywhere, five times: every stored value is what it was, revisions included."""
    rng = random.Random(1)
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    for tick in range(NOW + 1, NOW + 301):
        late = [(2, tick - rng.randrange(2, 60))] if rng.random() < 0.2 else []
        journal.append(tick, bars(*late, (0, tick - 1), (1, tick - 1), value=float(tick - NOW)), flow())
    await journal.flush()
    found = []
    async with Client(settings) as client:
        for _ in range(6):
            shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
            task = asyncio.create_task(shipper.run())
            await eventually(lambda shipper=shipper: shipper.cursor == NOW + 300)  # type: ignore[misc]
            task.cancel()
            await asyncio.wait([task])
            found.append(influxd.ask('SELECT * FROM "aggr_1s"."trades_1s"', database))
            await journal.move("influx", NOW + rng.randrange(300))
    assert found == found[:1] * 6
    truth = await journal.bars(list(NAMES), NOW - 100, NOW + 300)
    assert sum(len(series["values"]) for series in found[0]) == len(truth)
    await journal.close()


@pytest.mark.parametrize("journaled_s", [0, 1_800])
async def test_a_young_journal_is_completed_from_influxdb(settings, tmp_path, journaled_s):
    """Whatever the journal has stays and comes once; what is before it comes from InfluxDB, is journaled, and is quick."""
    config = Config(symbols=SymbolsSettings(symbols=("BTC",)), influx=settings)
    markets = [market for market in MARKETS if market.base == "BTC"]
    now = NOW + 120
    coarse = filled(markets, np.arange(NOW - 28 * HOUR_S, NOW, 60), np.random.default_rng(1))
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(markets, ["BTC"])
    for tick in range(NOW - journaled_s + 1, NOW + 1 if journaled_s else 0):
        journal.append(tick, bars((0, tick - 1)), flow((0, tick - 1), value=tick - NOW + 5_000))
    await journal.flush()
    own = (await journal.flow("BTC", 0, 1 << 40)).rows.tolist()
    async with Client(settings) as client:
        await made(client, settings)
        heads = [series(market.name, "trades_1m") for market in markets]
        for block in blocks(bar_lines(coarse, heads), 5_000, 1_000_000):
            assert (await client.write(block, "aggr_1m")).status == 204
        engine = engine_for(config, {"BTC": [market.name for market in markets]})
        seconds = Seconds(["BTC"])
        seconds.add_markets(markets)
        started = time.process_time()
        await warm_up(engine, seconds, journal, client, config, ManualClock(now * 1e3))
        assert time.process_time() - started < 5.0
    rows = (await journal.flow("BTC", 0, 1 << 40)).rows
    assert np.all(np.diff(rows["second"]) == 1)
    assert rows["second"][0] == max(NOW - 28 * HOUR_S, (NOW if journaled_s else now) - engine.history_s) // 60 * 60
    assert [row for row in rows.tolist() if row[1] >= NOW - journaled_s][: len(own)] == own
    assert engine.rings["BTC"].end_tick == rows["second"][-1] + 2
    await journal.close()
