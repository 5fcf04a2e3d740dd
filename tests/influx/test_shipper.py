"""The shipper against an InfluxDB made of a script of answers."""

# mypy: disable-error-code="arg-type"
# Its doubles have what is used of a client and a journal, no more.

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter

import numpy as np
import pytest
from structlog.testing import capture_logs

from sqfd.clock import ManualClock
from sqfd.influx.client import Answer, QueryError
from sqfd.influx.remake import Remaker
from sqfd.influx.rollups import Revised
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.shipper import Shipper
from sqfd.influx.verdict import Failure
from tests.journal.rows import NAMES, T0, bars


class Ledger:
    """A journal of prepared ticks."""

    def __init__(self, *ticks):
        self.ticks, self.place = ticks, 0
        self.written = T0 + len(ticks)

    def names(self):
        return [*NAMES, "bad name"]

    async def cursor(self, sink):
        return self.place

    async def move(self, sink, tick):
        self.place = tick

    async def bars_since(self, tick, limit):
        rows = [(T0 + n, row) for n, rows in enumerate(self.ticks, 1) if T0 + n > tick for row in rows]
        if not rows:
            return np.zeros(0, np.int64), bars()
        return np.array([t for t, _ in rows]), np.array([r for _, r in rows], rows[0][1].dtype)


class Scripted:
    """Answers in turn, then 204 for ever, except for lines that hold `poison`."""

    def __init__(self, *answers, poison=b"\0"):
        self.answers, self.poison, self.stored, self.flying = list(answers), poison, [], 0

    async def write(self, lines, retention):
        assert self.flying == 0, "one request in flight"
        self.flying += 1
        await asyncio.sleep(0)
        self.flying -= 1
        if self.answers:
            return self.answers.pop(0)
        self.stored += [line for line in lines if self.poison not in line]
        if any(self.poison in line for line in lines):
            return Answer(400, "partial write: field type conflict dropped=1")
        return Answer(204, "")


class Waits(ManualClock):
    def __init__(self):
        super().__init__((T0 + 10) * 1e3)
        self.waits = []

    async def sleep(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(0)


async def shipped(ledger, client, folder, until):
    clock = Waits()
    settings = InfluxSettings(create_schema=False, batch_lines=2)
    shipper = Shipper(ledger, client, settings, clock, folder)
    task = asyncio.create_task(shipper.run())
    for _ in range(5_000):
        await asyncio.sleep(0)
        if until(shipper):
            break
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert until(shipper)
    return shipper, clock


async def test_a_poison_line_stops_nobody_else(tmp_path):
    """It is found by halving and kept in a file; all others are stored and the cursor moves."""
    ledger = Ledger(bars(*((0, T0 - n) for n in range(7))))
    client = Scripted(poison=str(T0 - 3).encode())
    shipper, _ = await shipped(ledger, client, tmp_path, lambda s: s.cursor == T0 + 1)
    assert {line.split()[-1] for line in client.stored} == {str(T0 - n).encode() for n in range(7) if n != 3}
    (kept,) = [json.loads(line) for line in shipper.quarantine.path.read_text().splitlines()]
    assert kept["line"].endswith(f" {T0 - 3}")
    assert shipper.status()["quarantined"] == 1
    assert ledger.place == T0 + 1


async def test_the_cursor_waits_for_the_acknowledgement(tmp_path):
    """Whatever comes back but 204, the same lines are sent again, with growing waits, and nothing is skipped."""
    faults = [
        Answer(500, ""),
        Answer(401, ""),
        Answer(Failure.TIMEOUT, ""),
        Answer(Failure.RESET, ""),
        Answer(503, ""),
    ] * 3
    ledger = Ledger(bars((0, T0)), bars((1, T0 + 1)), bars((2, T0 + 2)))
    client = Scripted(*faults)
    shipper, clock = await shipped(ledger, client, tmp_path, lambda s: s.cursor == T0 + 3)
    assert len(client.stored) == 3
    waits = clock.waits[: len(faults)]
    assert all(0.1 * 2**n * 0.999 <= wait <= 30 for n, wait in enumerate(waits[:8]))
    assert max(waits) <= 30
    assert shipper.state == "ok"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (0, {"event": "InfluxDB takes writes", "failures": 1}),
        (T0, {"event": "InfluxDB takes writes again", "failures": 1, "behind_s": 1}),
    ],
)
async def test_a_first_start_is_not_again(tmp_path, place, said):
    """Where InfluxDB comes after sqfd, "again" and how far behind are said only of what it has taken before."""
    ledger = Ledger(bars((0, T0)))
    ledger.place = place
    with capture_logs() as logs:
        await shipped(ledger, Scripted(Answer(Failure.REFUSED, "")), tmp_path, lambda s: s.cursor == T0 + 1)
    assert [entry for entry in logs if entry["log_level"] == "info"] == [{**said, "log_level": "info"}]


async def test_what_somebody_has_to_mend_is_said(tmp_path):
    """That the database is missing is told at once, also where InfluxDB was away before that; each of both once."""
    gone = Answer(404, 'database not found: "db"')
    client = Scripted(Answer(Failure.REFUSED, ""), Answer(Failure.REFUSED, ""), gone, gone)
    with capture_logs() as logs:
        await shipped(Ledger(bars((0, T0))), client, tmp_path, lambda s: s.cursor == T0 + 1 and s.state == "ok")
    told = [(line["event"], line.get("verdict")) for line in logs if line["event"].startswith("InfluxDB")]
    assert told == [
        ("InfluxDB takes nothing", "retry"),
        ("InfluxDB takes nothing", "hold"),
        ("InfluxDB takes writes", None),
    ]


