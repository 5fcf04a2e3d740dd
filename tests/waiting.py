"""Waiting for what must come, as long as a busy machine may need: tests fail by what happened, not by how fast this machine is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

PATIENCE_S = 120.0 * float(os.environ.get("SQFD_PATIENCE", "1"))
"""Nothing that is waited for takes longer, unless it never comes. A machine that is starved of CPU: set SQFD_PATIENCE=3."""
BUSY = 10.0
"""A busy machine may take this many times as long as a quiet one: bounds of time that are themselves promised are widened by it."""
LOOK_S = 0.02


def until(
    condition: Callable[[], object],
    why: str = "what is waited for",
    limit_s: float = PATIENCE_S,
    every_s: float = LOOK_S,
) -> None:
    """Wait for a condition, looked at so often; fail naming it."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {why}"
        time.sleep(every_s)


async def eventually(
    condition: Callable[[], object], why: str = "what is waited for", limit_s: float = PATIENCE_S
) -> None:
    """The same beside other tasks of a loop."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {why}"
        await asyncio.sleep(LOOK_S)
