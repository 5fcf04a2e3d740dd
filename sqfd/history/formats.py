"""Rows of trade archives as columns. Pure.

`exchanges.archives` says how rows read; reading a block of lines is one call. A line that does not match costs only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchanges.api import COUNT_MAX, NOTIONAL_MAX, PRICE_MAX, SIZE_MAX, TIME_MAX_MS
from exchanges.archives import Layout
from sqfd.history.columns import Column, columns_of

Data = Literal["trades", "liquidations"]

MICROSECONDS_FROM = 100_000_000_000_000
"""Times from here on are microseconds: as milliseconds they would be in the year 5138."""
_BUY = frozenset({b"buy", b"1"})
_TRUE = frozenset({b"true", b"True", b"TRUE", b"1"})

TRADE = np.dtype(
    [
        ("ts_ms", np.int64),
        ("price", np.float64),
        ("size", np.float64),
        ("buy", np.bool_),
        ("count", np.int64),
        ("forced", np.bool_),
    ]
)
"""One row: `size` in the file's unit (base coins, or contracts); `forced`: a liquidation, which is not volume."""

Trades = NDArray[np.void]
"""Rows of TRADE, in the order of the file."""


def _int64(text: bytes) -> int:
    """Past int64 there is no trade id: such a count is out of range."""
    value = int(text)
    return value if -(1 << 62) < value < 1 << 62 else 1 << 61


_NUMBERS: Mapping[str, Callable[[bytes], float]] = {"price": float, "size": float}
_WHOLE: Mapping[str, Callable[[bytes], int]] = {"time": int, "first": _int64, "last": _int64}


class Bad(NamedTuple):
    """A row that was left out because it cannot be right."""

    line: int
    why: str
    text: str


class Block(NamedTuple):
    """What a block of lines held."""

    trades: Trades
    bad: list[Bad]
    others: int
    """Rows of other symbols."""
    sideless: int
    """Rows that do not say who was the aggressor."""


def read_block(layout: Layout, block: bytes, first_line: int, symbol: str, data: Data) -> Block:
    """Read whole lines. `symbol`: rows of files that name one must have it, in any case."""
    columns, lines, bad = _read(layout, block, first_line)
    others = sideless = 0
    if "symbol" in columns:
        names, sides = columns["symbol"], columns["side"]
        spelt = set(names)
        wanted = {name for name in spelt if name.decode(errors="replace").upper() == symbol.upper()}
        if wanted != spelt or b"unknown" in sides:
            mine = np.array([name in wanted for name in names], bool)
            sided = np.array([side != b"unknown" for side in sides], bool)
            others, sideless = int(np.count_nonzero(~mine)), int(np.count_nonzero(mine & ~sided))
            kept = np.flatnonzero(mine & sided)
            columns = {name: _chosen(values, kept) for name, values in columns.items()}
            lines = lines[kept]
    trades = _trades(columns, data)
    right = _in_range(trades)
    if not right.all():
        wrong = np.flatnonzero(~right).tolist()
        bad += [Bad(int(lines[at]), "out of range", _told(trades, at)) for at in wrong]
        trades = trades[right]
    return Block(trades, bad, others, sideless)


def _read(layout: Layout, block: bytes, first_line: int) -> tuple[dict[str, Column], NDArray[np.int64], list[Bad]]:
    """(columns, number of each row's line, rows that are none)."""
    quick = columns_of(layout, block)
    if quick is not None:
        return quick, np.arange(first_line, first_line + len(quick["time"])), []
    found, bad = layout.line.findall(block), list[Bad]()
    lines = np.arange(first_line, first_line + len(found))
    if len(found) != block.count(b"\n") + (not block.endswith(b"\n")):
        found, numbers, bad = _one_by_one(layout, block, first_line)
        lines = np.array(numbers, np.int64)
    columns: dict[str, Column] = dict(zip(layout.groups, zip(*found, strict=True), strict=True)) if found else {}
    for name, number in _NUMBERS.items():
        if name in columns:
            columns[name] = np.fromiter(map(number, columns[name]), np.float64)
    for name in _WHOLE.keys() & columns.keys():
        columns[name] = np.fromiter(map(_WHOLE[name], columns[name]), np.int64)
    return columns, lines, bad


def _chosen(values: Column, kept: NDArray[np.int64]) -> Column:
    return values[kept] if isinstance(values, np.ndarray) else [values[at] for at in kept.tolist()]


def _one_by_one(layout: Layout, block: bytes, first_line: int) -> tuple[list[tuple[bytes, ...]], list[int], list[Bad]]:
    found, numbers, bad = [], [], []
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), start=first_line):
        match = layout.line.fullmatch(line)
        if match is not None:
            found.append(tuple(group or b"" for group in match.groups()))
            numbers.append(number)
        elif line.strip():
            bad.append(Bad(number, "not a row of this file's kind", line[:80].decode(errors="replace")))
    return found, numbers, bad


def _trades(columns: dict[str, Column], data: Data) -> Trades:
    trades = np.zeros(len(columns.get("time", ())), TRADE)
    if not columns:
        return trades
    times = np.asarray(columns["time"])
    trades["ts_ms"] = np.where(times >= MICROSECONDS_FROM, times // 1000, times)
    for name in ("price", "size"):
        trades[name] = columns[name]
    if "maker" in columns:
        trades["buy"] = [flag not in _TRUE for flag in columns["maker"]]
    else:
        trades["buy"] = [side in _BUY for side in columns["side"]]
    trades["count"] = 1
    if "first" in columns:
        trades["count"] = np.asarray(columns["last"]) - np.asarray(columns["first"]) + 1
    trades["forced"] = data == "liquidations"
    if "forced" in columns:
        trades["forced"] = [flag == b"1" for flag in columns["forced"]]
    return trades


def _in_range(trades: Trades) -> NDArray[np.bool_]:
    """The limits of live trades; also false for infinite numbers (`1e999`)."""
    price, size, ts_ms, count = (trades[name] for name in ("price", "size", "ts_ms", "count"))
    result: NDArray[np.bool_] = (price > 0) & (price < PRICE_MAX) & (size > 0) & (size < SIZE_MAX)
    result &= (price * size < NOTIONAL_MAX) & (ts_ms > 0) & (ts_ms < TIME_MAX_MS) & (count > 0) & (count < COUNT_MAX)
    return result


def _told(trades: Trades, at: int) -> str:
    return " ".join(f"{name} {trades[name][at]}" for name in ("ts_ms", "price", "size", "count"))
