"""The whole daemon as a process on simulated exchanges, in their time: `python -m tests.real.daemons CONFIG STATE ANCHOR SPEED`.

As `sqfd run`, but its clock is that of the simulated market, so that a minute of it takes seconds.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from sqfd import log
from sqfd.cli.running import run_until_stopped
from sqfd.config import load
from sqfd.daemon import Daemon
from sqfd.journal import FILE_NAME, JournalStore
from sqfd.sim.clock import ScaledClock
from sqfd.sim.process import Ready
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


class DaemonProcess:
    """One state folder and the daemon that runs on it, again and again."""

    def __init__(self, config: Path, state: Path, served: Ready) -> None:
        self.state = state
        arguments = (config, state, served.anchor_ms, served.speed)
        self._command = [sys.executable, "-m", "tests.real.daemons", *map(str, arguments)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it has closed a second of its own."""
        before = self.last_tick()
        environment = {
            name: value for name, value in os.environ.items() if "REDIS" not in name and "INFLUX" not in name
        }
        self.process = subprocess.Popen(self._command, cwd=ROOT, env=environment)
        self.until(before + 1)

    def until(self, tick: int) -> int:
        """Wait until the journal has `tick`, as long as seconds are closed; gives the newest that it has."""
        assert self.process is not None
        newest, deadline = self.last_tick(), time.monotonic() + PATIENCE_S
        while newest < tick:
            assert self.process.poll() is None, "the daemon ended"
            assert time.monotonic() < deadline, f"no second was closed for {PATIENCE_S:.0f} s"
            time.sleep(0.02)
            if (now := self.last_tick()) > newest:
                newest, deadline = now, time.monotonic() + PATIENCE_S
        return newest

    def last_tick(self) -> int:
        """The newest tick in the journal."""
        with_journal = JournalStore(self.state, read_only=True)
        try:
            return with_journal.last_tick()
        finally:
            with_journal.close()

    def kill(self) -> None:
        """kill -9 at this instant."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Whatever it does, it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.kill()


def bars_in(state: Path) -> int:
    """Rows of bars in a journal, whoever writes it; 0 while there is none."""
    if not (state / FILE_NAME).exists():
        return 0
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        made = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'bar'").fetchone()[0]
        return int(db.execute("SELECT count(*) FROM bar").fetchone()[0]) if made else 0


def main(config: Path, state: Path, anchor_ms: float, speed: float) -> int:
    """Run until SIGTERM."""
    log.configure("error", "console")
    loaded = load(config, environment={"HOME": str(state)}).config
    return run_until_stopped(lambda: Daemon(loaded, state, clock=ScaledClock(anchor_ms, speed)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
