"""`sqfd demo` as a new user runs it, without a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import BUSY, PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]


def demo(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sqfd", "demo", *arguments]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def test_first_signal_within_a_minute_and_ctrl_c_sums_up() -> None:
    """Ready, a signal within 60 s of it, then Ctrl-C: under 5 s to the summary and exit code 0."""
    with demo() as process:
        assert process.stdout is not None
        lines, ready = [], None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready"):
                ready = time.monotonic()
            if line.startswith("●"):
                break
        assert ready is not None, lines
        assert time.monotonic() - ready < 60 * BUSY
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - asked < 5 * BUSY
    assert re.search(r"LONG|SHORT", lines[-1])
    assert re.search(r"ran \d+ s: [\d,]+ trades of \d+ markets, [\d,]+ bars, \d+ signals", rest)


def test_an_unknown_exchange_lists_the_known_ones() -> None:
    """Usage error, exit code 2."""
    command = [sys.executable, "-m", "sqfd", "demo", "--exchanges", "NYSE"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    assert result.returncode == 2
    assert "no exchange NYSE; known: " in result.stderr


def test_a_reader_that_goes_away_ends_it() -> None:
    """`sqfd demo | head` ends with one line within seconds, rather than hanging without a reader."""
    command = [sys.executable, "-m", "sqfd", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr.read().splitlines()[-1] == "sqfd: the output was closed"
