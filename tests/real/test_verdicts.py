"""The rows of the verdict table that need a server of their own, and VictoriaMetrics as a target."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import time
from urllib.parse import quote

import numpy as np
import pytest

from sqfd.clock import SystemClock
from sqfd.influx.client import Client
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.shipper import Shipper
from sqfd.influx.verdict import Verdict, judge
from sqfd.journal.journal import Journal
from sqfd.model import BAR_FIELDS
from tests.journal.rows import MARKETS, NAMES, SYMBOLS, bars, flow
from tests.real.servers import Influx, VictoriaMetrics
from tests.waiting import eventually

NOW = int(time.time()) // 3600 * 3600 - 3600
YEARS_S = 10 * 365 * 86_400


@pytest.fixture
def started():
    """Starts servers and ends them."""
    with contextlib.ExitStack() as stack:

        def start(server):
            server.start()
            stack.callback(server.stop)
            return server

        yield start


def line(n: int, extra: str = "") -> bytes:
    return f"trades_1s,market=A:b{n} open={n}{extra} {NOW + n}".encode()


async def test_a_full_cache_is_a_retry(started, tmp_path):
    """InfluxDB's memory is full: 500, nothing is wrong with our lines, and later it goes."""
    server = started(Influx(tmp_path, data='cache-max-memory-size = "20k"'))
    server.ask("CREATE DATABASE db")
    async with Client(InfluxSettings(port=server.port, database="db")) as client:
        for n in range(50):
            answer = await client.write([line(n * 1000 + m) for m in range(1000)])
            if answer.status != 204:
                break
    assert (answer.status, "cache" in answer.body) == (500, True)
    assert judge(answer.status, answer.body, lines=1000) is Verdict.RETRY


async def test_a_busy_server_is_a_retry(started, tmp_path):
    """More writes than it takes at a time: 503, and the same lines are taken later."""
    limits = 'max-concurrent-write-limit = 1\n  max-enqueued-write-limit = 1\n  enqueued-write-timeout = "1ms"'
    server = started(Influx(tmp_path, http=limits))
    server.ask("CREATE DATABASE db")
    settings = InfluxSettings(port=server.port, database="db")
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(settings)) for _ in range(12)]
        block = [line(n) for n in range(5000)]
        for _ in range(10):
            answers = await asyncio.gather(*(client.write(block) for client in clients))
            refused = [answer for answer in answers if answer.status != 204]
            if refused:
                break
        assert {answer.status for answer in refused} <= {503, 429}
        assert refused, "never busy"
        assert {judge(answer.status, answer.body, lines=5000) for answer in refused} == {Verdict.RETRY}
        assert (await clients[0].write(block)).status == 204


async def test_a_full_disk_is_a_retry(started, tmp_path):
    """500; what was refused may be readable for now: only 204 counts."""
    server = started(Influx(tmp_path))
    server.ask("CREATE DATABASE db")
    async with Client(InfluxSettings(port=server.port, database="db")) as client:
        assert (await client.write([line(1)])).status == 204
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        answer = await client.write([line(2)])
        assert answer.status == 500
        assert judge(answer.status, answer.body, lines=1) is Verdict.RETRY
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        assert [row[0] for row in server.ask("SELECT open FROM trades_1s", "db")[0]["values"]] == [NOW + 1]


@contextlib.asynccontextmanager
async def small_disk(folder):
    """A tmpfs of 3 MB; skips, loudly, where none can be mounted."""
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder))
    if await mount.wait():
        pytest.skip("tmpfs cannot be mounted here: it needs root")
    try:
        yield
    finally:
        await (await asyncio.create_subprocess_exec("umount", "-l", str(folder))).wait()


