"""P15: the watchdog is fed by closed seconds; a daemon whose seconds stopped closing is restarted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sqfd.clock import SystemClock
from sqfd.config import load
from sqfd.daemon import Daemon


class Enough(Exception):
    """The loop has turned often enough."""


class Turns(SystemClock):
    """Ends the loop after so many sleeps."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.left = turns

    async def sleep(self, seconds: float) -> None:
        self.left -= 1
        if not self.left:
            raise Enough


class Seconds:
    """A collector that closes what it is told to, and says when the next second is due."""

    live = 0
    seconds = SimpleNamespace(markets=())

    def __init__(self, closed: int, due_in_s: float | None) -> None:
        self.left, self._due_in_s = closed, due_in_s

    async def catch_up(self) -> bool:
        return True

    def take_changes(self) -> list[object]:
        return []

    def due(self) -> Iterator[object]:
        if self.left:
            self.left -= 1
            yield SimpleNamespace()

    def due_in_s(self) -> float | None:
        return self._due_in_s


@pytest.mark.parametrize(
    ("closed", "due_in_s", "fed"),
    [
        pytest.param(0, 5.0, 0, id="seconds that do not close feed nothing"),
        pytest.param(3, 5.0, 3, id="each closed second feeds it once"),
        pytest.param(0, None, 10, id="before the first trade the waiting loop feeds it"),
    ],
)
async def test_the_watchdog_is_fed_by_closed_seconds(
    tmp_path: Path, closed: int, due_in_s: float | None, fed: int
) -> None:
    """Ten turns of the loop that closes seconds."""
    daemon: Any = Daemon(load(environment={"HOME": str(tmp_path)}).config, tmp_path, clock=Turns(10))
    told: list[object] = []
    daemon._collector = Seconds(closed, due_in_s)
    daemon._notifier = SimpleNamespace(alive=lambda *status: told.append(status))
    daemon._tick = lambda closed, engine, sinks: daemon._notifier.alive("a second")
    with pytest.raises(Enough):
        await daemon._close_seconds(None, None)
    assert len(told) == fed
