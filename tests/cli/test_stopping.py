"""Ctrl-C and SIGTERM at any instant of a command's start: it ends, without a traceback, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
SIGNALLED = """
import os, sys

class Here:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Here())
from sqfd.__main__ import main
main()
"""
"""The command line, with a signal where a module is imported."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("click", ["demo"]),
        ("sqfd.cli.demo", ["demo"]),
        ("sqfd.daemon", ["demo"]),
        ("sqfd.sim.process", ["demo"]),
        ("sqfd.cli.backtest", ["backtest"]),
        ("sqfd.cli.sweep", ["sweep", "--vary", "strategy.min_entry_score=3,4", "--out", "out"]),
        ("sqfd.cli.replay", ["replay", ".", "--state", "state"]),
        ("sqfd.feed.recorded", ["replay", ".", "--state", "state"]),
        ("sqfd.cli.history", ["import", "binance"]),
    ],
)
def test_a_signal_while_it_imports_ends_it(
    tmp_path: Path, module: str, command: list[str], number: signal.Signals
) -> None:
    """At once, by the signal itself, without a word."""
    code = SIGNALLED.format(module=module, number=int(number))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", ["simulating", "ready"])
def test_a_demo_that_is_stopped_leaves_nothing(tmp_path: Path, words: str, number: signal.Signals) -> None:
    """While its exchanges start, and when it is ready."""
    command = [sys.executable, "-m", "sqfd", "demo", "--port", "0", "--exchanges", "BINANCE"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "200"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith(words))
        process.send_signal(number)
        said, failed = process.communicate(timeout=PATIENCE_S)
    assert not re.search("Traceback|ignored", said + failed), said + failed
    assert process.returncode in ((0,) if words == "ready" else (1, 128 + number)), failed
    assert not list(tmp_path.iterdir())
