"""InfluxDB as it really answers: every row of the verdict table, the schema, and shipping through a crash."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import signal
import time
from typing import Any

import numpy as np
import pytest

from sqfd.clock import SystemClock
from sqfd.influx.client import Client, QueryError
from sqfd.influx.history import History
from sqfd.influx.lines import bar_lines, blocks, series
from sqfd.influx.schema import BARS_RP, ROLLUPS, compare, create, inspect, rollup_queries, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.shipper import Shipper
from sqfd.influx.verdict import Failure, Verdict, judge
from sqfd.influx.watchdog import Watchdog
from sqfd.journal.journal import Journal
from sqfd.model import BAR_FIELDS
from tests.journal.rows import MARKETS, NAMES, SYMBOLS, as_tuples, bars, flow
from tests.real.servers import Influx
from tests.waiting import eventually


def settings_for(influxd: Influx, database: str, **changes: Any) -> InfluxSettings:
    values: dict[str, Any] = {
        "port": influxd.port,
        "database": database,
        "backoff_max_s": 0.5,
        "rollup_delay_s": 0.1,
        **changes,
    }
    return InfluxSettings(**values)


@contextlib.asynccontextmanager
async def running(work):
    """`work` in the background, cancelled at the end; its failure fails the test."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        assert not task.done() or task.cancelled(), task.exception()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def client(influxd, database):
    async with Client(settings_for(influxd, database)) as client:
        found = await inspect(client, database)
        await create(client, compare(wanted(settings_for(influxd, database)), found))
        yield client


NOW = int(time.time()) // 3600 * 3600 - 3600
GOOD = f"trades_1s,market=A:b open=1,cbuy=2 {NOW}".encode()


async def stored(influxd, database, measurement="trades_1s", policy="aggr_1s"):
    series = await asyncio.to_thread(influxd.ask, f'SELECT * FROM "{policy}"."{measurement}"', database)
    return [dict(zip(s["columns"], row, strict=True)) for s in series for row in s["values"]]


async def judged(client, *lines, retention="aggr_1s"):
    answer = await client.write(list(lines), retention)
    return judge(answer.status, answer.body, lines=len(lines)), answer


async def test_a_good_batch_twice_is_stored_once(influxd, database, client):
    """204, and the same again overwrites itself; fields of a second write are united."""
    for _ in range(2):
        assert (await judged(client, GOOD))[0] is Verdict.ACCEPTED
    assert (await judged(client, f"trades_1s,market=A:b lbuy=5 {NOW}".encode()))[0] is Verdict.ACCEPTED
    (row,) = await stored(influxd, database)
    assert (row["time"], row["open"], row["cbuy"], row["lbuy"]) == (NOW, 1, 2, 5)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(f'trades_1s,market=A:b open="x" {NOW + 1}', id="type-conflict"),
        pytest.param("trades_1s,market=A:b", id="malformed"),
        pytest.param(f"trades_1s,market=A:b open=NaN {NOW + 1}", id="nan"),
        pytest.param(f"trades_1s,market=A:b open=+Inf {NOW + 1}", id="inf"),
    ],
)
async def test_a_bad_line_is_split_off_and_rejected(influxd, database, client, bad):
    """The other lines of the batch are stored; alone, the bad one is rejected."""
    assert (await judged(client, GOOD))[0] is Verdict.ACCEPTED
    last = f"trades_1s,market=A:b open=3 {NOW + 2}".encode()
    assert (await judged(client, GOOD, bad.encode(), last))[0] is Verdict.SPLIT
    assert (await judged(client, bad.encode()))[0] is Verdict.REJECTED
    assert [row["time"] for row in await stored(influxd, database)] == [NOW, NOW + 2]


async def test_older_than_the_policy_is_accepted_and_told(influxd, database, client):
    """Points beyond the retention policy are dropped by InfluxDB, the rest is stored."""
    old = f"trades_1s,market=A:b open=1 {NOW - 40 * 86400}".encode()
    assert (await judged(client, old, GOOD))[0] is Verdict.EXPIRED
    assert [row["time"] for row in await stored(influxd, database)] == [NOW]


