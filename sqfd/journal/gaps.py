"""The story of every gap: since when and until when a market's feed was not whole, and what became of it.

A gap is one row, brought up to date as it ends and is resolved. Those that a daemon left open when it ended are closed by the
next one, as lost.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.journal.records import GapRecord

STOPPED = "sqfd stopped"
_COLUMNS = "from_ms, until_ms, state, reason, missed, recovered, note"

TABLE = """
CREATE TABLE gap (market INTEGER NOT NULL, from_ms INTEGER NOT NULL, until_ms INTEGER, state TEXT NOT NULL,
    reason TEXT NOT NULL, missed INTEGER, recovered INTEGER NOT NULL, note TEXT NOT NULL, tick INTEGER NOT NULL,
    PRIMARY KEY (market, from_ms)) WITHOUT ROWID
"""


def create(db: sqlite3.Connection) -> None:
    """The migration that adds the table."""
    db.execute(TABLE)


def write(db: sqlite3.Connection, tick: int, markets: Sequence[int], gaps: Sequence[GapRecord]) -> None:
    """Add gaps or bring them up to date; `markets`: the journal's id of each of the run's markets."""
    rows = [
        (markets[g.market], g.from_ms, g.until_ms, g.state, g.reason, g.missed, g.recovered, g.note, tick) for g in gaps
    ]
    db.executemany("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def close_open(db: sqlite3.Connection, at_s: int) -> None:
    """A new run begins: gaps that the last one left open, or unresolved, stay as they are for good."""
    db.execute(
        "UPDATE gap SET until_ms = max(from_ms, ?), state = 'lost', note = ? WHERE until_ms IS NULL",
        (at_s * 1000, STOPPED),
    )
    db.execute("UPDATE gap SET state = 'lost', note = ? WHERE state = 'gap'", (STOPPED,))


def fill(db: sqlite3.Connection, market: int, from_s: int, to_s: int) -> None:
    """A file held everything of `from_s <= second < to_s`: gaps of the market within are recovered."""
    db.execute(
        "UPDATE gap SET state = 'recovered', note = 'imported' WHERE market = ? AND from_ms >= ? AND until_ms <= ?",
        (market, from_s * 1000, to_s * 1000),
    )


def read(db: sqlite3.Connection, from_s: int, to_s: int) -> list[GapRecord]:
    """Gaps that touch `from_s <= second < to_s`, by their beginning; `market` is the journal's id."""
    query = (
        f"SELECT market, {_COLUMNS} FROM gap WHERE from_ms < ? AND (until_ms IS NULL OR until_ms > ?) "
        "ORDER BY from_ms, market"
    )
    return [GapRecord(*row) for row in db.execute(query, (to_s * 1000, from_s * 1000)).fetchall()]


def pauses(db: sqlite3.Connection, from_s: int, to_s: int) -> list[tuple[int, int]]:
    """(first, last + 1) of the stretches between two runs: no daemon, or a disk that refused.

    What a file was imported over as a whole is left out.
    """
    lived = db.execute("SELECT first_second, last_second FROM run WHERE imported = 0 ORDER BY first_second").fetchall()
    imported = db.execute("SELECT first_second, last_second FROM run WHERE imported = 1").fetchall()
    found = []
    for one, two in itertools.pairwise(lived):
        first, end = one[1] + 1, two[0]
        inside = first < end and end > from_s and first < to_s
        if inside and not any(start <= first and last >= end - 1 for start, last in imported):
            found.append((first, end))
    return found


def amend(
    db: sqlite3.Connection, whole: NDArray[np.bool_], markets: Sequence[int], from_s: int, to_s: int
) -> NDArray[np.bool_]:
    """Coverage as it was known in time (markets × seconds from `from_s`) → as it is known now."""
    place = {market: row for row, market in enumerate(markets)}
    known = [gap for gap in read(db, from_s, to_s) if gap.market in place]
    # Recovered first: a second that a gap of another fate touches too stays without coverage.
    for gap in sorted(known, key=lambda gap: gap.state != "recovered"):
        first = max(0, gap.from_ms // 1000 - from_s)
        end = to_s - from_s if gap.until_ms is None else -(-gap.until_ms // 1000) - from_s
        whole[place[gap.market], first : max(first, end)] = gap.state == "recovered"
    return whole


def trim(db: sqlite3.Connection, before_s: int) -> None:
    """Forget what ended before `before_s`."""
    db.execute("DELETE FROM gap WHERE until_ms < ?", (before_s * 1000,))
