"""Processes of a sweep: they end with what started them, and tell how far they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import pytest

from sqfd.backtest.workers import Workers, tell
from tests.waiting import until

PARENT = """
import os, time
from sqfd.backtest.workers import Workers
with Workers(1, 1) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


def test_what_workers_do_not_need_is_not_imported_before_they_start() -> None:
    """The command's own time is nobody's to share: no event loop, no logging, no package metadata, no Parquet before the fork."""
    code = "import sys, sqfd.cli.sweep, sqfd.backtest.sweep, sqfd.backtest.workers; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for late in (
        "asyncio",
        "structlog",
        "importlib.metadata",
        "statistics",
        "pyarrow",
        "rich",
        "sqfd.backtest.picture",
    ):
        assert f"'{late}'" not in loaded, late
    assert "'sqfd.engine'" in loaded


def test_each_unit_tells_its_own_share() -> None:
    """What a worker tells is seen where the bar is drawn; nobody listens in this process."""
    tell(0, 0.7)
    with Workers(2, 3) as pool:
        pool.submit(tell, 1, 0.25).result()
        assert [pool.share(unit) for unit in range(3)] == [0.0, 0.25, 0.0]


def test_an_exception_ends_the_workers_at_once() -> None:
    """Ctrl-C does not wait for the minutes that units take."""
    before = set(active_children())

    def interrupted() -> None:
        with Workers(2, 2) as pool:
            for _ in range(2):
                pool.submit(time.sleep, 600)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(active_children()) <= before


def test_ctrl_c_is_not_for_workers() -> None:
    """A terminal sends it to all of them: only the one that keeps the results answers."""
    with Workers(1, 1) as pool:
        pid = pool.submit(os.getpid).result()
        os.kill(pid, signal.SIGINT)
        assert pool.submit(os.getpid).result() == pid


@pytest.mark.skipif(sys.platform != "linux", reason="others leave them until their unit is done")
def test_workers_do_not_outlive_a_killed_parent() -> None:
    """kill -9 leaves no process that works for nobody."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        until(lambda: _gone(worker), "the worker is gone")


def _gone(pid: int) -> bool:
    """Ended; a container without an init process leaves it a zombie."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()