async def test_a_full_tmpfs_loses_nothing(started, tmp_path):
    """A file system of 3 MB that is really full: bars are held, and all are there once there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    async with small_disk(disk):
        server = started(Influx(disk))
        settings = InfluxSettings(port=server.port, database="db", backoff_max_s=0.2, poll_s=0.02, timeout_s=3)
        journal = await Journal.open(tmp_path / "journal", bulk=True)
        await journal.register(MARKETS, SYMBOLS)
        async with Client(settings) as client:
            shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
            task = asyncio.create_task(shipper.run())
            journal.append(NOW + 1, bars((0, NOW)), flow())
            await eventually(lambda: shipper.cursor == NOW + 1)
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
            for tick in range(NOW + 2, NOW + 500):
                journal.append(tick, bars((0, tick - 1), (1, tick - 1)), flow())
            await eventually(lambda: shipper.counters["writes_retry"] >= 2)
            assert shipper.cursor < NOW + 499
            ballast.unlink()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await eventually(lambda: shipper.cursor == NOW + 499)
            task.cancel()
            (count,) = server.ask('SELECT count(close) FROM "aggr_1s"."trades_1s"', "db")
            assert count["values"][0][1] == 1 + 2 * 498
            server.stop()
        await journal.close()


async def test_a_login_for_another_database_holds(started, tmp_path):
    """Rights on one database are none on another: hold, alarm."""
    server = started(Influx(tmp_path, auth=True))
    server.ask("CREATE USER root WITH PASSWORD 'x' WITH ALL PRIVILEGES")
    async with Client(InfluxSettings(port=server.port, username="root", password="x")) as root:
        grants = 'GRANT ALL ON "one" TO w; CREATE DATABASE "two"'
        await root.ask(f"CREATE DATABASE \"one\"; CREATE USER w WITH PASSWORD 'w'; {grants}")
    for database, status, verdict in (
        ("one", 204, Verdict.ACCEPTED),
        ("two", 403, Verdict.HOLD),
        ("none", 404, Verdict.HOLD),
    ):
        settings = InfluxSettings(port=server.port, database=database, username="w", password="w")
        async with Client(settings) as client:
            answer = await client.write([line(1)])
            assert (answer.status, judge(answer.status, answer.body, lines=1)) == (status, verdict)


async def test_seconds_arrive_as_seconds(influxd, database):
    """Without a precision InfluxDB takes them as nanoseconds of 1970, in silence; our client always says `s`."""
    influxd.ask(f'CREATE DATABASE "{database}"')
    assert influxd.request(f"/write?db={database}", b"other open=1 %d" % NOW)[0] == 204
    assert influxd.ask("SELECT open FROM other", database)[0]["values"][0][0] == NOW // 10**9
    async with Client(InfluxSettings(port=influxd.port, database=database)) as client:
        assert (await client.write([line(1)])).status == 204
    assert influxd.ask("SELECT open FROM trades_1s", database)[0]["values"][0][0] == NOW + 1


async def test_times_that_influxdb_would_take_are_refused_here(influxd, database, tmp_path):
    """Ten years ahead and 1970: InfluxDB says 204 and stores them; the shipper keeps them from it."""
    influxd.ask(f'CREATE DATABASE "{database}"')
    future = b"probe open=1 %d" % (NOW + YEARS_S)
    assert influxd.request(f"/write?db={database}&precision=s", future)[0] == 204
    settings = InfluxSettings(port=influxd.port, database=database, poll_s=0.02)
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    journal.append(NOW + 1, bars((0, NOW), (1, NOW + YEARS_S), (2, 5)), flow())
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        task = asyncio.create_task(shipper.run())
        await eventually(lambda: shipper.cursor == NOW + 1)
        task.cancel()
    assert shipper.counters["refused_here"] == 2
    (found,) = influxd.ask('SELECT count(close) FROM "aggr_1s"."trades_1s"', database)
    assert found["values"][0][1] == 1
    await journal.close()


def exported(server, metric):
    """A metric as VictoriaMetrics gives it back: (market, second) → value."""
    selector = quote(f'{{__name__="{metric}"}}')
    text = server.get(f"/api/v1/export?match[]={selector}&start={NOW - 10}&end={NOW + 1000}&reduce_mem_usage=0")
    found = {}
    for row in map(json.loads, text.splitlines()):
        times = (np.array(row["timestamps"]) // 1000).tolist()
        found |= {(row["metric"]["market"], at): value for at, value in zip(times, row["values"], strict=True)}
    return found


async def test_victoriametrics_takes_the_bars(started, tmp_path):
    """Read back by its own API, every field of every bar equals the journal's, through a kill -9: what it acknowledged from
    memory and lost is shipped again."""
    if shutil.which("victoria-metrics") is None:
        pytest.skip("victoria-metrics is not installed: run `make servers` (Debian's package victoria-metrics)")
    server = started(VictoriaMetrics(tmp_path))
    settings = InfluxSettings(port=server.port, server="victoria-metrics", backoff_max_s=0.2, poll_s=0.02)
    journal = await Journal.open(tmp_path / "journal", bulk=True)
    await journal.register(MARKETS, SYMBOLS)
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        task = asyncio.create_task(shipper.run())
        for tick in range(NOW + 1, NOW + 301):
            rows = bars((0, tick - 1), (1, tick - 1), value=float(tick - NOW))
            rows["lsell"][0] = 7.5 * (tick % 10 == 0)
            journal.append(tick, rows, flow())
            if tick == NOW + 150:
                await eventually(lambda: shipper.cursor >= NOW + 100)
                await asyncio.to_thread(server.stop)
            if tick == NOW + 200:
                await eventually(lambda: shipper.counters["writes_retry"] >= 1)
                await asyncio.to_thread(server.start)
        await eventually(lambda: shipper.cursor == NOW + 300)
        task.cancel()
    server.get("/internal/force_flush")
    truth = await journal.bars(list(NAMES), NOW, NOW + 300)
    assert len(truth) == 600
    for field in BAR_FIELDS:
        expected = {
            (NAMES[bar["market"]], int(bar["second"])): float(bar[field])
            for bar in truth
            if (bar["lbuy"] or bar["lsell"] if field in ("lbuy", "lsell") else bar["open"] == bar["open"])
        }
        assert exported(server, f"trades_1s_{field}") == expected, field
    assert shipper.counters["rollups"] == shipper.quarantine.count == 0
    await journal.close()
