"""The demo's daemon between simulated exchanges and InfluxDB for minutes: what is rolled up there equals the seconds it was made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sqfd.cli.demo import SYMBOLS, USUAL, write_config
from sqfd.clock import SystemClock
from sqfd.influx.client import Client
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.shipper import Shipper
from sqfd.journal import JournalStore
from sqfd.journal.journal import Journal
from sqfd.model import BAR, FLOW, Bars
from sqfd.sim.process import SimulatedExchanges
from tests.journal.rows import MARKETS
from tests.ports import free_port
from tests.real.daemons import DaemonProcess
from tests.real.servers import Influx
from tests.waiting import eventually

MINUTES = float(os.environ.get("SQFD_ROLLUP_MINUTES", "10"))
SLACK_S = 30
"""For a busy machine: bars that wait to be shipped, a continuous query that starts late."""
SUMS = ("vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell")
AGGREGATE = "first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, " + ", ".join(
    f"sum({name}) AS {name}" for name in SUMS
)


class Frame(NamedTuple):
    """A rollup as the conventions have it, and how often its continuous query runs."""

    name: str
    seconds: int
    every_s: int


FRAMES = (
    Frame("1m", 60, 15),
    Frame("5m", 300, 60),
    Frame("15m", 900, 300),
    Frame("30m", 1_800, 600),
    Frame("1h", 3_600, 900),
    Frame("4h", 14_400, 3_600),
)
Points = dict[tuple[str, int], dict[str, Any]]


def points(influxd: Influx, database: str, query: str) -> Points:
    """(market, epoch second) → fields; a field without a value is left out, as InfluxDB does where it stores one."""
    found: Points = {}
    for series in influxd.ask(query, database):
        for row in series["values"]:
            fields = {name: value for name, value in zip(series["columns"], row, strict=True) if value is not None}
            second = int(fields.pop("time"))
            if fields:
                found[series["tags"]["market"], second] = fields
    return found


def rolled_up(influxd: Influx, database: str, frame: Frame, until_s: int) -> Points:
    """The rollup of the seconds in `trades_1s` before `until_s`, by query."""
    query = f"SELECT {AGGREGATE} FROM aggr_1s.trades_1s WHERE time < {until_s}s GROUP BY time({frame.name}), market fill(none)"
    return points(influxd, database, query)


def stored(influxd: Influx, database: str, frame: Frame) -> Points:
    """What is in its measurement."""
    return points(influxd, database, f"SELECT * FROM aggr_{frame.name}.trades_{frame.name} GROUP BY market")


def trades(fields: dict[str, Any]) -> float:
    return float(fields.get("cbuy", 0.0) + fields.get("csell", 0.0))


def compared(influxd: Influx, database: str, frame: Frame, now_s: int) -> int:
    """Compare one rollup; gives how many of its points were equal in every field.

    An interval is over for its query one run after its end. Until then it holds what was there at the run before: no fewer trades
    than `trades_1s` had one EVERY ago, no more than it has now.
    """
    there, expected = stored(influxd, database, frame), rolled_up(influxd, database, frame, now_s)
    earlier = rolled_up(influxd, database, frame, now_s - frame.every_s - SLACK_S)
    over = {key for key in there.keys() | expected if key[1] + frame.seconds + frame.every_s + SLACK_S <= now_s}
    assert {key: there.get(key) for key in over} == {key: expected.get(key) for key in over}
    for key in (there.keys() | earlier.keys()) - over:
        least = trades(earlier.get(key, {}))
        assert least <= trades(there.get(key, {})) <= trades(expected[key]), (frame.name, key)
    return len(over)


@pytest.mark.skipif("SQFD_SOAK" not in os.environ, reason="takes ten minutes: `make soak`")
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_rollups_equal_those_computed_from_the_seconds(influxd: Influx, database: str, tmp_path: Path) -> None:
    """After ten minutes of the demo each interval of each rollup that is over equals the same aggregation of `trades_1s`."""
    with SimulatedExchanges(USUAL, SYMBOLS, journal=tmp_path) as served:
        path = write_config(tmp_path, USUAL, served.addresses, free_port())
        with path.open("a", encoding="utf-8") as config:
            config.write(f'[influx]\nport = {influxd.port}\ndatabase = "{database}"\n')
        daemon, due = DaemonProcess(path, tmp_path, served), tmp_path / "influx-rollups.json"
        try:
            daemon.start()
            began = daemon.last_tick()
            last = began + round(MINUTES * 60)
            while (newest := daemon.until(min(last, daemon.last_tick() + 10))) < last:
                pass
            ended_s = time.time()
            while due.exists() and time.time() < ended_s + 60:
                time.sleep(0.2)
            assert daemon.stop() == 0
        finally:
            daemon.end()
    assert not due.exists(), f"ranges that were revised were not rolled up again: {due.read_text()}"
    points_1s = influxd.ask("SELECT count(close) FROM aggr_1s.trades_1s", database)[0]["values"][0][1]
    found = {frame.name: compared(influxd, database, frame, int(time.time())) for frame in FRAMES}
    print(json.dumps({"seconds": newest - began, "points of trades_1s": points_1s, "equal points": found}))
    assert found["1m"] > 0
    assert found["5m"] > 0


DAY_S = 86_400


def day_of_bars(start: int) -> Bars:
    """A tenth of a day's seconds of each market. Volumes are quarters, so that their sums are exact in any order."""
    rng = np.random.default_rng(5)
    second, market = np.nonzero(rng.random((DAY_S, len(MARKETS))) < 0.1)
    made = np.zeros(len(second), BAR)
    made["second"], made["market"] = start + second, market
    for name in ("open", "high", "low", "close"):
        made[name] = rng.integers(1_000, 2_000, len(made))
    for name in SUMS:
        made[name] = rng.integers(0, 400, len(made)) / 4
    made["cbuy"] += 1
    return made


async def test_rollups_of_a_day_that_came_late_equal_those_computed_from_its_seconds(
    influxd: Influx, database: str, tmp_path: Path
) -> None:
    """What no continuous query sees, a whole day and then revisions of it, is aggregated again: each point of all six rollups."""
    end = int(time.time()) // 14_400 * 14_400 - 14_400
    day = day_of_bars(end - DAY_S)
    settings = InfluxSettings(port=influxd.port, database=database, rollup_delay_s=0.1)
    store = JournalStore(tmp_path, bulk=True)
    store.register(MARKETS, ())
    store.load(day, np.zeros(0, FLOW))
    store.close()
    journal = await Journal.open(tmp_path, bulk=True)
    await journal.register(MARKETS, ())
    revised = day[:: len(day) // 300].copy()
    revised["high"], revised["vbuy"] = revised["high"] + 5_000, revised["vbuy"] + 1_000.5
    async with Client(settings) as client:
        shipper = Shipper(journal, client, settings, SystemClock(), tmp_path)
        task = asyncio.create_task(shipper.run())
        await eventually(lambda: shipper.cursor >= int(day["second"][-1]) + 1)
        journal.append(end + 10, revised, np.zeros(0, FLOW))
        await eventually(lambda: shipper.cursor == end + 10 and shipper.status()["revised_minutes"] == 0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await journal.close()
    for frame in FRAMES:
        there = stored(influxd, database, frame)
        assert there == rolled_up(influxd, database, frame, end)
        assert len(there) == len(np.unique(day["market"] * DAY_S + (day["second"] - end + DAY_S) // frame.seconds))
        assert max(fields["high"] for fields in there.values()) > 6_000
