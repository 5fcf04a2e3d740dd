"""The journal itself, synchronous: for the journal's own thread, for commands and for backtests.

One SQLite file in the state folder. Bars and flow are append-only and keyed by the tick at which they became known; a second
append of the same key changes nothing, so any part may be repeated.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sqfd.journal import bars as bar_rows
from sqfd.journal import coverage, flows, gaps, retention
from sqfd.journal.records import DAY_S, Batch, Extent, GapRecord, JournaledSignal, Ticked
from sqfd.journal.schema import FILE_NAME, connect, connect_read_only, is_damage, set_aside
from sqfd.model import Bars, Flow, Market

ENGINE_NOTES = 200
"""How many notes of what the engine was told are kept: one for each start of the daemon."""
TRIM_EVERY = 10
"""Appends between two looks at age and size."""
_SIGNAL = "signal_id, tick, second, seq, symbol, valid_until_s, line, cvd"


class JournalStore:
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
        self._appends = 0
        self._sealed_hour: int | None = None
        self._markets: NDArray[np.int32] = np.zeros(0, np.int32)
        self._symbols: NDArray[np.int32] = np.zeros(0, np.int32)
        if read_only:
            self._db = connect_read_only(self.path)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = self._connect()
            gaps.close_open(self._db, self.last_tick())

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
        """Write several ticks in one transaction (replay, import, catching up)."""
        try:
            with self.transaction() as db:
                for batch in batches:
                    self._write(db, batch)
        except BaseException:
            self._coverage.reset()
            raise
        if batches:
            self._keep_house(batches[-1].tick, len(batches))

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

    def _keep_house(self, tick: int, appended: int) -> None:
        """Seal hours and trim. The rows are safe already: what fails here is tried again at the next occasion."""
        self._appends += appended
        hour = tick // flows.HOUR_S
        try:
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

    # --- reading

    def engine_notes(self) -> list[tuple[int, bytes]]:
        """(first tick, record) of every `note_engine` that is kept, by tick."""
        query = "SELECT tick, data FROM state WHERE name LIKE 'engine:%' ORDER BY tick"
        return [(int(tick), bytes(record)) for tick, record in self._db.execute(query)]

    def market_names(self) -> list[str]:
        """All markets ever registered; a market's journal id is its index here."""
        return [str(row[0]) for row in self._db.execute("SELECT name FROM market ORDER BY id")]

    def markets(self) -> list[Market]:
        """The same, with what is known of each."""
        query = "SELECT exchange, pair, kind, base, quote, multiplier FROM market ORDER BY id"
        return [Market(*row) for row in self._db.execute(query)]

    def symbol_names(self) -> list[str]:
        """All symbols ever registered, by journal id."""
        return [str(row[0]) for row in self._db.execute("SELECT name FROM symbol ORDER BY id")]

    def bars(self, markets: Sequence[str] | None, from_s: int, to_s: int) -> Bars:
        """The truth as of now for `from_s <= second < to_s`, ordered by (second, market).

        `market` is the index into `markets`, or into `market_names()` where that is None. Unknown names have no bars.
        """
        ids = self._ids(markets)
        bars = _reindexed(bar_rows.newest(self._db, ids, from_s, to_s), ids)
        return bars[np.lexsort((bars["market"], bars["second"]))]

    def bars_as_seen(self, markets: Sequence[str] | None, from_tick: int, to_tick: int) -> Ticked:
        """Every row of `from_tick <= tick < to_tick` in the order in which it became known; `market` as in `bars`."""
        ids = self._ids(markets)
        seen = bar_rows.as_seen(self._db, ids, from_tick, to_tick)
        rows = _reindexed(seen.rows, ids)
        order = np.lexsort((rows["market"], rows["second"], seen.ticks))
        return Ticked(seen.ticks[order], rows[order])

    def bars_since(self, tick: int, limit: int) -> Ticked:
        """Whole ticks after `tick` for a sink: about `limit` rows, more where one tick alone has more.

        `market` is the index into `market_names()`.
        """
        return bar_rows.since(self._db, tick, limit)

    def flow(self, symbol: str, from_tick: int, to_tick: int, *, index: int = 0) -> Ticked:
        """Flow of a symbol as it became known in `from_tick <= tick < to_tick`, by (tick, second); `symbol` = `index`."""
        found = self._db.execute("SELECT id FROM symbol WHERE name = ?", (symbol,)).fetchone()
        return flows.read(self._db, -1 if found is None else int(found[0]), from_tick, to_tick, index=index)

    def first_flow(self, symbols: Sequence[str]) -> int | None:
        """The second from which there is flow of all these symbols; None where one of them has none."""
        found = [self.flow_extent(symbol) for symbol in symbols]
        firsts = [None if extent is None else extent[0] - 1 for extent in found]
        known = [first for first in firsts if first is not None]
        return max(known) if len(known) == len(firsts) and known else None

    def flow_extent(self, symbol: str) -> tuple[int, int] | None:
        """First and last tick at which flow of a symbol became known; None where there is none."""
        found = self._db.execute("SELECT id FROM symbol WHERE name = ?", (symbol,)).fetchone()
        return None if found is None else flows.extent(self._db, int(found[0]))

    def coverage(self, markets: Sequence[str], from_s: int, to_s: int) -> NDArray[np.bool_]:
        """Markets × seconds: its feed was whole throughout that second, or was made whole by recovery."""
        ids = self._ids(markets) or []
        return gaps.amend(self._db, coverage.read(self._db, ids, from_s, to_s), ids, from_s, to_s)

    def gaps(self, from_s: int = 0, to_s: int = 1 << 40) -> list[GapRecord]:
        """Gaps that touch `from_s <= second < to_s`, by their beginning; `market` is an index into `market_names()`."""
        return gaps.read(self._db, from_s, to_s)

    def pauses(self, from_s: int = 0, to_s: int = 1 << 40) -> list[tuple[int, int]]:
        """(first second, second after the last) of stretches in which nothing was journaled at all."""
        return gaps.pauses(self._db, from_s, to_s)

    def signals(self, *, from_tick: int = 0, to_tick: int | None = None, limit: int = 1_000) -> list[JournaledSignal]:
        """The newest `limit` signals of `from_tick <= tick < to_tick`, oldest first."""
        query = f"SELECT {_SIGNAL} FROM signal WHERE tick >= ? AND tick < ? ORDER BY seq DESC LIMIT ?"
        rows = self._db.execute(query, (from_tick, 2**62 if to_tick is None else to_tick, limit)).fetchall()
        return [JournaledSignal(*row) for row in reversed(rows)]

    def unpublished(self, sink: str, limit: int = 1_000) -> list[JournaledSignal]:
        """The oldest signals of which nothing is noted for `sink`, in order."""
        query = (
            f"SELECT {_SIGNAL} FROM signal WHERE NOT EXISTS (SELECT 1 FROM published WHERE published.sink = ? "
            "AND published.signal_id = signal.signal_id) ORDER BY seq LIMIT ?"
        )
        return [JournaledSignal(*row) for row in self._db.execute(query, (sink, limit))]

    def positions(self) -> bytes | None:
        """The positions that were appended last."""
        row = self._db.execute("SELECT data FROM state WHERE name = 'positions'").fetchone()
        return None if row is None else bytes(row[0])

    def last_tick(self) -> int:
        """The newest tick that was appended; 0 where there is none."""
        (second,) = self._db.execute("SELECT max(last_second) FROM run").fetchone()
        return 0 if second is None else int(second) + 1

    def last_seq(self) -> int:
        """The highest signal number ever given."""
        row = self._db.execute("SELECT value FROM counter WHERE name = 'seq'").fetchone()
        return 0 if row is None else int(row[0])

    def cursor(self, sink: str) -> int:
        """The tick up to which `sink` has everything; 0 where it has nothing."""
        row = self._db.execute("SELECT tick FROM cursor WHERE sink = ?", (sink,)).fetchone()
        return 0 if row is None else int(row[0])

    def extent(self) -> list[Extent]:
        """What there is per market; scans all bars."""
        query = (
            "SELECT market.name, min(second), max(second), count(DISTINCT second) FROM bar "
            "JOIN market ON market.id = bar.market GROUP BY market.id ORDER BY market.id"
        )
        return [Extent(*row) for row in self._db.execute(query)]

    def span(self) -> tuple[int, int]:
        """First and last second of anything that was looked at; (0, -1) where there is none."""
        (first, last) = self._db.execute("SELECT min(first_second), max(last_second) FROM run").fetchone()
        return (0, -1) if first is None else (int(first), int(last))

    def bar_counts(self, from_s: int, to_s: int) -> dict[str, int]:
        """Seconds with a bar in `from_s <= second < to_s`, per market that has any."""
        query = (
            "SELECT market.name, count(*) FROM bar JOIN market ON market.id = bar.market "
            "WHERE tick > ? AND tick <= ? AND tick = second + 1 GROUP BY market.id"
        )
        return {str(name): int(count) for name, count in self._db.execute(query, (from_s, to_s))}

    def used_bytes(self) -> int:
        """Bytes of the file's pages in use."""
        return retention.used_bytes(self._db)[0]

    def _ids(self, markets: Sequence[str] | None) -> list[int] | None:
        if markets is None:
            return None
        known = {name: index for index, name in enumerate(self.market_names())}
        return [known.get(name, -1 - index) for index, name in enumerate(markets)]


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
    query = f"INSERT OR IGNORE INTO signal ({_SIGNAL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
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


def _reindexed(bars: Bars, ids: list[int] | None) -> Bars:
    if ids is None or not ids:
        return bars
    index = np.full(max(max(ids), 0) + 1, -1, np.int32)
    for position, market in enumerate(ids):
        if market >= 0:
            index[market] = position
    bars["market"] = index[bars["market"]]
    return bars
