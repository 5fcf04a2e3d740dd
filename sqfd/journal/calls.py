"""What the event loop asks of the journal's file: reads, and how far the sinks have come, each on the journal's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sqfd.journal.records import Extent, JournaledSignal, LastTraded, Ticked
from sqfd.journal.store import JournalStore
from sqfd.model import Bars, Flow

T = TypeVar("T")


class StoreCalls:
    """The half of `Journal` that asks its store. Calls wait for their turn on the one thread that owns the file."""

    def __init__(self, store: JournalStore, pool: ThreadPoolExecutor) -> None:
        self._store, self._pool = store, pool

    # --- what sinks use

    async def cursor(self, sink: str) -> int:
        """The tick up to which `sink` has everything."""
        return await self._call(self._store.cursor, sink)

    async def move(self, sink: str, tick: int) -> None:
        """Note that `sink` has everything up to and including `tick`; raises sqlite3.Error where the disk refuses."""
        await self._call(self._store.move, sink, tick)

    async def forget(self, sink: str) -> None:
        """See `JournalStore.forget`."""
        await self._call(self._store.forget, sink)

    async def bars_since(self, tick: int, limit: int) -> Ticked:
        """See `JournalStore.bars_since`."""
        return await self._call(self._store.bars_since, tick, limit)

    async def unpublished(self, sink: str, limit: int = 1_000) -> list[JournaledSignal]:
        """See `JournalStore.unpublished`."""
        return await self._call(self._store.unpublished, sink, limit)

    async def mark(self, sink: str, outcomes: Mapping[str, str]) -> None:
        """See `JournalStore.mark`; raises sqlite3.Error where the disk refuses."""
        await self._call(self._store.mark, sink, outcomes)

    # --- reading

    async def bars(self, markets: Sequence[str] | None, from_s: int, to_s: int) -> Bars:
        """See `JournalStore.bars`."""
        return await self._call(self._store.bars, markets, from_s, to_s)

    async def bars_as_seen(self, markets: Sequence[str] | None, from_tick: int, to_tick: int) -> Ticked:
        """See `JournalStore.bars_as_seen`."""
        return await self._call(self._store.bars_as_seen, markets, from_tick, to_tick)

    async def flow(self, symbol: str, from_tick: int, to_tick: int, *, index: int = 0) -> Ticked:
        """See `JournalStore.flow`."""
        return await self._call(partial(self._store.flow, symbol, from_tick, to_tick, index=index))

    async def first_flow(self, symbols: Sequence[str]) -> int | None:
        """See `JournalStore.first_flow`."""
        return await self._call(self._store.first_flow, symbols)

    async def last_traded(self, from_tick: int, before_s: int) -> dict[str, LastTraded]:
        """See `JournalStore.last_traded`."""
        return await self._call(self._store.last_traded, from_tick, before_s)

    async def coverage(self, markets: Sequence[str], from_s: int, to_s: int) -> NDArray[np.bool_]:
        """See `JournalStore.coverage`."""
        return await self._call(self._store.coverage, markets, from_s, to_s)

    async def signals(
        self, *, from_tick: int = 0, to_tick: int | None = None, limit: int = 1_000
    ) -> list[JournaledSignal]:
        """See `JournalStore.signals`."""
        return await self._call(partial(self._store.signals, from_tick=from_tick, to_tick=to_tick, limit=limit))

    async def load_flow(self, flow: Flow) -> None:
        """See `JournalStore.load_flow`."""
        await self._call(self._store.load_flow, flow)

    async def note_engine(self, tick: int, record: bytes) -> None:
        """See `JournalStore.note_engine`."""
        await self._call(self._store.note_engine, tick, record)

    async def positions(self) -> bytes | None:
        """See `JournalStore.positions`."""
        return await self._call(self._store.positions)

    async def span(self) -> tuple[int, int]:
        """See `JournalStore.span`."""
        return await self._call(self._store.span)

    async def extent(self) -> list[Extent]:
        """See `JournalStore.extent`."""
        return await self._call(self._store.extent)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args))
