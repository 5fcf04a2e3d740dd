"""Which seconds of which market were whole: runs of consecutive ticks, and within a run the changes only.

A market counts as not whole wherever nothing says otherwise: before its first change, between runs (the daemon was down, or
its disk was full), and where a tick came without coverage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.bool_]

_NEW_RUN = "INSERT INTO run (first_second, last_second, imported) VALUES (?, ?, ?)"


class CoverageLog:
    """Writes the changes of coverage; knows the state at the end of the current run."""

    def __init__(self) -> None:
        self._run: int | None = None
        self._tick = 0
        self._state: dict[int, bool] = {}

    def append(self, db: sqlite3.Connection, tick: int, whole: dict[int, bool]) -> None:
        """Add the state of second `tick - 1` by journal id of the market. Call `reset` where the transaction fails."""
        if self._run is None or tick != self._tick + 1:
            self._run = db.execute(_NEW_RUN, (tick - 1, tick - 1, 0)).lastrowid
            self._state = {}
        else:
            db.execute("UPDATE run SET last_second = ? WHERE run = ?", (tick - 1, self._run))
        changed = [(market, now) for market, now in whole.items() if self._state.get(market, False) != now]
        changed += [(market, False) for market, before in self._state.items() if before and market not in whole]
        db.executemany(
            "INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?)",
            [(self._run, market, tick - 1, int(now)) for market, now in changed],
        )
        self._state.update(changed)
        self._tick = tick

    def reset(self) -> None:
        """Begin a new run with the next tick."""
        self._run = None


def load(db: sqlite3.Connection, markets: Sequence[int], first_s: int, last_s: int) -> None:
    """Add a run of its own, in which these markets were whole from its first second to its last."""
    run = db.execute(_NEW_RUN, (first_s, last_s, 0)).lastrowid
    db.executemany("INSERT INTO coverage VALUES (?, ?, ?, 1)", [(run, market, first_s) for market in markets])


def load_imported(db: sqlite3.Connection, market: int, span: tuple[int, int], whole: tuple[int, int]) -> None:
    """Add what a file tells of a market: seconds `span` (from, to) were looked at, those of `whole` within it were whole.

    An imported run that ends where this one begins is made longer, so that a year of files is not a year of runs.
    """
    (first, end), (whole_from, whole_to) = span, whole
    if whole_from < whole_to and read(db, [market], whole_from, whole_to).all():
        return  # known already
    query = (
        "SELECT run.run FROM run JOIN coverage ON coverage.run = run.run "
        "WHERE imported = 1 AND last_second = ? AND coverage.market = ? LIMIT 1"
    )
    found = db.execute(query, (first - 1, market)).fetchone()
    if found is None:
        run = db.execute(_NEW_RUN, (first, end - 1, 1)).lastrowid
    else:
        run = found[0]
        db.execute("UPDATE run SET last_second = ? WHERE run = ?", (end - 1, run))
    changes = [(first, 0), (whole_from, 1), (whole_to, 0)] if whole_from < whole_to else [(first, 0)]
    rows = [(run, market, second, now) for second, now in changes if second < end]
    db.executemany("INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?)", rows)


def lived(db: sqlite3.Connection, from_s: int, to_s: int) -> Whole:
    """Per second of `from_s <= second < to_s`: the daemon closed it itself."""
    return _in_runs(db, "SELECT first_second, last_second FROM run WHERE imported = 0", from_s, to_s)


def imported(db: sqlite3.Connection, markets: Sequence[int], from_s: int, to_s: int) -> Whole:
    """Per second: a file of one of these markets was imported over it."""
    chosen = ",".join(map(str, markets)) or "-1"
    query = (
        "SELECT first_second, last_second FROM run WHERE imported = 1 AND EXISTS "
        f"(SELECT 1 FROM coverage WHERE coverage.run = run.run AND market IN ({chosen}))"
    )
    return _in_runs(db, query, from_s, to_s)


def _in_runs(db: sqlite3.Connection, query: str, from_s: int, to_s: int) -> Whole:
    found = np.zeros(max(0, to_s - from_s), bool)
    for first, last in db.execute(f"{query} AND first_second < ? AND last_second >= ?", (to_s, from_s)):
        found[max(0, first - from_s) : last + 1 - from_s] = True
    return found


def read(db: sqlite3.Connection, markets: Sequence[int], from_s: int, to_s: int) -> Whole:
    """Markets × seconds of `from_s <= second < to_s`."""
    whole = np.zeros((len(markets), max(0, to_s - from_s)), bool)
    rows = {market: index for index, market in enumerate(markets)}
    query = "SELECT run, first_second, last_second FROM run WHERE first_second < ? AND last_second >= ?"
    for run, first, last in db.execute(query, (to_s, from_s)).fetchall():
        for market, start, end in _spans(db, run, last):
            if market in rows and end >= from_s:
                whole[rows[market], max(start, first, from_s) - from_s : max(0, end + 1 - from_s)] = True
    return whole


def _spans(db: sqlite3.Connection, run: int, last: int) -> list[tuple[int, int, int]]:
    """(market, first whole second, last whole second) of a run."""
    changes = db.execute(
        "SELECT market, second, whole FROM coverage WHERE run = ? ORDER BY market, second", (run,)
    ).fetchall()
    spans = []
    for index, (market, second, whole) in enumerate(changes):
        follows = index + 1 < len(changes) and changes[index + 1][0] == market
        if whole:
            spans.append((market, second, changes[index + 1][1] - 1 if follows else last))
    return spans


def trim(db: sqlite3.Connection, before_s: int) -> None:
    """Forget what ended before `before_s`; of a run that goes on, keep each market's last change before it."""
    db.execute("DELETE FROM coverage WHERE run IN (SELECT run FROM run WHERE last_second < ?)", (before_s,))
    db.execute("DELETE FROM run WHERE last_second < ?", (before_s,))
    db.execute(
        "DELETE FROM coverage WHERE second < ? AND EXISTS (SELECT 1 FROM coverage later WHERE later.run = coverage.run "
        "AND later.market = coverage.market AND later.second > coverage.second AND later.second <= ?)",
        (before_s, before_s),
    )
    db.execute("UPDATE run SET first_second = ? WHERE first_second < ?", (before_s, before_s))
