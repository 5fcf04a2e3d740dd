"""The daemon as systemd runs it: notifications, watchdog, reload, limits, no writable code, a stop that is clean."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sqfd.journal import JournalStore
from sqfd.sim.process import Ready, SimulatedExchanges
from tests.ports import free_port
from tests.real.daemons import bars_in
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
HARDENED = """
import ctypes, errno, mmap, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0:
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
        sys.exit("memory may be written and executed")
    except PermissionError:
        pass
from sqfd.cli import main
main()
"""
"""MemoryDenyWriteExecute= by prctl where the kernel (6.3) has it, then the command line."""


@pytest.fixture(scope="module")
def served() -> Iterator[Ready]:
    with SimulatedExchanges(("BINANCE", "OKEX"), ("BTC",), timeout_s=PATIENCE_S) as ready:
        yield ready


class Service:
    """A daemon under a service manager's socket."""

    def __init__(self, folder: Path, served: Ready) -> None:
        self.folder, self._served = folder, served
        self.port = free_port()
        self.config = folder / "sqfd.toml"
        self.configure()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.settimeout(0.2)
        self.messages: list[str] = []

    def configure(self, extra: str = "") -> None:
        """Write the configuration."""
        text = f'[symbols]\nsymbols = ["BTC"]\nexchanges = ["BINANCE", "OKEX"]\n[http]\nport = {self.port}\n{extra}'
        for exchange, addresses in self._served.addresses.items():
            rows = "".join(f'{name} = "{url}"\n' for name, url in addresses.items())
            text += f"\n[feed.addresses.{exchange}]\n{rows}"
        self.config.write_text(text)

    def __enter__(self) -> Service:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "STATE_DIRECTORY": str(self.folder / "state"),
            "HOME": "/nonexistent",
            "JOURNAL_STREAM": "8:1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", HARDENED, "run", "-c", str(self.config)]
        self._log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(
            command, env=environment, cwd="/", stderr=self._log, stdout=self._log, preexec_fn=_limits
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._socket.close()
        self._log.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, true: Callable[[str], bool], timeout_s: float = PATIENCE_S) -> str:
        """The first message that is as wanted; all are kept."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                message = self._socket.recv(4096).decode()
            except TimeoutError:
                assert self.process.poll() is None or true("\0"), self.log[-2000:]
                continue
            self.messages.append(message)
            if true(message):
                return message
        raise AssertionError(f"never told; messages: {self.messages[-3:]}; log: {self.log[-2000:]}")

    def live(self, seconds: float) -> list[tuple[float, int]]:
        """Let it live so long; gives when how many bars were told."""
        told, end = list[tuple[float, int]](), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(min(left, 0.2))
            try:
                found = re.search(r" (\d+) bars", self._socket.recv(4096).decode())
            except TimeoutError:
                continue
            told += [(time.monotonic(), int(found[1]))] if found else []
        return told

    def ask(self, path: str) -> tuple[int, Any]:
        """GET from the daemon."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def test_a_life_under_systemd(served: Ready, tmp_path: Path) -> None:
    """READY, WATCHDOG by closed seconds, a reload that applies and one that is refused, STOPPING, exit 0 in time."""
    with Service(tmp_path, served) as service:
        service.until(lambda message: message.startswith("READY=1"))
        status = service.until(lambda message: " bars" in message and ", 0 bars" not in message)
        assert "markets live" in status
        assert service.ask("/health")[0] in (200, 503)

        service.configure("[strategy]\nmin_entry_score = 9.5\n[feed]\ngrace_s = 0.5\n")
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda message: message.startswith("RELOADING=1"))
        service.until(lambda message: message.startswith("READY=1"))
        assert 'event="setting changed" key=strategy.min_entry_score old=4.0 new=9.5' in service.log.replace(
            " logger=daemon", ""
        )
        assert "setting needs a restart" in service.log
        assert "key=feed.grace_s" in service.log

        service.configure("[strategy]\nmin_entry_score = 99\n")
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda message: message.startswith("RELOADING=1"))
        service.until(lambda message: message.startswith("READY=1"))
        assert "configuration not reloaded, the old one stays" in service.log
        service.until(lambda message: message.startswith("WATCHDOG=1"))

        stream = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
        stream.request("GET", "/live")
        stream.getresponse()  # an open stream does not hold up the end
        service.process.send_signal(signal.SIGTERM)
        service.until(lambda message: message.startswith("STOPPING=1"))
        assert service.process.wait(PATIENCE_S) == 0, "it gives up itself after 18 s, with another code"
        stream.close()
        lines = service.log.splitlines()
        assert all(line[0] == "<" and line[2] == ">" for line in lines), lines
        assert "timestamp=" not in service.log
        assert not [line for line in lines if line.startswith(("<3>", "<2>")) and "not reloaded" not in line]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "notify", "sqfd.toml", "state"]


