"""The synchronous journal."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqfd.journal import FILE_NAME, Batch, JournalStore, JournalTooNew
from sqfd.journal.schema import MIGRATIONS, VERSION, migrate
from sqfd.model import FLOW, FLOW_VALUES, Bars, Flow
from tests.journal.rows import MARKETS, NAMES, SYMBOLS, T0, as_tuples, bars, flow, signal


def opened(folder: Path, **options: Any) -> JournalStore:
    store = JournalStore(folder, bulk=True, **options)
    store.register(MARKETS, SYMBOLS)
    return store


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def nothing() -> tuple[Bars, Flow]:
    return bars(), flow()


KEYS = st.tuples(st.integers(1, 12), st.integers(0, 2), st.integers(0, 5), st.integers(1, 99))
"""tick offset, market, how much earlier the second is, value"""


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(KEYS, max_size=40), window=st.tuples(st.integers(-3, 14), st.integers(-3, 14)))
def test_reads_equal_a_slow_twin(tmp_path_factory, rows, window):
    """Newest tick wins for storage, tick order is what was seen, and a repeated append changes neither."""
    store = opened(tmp_path_factory.mktemp("j"))
    said: dict[tuple[int, int, int], float] = {}
    for offset, market, back, value in rows:
        tick = T0 + offset
        said.setdefault((tick, tick - 1 - back, market), float(value))
    for _repeat in range(2):
        for (tick, second, market), value in said.items():
            store.append(Batch(tick, bars((market, second), value=value), flow()))
    low, high = T0 + window[0], T0 + window[1]
    truth: dict[tuple[int, int], float] = {}
    for (_tick, second, market), value in sorted(said.items()):
        if low <= second < high:
            truth[(second, market)] = value
    read = store.bars(None, low, high)
    assert [(int(r["second"]), int(r["market"]), float(r["vbuy"])) for r in read] == [
        (*k, v) for k, v in sorted(truth.items())
    ]
    one = store.bars([NAMES[2], NAMES[0]], low, high)
    expected = sorted((second, [2, 0].index(m), v) for (second, m), v in truth.items() if m != 1)
    assert [(int(r["second"]), int(r["market"]), float(r["vbuy"])) for r in one] == expected
    seen = store.bars_as_seen(None, low, high)
    keys = [(int(t), int(r["second"]), int(r["market"])) for t, r in zip(seen.ticks, seen.rows, strict=True)]
    assert keys == sorted(key for key in said if low <= key[0] < high)
    store.close()


def test_a_sink_reads_whole_ticks_in_order(store):
    """`bars_since` never cuts a tick, not even one that is longer than the limit."""
    store.append(Batch(T0 + 1, bars((0, T0), (1, T0)), flow()))
    store.append(Batch(T0 + 2, bars(*((0, T0 - n) for n in range(5)), (1, T0 + 1)), flow()))
    store.append(Batch(T0 + 3, bars((2, T0 + 2)), flow()))
    first = store.bars_since(0, 3)
    assert set(first.ticks) == {T0 + 1}
    second = store.bars_since(T0 + 1, 3)
    assert set(second.ticks) == {T0 + 2}
    assert len(second.rows) == 6
    assert set(store.bars_since(T0 + 2, 3).ticks) == {T0 + 3}
    assert len(store.bars_since(T0 + 3, 3).rows) == 0
    assert set(store.bars_since(0, 8).ticks) == {T0 + 1, T0 + 2}


def test_names_are_the_truth_across_runs(tmp_path):
    """A run with its markets in another order finds and continues the bars of the run before."""
    store = opened(tmp_path)
    store.append(Batch(T0 + 1, bars((1, T0), value=7.0), flow((0, T0), value=7)))
    store.close()
    store = JournalStore(tmp_path, bulk=True)
    assert store.register([MARKETS[2], MARKETS[1]], ["SOL", "BTC"]) == ([2, 1], [2, 0])
    store.append(Batch(T0 + 2, bars((1, T0 + 1), value=8.0), flow((1, T0 + 1), value=8)))
    assert list(store.bars([NAMES[1]], T0, T0 + 9)["vbuy"]) == [7.0, 8.0]
    assert list(store.flow("BTC", T0, T0 + 9).rows["price"]) == [7000, 8000]
    assert [market.name for market in store.markets()] == list(NAMES)
    assert store.symbol_names() == ["BTC", "ETH", "SOL"]
    store.close()


def test_prices_that_are_not_there_stay_not_there(store):
    """A bar of liquidations only comes back with NaN prices, all other values bit for bit."""
    rows = bars((0, T0), (1, T0), value=0.1)
    for name in ("open", "high", "low", "close"):
        rows[name][1] = np.nan
    store.append(Batch(T0 + 1, rows, flow()))
    assert as_tuples(store.bars(None, T0, T0 + 1)) == as_tuples(rows)


@pytest.mark.parametrize("sealed", [False, True])
def test_flow_is_the_same_from_rows_and_from_blobs(tmp_path, sealed):
    """Sealing an hour changes how flow is kept, never what is read; late rows to a sealed hour are merged in order."""
    store = opened(tmp_path)
    hour = T0 - T0 % 3600
    ticks = [hour + 10, hour + 11, hour + 3500]
    for tick in ticks:
        store.append(Batch(tick, bars(), flow((0, tick - 1), (0, tick - 5), (1, tick - 1), value=tick % 97)))
    if sealed:
        store.append(Batch(hour + 3601, *nothing()))
        assert store._db.execute("SELECT count(*) FROM flow").fetchone() == (0,)
    store.append(Batch(hour + 12, bars(), flow((0, hour + 11), value=5)))
    read = store.flow("BTC", hour, hour + 7200)
    assert list(read.ticks) == [hour + 10, hour + 10, hour + 11, hour + 11, hour + 12, hour + 3500, hour + 3500]
    assert list(read.rows["second"]) == [t - d for t, d in zip(read.ticks, (5, 1, 5, 1, 1, 5, 1), strict=True)]
    assert read.rows.dtype == FLOW
    assert read.rows[FLOW_VALUES[-1]][-1] == (ticks[-1] % 97) * 1000 + len(FLOW_VALUES) - 1
    assert list(store.flow("BTC", hour + 11, hour + 13).ticks) == [hour + 11, hour + 11, hour + 12]
    store.append(Batch(hour + 7201, *nothing()))
    assert as_tuples(store.flow("BTC", hour, hour + 7200).rows) == as_tuples(read.rows)
    store.close()


def test_a_day_of_flow_is_read_in_time(tmp_path):
    """86,400 ticks come from blobs: reading them takes less than walking over the rows in Python does."""
    store = opened(tmp_path)
    start = T0 - T0 % 3600
    for hour in range(24):
        ticks = range(start + hour * 3600, start + hour * 3600 + 3600)
        store.append_all([Batch(tick, bars(), flow((0, tick - 1), value=tick % 89)) for tick in ticks])
    store.append(Batch(start + 86_400, *nothing()))
    took_s, walked_s = [], []
    for _ in range(3):
        begun = time.process_time()
        read = store.flow("BTC", start, start + 86_400)
        took_s.append(time.process_time() - begun)
        begun = time.process_time()
        assert sum(1 for row in read.rows if tuple(row)) == 86_400
        walked_s.append(time.process_time() - begun)
    assert min(took_s) < min(walked_s)
    store.close()


def test_signals_are_kept_once_and_published_once_per_sink(store):
    """A repeated id changes nothing; what a sink has noted it is not given again; other sinks are not concerned."""
    store.append(Batch(T0 + 1, *nothing(), [signal(1), signal(2)], b"p1"))
    store.append(Batch(T0 + 2, *nothing(), [signal(2, tick=T0 + 9), signal(3)]))
    assert [s.signal_id for s in store.signals()] == ["id-1", "id-2", "id-3"]
    assert store.signals(limit=2) == store.signals()[1:]
    assert store.signals()[1] == signal(2)
    store.mark("redis", {"id-1": "published", "id-2": "expired"})
    assert [s.signal_id for s in store.unpublished("redis")] == ["id-3"]
    assert len(store.unpublished("influx")) == 3
    assert store.positions() == b"p1"
    assert store.last_seq() == 3


def test_cursors_and_last_tick(store):
    """Each sink has its own place, 0 at first; the last tick counts ticks without rows too."""
    store.append(Batch(T0 + 5, *nothing()))
    store.move("a", T0)
    assert (store.cursor("a"), store.cursor("b"), store.last_tick()) == (T0, 0, T0 + 5)


def test_coverage_is_false_wherever_nothing_says_otherwise(store):
    """Changes within a run, the hole between two runs, ticks without coverage."""
    for tick, whole in ((1, (1, 1, 0)), (2, (1, 0, 0)), (3, (1, 1, 0)), (7, (0, 1, 1)), (8, (1, 1, 1))):
        store.append(Batch(T0 + tick, *nothing(), whole=np.array(whole, bool)))
    store.append(Batch(T0 + 9, *nothing()))
    read = store.coverage(NAMES, T0 - 1, T0 + 10).astype(int).tolist()
    assert read[0] == [0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0]
    assert read[1] == [0, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0]
    assert read[2] == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert store.coverage([NAMES[1]], T0 + 2, T0 + 7).astype(int).tolist() == [[1, 0, 0, 0, 1]]


def test_extent_tells_what_there_is(store):
    """Per market: first and last second and how many have a bar, revisions counted once."""
    store.append(Batch(T0 + 1, bars((0, T0)), flow()))
    store.append(Batch(T0 + 9, bars((0, T0 + 8), (0, T0)), flow()))
    assert store.extent() == [(NAMES[0], T0, T0 + 8, 2)]


def test_age_takes_the_oldest_and_counts_what_no_sink_had(tmp_path):
    """Old bars, flow, signals and coverage leave; those that a sink lacked are counted."""
    store = opened(tmp_path, retain_s=3600)
    store.move("influx", T0 + 10)
    for tick in range(T0 + 1, T0 + 31):
        row = Batch(
            tick, bars((0, tick - 1)), flow((0, tick - 1)), [signal(tick - T0)], None, np.array([1, 0, 0], bool)
        )
        store.append(row)
    for tick in range(T0 + 9000, T0 + 9030):
        store.append(Batch(tick, bars((0, tick - 1)), flow((0, tick - 1))))
    for _ in range(20):
        store.trim()
    assert store.bars(None, 0, T0 + 1000).size == 0
    assert store.flow("BTC", 0, T0 + 1000).rows.size == 0
    assert store.signals() == []
    assert not store.coverage(NAMES, T0, T0 + 100).any()
    assert store.counters["bars_left_unshipped"] == 20
    assert store.last_seq() == 30
    assert len(store.bars(None, T0 + 8000, T0 + 9999)) == 30
    store.close()


def test_size_stays_under_its_limit(tmp_path):
    """The file and its write-ahead log stay under `max_bytes` while three times as much is written."""
    limit = 8_000_000
    store = opened(tmp_path, max_bytes=limit)
    rng = np.random.default_rng(1)
    largest = 0
    for start in range(0, 12_000, 10):
        batches = []
        for tick in range(T0 + start, T0 + start + 10):
            rows = bars(*((market, tick - 1 - back) for market in range(3) for back in range(6)))
            rows["vbuy"] = rng.random(len(rows))
            batches.append(Batch(tick, rows, flow()))
        store.append_all(batches)
        largest = max(largest, sum(part.stat().st_size for part in tmp_path.iterdir()))
    assert largest < limit
    assert len(store.bars(None, T0 + 11_900, T0 + 12_000)) > 0
    store.close()


def test_what_the_last_ticks_know_of_a_market(store):
    """The newest second with a bar, and in how many seconds trades came in time: neither late ones nor liquidations count."""
    alone = bars((0, T0 + 3))
    for name in ("open", "high", "low", "close"):
        alone[name] = np.nan
    late = bars((0, T0 + 1), (0, T0 + 4), (1, T0 + 4))
    for second, rows in ((T0, bars((0, T0))), (T0 + 2, bars((0, T0 + 2))), (T0 + 3, alone), (T0 + 4, late)):
        store.append(Batch(second + 1, rows, flow()))
    known = store.last_traded(T0, T0 + 10_000)
    assert known == {NAMES[0]: (T0 + 4, 3), NAMES[1]: (T0 + 4, 1)}
    assert store.last_traded(T0, T0 + 4) == {NAMES[0]: (T0 + 3, 3), NAMES[1]: (T0, 1)}


def test_migration_goes_forward_and_refuses_to_go_back(tmp_path):
    """Each step runs once, inside a transaction; a file from the future is left alone."""
    db = sqlite3.connect(tmp_path / "x", isolation_level=None)
    migrate(db)

    def second(db):
        db.execute("ALTER TABLE signal ADD COLUMN note TEXT")

    def broken(db):
        db.execute("CREATE TABLE half (x)")
        db.execute("CREATE TABLE half (x)")

    migrate(db, (*MIGRATIONS, second))
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, (*MIGRATIONS, second, broken))
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    with pytest.raises(JournalTooNew):
        migrate(db)
    db.close()


def test_flow_from_before_funding_is_read_and_goes_on(tmp_path):
    """A journal of the version before keeps rows and packed hours as they were, with no funding; new rows have theirs."""
    hour = T0 - T0 % 3600
    (tmp_path / "journal").mkdir()
    db = sqlite3.connect(tmp_path / "journal" / FILE_NAME, isolation_level=None)
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    migrate(db, MIGRATIONS[:3])
    before = FLOW_VALUES[:-1]
    db.execute("INSERT INTO symbol VALUES (0, 'BTC')")
    packed = np.array([[hour - 10, hour - 11, *range(1, len(before) + 1)]], "<i8").T
    names = ",".join(("tick", "second", *before))
    db.execute("INSERT INTO flow_block VALUES (0, ?, 1, ?, ?)", (hour - 3600, names, packed.tobytes()))
    row = (0, hour + 1, hour, *range(1, len(before) + 1))
    db.execute(f"INSERT INTO flow VALUES ({', '.join('?' * len(row))})", row)
    db.close()
    store = opened(tmp_path / "journal")
    store.append(Batch(hour + 2, bars(), flow((0, hour + 1), value=7)))
    read = store.flow("BTC", hour - 3600, hour + 3600)
    assert list(read.ticks) == [hour - 10, hour + 1, hour + 2]
    assert [[int(one[name]) for name in before] for one in read.rows[:2]] == [list(range(1, len(before) + 1))] * 2
    assert read.rows["funding_ppb"][:2].tolist() == [0, 0]
    assert read.rows["funding_ppb"][2] != 0
    store.close()


def test_a_disk_that_is_full_at_the_first_start_says_so(tmp_path):
    """SQLite has rolled back by itself then: its own error comes out, not that there is nothing to roll back."""
    db = sqlite3.connect(tmp_path / "x", isolation_level=None)
    db.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        migrate(db)
    db.close()


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_file_is_set_aside(tmp_path, damage):
    """Garbage or a cut file is renamed, kept, and a new journal begins."""
    store = opened(tmp_path)
    for tick in range(T0 + 1, T0 + 400):
        store.append(Batch(tick, bars((0, tick - 1)), flow((0, tick - 1))))
    store.close()
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(b"x" * 50_000 if damage == "garbage" else content[: len(content) // 3])
    store = opened(tmp_path, stamp="now")
    aside = tmp_path / f"{FILE_NAME}.damaged-now"
    assert store.set_aside == aside
    assert aside.exists()
    store.append(Batch(T0 + 1, bars((0, T0)), flow()))
    assert len(store.bars(None, T0, T0 + 1)) == 1
    store.close()


def test_reading_beside_a_writer(tmp_path):
    """A reader sees what the writer has written, cannot write, and says so where there is no journal."""
    with pytest.raises(FileNotFoundError):
        JournalStore(tmp_path, read_only=True)
    writer = opened(tmp_path)
    writer.append(Batch(T0 + 1, bars((0, T0)), flow()))
    reader = JournalStore(tmp_path, read_only=True)
    writer.append(Batch(T0 + 2, bars((0, T0 + 1)), flow()))
    assert len(reader.bars(None, T0, T0 + 9)) == 2
    with pytest.raises(sqlite3.OperationalError):
        reader.move("x", 1)
    reader.close()
    writer.close()


def test_each_tick_of_a_daemon_is_synced_after_its_commit(tmp_path, monkeypatch):
    """A power cut after `append` loses nothing: the log is synced each time. A disk that cannot is counted, its rows stay."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    store = JournalStore(tmp_path)
    store.register(MARKETS, SYMBOLS)
    for n in range(1, 51):
        store.append(Batch(T0 + n, bars((0, T0 + n - 1)), flow()))
        assert len(synced) == n
    monkeypatch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    store.append(Batch(T0 + 51, bars((0, T0 + 50)), flow()))
    assert store.counters["sync_failed"] == 1
    assert len(store.bars(None, T0, T0 + 99)) == 51
    store.close()


def test_the_log_is_moved_into_the_file_between_ticks(tmp_path, monkeypatch):
    """However long the daemon runs, the log stays some ticks long, so that no commit has to move it."""
    monkeypatch.setattr(os, "fdatasync", lambda _: None)  # the disk of a busy machine takes its time
    store = JournalStore(tmp_path)
    store.register(MARKETS, SYMBOLS)
    largest = []
    for n in range(1, 101):
        store.append(Batch(T0 + n, bars(*((market, T0 + n - 1) for market in range(3))), flow((0, T0 + n - 1))))
        largest.append((tmp_path / f"{FILE_NAME}-wal").stat().st_size)
    assert max(largest) < 40 * 10 * 4096
    assert (tmp_path / FILE_NAME).stat().st_size > 8 * 4096
    store.close()
