"""A suite that is told to end ends, and takes along what it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sqfd.cli.stopping import hold
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
SUITE = """
import subprocess, sys, time
from collections.abc import Iterator
import pytest
from sqfd.cli.stopping import hold

@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        process.kill()

def test_swallows() -> None:
    hold()

def test_is_told_to_end(server: int) -> None:
    try:
        print(f"\\nserver {server}", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        raise AssertionError("taken for something else")

def test_comes_after() -> None:
    time.sleep(600)
"""


def test_a_suite_that_is_told_to_end_ends(tmp_path: Path) -> None:
    """Whether a test before it kept SIGTERM for a loop that never ran, or the present one swallows it; no server is left."""
    file = tmp_path / "test_told.py"
    file.write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-c", os.devnull, "-p", "tests.conftest", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("server "))
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(PATIENCE_S) == pytest.ExitCode.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(line.split()[1]), 0)


def test_a_held_signal_is_this_tests_alone() -> None:
    """What comes next has the handlers back that were there before."""
    before = signal.getsignal(signal.SIGTERM)
    assert getattr(before, "__name__", "") == "_end"
    hold()
    assert signal.getsignal(signal.SIGTERM) is not before
