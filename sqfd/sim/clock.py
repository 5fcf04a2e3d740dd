"""Simulated time that runs faster or slower than the host's, the same in several processes."""

from __future__ import annotations

import asyncio

from sqfd.clock import SystemClock


class ScaledClock:
    """Shows the host's time at `anchor_ms` and runs `speed` times as fast from there (see `sqfd.clock.Clock`).

    Processes of one host with the same anchor and speed agree as well as their wall clocks do.
    """

    def __init__(self, anchor_ms: float, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed!r}")
        self.anchor_ms, self.speed = anchor_ms, speed
        self._host = SystemClock()

    def now_ms(self) -> float:
        return self.anchor_ms + (self._host.now_ms() - self.anchor_ms) * self.speed

    def wall_ms(self) -> float:
        return self.anchor_ms + (self._host.wall_ms() - self.anchor_ms) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)
