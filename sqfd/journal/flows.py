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
WIDTHS = (0, 1, 2, 4, 8)
"""Bytes of a packed value."""
Table = NDArray[np.int64]
"""COLUMNS × rows."""

_INSERT = f"INSERT OR IGNORE INTO flow VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM flow WHERE symbol = ? AND tick >= ? AND tick < ? ORDER BY tick, second"


def insert(db: sqlite3.Connection, tick: int, rows: Iterable[tuple[Any, ...]]) -> None:
    """Add rows of FLOW whose symbols are journal ids already."""
    db.executemany(_INSERT, [(row[0], tick, *row[1:]) for row in rows])


def pack(table: Table) -> tuple[str, bytes]:
    """An hour, at least one row, as (columns, data): a third of the bytes that int64 would take, which is what reading it costs.

    `columns` are `name:width`, the widest first. `data` is the least value of each as int64, and then each column's values less
    that as unsigned integers of `width` bytes (0 where all are alike), all of it little-endian.
    """
    origins = table.min(axis=1)
    spans = (table.max(axis=1) - origins).view(np.uint64).tolist()  # they may exceed int64
    widths = [next(width for width in WIDTHS if span < 1 << 8 * width) for span in spans]
    order = sorted(range(len(table)), key=lambda row: -widths[row])  # so that each column is aligned
    values = ((table[row] - origins[row]).astype(f"<u{widths[row]}") for row in order if widths[row])
    names = ",".join(f"{COLUMNS[row]}:{widths[row]}" for row in order)
    return names, b"".join([origins[order].astype("<i8").tobytes(), *(column.tobytes() for column in values)])


def unpack(columns: str, rows: int, data: bytes, table: Table) -> None:
    """Write such an hour into `table`, its first names of COLUMNS × rows. Columns that its writer did not know are 0."""
    stored = _wide(columns, rows, data) if ":" not in columns else _narrow(columns, rows, data)
    for name, cells in zip(COLUMNS, table, strict=False):
        origin, values = stored.get(name, (0, None))
        if values is None:
            cells[:] = origin
        elif origin:
            np.add(values, origin, out=cells, dtype=np.int64, casting="unsafe")  # unsigned, and too narrow for the sum
        else:
            cells[:] = values


Stored = dict[str, tuple[int, NDArray[Any] | None]]
"""By name: what is to be added to the values, which are None where all are 0."""


def _narrow(columns: str, rows: int, data: bytes) -> Stored:
    names, widths = zip(*(column.split(":") for column in columns.split(",")), strict=True)
    origins, at, found = np.frombuffer(data, "<i8", len(names)).tolist(), 8 * len(names), Stored()
    for name, width, origin in zip(names, map(int, widths), origins, strict=True):
        found[name] = origin, np.frombuffer(data, f"<u{width}", rows, at) if width else None
        at += rows * width
    return found


def _wide(columns: str, rows: int, data: bytes) -> Stored:
    """As versions before the fifth packed it: all columns as int64."""
    table = np.frombuffer(data, "<i8").reshape(-1, rows)
    return {name: (0, values) for name, values in zip(columns.split(","), table, strict=True)}


def read(db: sqlite3.Connection, symbol: int, from_tick: int, to_tick: int) -> FlowTable:
    """Flow that became known in `from_tick <= tick < to_tick`, ordered by (tick, second)."""
    return FlowTable(_between(db, symbol, from_tick, to_tick))


def extent(db: sqlite3.Connection, symbol: int) -> tuple[int, int] | None:
    """First and last tick of a symbol; None where there is none."""
    found = db.execute("SELECT min(tick), max(tick) FROM flow WHERE symbol = ?", (symbol,)).fetchone()
    ticks = [int(tick) for tick in found if tick is not None]
    for end in ("ASC", "DESC"):
        query = f"SELECT rows, columns, data FROM flow_block WHERE symbol = ? AND rows > 0 ORDER BY hour {end} LIMIT 1"
        for rows, columns, data in db.execute(query, (symbol,)):
            packed = np.empty((1, rows), np.int64)
            unpack(columns, rows, data, packed)
            ticks += [int(packed[0, 0]), int(packed[0, -1])]
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
    db.execute("INSERT OR REPLACE INTO flow_block VALUES (?, ?, ?, ?, ?)", (symbol, hour, table.shape[1], *pack(table)))
    db.execute("DELETE FROM flow WHERE symbol = ? AND tick >= ? AND tick < ?", (symbol, hour, hour + HOUR_S))


def _unsealed(db: sqlite3.Connection, before: int) -> list[tuple[int, int]]:
    found = []
    for (symbol,) in db.execute("SELECT id FROM symbol").fetchall():
        query = "SELECT DISTINCT tick / 3600 * 3600 FROM flow WHERE symbol = ? AND tick < ?"
        found += [(int(symbol), int(hour)) for (hour,) in db.execute(query, (symbol, before))]
    return found


def _hour(db: sqlite3.Connection, symbol: int, hour: int) -> Table:
    """All rows of an hour; where a key is both packed and a row, the packed one stays, as the first did on insert."""
    return _between(db, symbol, hour, hour + HOUR_S)


def _between(db: sqlite3.Connection, symbol: int, from_tick: int, to_tick: int) -> Table:
    packed, loose = _packed(db, symbol, from_tick, to_tick), _rows(db, symbol, from_tick, to_tick)
    return _in_order(np.concatenate([packed, loose], axis=1) if loose.shape[1] else packed)


def _packed(db: sqlite3.Connection, symbol: int, from_tick: int, to_tick: int) -> Table:
    query = "SELECT rows, columns, data FROM flow_block WHERE symbol = ? AND hour > ? AND hour < ? ORDER BY hour"
    hours = db.execute(query, (symbol, from_tick - HOUR_S, to_tick)).fetchall()
    table, at = np.empty((len(COLUMNS), sum(rows for rows, *_ in hours)), np.int64), 0
    for rows, columns, data in hours:
        unpack(columns, rows, data, table[:, at : at + rows])
        at += rows
    first, last = np.searchsorted(table[0], [from_tick, to_tick])
    return table[:, first:last]


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
