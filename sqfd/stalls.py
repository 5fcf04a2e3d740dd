"""Is the event loop on time? A thread looks at a mark that the loop renews; where it is old, it takes the loop's stack.

A stack taken afterwards would show nothing: what blocks the loop has to be caught while it blocks.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

LIMIT_S = 0.25
MARK_S = 0.2
LEAST_S = 0.01
"""The thread sleeps no shorter."""
LOG_S = 60.0
"""One stall is logged with its stack at most this often; all are counted."""
DEPTH = 6
"""Innermost frames of a stack that are told."""


class Stalls:
    """Counts stalls of the running loop. `start` and `stop` on the loop's thread."""

    def __init__(self, log: Any, limit_s: float = LIMIT_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log, self._limit_s, self._now_s = log, limit_s, now_s
        self._marked = 0.0
        self._thread_id = 0
        self._running = threading.Lock()
        """Held until the end: to wait for it costs less than to wait for a `threading.Event`."""
        self._thread: threading.Thread | None = None
        self._logged = -math.inf
        self._last = -math.inf
        self._next: asyncio.TimerHandle | None = None
        self.count = 0
        self.longest_s = 0.0
        self.stack: tuple[str, ...] = ()
        """Of the last stall, innermost frame last: `package/file:line function`."""

    def last_ago_s(self) -> float:
        """Since the last stall; inf where there was none."""
        return self._now_s() - self._last

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._thread_id = threading.get_ident()
        self._running.acquire(blocking=False)
        self._mark(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watching thread."""
        if self._running.locked():
            self._running.release()
        if self._next is not None:
            self._next.cancel()
        if self._thread is not None:
            self._thread.join()

    def _mark(self, loop: asyncio.AbstractEventLoop) -> None:
        self._marked = self._now_s()
        self._next = loop.call_later(MARK_S, self._mark, loop)

    def _watch(self) -> None:
        """Sleep until the mark would be too old. Then it is, or it was renewed meanwhile."""
        counted, wait_s = 0.0, MARK_S + self._limit_s
        while not self._running.acquire(timeout=max(LEAST_S, wait_s)):
            marked = self._marked
            late_s = self._now_s() - marked - MARK_S
            wait_s = self._limit_s - late_s
            if late_s < self._limit_s:
                continue
            wait_s = MARK_S
            self.longest_s = max(self.longest_s, late_s)
            if marked != counted:  # each stall counts once, however long it lasts
                counted = marked
                self._stalled(sys._current_frames().get(self._thread_id))

    def _stalled(self, frame: FrameType | None) -> None:
        self.count += 1
        self._last = self._now_s()
        frames = traceback.extract_stack(frame)[-DEPTH:]
        self.stack = tuple(f"{_short(one.filename)}:{one.lineno} {one.name}" for one in frames)
        if self._last - self._logged >= LOG_S:
            self._logged = self._last
            self._log.warning("the event loop stalls", count=self.count, stack=" < ".join(reversed(self.stack)))


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])