async def test_bars_that_influxdb_must_not_get_are_kept_aside(tmp_path):
    """Infinite values, seconds in 1970 or far ahead, and markets whose name cannot be written."""
    rows = bars((0, T0), (0, 5), (0, T0 + 10**6), (3, T0), (1, T0))
    rows["vbuy"][0] = np.inf
    client = Scripted()
    shipper, _ = await shipped(Ledger(rows), client, tmp_path, lambda s: s.cursor == T0 + 1)
    assert len(client.stored) == 1
    assert shipper.counters["refused_here"] == shipper.quarantine.count == 4


async def test_offered_lines_are_bounded(tmp_path):
    """Lines beside the bars leave, oldest first and counted, where InfluxDB is away."""
    shipper = Shipper(Ledger(), Scripted(), InfluxSettings(), Waits(), tmp_path)
    shipper.offer("sqfd_24h", [f"a b={n} 1" for n in range(10_005)])
    assert shipper.counters["offered_dropped"] == 5


def test_late_seconds_become_few_ranges():
    """Neighbouring minutes are one range, cut at 4 h; seconds that the continuous queries still see are none."""
    revised = Revised()
    now = T0 + 100_000
    revised.note(np.array([T0, T0 + 61, T0 + 200, now - 10]), now)
    assert revised.take() == [(T0, T0 + 120), (T0 + 180, T0 + 240)]
    assert revised.take() == []
    revised.note(np.arange(T0, T0 + 20_000), now)
    assert [end - start for start, end in revised.take()] == [14_400, 5_640]
    revised.note(np.arange(T0, T0 + 86_400, 120), now)
    ranges = revised.take()
    assert len(ranges) == 6
    assert (ranges[0][0], ranges[-1][1]) == (T0, T0 + 86_400 - 60)


class Asked:
    """An InfluxDB that is only asked."""

    def __init__(self, fails: int = 0, why: str = "away") -> None:
        self.queries: list[str] = []
        self.fails, self.why = fails, why

    async def ask(self, query):
        if self.fails:
            self.fails -= 1
            raise QueryError(self.why, 503)
        self.queries.append(query)
        return []


async def test_rollups_that_are_due_survive_a_crash(tmp_path):
    """Noted, and the process ends: the next one makes them, once; a failure is tried again; then nothing is due."""
    clock, settings = ManualClock((T0 + 10_000) * 1e3), InfluxSettings(rollup_delay_s=5)
    Remaker(Asked(), settings, clock, tmp_path, Counter()).note(np.array([T0, T0 + 61]))
    clock.set((T0 + 10_010) * 1e3)
    asked, counters = Asked(fails=1), Counter()
    after = Remaker(asked, settings, clock, tmp_path, counters)
    assert after.minutes == 2
    for _ in range(5):
        clock.set(clock.now_ms() + 6_000)
        await after.step()
    assert counters == {"rollups": 6, "rollups_failed": 1}
    assert all(f">= {T0 // 60 * 60}s" in query or "GROUP BY" in query for query in asked.queries)
    assert Remaker(asked, settings, clock, tmp_path, counters).minutes == 0


async def test_a_rollup_that_its_policy_no_longer_keeps_holds_up_none(tmp_path):
    """InfluxDB refuses points older than the target keeps: that is no failure, the other rollups are made."""
    clock, counters = ManualClock((T0 + 10_000) * 1e3), Counter()
    asked = Asked(fails=1, why="partial write: points beyond retention policy dropped=6")
    remaker = Remaker(asked, InfluxSettings(rollup_delay_s=1), clock, tmp_path, counters)
    remaker.note(np.array([T0]))
    clock.set(clock.now_ms() + 2_000)
    await remaker.step()
    assert counters == {"rollups": 6, "rollups_beyond_retention": 1}
    assert remaker.minutes == 0


async def test_a_damaged_note_of_rollups_is_told_and_keeps_nobody_from_shipping(tmp_path):
    """What was due is not known then: counted, and the shipper runs."""
    (tmp_path / "influx-rollups.json").write_text("{")
    counters = Counter()
    assert Remaker(Asked(), InfluxSettings(), ManualClock(), tmp_path, counters).minutes == 0
    assert counters["rollups_forgotten"] == 1


async def test_time_without_bars_is_no_lag(tmp_path):
    """The first tick after ninety seconds without any is one second that waits, until it has waited longer; then it is even."""
    ledger = Ledger(bars((0, T0)))
    shipper, clock = await shipped(
        ledger, Scripted(), tmp_path, lambda s: s._even_ms is not None and s.cursor == T0 + 1
    )
    assert shipper.status()["lag_s"] == 0
    ledger.written += 90
    assert shipper.status()["lag_s"] == 1
    clock.set(clock.now_ms() + 30e3)
    assert shipper.status()["lag_s"] == 31
    clock.set(clock.now_ms() + 600e3)
    assert shipper.status()["lag_s"] == 90
