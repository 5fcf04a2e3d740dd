"""P11: SIGTERM ends `sqfd run` within its bound in whatever state it is: exit code 0, or 1 with a line that names what hangs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from sqfd.sim.process import Ready, SimulatedExchanges
from tests.real.test_run import ROOT, _wait_for_bars, configured
from tests.waiting import PATIENCE_S

DEAF = """
import asyncio, sys
import sqfd.daemon
from sqfd.collector import Collector
from sqfd.cli import cli

async def deaf(self):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

Collector.keep_listings = deaf
sqfd.daemon.SAY_S, sqfd.daemon.GIVE_UP_S = 0.5, 2.0
cli(sys.argv[1:])
"""
HUNG = """
import asyncio, sys, threading
from sqfd.collector import Collector
from sqfd.cli import cli

def nobody_answers():
    threading.Event().wait()

async def asks(self):
    await asyncio.to_thread(nobody_answers)

Collector.keep_listings = asks
cli(sys.argv[1:])
"""
HASTY = """
import os, signal, socket, sys
from sqfd.cli import cli

pair = socket.socketpair

def stopped_here(*given):
    socket.socketpair = pair
    os.kill(os.getpid(), signal.SIGTERM)
    return pair(*given)

socket.socketpair = stopped_here  # the loop makes a pair of them while it starts
cli(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Ready]:
    with SimulatedExchanges(("BINANCE", "OKEX"), ("BTC",)) as ready:
        yield ready


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    """A daemon that a failed test leaves behind would disturb the next one."""
    yield
    while Run.started:
        with Run.started.pop() as process:
            process.kill()


class Run:
    """`sqfd run` and what it says."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, config: Path, state: Path, *command: str) -> None:
        arguments = [*(command or ("-m", "sqfd")), "run", "-c", str(config), "--state", str(state)]
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
        )
        self.started.append(self.process)
        assert self.process.stdout is not None
        self._lines = self.process.stdout

    def until(self, words: str) -> str:
        """The first line with these words."""
        for line in self._lines:
            if words in line:
                return line
        raise AssertionError(f"it ended without {words!r}")

    def stopped(self) -> tuple[int, str]:
        """SIGTERM; gives the exit code and what it said."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@pytest.mark.parametrize("words", ["starting", "warm", "connected", "ready"])
def test_a_stop_at_any_point_of_the_start(served: Ready, tmp_path: Path, words: str) -> None:
    """On a journal of an earlier run, so that it warms, and has a gap to recover: it ends by itself, with exit code 0."""
    config, state = configured(tmp_path, served, ["BTC"], "[log]\nlevel = 'info'"), tmp_path / "state"
    if words == "warm":
        first = Run(config, state)
        _wait_for_bars(state)
        assert first.stopped()[0] == 0
    run = Run(config, state)
    run.until(words)
    code, said = run.stopped()
    assert code == 0, said


def test_a_stop_while_the_loop_itself_starts(served: Ready, tmp_path: Path) -> None:
    """It waits until the loop can take it, and ends the daemon with exit code 0."""
    run = Run(configured(tmp_path, served, ["BTC"], "[log]\nlevel = 'info'"), tmp_path / "state", "-c", HASTY)
    said, _ = run.process.communicate(timeout=PATIENCE_S)
    assert run.process.returncode == 0, said
    assert "event=stopped" in said


def test_readers_and_a_silent_influxdb_do_not_hold_up_the_end(served: Ready, tmp_path: Path) -> None:
    """A page that stays open, an aggr chart, and an InfluxDB that takes connections and never answers: exit code 0."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        influx = f"[influx]\nurl = 'http://127.0.0.1:{silent.getsockname()[1]}'"
        run = Run(configured(tmp_path, served, ["BTC"], influx), tmp_path / "state")
        ready = run.until("ready")
        url = next(word.removeprefix("page=") for word in ready.split() if word.startswith("page="))
        readers = [urllib.request.urlopen(url + path, timeout=PATIENCE_S) for path in ("live", "signals")]
        assert all(reader.read(1) for reader in readers)
        code, said = run.stopped()
        for reader in readers:
            reader.close()
    assert code == 0, said
    assert "stopped" in said


def test_a_thread_that_hangs_is_named_and_left_behind(served: Ready, tmp_path: Path) -> None:
    """As a look-up of a name that no server answers: all is stored, and the process ends with exit code 0."""
    run = Run(configured(tmp_path, served, ["BTC"], "[log]\nlevel = 'info'"), tmp_path / "state", "-c", HUNG)
    run.until("ready")
    code, said = run.stopped()
    assert code == 0, said
    assert "stopped" in said
    assert "wait" in next(line for line in said.splitlines() if "ended without these threads" in line)


def test_a_stage_that_hangs_is_named_and_left_behind(served: Ready, tmp_path: Path) -> None:
    """The process ends with exit code 1, and its last lines name the task that did not end."""
    run = Run(configured(tmp_path, served, ["BTC"]), tmp_path / "state", "-c", DEAF)
    run.until("ready")
    code, said = run.stopped()
    assert code == 1, said
    for words in ("still stopping", "given up"):
        line = next(line for line in said.splitlines() if words in line)
        assert "listings in deaf" in line
