"""Simulated exchanges in a process of their own, for the demo, replays over sockets, benchmarks and tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from select import select
from types import TracebackType

import msgspec

END_S = 5.0


class Ready(msgspec.Struct):
    """The line that the process prints when its servers listen."""

    addresses: dict[str, dict[str, str]]
    anchor_ms: float
    speed: float
    now: int
    markets: list[str]


class SimulationFailed(RuntimeError):
    """The process did not come up; the text is what it said."""


class SimulatedExchanges:
    """`python -m sqfd.sim` as a context: its addresses and clock inside, its end at the end."""

    def __init__(
        self,
        exchanges: Sequence[str],
        symbols: Sequence[str] = (),
        *,
        seed: int = 1,
        speed: float | None = 1.0,
        now: int | None = None,
        journal: Path | None = None,
        capture: Path | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        """`journal`: write the day before `now` there first. `capture`: play this recording instead of a market."""
        self._timeout_s = timeout_s
        arguments = ["--exchanges", ",".join(exchanges), "--seed", str(seed)]
        arguments += ["--flat-out"] if speed is None else ["--speed", str(speed)]
        arguments += ["--symbols", ",".join(symbols)] if symbols else []
        arguments += ["--now", str(now)] if now is not None else []
        arguments += ["--journal", str(journal)] if journal is not None else []
        arguments += ["--capture", str(capture)] if capture is not None else []
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process, without waiting for its servers: they are waited for on entering. From now on `end` is due."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sqfd.sim", *self._arguments], stdout=subprocess.PIPE, start_new_session=True
        )

    def __enter__(self) -> Ready:
        if self._process is None:
            self.launch()
        try:
            return self._ready()
        except BaseException:
            self.end()
            raise

    def _ready(self) -> Ready:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select([self._process.stdout], [], [], self._timeout_s)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise SimulationFailed(f"the simulated exchanges did not start within {self._timeout_s:.0f} s")
        return msgspec.json.decode(line, type=Ready)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop the process, politely at first; again does nothing."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
