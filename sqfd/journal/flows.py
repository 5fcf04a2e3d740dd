"""Flow of one symbol: rows for the hour that is open, one blob of columns for each sealed hour.

Read as rows, a day of flow costs more than evaluating it; read from blobs it costs a few milliseconds.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqfd.model import FLOW_VALUES, Flow, FlowTable

HOUR_S = 3_600
COLUMNS = FlowTable.names
_NOW = ",".join(COLUMNS)
Table = NDArray[np.int64]
"""COLUMNS × rows."""

_INSERT = f"INSERT OR IGNORE INTO flow VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM flow WHERE symbol = ? AND tick >= ? AND tick < ? ORDER BY tick, second"


def insert(db: sqlite3.Connection, tick: int, rows: Iterable[tuple[Any, ...]]) -> None:
    """Add rows of FLOW whose symbols are journal ids already."""
    db.executemany(_INSERT, [(row[0], tick, *row[1:]) for row in rows])


def pack(table: Table) -> bytes:
    """Columns one after the other, little-endian int64."""
    return table.astype("<i8").tobytes()


def unpack(columns: str, rows: int, data: bytes) -> Table:
    """The blob as COLUMNS × rows: columns are found by name, those that its writer did not know are 0."""
    if columns == _NOW:
        return np.frombuffer(data, "<i8").reshape(-1, rows)
    stored = dict(zip(columns.split(","), np.frombuffer(data, "<i8").reshape(-1, rows), strict=True))
    table = np.zeros((len(COLUMNS), rows), np.int64)
    for index, name in enumerate(COLUMNS):
        if name in stored:
            table[index] = stored[name]
    return table


def read(db: sqlite3.Connection, symbol: int, from_tick: int, to_tick: int) -> FlowTable:
    """Flow that became known in `from_tick <= tick < to_tick`, ordered by (tick, second)."""
    parts = [*_blocks(db, symbol, from_tick, to_tick), _rows(db, symbol, from_tick, to_tick)]
    parts = [part for part in parts if part.shape[1]]
    return FlowTable(_in_order(np.concatenate(parts, axis=1)) if parts else np.zeros((len(COLUMNS), 0), np.int64))


def extent(db: sqlite3.Connection, symbol: int) -> tuple[int, int] | None:
    """First and last tick of a symbol; None where there is none."""
    found = db.execute("SELECT min(tick), max(tick) FROM flow WHERE symbol = ?", (symbol,)).fetchone()
    ticks = [int(tick) for tick in found if tick is not None]
    for end in ("ASC", "DESC"):
        query = f"SELECT rows, columns, data FROM flow_block WHERE symbol = ? AND rows > 0 ORDER BY hour {end} LIMIT 1"
        for rows, columns, data in db.execute(query, (symbol,)):
            packed = unpack(columns, rows, data)[0]
            ticks += [int(packed[0]), int(packed[-1])]
    return (min(ticks), max(ticks)) if ticks else None


def load(db: sqlite3.Connection, symbol: int, rows: Flow) -> None:
    """Add history that was known in time (tick = second + 1) as packed hours. What is there already stays as it is."""
    table = np.stack([rows["second"] + 1, rows["second"], *(rows[name] for name in FLOW_VALUES)])
    for hour in np.unique(table[0] // HOUR_S * HOUR_S).tolist():
        of_hour = table[:, (table[0] >= hour) & (table[0] < hour + HOUR_S)]
        _write_block(db, symbol, hour, _in_order(np.concatenate([_hour(db, symbol, hour), of_hour], axis=1)))


def derive(db: sqlite3.Connection, symbol: int, rows: Flow, kept: NDArray[np.bool_], from_s: int) -> None:
    """Put rows that were computed from stored bars in the place of what there is for these seconds.

    `kept`: per second from `from_s` on, the daemon gave its own rows, which stay; `rows` hold none of those seconds.
    """
    end_s = from_s + len(kept)
    table = np.stack([rows["second"] + 1, rows["second"], *(rows[name] for name in FLOW_VALUES)])
    for hour in range((from_s + 1) // HOUR_S * HOUR_S, end_s + 1, HOUR_S):
        there = _hour(db, symbol, hour)
        closed = there[0] - 1  # the second that the row's tick closed
        inside = (closed >= from_s) & (closed < end_s)
        stays = ~inside
        stays[inside] = kept[closed[inside] - from_s]
        fresh = table[:, (table[0] >= hour) & (table[0] < hour + HOUR_S)]
        merged = _in_order(np.concatenate([there[:, stays], fresh], axis=1))
        if merged.shape[1]:
            _write_block(db, symbol, hour, merged)


def seal(db: sqlite3.Connection, before_tick: int) -> None:
    """Pack the hours that ended before `before_tick`; rows that came late to a packed hour are merged into it."""
    before = before_tick // HOUR_S * HOUR_S
    for symbol, hour in _unsealed(db, before):
        _write_block(db, symbol, hour, _hour(db, symbol, hour))


def _write_block(db: sqlite3.Connection, symbol: int, hour: int, table: Table) -> None:
    """Put a whole hour in the place of its block and rows."""
    db.execute(
        "INSERT OR REPLACE INTO flow_block VALUES (?, ?, ?, ?, ?)",
        (symbol, hour, table.shape[1], _NOW, pack(table)),
    )
    db.execute("DELETE FROM flow WHERE symbol = ? AND tick >= ? AND tick < ?", (symbol, hour, hour + HOUR_S))


def _unsealed(db: sqlite3.Connection, before: int) -> list[tuple[int, int]]:
    found = []
    for (symbol,) in db.execute("SELECT id FROM symbol").fetchall():
        query = "SELECT DISTINCT tick / 3600 * 3600 FROM flow WHERE symbol = ? AND tick < ?"
        found += [(int(symbol), int(hour)) for (hour,) in db.execute(query, (symbol, before))]
    return found


def _hour(db: sqlite3.Connection, symbol: int, hour: int) -> Table:
    """All rows of an hour; where a key is both packed and a row, the packed one stays, as the first did on insert."""
    parts = [*_blocks(db, symbol, hour, hour + HOUR_S), _rows(db, symbol, hour, hour + HOUR_S)]
    return _in_order(np.concatenate(parts, axis=1))


def _blocks(db: sqlite3.Connection, symbol: int, from_tick: int, to_tick: int) -> list[Table]:
    query = "SELECT rows, columns, data FROM flow_block WHERE symbol = ? AND hour > ? AND hour < ? ORDER BY hour"
    parts = []
    for rows, columns, data in db.execute(query, (symbol, from_tick - HOUR_S, to_tick)):
        table = unpack(columns, rows, data)
        first, last = np.searchsorted(table[0], [from_tick, to_tick])
        parts.append(table[:, first:last])
    return parts


def _rows(db: sqlite3.Connection, symbol: int, from_tick: int, to_tick: int) -> Table:
    values = itertools.chain.from_iterable(db.execute(_SELECT, (symbol, from_tick, to_tick)))
    return np.fromiter(values, np.int64).reshape(-1, len(COLUMNS)).T  # a list of rows would take five times as much


def _in_order(table: Table) -> Table:
    """Sorted by (tick, second), the first of equal keys kept. Nearly always it is in order already."""
    tick, second = table[0], table[1]
    after = tick[1:] > tick[:-1]
    if after.all() or (after | ((tick[1:] == tick[:-1]) & (second[1:] > second[:-1]))).all():
        return table
    table = table[:, np.lexsort((second, tick))]  # lexsort is stable: the first stays the first
    fresh = np.ones(table.shape[1], bool)
    fresh[1:] = (np.diff(table[0]) != 0) | (np.diff(table[1]) != 0)
    return table[:, fresh]
