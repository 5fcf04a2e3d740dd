"""P15: a stalled loop is counted once, with the stack of what stalls it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqfd.stalls import Stalls


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.lines.append({"event": event, **values})


def blocks(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(100))


async def test_a_stall_is_counted_once_with_its_stack() -> None:
    """However long it lasts; the culprit's name is in the stack; the log has one line for many."""
    log = Log()
    stalls = Stalls(log, now_s=time.process_time)  # a machine that is busy with others stalls nobody here
    stalls.start()
    try:
        await asyncio.sleep(0.2)
        assert (stalls.count, stalls.last_ago_s()) == (0, float("inf"))
        for expected in (1, 2):
            blocks(0.7)
            await asyncio.sleep(0.2)
            assert stalls.count == expected
    finally:
        stalls.stop()
    assert 0.25 < stalls.longest_s < 3
    assert any("blocks" in line for line in stalls.stack)
    assert stalls.last_ago_s() < 3
    assert len(log.lines) == 1
    assert "blocks" in log.lines[0]["stack"]


async def test_a_busy_loop_is_no_stall() -> None:
    """Many short turns are fine."""
    stalls = Stalls(Log(), now_s=time.process_time)
    stalls.start()
    for _ in range(40):
        blocks(0.02)
        await asyncio.sleep(0)
    stalls.stop()
    assert stalls.count == 0
