"""Bars in the journal: rows never change, reads pick which tick they believe."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sqfd.journal.records import Ticked
from sqfd.model import BAR, BAR_FIELDS, Bars

_ROW = np.dtype([("tick", np.int64), *((name, BAR[name]) for name in ("market", "second", *BAR_FIELDS))])
_COLUMNS = ", ".join(f'"{name}"' for name in ("tick", "market", "second", *BAR_FIELDS))
_INSERT = f"INSERT OR IGNORE INTO bar ({_COLUMNS}) VALUES ({', '.join('?' * len(_ROW.names or ()))})"
_SINCE = f"SELECT {_COLUMNS} FROM bar WHERE tick > ? ORDER BY tick, second, market LIMIT ?"
_ONE_TICK = f"SELECT {_COLUMNS} FROM bar WHERE tick = ? ORDER BY second, market"
_IN_TIME = f"SELECT {_COLUMNS} FROM bar WHERE tick > ? AND tick <= ? AND tick = second + 1"
_REVISED = f"SELECT {_COLUMNS} FROM bar WHERE second >= ? AND second < ? AND tick <> second + 1"
_SEEN = f"SELECT {_COLUMNS} FROM bar WHERE tick >= ? AND tick < ?"
_FEW_MARKETS = 8
_SCANNED = 4
"""Rows that a scan passes over in the time of one look-up."""
_STEPS = f"""WITH RECURSIVE step(tick) AS (SELECT ? UNION ALL SELECT tick + 1 FROM step WHERE tick < ?)
SELECT {", ".join(f'bar."{name}"' for name in _ROW.names or ())} FROM step CROSS JOIN bar
ON bar.tick = step.tick AND bar.second = step.tick - 1 AND bar.market = ?"""


def insert(db: sqlite3.Connection, tick: int, rows: Iterable[tuple[Any, ...]]) -> None:
    """Add rows of BAR whose markets are journal ids; NaN becomes NULL. A key that is there already stays as it is."""
    db.executemany(_INSERT, [(tick, *row) for row in rows])


def load(db: sqlite3.Connection, bars: Bars) -> None:
    """Add bars that were known in time (tick = second + 1)."""
    db.executemany(_INSERT, [(row[1] + 1, *row) for row in bars.tolist()])


def fill(db: sqlite3.Connection, bars: Bars) -> int:
    """Add bars of seconds of which there is no row at all; gives how many."""
    return _changes(db, _INSERT, [(row[1] + 1, *row) for row in bars.tolist()])


_TRADED = ("open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell")
_FORCED = ("lbuy", "lsell")
_SAME = " AND ".join(f'bar."{name}" IS excluded."{name}"' for name in BAR_FIELDS)
_REPLACE = (
    _INSERT.replace(" OR IGNORE", "")
    + " ON CONFLICT DO UPDATE SET "
    + ", ".join(
        [
            *(f'"{name}" = iif(excluded.open IS NULL, bar."{name}", excluded."{name}")' for name in _TRADED),
            *(
                f'"{name}" = iif(excluded.lbuy + excluded.lsell = 0, bar."{name}", excluded."{name}")'
                for name in _FORCED
            ),
        ]
    )
    + f" WHERE NOT ({_SAME})"
)
_FORCE = (
    _INSERT.replace(" OR IGNORE", "")
    + " ON CONFLICT DO UPDATE SET lbuy = excluded.lbuy, lsell = excluded.lsell WHERE bar.lbuy + bar.lsell = 0"
)


def replace(db: sqlite3.Connection, bars: Bars) -> int:
    """Write imported bars over what an earlier, partial import left: trades over trades, liquidations over liquidations."""
    return _changes(db, _REPLACE, [(row[1] + 1, *row) for row in bars.tolist()])


def add_liquidations(db: sqlite3.Connection, bars: Bars) -> int:
    """Add liquidations to bars that have none; the bars' trades, if any, are not looked at."""
    return _changes(db, _FORCE, [(row[1] + 1, *row) for row in bars.tolist()])


def _changes(db: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> int:
    before = db.total_changes
    db.executemany(statement, rows)
    return db.total_changes - before


def since(db: sqlite3.Connection, tick: int, limit: int) -> Ticked:
    """Whole ticks after `tick`, about `limit` rows: a tick is never cut, so a cursor can stand on the last."""
    rows = db.execute(_SINCE, (tick, limit + 1)).fetchall()
    if len(rows) > limit:
        last = rows[-1][0]
        rows = [row for row in rows if row[0] < last] or db.execute(_ONE_TICK, (last,)).fetchall()
    return _ticked(_table(rows))


def newest(db: sqlite3.Connection, markets: Sequence[int] | None, from_s: int, to_s: int) -> Bars:
    """Per (market, second) in `from_s <= second < to_s` the newest tick, ordered by (second, market)."""
    rows = itertools.chain(
        _in_time(db, markets, from_s, to_s), _filtered(db.execute(_REVISED, (from_s, to_s)), markets)
    )
    table = _table(rows)
    table = table[np.lexsort((table["tick"], table["market"], table["second"]))]
    last = np.ones(len(table), bool)
    last[:-1] = (np.diff(table["second"]) != 0) | (np.diff(table["market"]) != 0)
    return _ticked(table[last]).rows


def as_seen(db: sqlite3.Connection, markets: Sequence[int] | None, from_tick: int, to_tick: int) -> Ticked:
    """All rows that became known in `from_tick <= tick < to_tick`, ordered by (tick, second, market)."""
    table = _table(_filtered(db.execute(_SEEN, (from_tick, to_tick)), markets))
    return _ticked(table[np.lexsort((table["market"], table["second"], table["tick"]))])


def _in_time(
    db: sqlite3.Connection, markets: Sequence[int] | None, from_s: int, to_s: int
) -> Iterable[tuple[Any, ...]]:
    """Few of many markets are looked up second by second, else they are filtered out of a scan: whichever reads less."""
    (known,) = db.execute("SELECT count(*) FROM market").fetchone()
    if markets is None or len(markets) > _FEW_MARKETS or len(markets) * _SCANNED > known:
        return _filtered(db.execute(_IN_TIME, (from_s, to_s)), markets)
    # Two statements: asked for both at once, SQLite reads the whole table.
    first, last = (db.execute(f"SELECT {end}(tick) FROM bar").fetchone()[0] for end in ("min", "max"))
    if first is None:
        return ()
    span = (max(from_s + 1, first), min(to_s, last))
    if span[0] > span[1]:
        return ()
    return itertools.chain.from_iterable(db.execute(_STEPS, (*span, market)) for market in markets)


def _filtered(rows: Iterable[tuple[Any, ...]], markets: Sequence[int] | None) -> Iterable[tuple[Any, ...]]:
    if markets is None:
        return rows
    wanted = frozenset(markets)
    return (row for row in rows if row[1] in wanted)


def _table(rows: Iterable[tuple[Any, ...]]) -> np.ndarray[Any, np.dtype[np.void]]:
    """Row by row, as SQLite gives them: a list of all would take ten times the memory for a moment."""
    return np.fromiter(rows, _ROW)


def _ticked(table: np.ndarray[Any, np.dtype[np.void]]) -> Ticked:
    bars = np.empty(len(table), BAR)
    for name in BAR.names or ():
        bars[name] = table[name]
    return Ticked(table["tick"].copy(), bars)
