"""What imports do to a journal: bars of one market over a span of seconds, with coverage, and which files are in.

Of seconds that the journal knows already the better knowledge stays: what the daemon lived through is never touched (an
import only fills its holes), what an earlier import called whole is not written again. So an import may be repeated, or killed
and repeated, and two imports may overlap.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqfd.journal import bars as bar_rows
from sqfd.journal import coverage, flows, gaps
from sqfd.journal.store import JournalStore
from sqfd.model import Bars, Flow, Market

HOUR_S = 3_600


class ImportedFile(NamedTuple):
    """A file whose bars are all in the journal."""

    digest: str
    name: str
    first_second: int
    last_second: int
    trades: int
    malformed: int


class Written(NamedTuple):
    """What became of bars."""

    written: int
    kept: int
    """The journal knew these seconds already."""


class MarketImport:
    """Imports one market into one journal."""

    def __init__(self, store: JournalStore, market: Market) -> None:
        """Registers the market and its symbol."""
        ids, symbols = store.register([market], [market.base])
        self._store, self._market, self._symbol = store, ids[0], symbols[0]
        self._known: dict[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}

    def files(self) -> set[str]:
        """Digests of the files that are in."""
        query = "SELECT digest FROM imported_file WHERE market = ?"
        with self._store.transaction() as db:
            return {str(row[0]) for row in db.execute(query, (self._market,))}

    def write(self, bars: Bars) -> Written:
        """Write bars of this market, in one transaction; `market` of the bars is ignored."""
        if not len(bars):
            return Written(0, 0)
        bars = bars.copy()
        bars["market"] = self._market
        with self._store.transaction() as db:
            whole, lived = self._state(db, bars["second"])
            forced = np.isnan(bars["open"]) & whole & ~lived
            fill, replace = bars[lived & ~whole], bars[~lived & ~whole]
            added = bar_rows.fill(db, fill) + bar_rows.replace(db, replace)
            # Liquidations come in files of their own, over seconds that are whole already.
            added += bar_rows.add_liquidations(db, bars[forced])
        return Written(added, len(bars) - added)

    def _state(self, db: sqlite3.Connection, seconds: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Per second: (the market was whole, the daemon lived through it) before this import."""
        whole, lived = np.zeros(len(seconds), bool), np.zeros(len(seconds), bool)
        hours = seconds // HOUR_S * HOUR_S
        for hour in np.unique(hours).tolist():
            if hour not in self._known:
                state = (
                    coverage.read(db, [self._market], hour, hour + HOUR_S)[0],
                    coverage.lived(db, hour, hour + HOUR_S),
                )
                self._known = {hour: state} if len(self._known) > 48 else self._known | {hour: state}
            at = hours == hour
            for column, values in zip((whole, lived), self._known[hour], strict=True):
                column[at] = values[seconds[at] - hour]
        return whole, lived

    @contextmanager
    def finish(self, file: ImportedFile, *whole: tuple[int, int]) -> Iterator[sqlite3.Connection]:
        """Note that a file is in, all or nothing with what is done inside (making flow).

        `whole`: seconds (from, to) that it holds completely; none: it says nothing of that (liquidations).
        """
        with self._store.transaction() as db:
            for from_s, to_s in whole:
                alone = len(whole) == 1
                first, end = (file.first_second, file.last_second + 1) if alone else (from_s, to_s)
                span = min(first, from_s), max(end, to_s)
                coverage.load_imported(db, self._market, span, (from_s, to_s))
                gaps.fill(db, self._market, from_s, to_s)
            query = "INSERT OR REPLACE INTO imported_file VALUES (?, ?, ?, ?, ?, ?, ?)"
            db.execute(query, (self._market, *file))
            yield db
        self._known.clear()

    def seconds(self, markets: list[int], from_s: int, to_s: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Per second: (a file of one of `markets`, journal ids, was imported over it; the daemon lived through it)."""
        db = self._store.connection
        return coverage.imported(db, markets, from_s, to_s), coverage.lived(db, from_s, to_s)

    def derive(self, rows: Flow, kept: NDArray[np.bool_], from_s: int) -> None:
        """Within `finish`: put flow of this market's symbol in place, see `flows.derive`."""
        flows.derive(self._store.connection, self._symbol, rows, kept, from_s)
