"""The parts of a whole installation under test: exchanges, `sqfd run`, and what each of them knows afterwards.

All are processes of their own, so that they can be killed and stopped for real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import exchanges
from sqfd.clock import SystemClock
from sqfd.feed.intake import Counts
from sqfd.journal import JournalStore
from sqfd.model import BAR_FIELDS
from sqfd.sim.faults import Fault, FaultKind
from sqfd.sim.history import World, world
from sqfd.sim.source import Synthetic
from sqfd.sim.venues import Addresses, Venues
from tests.ports import free_port
from tests.real.blinker import installed
from tests.real.nemesis import FORK
from tests.waiting import LOOK_S, PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
IDS = ("BINANCE", "BINANCE_FUTURES", "OKEX")
SYMBOLS = ("BTC", "ETH")
ANSWER_S = 5.0
"""A daemon that stands still gives no answer: it is asked again."""


class Exchanges:
    """Simulated exchanges in a process: killed and started again on the same port, they go on with the same market."""

    def __init__(self, seed: int) -> None:
        self.now = int(time.time())
        self._seed, self._port = seed, free_port(1)
        self.truth = self._world()
        self.addresses: Addresses = {}
        self._faults = 0

    def _world(self) -> World:
        found = [exchanges.get(id) for id in IDS]
        return world(found, SYMBOLS, self._seed, self.now, history_s=3600, staged=False)

    def start(self) -> None:
        self._commands, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._main, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.addresses = self._commands.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self._commands.close()

    def send(self, number: int) -> None:
        """A signal to the process."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def add(self, kind: FaultKind, exchange: str, **more: Any) -> int:
        """Switch a fault on; its number."""
        return int(self._ask("add", {"kind": kind, "exchange": exchange, **more}))

    def remove(self, number: int) -> None:
        self._ask("remove", number)

    def fired(self, number: int) -> int:
        """How often it struck."""
        return int(self._ask("fired", number))

    def _ask(self, command: str, argument: object) -> Any:
        self._commands.send((command, argument))
        return self._commands.recv()

    def _main(self, commands: Connection) -> None:
        """In the child: nothing that the test has open may be held open by it."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(3, commands.fileno())
        os.closerange(commands.fileno() + 1, 1 << 16)
        asyncio.run(self._serve(commands))

    async def _serve(self, commands: Connection) -> None:
        source = Synthetic(self.truth, int(time.time()))
        venues = Venues([exchanges.get(id) for id in IDS], source, SystemClock(), port=self._port)
        commands.send(await venues.start())
        faults: list[Fault] = []

        def obey() -> None:
            try:
                command, argument = commands.recv()
            except EOFError:
                os._exit(0)  # the test is gone
            if command == "add":
                faults.append(venues.faults.add(Fault(**argument)))
                commands.send(len(faults) - 1)
            elif command == "remove":
                venues.faults.remove(faults[argument])
                commands.send(None)
            else:
                commands.send(faults[argument].fired)

        asyncio.get_running_loop().add_reader(commands.fileno(), obey)
        await venues.failed()


class Sqfd:
    """`sqfd run` as a process."""

    def __init__(
        self, folder: Path, addresses: Addresses, influx: int, redis: int, database: str, creates: bool
    ) -> None:
        """`influx`, `redis`: ports. `creates`: it makes what is missing in InfluxDB."""
        self.folder, self.state, self.port = folder, folder / "state", free_port()
        self.log = folder / "log"
        self.crashes: list[int] = []
        """The journal's newest tick after each kill -9."""
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "sqfd.toml").write_text(_config(self.port, influx, redis, database, addresses, creates))
        installed(folder / "site")

    def start(self) -> None:
        """Begin to start; nothing is waited for."""
        hidden = ("REDIS", "INFLUX", "SQFD", "SQUEEZEFLOW")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environment["PYTHONPATH"] = str(self.folder / "site")
        command = [
            sys.executable,
            "-m",
            "sqfd",
            "run",
            "-c",
            str(self.folder / "sqfd.toml"),
            "--state",
            str(self.state),
        ]
        # The log goes through a pipe, as it does to journald: a limit on the size of files must not reach it.
        with self.log.open("ab") as log:
            self._log = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        self._process = subprocess.Popen(
            command, stdout=self._log.stdin, stderr=self._log.stdin, env=environment, cwd=ROOT
        )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """kill -9 at this instant: what it said was written must be there."""
        told = self.ask()
        self.process.kill()
        self._ended()
        with contextlib.suppress(FileNotFoundError):
            store = JournalStore(self.state, read_only=True)
            self.crashes.append(store.last_tick())
            store.close()
            assert told is None or store_has(self.crashes[-1], told), "written, and not there after a crash"

    def terminate(self) -> None:
        """SIGTERM: P11."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self._ended()
        # Before our first line Python itself is still starting: systemd takes death by SIGTERM as clean, too.
        assert code in (0, -signal.SIGTERM), f"exit {code}: {self.log.read_text()[-3000:]}"

    def end(self) -> None:
        """However it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._ended()

    def _ended(self) -> None:
        self.process.wait(PATIENCE_S)
        assert self._log.stdin is not None
        self._log.stdin.close()
        self._log.wait(PATIENCE_S)

    def ask(self, path: str = "/status") -> Any:
        """An answer of the daemon; None while it gives none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_S) as answer:
                return json.loads(answer.read())
        except OSError:
            return None

    def answer(self, path: str = "/status") -> Any:
        """An answer, as soon as it gives one."""
        while (told := self.ask(path)) is None:
            assert self.process.poll() is None, f"it ended: {self.log.read_text()[-3000:]}"
            time.sleep(LOOK_S)
        return told

    def limit_files(self, size: int | None) -> None:
        """No file of it may grow beyond `size` bytes; None: any may."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def fault(self) -> str | None:
        """What the journal says of its disk; None where all is well, or it cannot be asked."""
        told = self.ask()
        return None if told is None else told["sinks"]["journal"]["fault"]

    def well(self) -> bool:
        """Every market that ever traded is live, on every exchange, and every sink has what there is."""
        told, markets = self.ask(), self.ask("/markets")
        if told is None or markets is None or {one["exchange"] for one in markets if one["state"] == "live"} != {*IDS}:
            return False
        if any(one["state"] != "live" for one in markets if one["last_trade_ms"]):
            return False
        journal, influx, redis = (told["sinks"][name] for name in ("journal", "influx", "redis"))
        shipped = influx["state"] == "ok" and influx["cursor"] and influx["cursor"] >= journal["written"] - 2
        return not journal["fault"] and shipped and redis["state"] == "ok" and not redis["pending"]

    def assert_conserved(self) -> None:
        """P2: what was received is somewhere."""
        told = self.answer()
        counts = msgspec.convert(told["counts"], Counts)
        assert counts.conserved(), counts
        assert not told["sinks"]["journal"]["lost"], told["sinks"]["journal"]


