"""Where a backtest's flow comes from: the journal in tick order, as live saw it, or the best data that it holds by now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sqfd.journal import JournalStore, Ticked
from sqfd.model import FLOW, Flow

Ints = NDArray[np.int64]
NO_TICKS: Ints = np.zeros(0, np.int64)


class NoData(LookupError):
    """The range holds no flow. Its text names what there is."""


class Source(Protocol):
    """Flow of symbols by the tick at which it became known."""

    def extent(self, symbol: str) -> tuple[int, int] | None:
        """First and last tick of a symbol; None where there is none."""

    def flow(self, symbol: str, from_tick: int, to_tick: int, index: int) -> Ticked:
        """Rows of `from_tick <= tick < to_tick` by (tick, second), with `index` as their symbol."""


class AsSeen:
    """The journal in the order in which it was written: what the strategy saw live, revisions at their own tick."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store

    def extent(self, symbol: str) -> tuple[int, int] | None:
        return self._store.flow_extent(symbol)

    def flow(self, symbol: str, from_tick: int, to_tick: int, index: int) -> Ticked:
        return self._store.flow(symbol, from_tick, to_tick, index=index)


class Revised:
    """The newest revision of each second, as if it had been known in time: better data than live had."""

    def __init__(self, source: Source, revisable_s: int) -> None:
        """`revisable_s`: how long after its close a second can have been revised."""
        self._source, self._revisable_s = source, revisable_s

    def extent(self, symbol: str) -> tuple[int, int] | None:
        return self._source.extent(symbol)

    def flow(self, symbol: str, from_tick: int, to_tick: int, index: int) -> Ticked:
        seen = self._source.flow(symbol, from_tick, to_tick + self._revisable_s + 1, index)
        rows = seen.rows[(seen.rows["second"] >= from_tick - 1) & (seen.rows["second"] < to_tick - 1)]
        rows = rows[np.argsort(rows["second"], kind="stable")]
        newest = np.ones(len(rows), np.bool_)
        newest[:-1] = rows["second"][1:] != rows["second"][:-1]
        rows = rows[newest]
        return Ticked(rows["second"] + 1, rows)


class Block(NamedTuple):
    """All symbols' flow of the ticks `[first, last)`; row `i` became known at `ticks[i]`, ascending."""

    first: int
    last: int
    ticks: Ints
    flow: Flow


def blocks(source: Source, symbols: Sequence[str], cuts: Sequence[int]) -> Iterator[Block]:
    """The flow between each two neighbours of `cuts`, symbols merged tick by tick; empty blocks are left out."""
    for first, last in pairwise(cuts):
        block = merged(source, symbols, first, last)
        if len(block.ticks):
            yield block


def merged(source: Source, symbols: Sequence[str], first: int, last: int) -> Block:
    """One block."""
    parts = [source.flow(symbol, first, last, index) for index, symbol in enumerate(symbols)]
    parts = [part for part in parts if len(part.ticks)]
    if len(parts) == 1:
        return Block(first, last, *parts[0])
    if not parts:
        return Block(first, last, NO_TICKS, np.zeros(0, FLOW))
    ticks, rows = np.concatenate([part.ticks for part in parts]), np.concatenate([part.rows for part in parts])
    order = np.lexsort((rows["symbol"], rows["second"], ticks))
    return Block(first, last, ticks[order], rows[order])


def by_symbol(source: Source, symbols: Sequence[str], first: int, last: int) -> Flow:
    """Rows of the ticks `[first, last)`, one symbol after the other, each in tick order: to warm an engine with."""
    return np.concatenate([source.flow(symbol, first, last, index).rows for index, symbol in enumerate(symbols)])


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
