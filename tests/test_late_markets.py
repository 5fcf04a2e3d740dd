"""P14: what the nemesis found: a full disk while a listing comes late must not end the daemon."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sqfd.clock import SystemClock
from sqfd.config import load
from sqfd.daemon import Daemon


class Refusing:
    """A journal whose disk is full for so many attempts."""

    def __init__(self, times: int) -> None:
        self.left, self.registered = times, 0

    async def register(self, markets: object, symbols: object) -> None:
        if self.left:
            self.left -= 1
            raise sqlite3.OperationalError("disk I/O error")
        self.registered += 1


class Hasty(SystemClock):
    async def sleep(self, seconds: float) -> None:
        """At once."""


def daemon(folder: Path, journal: Refusing) -> Any:
    made: Any = Daemon(load(environment={"HOME": str(folder)}).config, folder, clock=Hasty())
    made._sinks = SimpleNamespace(journal=journal)
    return made


async def test_markets_of_a_late_listing_wait_for_the_disk(tmp_path: Path) -> None:
    """They are registered as soon as the journal takes them."""
    journal = Refusing(3)
    running = daemon(tmp_path, journal)
    running.ready.set()
    await running._register([])
    assert (journal.left, journal.registered) == (0, 1)


async def test_a_disk_that_is_full_at_the_start_is_told(tmp_path: Path) -> None:
    """Before it is ready the daemon cannot work without its journal: it ends, and systemd tries again."""
    with pytest.raises(sqlite3.OperationalError):
        await daemon(tmp_path, Refusing(1))._register([])