async def test_a_body_cut_short_is_retried(influxd, database, client):
    """Bad gzip is our connection's fault: nothing is stored, the same again is right."""
    body = gzip.compress(b"\n".join([GOOD] * 1000))[:-20]
    path = f"/write?db={database}&rp=aggr_1s&precision=s"
    status, answer = await asyncio.to_thread(influxd.request, path, body, {"Content-Encoding": "gzip"})
    assert (status, judge(status, answer.decode(), lines=1000)) == (400, Verdict.RETRY)
    assert await stored(influxd, database) == []


async def test_missing_database_and_policy_hold(influxd, client):
    """404 and 500: an alarm, not a retry that hides it."""
    verdict, answer = await judged(client, GOOD, retention="nowhere")
    assert (verdict, answer.status) == (Verdict.HOLD, 500)
    async with Client(settings_for(influxd, "no_such_database")) as other:
        verdict, answer = await judged(other, GOOD)
    assert (verdict, answer.status) == (Verdict.HOLD, 404)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_body_over_the_limit_is_halved(client):
    """Over 25 MB InfluxDB refuses or breaks the connection; after two breaks the batch is halved."""
    lines = [b'trades_1s,market=A:b reasoning="%s" %d' % (b"x" * 60_000, NOW + n) for n in range(450)]
    answer = await client.write(lines, "aggr_1s")
    await asyncio.sleep(1.0)  # for the loop to see that the peer has closed, with most of the body unsent
    assert answer.status in (413, Failure.RESET)
    assert judge(answer.status, answer.body, lines=len(lines), resets=2) is Verdict.SPLIT


async def test_logins(tmp_path):
    """401 without, 404 or 403 with too few rights: hold."""
    server = Influx(tmp_path, auth=True)
    server.start()
    try:
        server.ask("CREATE USER root WITH PASSWORD 'x' WITH ALL PRIVILEGES")
        for login in ({}, {"username": "root", "password": "wrong"}):
            async with Client(settings_for(server, "db", **login)) as client:
                verdict, answer = await judged(client, GOOD)
                assert (verdict, answer.status) == (Verdict.HOLD, 401)
        async with Client(settings_for(server, "db", username="root", password="x")) as client:
            await client.ask("CREATE DATABASE db; CREATE USER writer WITH PASSWORD 'w'")
        async with Client(settings_for(server, "db", username="writer", password="w")) as client:
            verdict, answer = await judged(client, GOOD)
            assert (verdict, answer.status) == (Verdict.HOLD, 403)
    finally:
        server.stop()


async def test_no_server_is_a_retry(influxd, database):
    """Refused connections and a stopped server lose nothing and hold nobody for longer than the time-out."""
    async with Client(InfluxSettings(port=1, database=database)) as nobody:
        assert (await judged(nobody, GOOD))[1].status is Failure.REFUSED
        with pytest.raises(QueryError):
            await nobody.ask("SHOW DATABASES")
    assert judge(Failure.REFUSED, lines=2) is judge(Failure.TIMEOUT, lines=2) is Verdict.RETRY


async def test_schema_is_made_once_and_differences_are_told(influxd, database):
    """Created where missing, equal on the second look; what a user changed is reported and left."""
    settings = settings_for(influxd, database)
    async with Client(settings) as client:
        want = wanted(settings)
        created = await create(client, compare(want, await inspect(client, database)))
        assert len(created) == 1 + 7 + len(ROLLUPS)
        found = await inspect(client, database)
        assert compare(want, found) == []
        assert found.policies["aggr_1s"].default
        await client.ask(f'ALTER RETENTION POLICY "aggr_1m" ON "{database}" DURATION 7d')
        await client.ask(f'DROP CONTINUOUS QUERY "cq_1h_aggregation" ON "{database}"')
        told = compare(want, await inspect(client, database))
        assert [(d.kind, d.name, d.missing) for d in told] == [
            ("policy", "aggr_1m", False),
            ("query", "cq_1h_aggregation", True),
        ]
        assert [d.name for d in await create(client, told)] == ["cq_1h_aggregation"]
        assert (await inspect(client, database)).policies["aggr_1m"].hours == 7 * 24


