"""Where a backtest's flow comes from: the journal in tick order, as live saw it, or the best data that it holds by now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from sqfd.journal import JournalStore
from sqfd.model import Flow, FlowTable


class NoData(LookupError):
    """The range holds no flow. Its text names what there is."""


class Source(Protocol):
    """Flow of symbols by the tick at which it became known."""

    def extent(self, symbol: str) -> tuple[int, int] | None:
        """First and last tick of a symbol; None where there is none."""

    def flow(self, symbol: str, from_tick: int, to_tick: int) -> FlowTable:
        """Rows of `from_tick <= tick < to_tick` by (tick, second)."""


class AsSeen:
    """The journal in the order in which it was written: what the strategy saw live, revisions at their own tick."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store

    def extent(self, symbol: str) -> tuple[int, int] | None:
        return self._store.flow_extent(symbol)

    def flow(self, symbol: str, from_tick: int, to_tick: int) -> FlowTable:
        return self._store.flow_table(symbol, from_tick, to_tick)


class Revised:
    """The newest revision of each second, as if it had been known in time: better data than live had."""

    def __init__(self, source: Source, revisable_s: int) -> None:
        """`revisable_s`: how long after its close a second can have been revised."""
        self._source, self._revisable_s = source, revisable_s

    def extent(self, symbol: str) -> tuple[int, int] | None:
        return self._source.extent(symbol)

    def flow(self, symbol: str, from_tick: int, to_tick: int) -> FlowTable:
        seen = self._source.flow(symbol, from_tick, to_tick + self._revisable_s + 1)
        rows = seen[(seen["second"] >= from_tick - 1) & (seen["second"] < to_tick - 1)]
        rows = rows[np.argsort(rows["second"], kind="stable")]
        newest = np.ones(len(rows), np.bool_)
        newest[:-1] = rows["second"][1:] != rows["second"][:-1]
        rows = rows[newest]
        rows["tick"][:] = rows["second"] + 1
        return rows


class Block(NamedTuple):
    """All symbols' flow of the ticks `[first, last)`, by (tick, second)."""

    first: int
    last: int
    tables: tuple[FlowTable, ...]
    """By symbol."""

    @property
    def empty(self) -> bool:
        """Nothing became known."""
        return not any(map(len, self.tables))

    @property
    def ticks(self) -> tuple[int, int]:
        """The first tick that has a row, and the one past the last; (0, 0) where none has."""
        if self.empty:
            return 0, 0
        known = [table["tick"] for table in self.tables if len(table)]
        return min(int(ticks[0]) for ticks in known), max(int(ticks[-1]) for ticks in known) + 1


def blocks(source: Source, symbols: Sequence[str], cuts: Sequence[int]) -> Iterator[Block]:
    """The flow between each two neighbours of `cuts`; blocks in a hole are empty."""
    for first, last in pairwise(cuts):
        yield Block(first, last, tuple(source.flow(symbol, first, last) for symbol in symbols))


def by_symbol(source: Source, symbols: Sequence[str], first: int, last: int) -> Flow:
    """Rows of the ticks `[first, last)`, one symbol after the other, each in tick order: to warm an engine with."""
    return np.concatenate([source.flow(symbol, first, last).rows(index) for index, symbol in enumerate(symbols)])


def cuts_of(first: int, last: int, block_s: int, at: Sequence[int] = ()) -> list[int]:
    """Edges of blocks of `[first, last)`: multiples of `block_s`, so that whole hours are read, and every tick of `at`."""
    grid = range(first // block_s * block_s + block_s, last, block_s)
    inside = {tick for tick in at if first < tick < last}
    return sorted({first, *grid, *inside, last})


def span_of(source: Source, symbols: Sequence[str], from_s: int | None, to_s: int | None) -> tuple[int, int]:
    """Ticks `[first, last)` of the wanted seconds `[from_s, to_s)`, cut to what there is.

    Raises NoData where a symbol has nothing in them.
    """
    extents = {symbol: source.extent(symbol) for symbol in symbols}
    known = [extent for extent in extents.values() if extent is not None]
    first = min((extent[0] for extent in known), default=0) if from_s is None else from_s + 1
    last = max((extent[1] for extent in known), default=0) + 1 if to_s is None else to_s + 1
    empty = [s for s, extent in extents.items() if extent is None or extent[0] >= last or extent[1] < first]
    if empty or first >= last:
        wanted = f"{moment(first - 1)} to {moment(last - 1)}" if known or from_s or to_s else "any time"
        raise NoData(f"no flow of {', '.join(empty) or 'any symbol'} in {wanted}; there is {told(extents)}")
    return max(first, min(e[0] for e in known)), min(last, max(e[1] for e in known) + 1)


def told(extents: dict[str, tuple[int, int] | None]) -> str:
    """What there is, in words."""
    there = [f"{s} {moment(e[0] - 1)} to {moment(e[1])}" for s, e in extents.items() if e is not None]
    return ", ".join(there) or "nothing"


def moment(second: int) -> str:
    """`2024-08-08 13:05:00` (UTC)."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