def store_has(last_tick: int, told: dict[str, Any]) -> bool:
    """Whether the journal has what /status called written."""
    return bool(last_tick >= told["sinks"]["journal"]["written"])


def _config(port: int, influx: int, redis: int, database: str, addresses: Addresses, creates: bool) -> str:
    text = f"""
[symbols]
symbols = {json.dumps(SYMBOLS)}
exchanges = {json.dumps(IDS)}
[feed]
backoff_min_s = 0.1
backoff_max_s = 1.0
stagger_s = 0.0
silence_min_s = 2.0
first_trade_s = 8.0
listing_retry_s = 1.0
[strategy]
name = "blinker"
warmup_s = 1
cooldown_s = 1
max_open_positions = 10
ttl_s = 5
[http]
port = {port}
[influx]
port = {influx}
database = "{database}"
timeout_s = 0.5
backoff_min_s = 0.05
backoff_max_s = 0.5
rollup_delay_s = 0.5
retain_1s_days = 0
create_schema = {str(creates).lower()}
[redis]
port = {redis}
timeout_s = 0.3
backoff_min_s = 0.05
backoff_max_s = 0.5
heartbeat_s = 0.3
"""
    for exchange, bases in addresses.items():
        text += f"\n[feed.addresses.{exchange}]\n" + "".join(f'{name} = "{url}"\n' for name, url in bases.items())
    return text


def whole_seconds_are_as_they_happened(
    store: JournalStore, truth: World, *, ordered: bool = True, unsure: Collection[int] = ()
) -> int:
    """P6: every bar of a second that the journal calls whole is as it happened; how many there were.

    Not `ordered`: an exchange sent trades out of order, and within one millisecond the last to arrive makes the close.
    `unsure` seconds are left out.
    """
    compared = BAR_FIELDS[:-2] if ordered else [name for name in BAR_FIELDS[:-2] if name not in ("open", "close")]
    names = [instrument.market for instrument in truth.instruments]
    bars = store.bars(names, 0, 1 << 40)
    if not len(bars):
        return 0
    first, last = int(bars["second"].min()) + 2, int(bars["second"].max()) - 2
    whole = store.coverage(names, first, last)
    happened, offset = [], 0
    for tape in truth.tapes:
        happened.append(tape.bars(first, last, offset))
        offset += len(tape.listings)
    expected = {(int(bar["market"]), int(bar["second"])): bar for bar in np.concatenate(happened)}
    stored = {(int(bar["market"]), int(bar["second"])): bar for bar in bars}
    heard = {names[int(bar["market"])].partition(":")[0]: int(bar["second"]) for bar in np.sort(bars, order="second")}
    keys = [(market, first + at) for market, at in zip(*map(np.ndarray.tolist, np.nonzero(whole)), strict=True)]
    # That an exchange fell silent in the last seconds cannot have been noticed yet.
    keys = [key for key in keys if key[1] < heard[names[key[0]].partition(":")[0]] and key[1] not in unsure]
    for key in keys:
        one, other = expected.get(key), stored.get(key)
        assert (one is None) == (other is None), (names[key[0]], key[1], one, other)
        if one is not None and other is not None:
            for field in compared:  # forced orders are not recovered
                assert other[field] == pytest.approx(one[field], rel=1e-9), (names[key[0]], key[1], field)
    return len(keys)