async def test_rollups_equal_those_computed_from_the_bars(influxd, database, client):
    """`SELECT … INTO` of a revised range gives each rollup exactly, whole buckets."""
    settings = settings_for(influxd, database)
    rng = np.random.default_rng(3)
    rows = bars(*((0, NOW + n) for n in range(0, 600, 7)))
    for name in BAR_FIELDS:
        rows[name] = rng.integers(1, 1000, len(rows))
    lines = [
        b"trades_1s,market=%s " % NAMES[0].encode()
        + b",".join(b"%s=%d" % (f.encode(), r[f]) for f in BAR_FIELDS)
        + b" %d" % r["second"]
        for r in rows
    ]
    assert (await judged(client, *lines))[0] is Verdict.ACCEPTED
    for query in rollup_queries(settings, NOW + 100, NOW + 500):
        await client.ask(query)
    for rollup in ROLLUPS:
        made = await stored(influxd, database, rollup.measurement, rollup.retention)
        assert made, rollup.timeframe
        for row in made:
            part = rows[(rows["second"] >= row["time"]) & (rows["second"] < row["time"] + rollup.seconds)]
            assert (row["open"], row["close"]) == (part["open"][0], part["close"][-1])
            assert (row["high"], row["low"]) == (part["high"].max(), part["low"].min())
            assert all(row[name] == part[name].sum() for name in BAR_FIELDS[4:])
    minutes = [row["time"] for row in await stored(influxd, database, "trades_1m", "aggr_1m")]
    assert minutes == list(range(NOW + 60, NOW + 540, 60))


