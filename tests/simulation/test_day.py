"""The whole daemon in virtual time under faults of every kind: P1, P2, P4, P6, P11, P13, P14, P16. More: `make sim SEEDS=0:60`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from multiprocessing import active_children, get_context
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest

from sqfd.bars.builder import Builder, Newest
from sqfd.feed.coverage import Ledger
from sqfd.feed.supervisor import Supervisor
from sqfd.influx.shipper import Shipper
from sqfd.journal.journal import Journal
from sqfd.signals.redis import RedisPublisher
from tests.simulation.day import Day
from tests.simulation.faults import FAULTS
from tests.simulation.hours import live, strike
from tests.simulation.loop import Process, VirtualLoop, run
from tests.simulation.oracle import Seen

SEEDS = range(24)
HOURS = 1.0
EXCUSED = {"seed", "cpu_s"}
LONG_S = 2400.0
"""All of them take two or three minutes on two cores; a host that is several times as busy is no failure."""

Days = dict[int, Future[dict[str, Any]]]


def lived(seed: int, hours: float = HOURS) -> dict[str, Any]:
    """With faults twice as often as in `make sim`."""
    return live(seed, hours, settle_s=60.0, liveness_s=180.0, every_s=20.0)


@pytest.fixture(scope="module")
def days() -> Iterator[Days]:
    """An hour of each seed, two at a time. A test that asks for this waits for all of them, so that they disturb no other."""
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    others = active_children()
    try:
        every = {seed: pool.submit(lived, seed) for seed in SEEDS}
        try:
            wait(every.values(), return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:  # each would live its hour to the end first
            for worker in active_children():
                if worker not in others:
                    worker.kill()
            raise
        yield every
    finally:
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_fails(days: Days, seed: int) -> None:
    """Trades are conserved, bars equal the slow twin's, journal and InfluxDB hold each once, signals pair, holes are told, all heals."""
    figures = days[seed].result()
    assert figures["hours"] >= HOURS
    assert figures["faults"] > 10
    assert figures["bars"] > 200


@pytest.mark.timeout(LONG_S)
def test_every_fault_struck_and_signals_were_given(days: Days) -> None:
    """The seeds of the suite strike every fault of the table, among them each ambiguous one, with signals under way."""
    figures = [days[seed].result() for seed in SEEDS]
    assert set().union(*(one["struck"] for one in figures)) == set(FAULTS)
    assert sum(one["stream"] for one in figures) > 1000
    assert sum(one["punctual"] for one in figures) > 500
    assert sum(one["influx"].get("stored but reported failed", 0) for one in figures) > 0
    assert sum(one["redis"].get("done but reported failed", 0) for one in figures) > 0
    assert sum(one.get("kills", 0) for one in figures) > 50
    assert not [one["seed"] for one in figures if one["influx"].get("statements not understood")]


def test_the_same_seed_lives_the_same_day() -> None:
    """A failing seed can be repeated, in another interpreter too: all figures are the same, to the last bar and request."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(lived, 5, 0.15).result()
    here = lived(5, 0.15)
    assert {k: v for k, v in here.items() if k not in EXCUSED} == {
        k: v for k, v in elsewhere.items() if k not in EXCUSED
    }


def test_where_nothing_fails_nothing_is_missing() -> None:
    """Without faults every second of every market is whole, but the first ones."""
    figures = live(3, 0.1, [], liveness_s=60.0)
    assert figures["market_seconds"] - figures["whole"] <= 40
    assert figures["healthy_s"] <= 1.0


@pytest.mark.parametrize(("refuses_s", "lost"), [(2.0, 0), (30.0, 1)])
def test_a_stop_waits_a_while_for_a_disk_that_refuses(tmp_path: Path, refuses_s: float, lost: int) -> None:
    """What is queued when it is stopped is written if the disk takes it within eight seconds; else that is told, and it ends."""

    async def refuse(day: Day) -> None:
        await asyncio.sleep(100.0)
        striking = asyncio.create_task(strike(day, FAULTS["disk: cannot be read"], refuses_s, day.random))
        await asyncio.sleep(1.2)  # so that a tick waits for the disk
        await day.stop()
        await striking

    async def main() -> Day:
        day = Day(3, tmp_path)
        await day.run(140.0, 60.0, refuse(day))
        day.check()
        return day

    day = run(main(), Random(3))
    assert day.events["journal cannot be written: ticks wait in memory"] == 1
    assert day.events["journal closed while the disk refuses: ticks are lost"] == lost


@pytest.mark.parametrize("ends", ["stop", "kill"])
def test_what_came_late_for_the_last_second_outlives_the_process(tmp_path: Path, ends: str) -> None:
    """A trade of the second that was just closed, and then the end: a stop keeps it in a last tick, a killed run's is asked for."""

    async def late(day: Day) -> None:
        await asyncio.sleep(80.0)
        with mock.patch.object(day.orders, "_count", return_value=0):
            await asyncio.sleep(3.0)
            assert day.seen is not None
            ticks = len(day.seen.appended)
            while len(day.seen.appended) == ticks:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
            seen.append(day.seen)
            instrument = day.instruments[0]
            venue = day.venues[instrument.exchange]
            second = day.seen.appended[-1].tick - 1
            venue.publish([day.orders._trade(venue, instrument, second * 1000 + 900 - venue.skew_ms)])
            key.append((instrument.market, second))
            while key[0] not in day.seen.touched:  # noqa: ASYNC110  # a calm connection is read at its next look
                await asyncio.sleep(0.01)
            assert len(day.seen.appended) == ticks + 1, "before the next tick"
            if ends == "stop":
                await day.stop()
            else:
                day.kill()

    async def main() -> Day:
        day = Day(3, tmp_path)
        await day.run(120.0, 60.0, late(day))
        day.check()
        return day

    seen: list[Seen] = []
    key: list[tuple[str, int]] = []
    day = run(main(), Random(3))
    first, later = day.oracle.lives[0], day.oracle.lives[1]
    assert first is seen[0]
    has = [sum(one.bars[key[0]][6:8]) for life in (first, later) for one in life.appended if key[0] in one.bars]
    assert has == [1]
    assert any(key[0] in one.bars for one in (first if ends == "stop" else later).appended)