STOPS = int(os.environ.get("SQFD_STOPS", "6"))
"""P11 asks for 200 instants: `make soak`."""
AT_LEISURE = "SQFD_STOPS" in os.environ
"""The machine has nothing else to do."""
WRITTEN_S = 1.0
"""A second that was closed this long before a SIGKILL is in the journal then (P1); on any machine what /status called written."""


@pytest.mark.timeout(300 + 30 * STOPS)
def test_it_ends_well_at_any_instant(served: Ready, tmp_path: Path) -> None:
    """P11: SIGTERM at random instants of a life: exit 0 within 20 s, and every bar that was closed is in the journal; every
    fourth time SIGKILL: the next start takes the journal as it is, with all bars that were closed a second before."""
    instants, ended = random.Random(11), Counter[str]()
    for number in range(STOPS):
        (tmp_path / "notify").unlink(missing_ok=True)
        kill, before = number % 4 == 3, _bars(tmp_path)
        with Service(tmp_path, served) as service:
            if number % 2:  # half of the instants while it starts, however long that takes here, half while it runs
                service.until(lambda message: message.startswith("READY=1"))
            told = service.live(instants.uniform(0.05, 4.0))
            known = _known(service) if kill and told else 0
            asked = time.monotonic()
            service.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            code = service.process.wait(
                PATIENCE_S
            )  # a stop that takes longer than its bound ends with another code than 0
            assert "Traceback" not in service.log
            written = _bars(tmp_path) - before
            if kill:
                assert _last_tick(tmp_path) >= known, service.log
                if AT_LEISURE:
                    assert written >= max((bars for at, bars in told if at < asked - WRITTEN_S), default=0), service.log
            else:
                # Before our first line Python itself is still starting: systemd takes death by SIGTERM as clean, too.
                assert code == 0 or (code == -signal.SIGTERM and not service.log), service.log
                closed = re.search(r"event=stopped bars=(\d+)", service.log)
                assert written == (int(closed[1]) if closed else 0), service.log
            ended["killed" if kill else "stopped" if told else "starting"] += 1
            if number % 20 == 19:
                print(f"{number + 1} instants: {dict(ended)}", flush=True)
    assert ended["stopped"] + ended["killed"] >= STOPS // 4, "some must have been running"
    print(f"ended at {STOPS} instants: {dict(ended)}; {_bars(tmp_path)} bars in the journal")
    assert _sound(tmp_path)


def _bars(folder: Path) -> int:
    """Rows of bars in the journal; 0 while there is none."""
    return bars_in(folder / "state")


def _known(service: Service) -> int:
    """The newest tick that /status calls written."""
    status, told = service.ask("/status")
    assert status == 200
    return int(told["sinks"]["journal"]["written"])


def _last_tick(folder: Path) -> int:
    store = JournalStore(folder / "state", read_only=True)
    try:
        return store.last_tick()
    finally:
        store.close()


def _sound(folder: Path) -> bool:
    """SQLite's own check, and no journal was set aside as damaged."""
    state = folder / "state"
    with closing(sqlite3.connect(state / "journal.sqlite")) as db:
        return db.execute("PRAGMA integrity_check").fetchone()[0] == "ok" and not list(state.glob("*.damaged*"))


def test_an_exchange_that_hangs_does_not_hold_up_the_end(served: Ready, tmp_path: Path) -> None:
    """SIGTERM while the first listing is waited for."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(PATIENCE_S)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        served = Ready(
            **{**_values(served), "addresses": {"BINANCE": dict.fromkeys(served.addresses["BINANCE"], address)}}
        )
        with Service(tmp_path, served) as service:
            asked, _ = silent.accept()  # and never answers
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(PATIENCE_S) == 0, service.log
            asked.close()
            assert "event=stopped" in service.log


def _values(ready: Ready) -> dict[str, Any]:
    names = getattr(ready, "_fields", None) or ready.__struct_fields__
    return {name: getattr(ready, name) for name in names}


def test_a_taken_port_ends_it_with_one_line(served: Ready, tmp_path: Path) -> None:
    """Exit 1; READY is never sent; the line says which port and what to do."""
    service = Service(tmp_path, served)
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()
        with service:
            assert service.process.wait(PATIENCE_S) == 1
            assert service.log.splitlines()[-1].startswith(f"sqfd: http: port {service.port} of 127.0.0.1 is taken")
            assert not [message for message in service.messages if "READY" in message]