async def test_bars_arrive_through_a_crash_and_are_equal_both_ways(influxd, database, tmp_path):
    """kill -9 of InfluxDB in the middle of shipping and a start minutes of bars later: nothing missing, nothing extra.

    It also starts before the database exists, and late bars get their rollups.
    """
    settings = settings_for(influxd, database, batch_lines=200)
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        async with running(shipper.run()):
            for n in range(1, 1200):
                tick = NOW + n
                late = [(2, tick - 400)] if n > 500 and n % 50 == 0 else []
                journal.append(tick, bars(*late, (0, tick - 1), (1, tick - 1), value=n / 7), flow())
                if n == 400:
                    await eventually(lambda: shipper.cursor > NOW)
                    await asyncio.to_thread(influxd.kill)
                if n == 800:
                    await eventually(lambda: shipper.state == "retry")
                    await asyncio.to_thread(influxd.start)
                if n % 100 == 0:
                    await asyncio.sleep(0.02)
            await eventually(lambda: shipper.cursor == NOW + 1199)
            await eventually(lambda: shipper.status()["revised_minutes"] == 0 and shipper.counters["rollups"])
            assert shipper.counters["writes_retry"] > 0
            truth = await journal.bars(None, NOW, NOW + 3600)
            for index, name in enumerate(NAMES):
                # In two pieces, cut in the midst of the bars.
                read = await History(client, database).bars(name, NOW - 1_000, NOW + 3_000)
                read["market"] = index
                assert as_tuples(read) == as_tuples(truth[truth["market"] == index])
    assert shipper.status()["quarantined"] == 0
    minutes = {(NAMES[bar["market"]], int(bar["second"]) // 60 * 60) for bar in truth}
    rolled = {(row["market"], row["time"]): row for row in await stored(influxd, database, "trades_1m", "aggr_1m")}
    assert rolled.keys() == minutes
    late_minutes = [row for (name, _), row in rolled.items() if name == NAMES[2]]
    assert sum(row["cbuy"] for row in late_minutes) == 3 * len(truth[truth["market"] == 2])
    await journal.close()


async def test_pieces_that_are_read_together(influxd, database):
    """Two requests at once give what one gives; what InfluxDB refuses is told, though the other piece may be there."""
    rows = bars(*((0, NOW + second) for second in range(0, 7_200, 7)), value=0.5)
    settings = settings_for(influxd, database)
    async with Client(settings) as alone, Client(settings, at_once=2) as both:
        await create(alone, compare(wanted(settings), await inspect(alone, database)))
        for block in blocks(bar_lines(rows, [series(name) for name in NAMES]), 5_000, 1_000_000):
            assert (await both.write(block, BARS_RP)).ok
        for span in ((NOW, NOW + 7_200), (NOW + 100, NOW + 1_100), (NOW - 50_000, NOW + 50_000), (NOW, NOW)):
            one, two = [await History(client, database).bars(NAMES[0], *span) for client in (alone, both)]
            assert as_tuples(one) == as_tuples(two)
            assert len(one) == sum(span[0] <= second < span[1] for second in rows["second"].tolist())
        with pytest.raises(QueryError, match="database not found"):
            await History(both, "elsewhere").bars(NAMES[0], NOW, NOW + 7_200)


async def test_continuous_queries_fill_the_minutes(influxd, database, tmp_path):
    """Bars of the last two minutes appear in trades_1m by InfluxDB's own queries, equal to what the seconds sum up to."""
    settings = settings_for(influxd, database)
    now = int(time.time())
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    for tick in range(now - 30, now + 1):
        journal.append(tick, bars((0, tick - 1), value=tick % 7 + 0.5), flow())
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        async with running(shipper.run()):
            await eventually(lambda: shipper.cursor == now)
            for _ in range(120):
                rolled = await stored(influxd, database, "trades_1m", "aggr_1m")
                if sum(row["cbuy"] for row in rolled) == 31 * 3:
                    break
                await asyncio.sleep(0.25)
    truth = await journal.bars(None, now - 60, now)
    for row in rolled:
        part = truth[truth["second"] // 60 * 60 == row["time"]]
        assert (row["high"], row["vbuy"], row["market"]) == (part["high"].max(), part["vbuy"].sum(), NAMES[0])
    assert sum(row["cbuy"] for row in rolled) == 31 * 3
    assert shipper.counters["rollups"] == 0
    await journal.close()


@pytest.mark.parametrize(
    "drop", ['DROP DATABASE "{db}"', 'DROP RETENTION POLICY "aggr_1s" ON "{db}"'], ids=["database", "policy"]
)
async def test_a_schema_that_vanishes_is_made_again(influxd, database, tmp_path, drop):
    """Dropped while shipping: the bars after it are held, the schema returns, nothing after it is missing.

    What was accepted before is gone: the watchdog's next look says how many seconds of which market.
    """
    settings = settings_for(influxd, database)
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        watchdog = Watchdog(journal, shipper, client, settings, SystemClock())
        async with running(shipper.run()):
            journal.append(NOW + 1, bars((0, NOW)), flow())
            await eventually(lambda: shipper.cursor == NOW + 1)
            assert await watchdog.look()
            await client.ask(drop.format(db=database))
            await watchdog.look()
            assert "not found" in watchdog.status()["unchecked"]
            journal.append(NOW + 2, bars((0, NOW + 1)), flow())
            await eventually(lambda: shipper.cursor == NOW + 2)
            assert not await watchdog.look()
            assert (watchdog.status()["ok"], watchdog.status()["missing"]) == (False, {NAMES[0]: 1})
    assert [row["time"] for row in await stored(influxd, database)] == [NOW + 1]
    assert shipper.counters["writes_hold"] >= 1
    assert shipper.quarantine.count == 0
    await journal.close()


async def test_a_stopped_server_delays_and_loses_nothing(influxd, database, tmp_path):
    """SIGSTOP: writes time out, are repeated, and every bar is there once."""
    settings = settings_for(influxd, database, timeout_s=0.3)
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        async with running(shipper.run()):
            await eventually(lambda: shipper.state == "ok")
            influxd.send(signal.SIGSTOP)
            try:
                for n in range(1, 300):
                    journal.append(NOW + n, bars((0, NOW + n - 1), (1, NOW + n - 1)), flow())
                await eventually(lambda: shipper.counters["writes_retry"] >= 2)
            finally:
                influxd.send(signal.SIGCONT)
            await eventually(lambda: shipper.cursor == NOW + 299)
    assert len(await stored(influxd, database)) == 2 * 299
    await journal.close()
