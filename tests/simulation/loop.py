"""A virtual-time event loop: time stands still while anything can run, and then jumps to the next timer.

Nothing in it waits for the host, so that hours pass in seconds and the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_MS = 1_800_000_000_000.0
"""What the clock shows when a simulation begins: a full second, minute and hour."""


class Deadlock(RuntimeError):
    """Every task waits for something that nothing will do."""


class _Jump(selectors.SelectSelector):
    """Instead of waiting for files, let time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is scheduled")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is what has been slept."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now_s


class VirtualClock:
    """The `sqfd.clock.Clock` of a virtual loop. The wall clock may be stepped by tests; the steady one may not."""

    def __init__(self) -> None:
        self.step_ms = 0.0

    def now_ms(self) -> float:
        return START_MS + asyncio.get_running_loop().time() * 1e3

    def wall_ms(self) -> float:
        return self.now_ms() + self.step_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
