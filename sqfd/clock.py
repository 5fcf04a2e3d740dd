"""The only place where the daemon reads time. Stages get a `Clock`, or just the numbers that they need.

`Clock.now_ms` never steps: it starts at the host's wall time and then follows the monotonic clock, on Linux the one that
goes on while the host is suspended (else the trades after that would seem to come from the future). Receive times, offsets
to the exchanges' clocks and the closing of seconds use it, so that a stepping host clock can neither re-open nor repeat a
second. `wall_ms` is the host's clock as it is now; the difference is reported, not used.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What stages may know of time, in milliseconds since the epoch."""

    def now_ms(self) -> float:
        """Steady time: never steps, never goes back."""

    def wall_ms(self) -> float:
        """The host's wall clock, which may step."""

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock."""


_STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The host's clocks."""

    def __init__(self) -> None:
        self._origin_ms = time.time() * 1e3 - time.clock_gettime(_STEADY) * 1e3

    def now_ms(self) -> float:
        return self._origin_ms + time.clock_gettime(_STEADY) * 1e3

    def wall_ms(self) -> float:
        return time.time() * 1e3

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """Time that stands still until it is set: replays and tests. `sleep` only lets other tasks run."""

    def __init__(self, now_ms: float = 0.0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> float:
        return self._now_ms

    def wall_ms(self) -> float:
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def set(self, now_ms: float) -> None:
        """Move to `now_ms`; never back."""
        self._now_ms = max(self._now_ms, now_ms)
