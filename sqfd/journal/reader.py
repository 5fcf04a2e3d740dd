"""What can be read from a journal: the truth as of now, what was seen when, and how far the sinks have come."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.journal import bars as bar_rows
from sqfd.journal import coverage, flows, gaps, retention
from sqfd.journal.records import Extent, GapRecord, JournaledSignal, LastTraded, Ticked
from sqfd.model import Bars, FlowTable, Market

SIGNAL_COLUMNS = "signal_id, tick, second, seq, symbol, valid_until_s, line, cvd"


class JournalReader:
    """The reading half of `JournalStore`."""

    _db: sqlite3.Connection

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
        table = self.flow_table(symbol, from_tick, to_tick)
        return Ticked(table["tick"].copy(), table.rows(index))

    def flow_table(self, symbol: str, from_tick: int, to_tick: int) -> FlowTable:
        """The same as columns: much faster to read."""
        found = self._db.execute("SELECT id FROM symbol WHERE name = ?", (symbol,)).fetchone()
        return flows.read(self._db, -1 if found is None else int(found[0]), from_tick, to_tick)

    def first_flow(self, symbols: Sequence[str]) -> int | None:
        """The second from which there is flow of all these symbols; None where one of them has none."""
        found = [self.flow_extent(symbol) for symbol in symbols]
        firsts = [None if extent is None else extent[0] - 1 for extent in found]
        known = [first for first in firsts if first is not None]
        return max(known) if len(known) == len(firsts) and known else None

    def last_traded(self, from_tick: int, before_s: int) -> dict[str, LastTraded]:
        """By market, among what became known in ticks after `from_tick`; the newest second is one before `before_s`."""
        query = (
            "SELECT market.name, max(CASE WHEN second < ? THEN second ELSE ? END), sum(tick = second + 1 AND open IS NOT NULL) FROM bar JOIN market ON market.id = bar.market "
            "WHERE tick > ? GROUP BY bar.market"
        )
        found = self._db.execute(query, (before_s, from_tick, from_tick))
        return {str(name): LastTraded(int(second), int(seconds)) for name, second, seconds in found}

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
        query = f"SELECT {SIGNAL_COLUMNS} FROM signal WHERE tick >= ? AND tick < ? ORDER BY seq DESC LIMIT ?"
        rows = self._db.execute(query, (from_tick, 2**62 if to_tick is None else to_tick, limit)).fetchall()
        return [JournaledSignal(*row) for row in reversed(rows)]

    def unpublished(self, sink: str, limit: int = 1_000) -> list[JournaledSignal]:
        """The oldest signals of which nothing is noted for `sink`, in order."""
        query = (
            f"SELECT {SIGNAL_COLUMNS} FROM signal WHERE NOT EXISTS (SELECT 1 FROM published WHERE published.sink = ? "
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


def _reindexed(bars: Bars, ids: list[int] | None) -> Bars:
    if ids is None or not ids:
        return bars
    index = np.full(max(max(ids), 0) + 1, -1, np.int32)
    for position, market in enumerate(ids):
        if market >= 0:
            index[market] = position
    bars["market"] = index[bars["market"]]
    return bars
