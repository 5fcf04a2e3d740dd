"""The journal for the event loop."""

from __future__ import annotations

import signal as signals
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from sqfd.journal import FILE_NAME, JournalStore
from sqfd.journal.journal import Journal, JournalBusy
from tests.journal.rows import MARKETS, NAMES, SYMBOLS, T0, bars, flow, refused, signal
from tests.waiting import eventually


@pytest.fixture
async def journal(tmp_path):
    journal = await Journal.open(tmp_path, bulk=True, queue_rows=1_000)
    await journal.register(MARKETS, SYMBOLS)
    yield journal
    await journal.close()


async def test_an_append_is_readable_once_written(journal):
    """Ticks, cursor, signals and positions come back; `written` follows."""
    (one,) = journal.number([signal(1)])
    journal.append(T0 + 1, bars((1, T0)), flow((1, T0)), [one], b"p")
    await journal.flush()
    assert journal.written == T0 + 1
    assert [str(journal.names()[bar["market"]]) for bar in (await journal.bars_since(0, 10)).rows] == [NAMES[1]]
    assert len((await journal.flow("ETH", T0, T0 + 2)).rows) == 1
    assert (await journal.signals(), await journal.positions()) == ([one], b"p")
    await journal.move("x", T0)
    assert await journal.cursor("x") == T0


async def test_append_never_waits_for_the_disk(journal):
    """A writer elsewhere holds the file for a while; a tick costs the loop microseconds all the same."""
    other = JournalStore(journal._store.path.parent, bulk=True)
    with other.transaction():
        begun = time.thread_time()
        for n in range(1, 100):
            journal.append(T0 + n, bars((0, T0 + n - 1)), flow())
        assert time.thread_time() - begun < 0.1  # of the loop's own thread; the lock above is held for longer
    other.close()
    await eventually(lambda: journal.written == T0 + 99)
    assert len(await journal.bars(None, T0, T0 + 200)) == 99
    assert not journal.lost


async def test_who_waits_for_a_tick_does_not_wait_for_the_housekeeping(journal, monkeypatch):
    """`kept` ends when its tick can be read, while the sync and the checkpoint after it still run; `flush` waits for these."""
    goes_on, tidied = threading.Event(), []

    def slow(tick, appended):
        goes_on.wait(10.0)
        tidied.append(tick)

    monkeypatch.setattr(journal._store, "keep_house", slow)
    journal.append(T0 + 1, bars((0, T0)), flow())
    await journal.kept(T0 + 1)
    assert (journal.written, tidied) == (T0 + 1, [])
    goes_on.set()
    await journal.flush()
    assert tidied == [T0 + 1]
    await journal.kept(T0 + 1)  # long ago


async def test_who_waits_for_a_tick_is_told_that_the_disk_refuses(journal, monkeypatch):
    """`kept` does not wait for a disk that is full to have room again."""
    monkeypatch.setattr(journal._store, "write_all", refused)
    journal.append(T0 + 1, bars((0, T0)), flow())
    await journal.kept(T0 + 1)
    assert (journal.written, journal.fault) == (0, "full")
    monkeypatch.undo()


async def test_a_disk_that_is_well_again_is_asked_by_who_waits(journal, monkeypatch):
    """A tick is kept when somebody waits for it, also where the disk refused it a moment ago and would be asked again later."""
    monkeypatch.setattr("sqfd.journal.journal.RETRY_S", 3600.0)
    with monkeypatch.context() as broken:
        broken.setattr(journal._store, "write_all", refused)
        journal.append(T0 + 1, bars((0, T0)), flow())
        await journal.flush()
        assert (journal.written, journal.fault) == (0, "full")
    await journal.kept(T0 + 1)
    assert journal.written == T0 + 1
    await journal.flush()
    assert journal.fault is None


async def test_two_daemons_cannot_write_one_journal(journal, tmp_path):
    """The second is told so."""
    with pytest.raises(JournalBusy):
        await Journal.open(tmp_path)