# --- the oracles can fail ---------------------------------------------------------------------------------------------


def _loses_a_trade() -> AbstractContextManager[Any]:
    add, count = Newest.add, iter(range(10**9))
    return mock.patch.object(Newest, "add", lambda *args: () if next(count) == 200 else add(*args))


def _counts_as_shipped_what_is_not() -> AbstractContextManager[Any]:
    async def settle(shipper: Shipper, lines: list[str], retention: str) -> None:
        await shipper._attempt([line.encode() for line in lines], retention)

    return mock.patch.object(Shipper, "_settle", settle)


def _publishes_before_it_is_kept() -> AbstractContextManager[Any]:
    async def at_once(publisher: RedisPublisher, tick: int) -> None: ...

    return mock.patch.object(RedisPublisher, "_until_kept", at_once)


def _begins_before_the_last_run_ended() -> AbstractContextManager[Any]:
    return mock.patch.object(Builder, "resume")


def _calls_everything_whole() -> AbstractContextManager[Any]:
    stack = ExitStack()
    stack.enter_context(mock.patch.object(Ledger, "whole", return_value=True))
    stack.enter_context(mock.patch.object(Supervisor, "changes", return_value=[]))
    return stack


def _forgets_ticks() -> AbstractContextManager[Any]:
    append = Journal.append

    def forgetful(journal: Journal, tick: int, *args: Any) -> None:
        if tick % 100:
            append(journal, tick, *args)

    return mock.patch.object(Journal, "append", forgetful)


@pytest.mark.parametrize(
    ("mistake", "seed", "names", "words"),
    [
        (_loses_a_trade, 1, [], "trades in the bar|there is no bar"),
        (_counts_as_shipped_what_is_not, 1, ["influx: answers 503"], "is in the journal, not in InfluxDB"),
        (_publishes_before_it_is_kept, 1, ["host: kill 9 with a signal"], "was told, and no journal has it"),
        (
            _begins_before_the_last_run_ended,
            0,
            ["host: kill 9", "exchange: replays"],
            "was closed by an earlier|is not after",
        ),
        (_calls_everything_whole, 2, ["exchange: refuses", "exchange: rest refuses"], "called whole"),
        (_forgets_ticks, 4, [], "is not in the journal"),
    ],
)
def test_a_mistake_in_the_daemon_is_found(
    mistake: Callable[[], AbstractContextManager[Any]], seed: int, names: list[str], words: str
) -> None:
    """Each oracle notices the daemon that it is there for; `resume` and `_until_kept` were found by these seeds."""
    with mistake(), pytest.raises(AssertionError, match=words) as failed:
        live(seed, 0.2, names, every_s=20.0, liveness_s=180.0)
    assert f"--seeds {seed}" in failed.value.__notes__[0]


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_a_killed_process_does_nothing_more() -> None:
    """No `finally`, no timer, no answer of an executor: what is killed has no last word. Others go on."""
    told: list[str] = []

    async def doomed(name: str) -> None:
        try:
            asyncio.get_running_loop().call_later(2.0, told.append, f"{name}: timer")
            await asyncio.to_thread(told.append, f"{name}: job")
            await asyncio.sleep(3.0)
            told.append(f"{name}: went on")
        finally:
            await asyncio.sleep(0.1)
            told.append(f"{name}: finally")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        first, second = Process("first"), Process("second")
        loop.start(first, doomed("first"))
        loop.start(second, doomed("second"))
        await asyncio.sleep(1.0)
        loop.kill(first)
        await asyncio.sleep(10.0)

    run(main(), Random(1))
    assert sorted(told) == ["first: job", "second: finally", "second: job", "second: timer", "second: went on"]


def test_the_seed_decides_who_is_first() -> None:
    """Tasks that are ready together run in an order that differs by seed and repeats for the same one."""

    async def main() -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(0)
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(8)))
        return order

    orders = [run(main(), Random(seed)) for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
