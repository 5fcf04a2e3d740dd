"""The journal for the event loop: appends never wait; what reads it, on the journal's own thread, is in `sqfd.journal.calls`.

A tick is queued and written by the one thread that owns the file. Where the disk refuses, ticks wait in memory up to a bound
and are tried again; what the bound pushes out is counted by reason. A file that turns out damaged is set aside.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sqfd.journal.calls import StoreCalls
from sqfd.journal.records import DAY_S, Batch, GapRecord, JournaledSignal
from sqfd.journal.schema import is_damage
from sqfd.journal.store import JournalStore
from sqfd.lean import structlog
from sqfd.model import Bars, Flow, Market

RETRY_S = 0.5
BATCHES_PER_WRITE = 60

log = structlog.get_logger("journal")


class JournalBusy(Exception):
    """Another process writes the journal of this folder."""


class Journal(StoreCalls):
    """A `JournalStore` behind one thread. Open with `Journal.open`, from a running loop; close with `close`."""

    def __init__(self, store: JournalStore, pool: ThreadPoolExecutor, lock: int, queue_rows: int) -> None:
        super().__init__(store, pool)
        self._lock_file, self._queue_rows = lock, queue_rows
        self._queue: deque[Batch] = deque()
        self._queued_rows = 0
        self._guard = threading.Lock()
        self._writing: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        """Who waits for a tick to be kept."""
        self._retry: asyncio.TimerHandle | None = None
        self._registered: tuple[Sequence[Market], Sequence[str]] = ((), ())
        self._names: list[str] = []
        self._seq = store.last_seq()
        self._closed = False
        self.written = store.last_tick()
        """Newest tick that reads can see."""
        self.lost: Counter[str] = Counter()
        """Rows that never reached the file, by `reason:kind`."""
        self.fault: str | None = None
        """Why the disk refuses at present; None: it does not."""
        self.largest_append_s = 0.0

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        retain_s: int = 7 * DAY_S,
        max_bytes: int = 20_000_000_000,
        instance: str = "sqfd",
        queue_rows: int = 500_000,
        bulk: bool = False,
    ) -> Journal:
        """Open the journal of the state folder `folder`.

        Raises JournalBusy, JournalTooNew, or sqlite3.Error and OSError where the disk refuses.
        """
        lock = claim(folder, instance)
        pool = ThreadPoolExecutor(1, thread_name_prefix="journal")
        make = partial(
            JournalStore,
            folder,
            bulk=bulk,
            retain_s=retain_s,
            max_bytes=max_bytes,
            stamp=time.strftime("%Y%m%dT%H%M%S"),
        )
        store = None
        try:
            store = await asyncio.get_running_loop().run_in_executor(pool, make)
            if store.set_aside is not None:
                log.error("journal damaged: set aside, a new one begins", file=str(store.set_aside))
            return cls(store, pool, lock, queue_rows)
        except BaseException:  # the disk can refuse the first read too: whoever tries again must not meet our own lock
            if store is not None:
                store.close()
            pool.shutdown(wait=False)
            os.close(lock)
            raise

    async def close(self) -> None:
        """Write what is queued (once: a disk that refuses now loses it, counted) and close the file."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        try:
            await self._call(self._drain)
            for batch in self._queue:
                self._count_lost("closed", batch)
            if self._queue:
                log.error(
                    "journal closed while the disk refuses: ticks are lost", ticks=len(self._queue), error=self.fault
                )
            await self._call(self._store.close)
        finally:
            self._pool.shutdown()
            os.close(self._lock_file)

    # --- writing

    async def register(self, markets: Sequence[Market], symbols: Sequence[str]) -> None:
        """Names of this run's indices; call before the first append, and again when the lists grow."""
        await self.flush()
        await self._call(self._store.register, markets, symbols)
        self._registered = (tuple(markets), tuple(symbols))
        self._names = await self._call(self._store.market_names)

    def number(self, signals: Sequence[JournaledSignal]) -> list[JournaledSignal]:
        """The same signals with the next numbers; the disk has no part in it."""
        numbered = []
        for signal in signals:
            self._seq += 1
            numbered.append(msgspec.structs.replace(signal, seq=self._seq))
        return numbered

    def append(
        self,
        tick: int,
        bars: Bars,
        flow: Flow,
        signals: Sequence[JournaledSignal] = (),
        positions: bytes | None = None,
        whole: NDArray[np.bool_] | None = None,
        gaps: Sequence[GapRecord] = (),
    ) -> None:
        """Queue one tick; never waits. The arrays belong to the journal from here on: do not write to them."""
        batch = Batch(tick, bars, flow, signals, positions, whole, gaps)
        with self._guard:
            self._queue.append(batch)
            self._queued_rows += batch.size
            while self._queued_rows > self._queue_rows and len(self._queue) > 1:
                oldest = self._queue.popleft()
                self._queued_rows -= oldest.size
                self._count_lost("queue_full", oldest)
        if self._retry is None:
            self._start_writing()

    async def kept(self, tick: int) -> None:
        """Wait until `tick`, appended before, is in the file, or the disk refused it. Does not wait for what comes after it.

        A disk that refused is asked at once: it may be well again.
        """
        if self._retry is not None and self.written < tick:
            self._retry.cancel()
            self._try_again()
        while self.written < tick and self._writing is not None:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)  # first this, then the look: the journal's thread does it the other way round
            try:
                if self.written < tick:
                    await waiter
            finally:
                self._waiting.remove(waiter)

    def _tell_kept(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def flush(self) -> None:
        """Wait until what was appended so far is written, or the disk refused it."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def _start_writing(self) -> None:
        if self._writing is None and not self._closed:
            self._writing = asyncio.get_running_loop().run_in_executor(self._pool, self._drain)
            self._writing.add_done_callback(self._wrote)

    def _wrote(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        self._tell_kept()
        if done.cancelled() or self._closed:
            return
        error = done.exception()
        if error is not None:  # a bug, not the disk: `_drain` has dropped the batch, so it cannot repeat for ever
            log.error("journal append failed", error=repr(error))
        if self.fault is not None and self._queue:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)
        elif self._queue:
            self._start_writing()

    def _try_again(self) -> None:
        self._retry = None
        self._start_writing()

    def _drain(self) -> None:
        """On the journal's thread: write the queue in order until it is empty or the disk refuses."""
        while batches := self._first_batches():
            started = time.perf_counter()
            try:
                self._store.write_all(batches)
                self.written = max(self.written, batches[-1].tick)
                if self._waiting:
                    self._loop.call_soon_threadsafe(self._tell_kept)
                self._store.keep_house(batches[-1].tick, len(batches))
            except sqlite3.Error as error:
                if not self._refused(error):
                    return
                continue
            except BaseException:
                self._forget(batches, "error")
                raise
            self.largest_append_s = max(self.largest_append_s, time.perf_counter() - started)
            self._forget(batches)
            self._healed()

    def _first_batches(self) -> list[Batch]:
        with self._guard:
            return [self._queue[index] for index in range(min(BATCHES_PER_WRITE, len(self._queue)))]

    def _forget(self, batches: list[Batch], lost: str | None = None) -> None:
        """Take written batches off the queue; `append` may have pushed some of them out in the meantime."""
        with self._guard:
            for batch in batches:
                if self._queue and self._queue[0] is batch:
                    self._queue.popleft()
                    self._queued_rows -= batch.size
                    if lost:
                        self._count_lost(lost, batch)
                elif not lost:
                    self._count_lost("queue_full", batch, sign=-1)

    def _refused(self, error: sqlite3.Error) -> bool:
        """Note why; True: the file was replaced and the same rows may be tried at once."""
        if is_damage(error):
            aside = self._store.begin_anew(time.strftime("%Y%m%dT%H%M%S"), *self._registered)
            log.error("journal damaged: set aside, a new one begins", file=str(aside), error=str(error))
            return True
        if self.fault is None:
            log.error("journal cannot be written: ticks wait in memory", error=str(error), queue_rows=self._queue_rows)
        self.fault = str(error)
        return False

    def _healed(self) -> None:
        if self.fault is not None:
            log.info("journal is written again", after=self.fault)
            self.fault = None

    def _count_lost(self, reason: str, batch: Batch, sign: int = 1) -> None:
        for kind, rows in (("bars", batch.bars), ("flow", batch.flow), ("signals", batch.signals)):
            if len(rows):
                self.lost[f"{reason}:{kind}"] += sign * len(rows)

    def names(self) -> Sequence[str]:
        """All markets ever registered; the index of `bars_since`."""
        return self._names

    def status(self) -> dict[str, Any]:
        """For health and metrics; touches no disk."""
        return {
            "written": self.written,
            "queued_rows": self._queued_rows,
            "fault": self.fault,
            "lost": dict(self.lost),
            "left_early": dict(self._store.counters),
            "largest_append_s": self.largest_append_s,
        }


def claim(folder: Path, instance: str) -> int:
    """Claim the folder for this process, with a file handle; the kernel gives it back however the process ends.

    Raises JournalBusy where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "journal.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise JournalBusy(
            f"{folder}: another sqfd writes this journal: stop it, or give {instance} its own journal.state"
        ) from error
    return handle
