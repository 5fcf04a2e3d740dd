"""The journal itself, synchronous: for the journal's own thread, for commands and for backtests.

One SQLite file in the state folder. Bars and flow are append-only and keyed by the tick at which they became known; a second
append of the same key changes nothing, so any part may be repeated.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sqfd.journal import bars as bar_rows
from sqfd.journal import coverage, flows, gaps, retention
from sqfd.journal.reader import SIGNAL_COLUMNS, JournalReader
from sqfd.journal.records import DAY_S, Batch, JournaledSignal
from sqfd.journal.schema import FILE_NAME, connect, connect_read_only, is_damage, set_aside
from sqfd.model import Bars, Flow, Market

ENGINE_NOTES = 200
"""How many notes of what the engine was told are kept: one for each start of the daemon."""
CHECKPOINT_EVERY = 20
"""The log (some 25 pages a tick) is moved into the file after so many ticks, between ticks: SQLite's own limit would strike
inside a commit."""
TRIM_EVERY = 10
"""Appends between two looks at age and size."""


class JournalStore(JournalReader):
    """The journal of one state folder. Not thread-safe: one thread at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        read_only: bool = False,
        bulk: bool = False,
        retain_s: int = 7 * DAY_S,
        max_bytes: int = 20_000_000_000,
        stamp: str = "0",
    ) -> None:
        """Open `folder`'s journal, or begin one. A damaged file is renamed to `*.damaged-{stamp}` and a new one begun.

        Raises FileNotFoundError (read only, and there is none), JournalTooNew, sqlite3.Error (the disk refuses).
        """
        self.path = folder / FILE_NAME
        self.set_aside: Path | None = None
        self.counters: Counter[str] = Counter()
        self._retain_s, self._max_bytes, self._bulk, self._stamp = retain_s, max_bytes, bulk, stamp
        self._coverage = coverage.CoverageLog()
        self._appends = self._in_log = 0
        self._sealed_hour: int | None = None
        self._markets: NDArray[np.int32] = np.zeros(0, np.int32)
        self._symbols: NDArray[np.int32] = np.zeros(0, np.int32)
        if read_only:
            self._db = connect_read_only(self.path)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = self._connect()
            try:
                gaps.close_open(self._db, self.last_tick())
            except BaseException:
                self._db.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self.path, bulk=self._bulk)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self.set_aside = set_aside(self.path, self._stamp)
            return connect(self.path, bulk=self._bulk)

    def close(self) -> None:
        """Close the file; a daemon that stops cleanly leaves no write-ahead log behind."""
        self._db.close()

    def begin_anew(self, stamp: str, markets: Sequence[Market], symbols: Sequence[str]) -> Path:
        """Set the file aside after damage showed while it was in use, and go on with a new one."""
        self._db.close()
        self.set_aside = set_aside(self.path, stamp)
        self._db = connect(self.path, bulk=self._bulk)
        self._coverage.reset()
        self.register(markets, symbols)
        return self.set_aside

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled back already
                self._db.execute("ROLLBACK")
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """For the other modules of this package."""
        return self._db

    # --- writing

    def register(self, markets: Sequence[Market], symbols: Sequence[str]) -> tuple[list[int], list[int]]:
        """Give names their ids, which never change: this run's `market` and `symbol` indices are translated by them."""
        with self.transaction() as db:
            market_ids = [_market_id(db, market) for market in markets]
            symbol_ids = [_named_id(db, name) for name in symbols]
        self._markets, self._symbols = np.array(market_ids, np.int32), np.array(symbol_ids, np.int32)
        return market_ids, symbol_ids

    def append(self, batch: Batch) -> None:
        """Write one tick in one transaction; raises sqlite3.Error, and then nothing of it is there."""
        self.append_all((batch,))

    def append_all(self, batches: Sequence[Batch]) -> None:
        """Write several ticks in one transaction (replay, import, catching up), and keep house."""
        self.write_all(batches)
        if batches:
            self.keep_house(batches[-1].tick, len(batches))

    def write_all(self, batches: Sequence[Batch]) -> None:
        """Write several ticks in one transaction; `keep_house` comes after, when nobody waits for them any more."""
        try:
            with self.transaction() as db:
                for batch in batches:
                    self._write(db, batch)
        except BaseException:
            self._coverage.reset()
            raise

    def load(self, bars: Bars, flow: Flow) -> None:
        """Add history that was whole and known in time (tick = second + 1), in one transaction: simulated pasts."""
        seconds = np.concatenate([bars["second"], flow["second"]])
        if not len(seconds):
            return
        with self.transaction() as db:
            coverage.load(db, self._markets.tolist(), int(seconds.min()), int(seconds.max()))
            translated = _translated(bars, "market", self._markets)
            bar_rows.load(db, translated)
            for index, symbol in enumerate(self._symbols.tolist()):
                flows.load(db, symbol, flow[flow["symbol"] == index])

    def load_flow(self, flow: Flow) -> None:
        """Add flow that was known in time but not collected here (a warm start from InfluxDB): no bars, no coverage.

        `symbol` is as registered. What is there already stays as it is.
        """
        with self.transaction() as db:
            for index, symbol in enumerate(self._symbols.tolist()):
                rows = flow[flow["symbol"] == index]
                if len(rows):
                    flows.load(db, symbol, rows)

    def _write(self, db: sqlite3.Connection, batch: Batch) -> None:
        bar_rows.insert(db, batch.tick, _translated(batch.bars, "market", self._markets).tolist())
        flows.insert(db, batch.tick, _translated(batch.flow, "symbol", self._symbols).tolist())
        for signal in batch.signals:
            _write_signal(db, signal)
        if batch.positions is not None:
            db.execute("INSERT OR REPLACE INTO state VALUES ('positions', ?, ?)", (batch.tick, batch.positions))
        # Markets may have joined since the batch was made: it does not speak of them.
        whole = {} if batch.whole is None else dict(zip(self._markets.tolist(), batch.whole.tolist(), strict=False))
        self._coverage.append(db, batch.tick, whole)
        gaps.write(db, batch.tick, self._markets.tolist(), batch.gaps)

    def keep_house(self, tick: int, appended: int) -> None:
        """Sync the log, move it into the file, seal hours and trim.

        The rows are in the file already: what fails here is counted and tried again at the next occasion.
        """
        self._appends += appended
        hour = tick // flows.HOUR_S
        try:
            if not self._bulk:
                self._sync()
                self._checkpoint(appended)
            if hour != self._sealed_hour:
                with self.transaction() as db:
                    flows.seal(db, tick)
                self._sealed_hour = hour
            if self._appends >= TRIM_EVERY:
                self._appends = 0
                self.trim()
        except sqlite3.Error as error:
            if is_damage(error):
                raise
            self.counters["housekeeping_failed"] += 1
        except OSError:
            self.counters["sync_failed"] += 1

    def _sync(self) -> None:
        """Have the disk keep what is committed: a power cut loses nothing of it."""
        log = os.open(f"{self.path}-wal", os.O_RDWR)
        try:
            os.fdatasync(log)
        finally:
            os.close(log)

    def _checkpoint(self, appended: int) -> None:
        self._in_log += appended
        if self._in_log >= CHECKPOINT_EVERY:
            self._in_log = 0
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # The first write after it begins the log anew and waits for the disk: better this one than a tick's.
            self._db.execute(
                "INSERT INTO counter VALUES ('checkpoints', 1) ON CONFLICT DO UPDATE SET value = value + 1"
            )

    def trim(self) -> retention.Left:
        """One step of retention; what left although a sink had not taken it is counted."""
        with self.transaction() as db:
            last = self.last_tick()
            left = retention.trim(db, last_tick=last, retain_s=self._retain_s, max_bytes=self._max_bytes)
        self.counters["bars_left_unshipped"] += left.bars
        self.counters["signals_left_unpublished"] += left.signals
        return left

    def move(self, sink: str, tick: int) -> None:
        """Note that `sink` has everything up to and including `tick`."""
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (sink, tick))

    def forget(self, sink: str) -> None:
        """The sink is no longer configured: retention waits for it no more, and it begins anew when it returns."""
        self._db.execute("DELETE FROM cursor WHERE sink = ?", (sink,))

    def mark(self, sink: str, outcomes: Mapping[str, str]) -> None:
        """Note per signal id what became of it at `sink` (`published`, `expired`, …); the first note stays."""
        with self.transaction() as db:
            rows = [(sink, signal_id, outcome) for signal_id, outcome in outcomes.items()]
            db.executemany("INSERT OR IGNORE INTO published VALUES (?, ?, ?)", rows)

    def note_engine(self, tick: int, record: bytes) -> None:
        """Note what the engine was told before `tick`, so that a backtest can tell it the same; the newest notes stay."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO state VALUES (?, ?, ?)", (f"engine:{tick}", tick, record))
            db.execute(
                "DELETE FROM state WHERE name LIKE 'engine:%' AND tick NOT IN "
                "(SELECT tick FROM state WHERE name LIKE 'engine:%' ORDER BY tick DESC LIMIT ?)",
                (ENGINE_NOTES,),
            )


def _market_id(db: sqlite3.Connection, market: Market) -> int:
    """Ids count from 0 without holes. Details of a known market are brought up to date, its name and id stay."""
    update = "UPDATE SET kind = excluded.kind, base = excluded.base, quote = excluded.quote, multiplier = excluded.multiplier"
    query = (
        "INSERT INTO market VALUES ((SELECT count(*) FROM market), ?, ?, ?, ?, ?, ?, ?) "
        f"ON CONFLICT (name) DO {update} RETURNING id"
    )
    values = (market.name, market.exchange, market.pair, market.kind, market.base, market.quote, market.multiplier)
    return int(db.execute(query, values).fetchone()[0])


def _named_id(db: sqlite3.Connection, name: str) -> int:
    db.execute("INSERT OR IGNORE INTO symbol VALUES ((SELECT count(*) FROM symbol), ?)", (name,))
    return int(db.execute("SELECT id FROM symbol WHERE name = ?", (name,)).fetchone()[0])


def _write_signal(db: sqlite3.Connection, signal: JournaledSignal) -> None:
    query = f"INSERT OR IGNORE INTO signal ({SIGNAL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    db.execute(query, tuple(getattr(signal, name) for name in signal.__struct_fields__))
    db.execute(
        "INSERT INTO counter VALUES ('seq', ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        (signal.seq,),
    )


def _translated(rows: Bars | Flow, column: str, ids: NDArray[np.int32]) -> Bars | Flow:
    """A copy whose `column` holds journal ids; raises IndexError for what was not registered."""
    rows = rows.copy()
    rows[column] = ids[rows[column]]
    return rows