async def test_a_start_that_the_disk_refused_leaves_no_lock(tmp_path, monkeypatch):
    """Whichever read of the start fails, the next attempt opens the journal (a simulated day, seed 4116, could not)."""
    await (await Journal.open(tmp_path)).close()
    for read in ("last_seq", "last_tick"):

        def unreadable(store: JournalStore) -> int:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as broken:
            broken.setattr(JournalStore, read, unreadable)
            with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
                await Journal.open(tmp_path)
        await (await Journal.open(tmp_path)).close()


async def test_numbers_go_on_after_a_restart(tmp_path):
    """The sequence of signals continues where the last process ended."""
    for expected in (1, 2):
        journal = await Journal.open(tmp_path, bulk=True)
        await journal.register(MARKETS, SYMBOLS)
        (one,) = journal.number([signal(expected)])
        assert one.seq == expected
        journal.append(T0 + expected, bars(), flow(), [one])
        await journal.close()


async def test_damage_while_running_begins_a_new_file(journal, tmp_path):
    """The damaged file is set aside, the tick that found it is written to the new one, names keep working."""
    for n in range(1, 300):
        journal.append(T0 + n, bars((0, T0 + n - 1)), flow((0, T0 + n - 1)))
    await journal.flush()
    await journal._call(lambda: journal._store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    path = tmp_path / FILE_NAME
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    await journal._call(lambda: journal._store._db.execute("PRAGMA shrink_memory"))
    journal.append(T0 + 300, bars((0, T0 + 299)), flow())
    await eventually(lambda: journal.written == T0 + 300)
    assert list(tmp_path.glob("*.damaged-*"))
    assert len(await journal.bars([NAMES[0]], T0, T0 + 400)) == 1


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from sqfd.journal.journal import Journal
from tests.journal.rows import MARKETS, SYMBOLS, T0, bars, flow, signal

async def main():
    folder = Path(sys.argv[1])
    journal = await Journal.open(folder, queue_rows=500)
    await journal.register(MARKETS, SYMBOLS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    tick = T0
    while journal.fault is None:
        tick += 1
        journal.append(tick, bars(*((0, tick - n) for n in range(1, 9))), flow(), journal.number([signal(tick - T0, tick=tick)]))
        await asyncio.sleep(0.002)
    for _ in range(100):
        tick += 1
        journal.append(tick, bars(*((0, tick - n) for n in range(1, 9))), flow())
    assert journal.status()["queued_rows"] <= 500, journal.status()
    lost = sum(journal.lost.values())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while journal.fault is not None or journal.written < tick:
        await asyncio.sleep(0.02)
    seen = await journal.bars_as_seen(None, 0, tick + 1)
    assert set(journal.lost) <= {"queue_full:bars", "queue_full:signals"}, journal.lost
    assert len(seen.ticks) + journal.lost["queue_full:bars"] == 8 * (tick - T0), (len(seen.ticks), journal.lost, tick - T0)
    assert lost > 0
    await journal.close()

asyncio.run(main())
"""


def test_a_full_disk_degrades_and_heals(tmp_path):
    """Ticks wait in memory up to the bound, what the bound pushes out is counted, and all the rest is written later."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ticks wait in memory") == 1
    assert "written again" in done.stdout


def test_kill_9_loses_nothing_that_was_written(tmp_path):
    """Ticks that the process reported as written are all there after SIGKILL."""
    program = FULL_DISK.split("    resource.setrlimit")[0] + textwrap.indent(
        "for tick in range(T0 + 1, T0 + 100_000):\n"
        "    journal.append(tick, bars((0, tick - 1)), flow((0, tick - 1)))\n"
        "    await journal.flush()\n"
        "    print(journal.written, flush=True)\n",
        "    ",
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program + "\nasyncio.run(main())", str(tmp_path)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    last = [int(child.stdout.readline()) for _ in range(50)][-1]
    child.send_signal(signals.SIGKILL)
    child.communicate()
    store = JournalStore(tmp_path)
    assert store.set_aside is None
    seconds = store.bars(None, T0, last + 100_000)["second"].tolist()
    assert seconds == list(range(T0, T0 + len(seconds)))
    assert len(seconds) >= last - T0
    assert len(store.flow("BTC", T0, last + 100_000).rows) == len(seconds)
    store.close()
