"""What leaves the journal: by age, and by size before its time."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from sqfd.journal import coverage, gaps
from sqfd.journal.flows import HOUR_S

STEP_S = 600
"""Ticks that one call deletes at most, so that no call holds up the next tick."""
MARGIN_BYTES = 4_000_000


class Left(NamedTuple):
    """What one call deleted although a sink had not taken it yet."""

    bars: int = 0
    signals: int = 0


def used_bytes(db: sqlite3.Connection) -> tuple[int, int]:
    """(bytes of pages in use, bytes of the file)."""
    size, count, free = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count")
    )
    return (count - free) * size, count * size


def trim(db: sqlite3.Connection, *, last_tick: int, retain_s: int, max_bytes: int) -> Left:
    """Delete the oldest `STEP_S` of what is older than `retain_s`, or of anything where the size demands it."""
    oldest = _oldest(db)
    high = max_bytes - max(MARGIN_BYTES, max_bytes // 10)
    used, size = used_bytes(db)
    by_age = last_tick - retain_s
    by_size = oldest + STEP_S if used > high else 0
    cut = min(max(by_age, by_size), oldest + STEP_S)
    left = Left()
    if cut > oldest:
        left = _left_early(db, cut)
        _delete(db, cut)
    if size > high:
        db.execute("PRAGMA incremental_vacuum(2000)").fetchall()
    return left


def _oldest(db: sqlite3.Connection) -> int:
    """The oldest tick of anything that is kept by tick; of an hour's blob its last, because it leaves as a whole."""
    last_of_hour = f"SELECT min(hour) + {HOUR_S - 1} FROM flow_block"
    queries = ("SELECT min(tick) FROM bar", "SELECT min(tick) FROM signal", last_of_hour)
    found = [db.execute(query).fetchone()[0] for query in queries]
    symbols = db.execute("SELECT id FROM symbol").fetchall()
    found += [db.execute("SELECT min(tick) FROM flow WHERE symbol = ?", row).fetchone()[0] for row in symbols]
    return min((int(tick) for tick in found if tick is not None), default=0)


def _left_early(db: sqlite3.Connection, cut: int) -> Left:
    (cursor,) = db.execute("SELECT min(tick) FROM cursor").fetchone()
    bars = 0
    if cursor is not None and cursor < cut - 1:
        query = "SELECT count(*) FROM bar WHERE tick > ? AND tick < ?"
        bars = int(db.execute(query, (cursor, cut)).fetchone()[0])
    query = (
        "SELECT count(*) FROM signal WHERE tick < ? AND EXISTS (SELECT 1 FROM published) "
        "AND NOT EXISTS (SELECT 1 FROM published WHERE published.signal_id = signal.signal_id)"
    )
    return Left(bars, int(db.execute(query, (cut,)).fetchone()[0]))


def _delete(db: sqlite3.Connection, cut: int) -> None:
    db.execute("DELETE FROM bar WHERE tick < ?", (cut,))
    for (symbol,) in db.execute("SELECT id FROM symbol").fetchall():
        db.execute("DELETE FROM flow WHERE symbol = ? AND tick < ?", (symbol, cut))
    db.execute("DELETE FROM flow_block WHERE hour <= ?", (cut - HOUR_S,))
    db.execute("DELETE FROM published WHERE signal_id IN (SELECT signal_id FROM signal WHERE tick < ?)", (cut,))
    db.execute("DELETE FROM signal WHERE tick < ?", (cut,))
    db.execute("DELETE FROM imported_file WHERE first_second < ?", (cut - 1,))  # it may be imported again
    coverage.trim(db, cut - 1)
    gaps.trim(db, cut - 1)
