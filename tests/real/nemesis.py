"""A writer process, a proxy process between it and InfluxDB, and what may befall them.

Both are forked from a process that runs no threads, so that a round costs milliseconds to start and they can be killed for real.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing as mp
import random
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sqfd.clock import SystemClock
from sqfd.influx.client import Client
from sqfd.influx.schema import BARS_RP, Schema, compare, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.shipper import Shipper
from sqfd.journal import JournalStore
from sqfd.journal.journal import Journal
from sqfd.model import BAR, BAR_FIELDS, Bars
from tests.journal.rows import MARKETS, SYMBOLS, flow
from tests.ports import free_port
from tests.real.servers import Influx
from tests.waiting import PATIENCE_S, until

FORK = mp.get_context("fork")
T0 = int(time.time()) // 3600 * 3600 - 3600

MISSING = ("database", "policy")
"""What somebody may drop under the running writer."""
PASS, REFUSE, SLOW, RESET, ERROR_500, ERROR_503, SILENT = range(7)
PROXY_FAULTS = {"slow": SLOW, "reset": RESET, "500": ERROR_500, "503": ERROR_503, "silent": SILENT, "refuse": REFUSE}
FAULTS = (*PROXY_FAULTS, "kill writer", "kill influxd", "stop influxd", "disk", *(f"no {what}" for what in MISSING))


def bars_of_tick(seed: int, tick: int) -> Bars:
    """The bars that became known at a tick: of the second before, and now and then a revision; some without trades."""
    rng = np.random.default_rng((seed, tick))
    keys = [(market, tick - 1) for market in range(len(MARKETS)) if rng.random() < 0.8]
    if rng.random() < 0.1:
        keys.insert(0, (int(rng.integers(len(MARKETS))), tick - int(rng.integers(2, 40))))
    rows = np.zeros(len(keys), BAR)
    for index, (market, second) in enumerate(keys):
        revised = second < tick - 1  # holds all that its first version could: trades never leave a bar
        traded = revised or rng.random() < 0.9
        prices = np.round(rng.uniform(90, 110, 4), 2) if traded else np.full(4, np.nan)
        volumes = np.round(rng.uniform(0, 1e6, 2), 3) if traded else np.zeros(2)
        forced = np.round(rng.uniform(1, 1e4, 2), 2) if revised or not traded or rng.random() < 0.1 else np.zeros(2)
        rows[index] = (market, second, *prices, *volumes, *(3 * traded, 4 * traded), *forced)
    return rows


class Writer:
    """A process with a journal and a shipper, which closes a second every few milliseconds."""

    def __init__(self, folder: Path, seed: int, port: int, database: str) -> None:
        self.folder, self.seed, self.port, self.database = folder, seed, port, database
        # Without locks: a writer that is killed while it has one would leave the next writer waiting for it.
        self.written = FORK.Value("q", 0, lock=False)
        """Newest tick that the journal has: what a crash must not lose."""
        self.held = FORK.Value("q", 0, lock=False)
        """Writes that were answered so that they are held."""
        self.creates = seed % 2 == 0
        """It makes again what is missing; otherwise it waits until somebody has."""
        self.finish = FORK.Value("b", 0, lock=False)
        self.segments: list[tuple[int, int]] = []
        """(first tick, newest tick known to be written) of each life."""
        self.process: Any = None
        self._first = 0

    def start(self) -> None:
        self.process = FORK.Process(target=self._main, daemon=True)
        self.process.start()
        before = self.written.value
        until(lambda: self.written.value != before or not self.process.is_alive(), "the writer starts")
        assert self.process.is_alive(), "the writer ended"
        self._first = self.written.value

    def kill(self) -> None:
        """kill -9 at this instant."""
        known = self.written.value
        self.process.kill()
        self.process.join()
        self.segments.append((self._first, known))

    def end(self, limit_s: float = PATIENCE_S) -> None:
        """Ask it to stop closing seconds, ship everything and end."""
        self.finish.value = 1
        self.process.join(limit_s)
        alive = self.process.is_alive()
        if alive:
            self.process.kill()
        assert not alive, "not everything was shipped in time"
        assert self.process.exitcode == 0
        self.segments.append((self._first, self.written.value))

    def _main(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(self._write())

    async def _write(self) -> None:
        settings = InfluxSettings(
            port=self.port,
            database=self.database,
            timeout_s=0.4,
            backoff_min_s=0.02,
            backoff_max_s=0.2,
            batch_lines=50,
            poll_s=0.01,
            rollup_delay_s=600,
            create_schema=self.creates,
        )
        journal = await Journal.open(self.folder, bulk=True)
        await journal.register(MARKETS, SYMBOLS)
        first = tick = max(journal.written, T0) + 3  # it was down for a while
        async with Client(settings) as client:
            shipper = Shipper(journal, client, settings, SystemClock(), self.folder, random.Random(self.seed))
            task = asyncio.create_task(shipper.run())
            while not self.finish.value:
                tick += 1
                journal.append(tick, bars_of_tick(self.seed, tick), flow())
                await asyncio.sleep(0.003)
                self.held.value += shipper.counters.pop("writes_hold", 0)
                if journal.written > first:  # what an earlier life wrote says nothing of this one
                    self.written.value = journal.written
            await journal.flush()
            self.written.value = journal.written
            while shipper.cursor < journal.written:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            task.cancel()
            assert shipper.quarantine.count == 0, "a good line was refused"
        await journal.close()


class Proxy:
    """TCP between writer and InfluxDB, with a mode that decides what it does to requests."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self.mode = FORK.Value("i", PASS, lock=False)
        self.hits = FORK.Value("i", 0, lock=False)
        """Connections or requests that met a fault."""
        self.process: Any = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._refusing = FORK.Value("b", 0, lock=False)

    def start(self) -> None:
        self.process = FORK.Process(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.process.start()
        until(self._answers_connections, "the proxy listens")

    def _answers_connections(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE_S):
            return True
        return False

    def heal(self) -> None:
        """Let everything pass; returns when it does, so that the next refusal is another one."""
        self.mode.value = PASS
        until(lambda: not self._refusing.value, "the proxy listens again")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    async def _serve(self) -> None:
        server = None
        while True:
            refused = self.mode.value == REFUSE
            if refused and server is not None:
                server.close()
                for client in self._clients:
                    client.transport.abort()
                self._refusing.value = 1
                self.hits.value += 1
                server = None
            elif not refused and server is None:
                server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
                self._refusing.value = 0
            await asyncio.sleep(0.005)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        answers = asyncio.create_task(self._answers(there, writer))
        self._clients.add(writer)
        with contextlib.suppress(OSError):
            await self._requests(reader, back, writer)
        self._clients.discard(writer)
        answers.cancel()
        for side in (writer, back):
            side.close()

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await there.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65_536):
            mode = self.mode.value
            if mode != PASS:
                self.hits.value += 1
            if mode == REFUSE:
                writer.transport.abort()
                return
            if mode == RESET:  # half of the body arrives, then the connection breaks with RST
                back.write(data[: len(data) // 2])
                await back.drain()
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            if mode in (ERROR_500, ERROR_503):
                status = b"500 Internal Server Error" if mode == ERROR_500 else b"503 Service Unavailable"
                writer.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 6\r\n\r\noops!\n" % status)
                await writer.drain()
                return
            await self._silence(mode)
            while mode == SLOW and self.mode.value == SLOW and data:
                back.write(data[:20])
                data = data[20:]
                await asyncio.sleep(0.02)  # 1 kB/s
            back.write(data)
            await back.drain()

    async def _silence(self, mode: int) -> None:

        while mode == SILENT and self.mode.value == SILENT:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Round:
    """One seeded history of a writer, a proxy and a shared influxd."""

    def __init__(self, seed: int, influxd: Influx, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.influxd, self.database = influxd, f"nemesis_{seed}"
        self.proxy = Proxy(influxd.port)
        self.writer = Writer(folder / str(seed), seed, self.proxy.port, self.database)
        self.faults: list[str] = []

    def run(self, faults: int) -> None:
        """Some faults one after the other, then time to heal, then equality."""
        self.proxy.start()
        if not self.writer.creates:
            make(self.influxd, self.database)
        try:
            self.writer.start()
            for _ in range(faults):
                time.sleep(self.rng.uniform(0.0, 0.15))
                self._befall(self.rng.choice(FAULTS))
            self.writer.end()
        finally:
            self.proxy.stop()
            if self.writer.process is not None and self.writer.process.is_alive():
                self.writer.process.kill()
        self.check()
        self.influxd.ask(f'DROP DATABASE "{self.database}"')

    def _befall(self, fault: str) -> None:
        self.faults.append(fault)
        lasts = self.rng.uniform(0.02, 0.3)
        if fault in PROXY_FAULTS:
            hits = self.proxy.hits.value
            self.proxy.mode.value = PROXY_FAULTS[fault]
            until(lambda: self.proxy.hits.value > hits, f"{fault} met nobody")
            time.sleep(lasts)
            self.proxy.heal()
        elif fault == "kill writer":
            self.writer.kill()
            time.sleep(lasts / 4)
            self.writer.start()
        elif fault == "kill influxd":
            self.influxd.kill()
            time.sleep(lasts)
            self.influxd.start()
        elif fault == "stop influxd":
            self.influxd.send(signal.SIGSTOP)
            time.sleep(lasts + 0.4)  # longer than a request may take
            self.influxd.send(signal.SIGCONT)
        elif fault == "disk":
            with full_disk(self.influxd, self.database):
                time.sleep(lasts)
        else:
            held = self.writer.held.value
            with missing(
                self.influxd, self.proxy, self.database, fault.removeprefix("no "), self.writer.creates
            ) as back:
                until(lambda: self.writer.held.value > held or back(), f"with {fault} it holds")
                time.sleep(lasts)

    def check(self) -> None:
        """Nothing that the journal had is missing in InfluxDB, nothing else is there, each value is the newest."""
        store = JournalStore(self.writer.folder, read_only=True)
        ticks = {int(row[0]) for row in store.connection.execute("SELECT DISTINCT tick FROM bar")}
        assert_equal_both_ways(store, self.influxd, self.database, self.faults)
        store.close()
        for first, last in self.writer.segments:
            lost = [t for t in range(first, last + 1) if t not in ticks and len(bars_of_tick(self.writer.seed, t))]
            assert not lost, ("written, and not there after a crash", lost[:5], self.faults)


def make(influxd: Influx, database: str, what: str = "database") -> None:
    """As an admin does: the database with all that belongs to it, or the policy of its 1-second bars."""
    want = wanted(InfluxSettings(database=database))
    left = {name: policy for name, policy in want.policies.items() if name != BARS_RP}
    there = Schema(database, False, {}, {}) if what == "database" else want._replace(policies=left)
    for difference in compare(want, there):
        influxd.ask(difference.statement)


def is_there(influxd: Influx, database: str) -> bool:
    """Whether bars can be written there."""
    if [database] not in [row for series in influxd.ask("SHOW DATABASES") for row in series.get("values", [])]:
        return False
    policies = influxd.ask(f'SHOW RETENTION POLICIES ON "{database}"')
    return any(row[0] == BARS_RP for series in policies for row in series.get("values", []))


@contextmanager
def missing(influxd: Influx, proxy: Proxy, database: str, what: str, creates: bool) -> Iterator[Callable[[], bool]]:
    """The database, or the policy of its bars, is dropped with all that it has; gives what tells whether it is there again.

    At the end an admin makes it again, unless the writer `creates` it, and puts back what it had, as from a backup. Nothing
    reaches InfluxDB in the two instants in which that copy is made and put back: what it acknowledged is in the copy.
    """
    until(lambda: is_there(influxd, database), "it is there before it is dropped")
    _cut_off(proxy)
    kept = stored(influxd, database)
    of_bars = f'DROP RETENTION POLICY "{BARS_RP}" ON "{database}"'
    influxd.ask(f'DROP DATABASE "{database}"' if what == "database" else of_bars)
    proxy.heal()
    yield lambda: creates and is_there(influxd, database)
    if not creates:
        make(influxd, database, what)
    until(lambda: is_there(influxd, database), f"the {what} is made again")
    _cut_off(proxy)
    newer = stored(influxd, database)
    lines = [line_of(*key, bar) for key, bar in kept.items() if key not in newer]
    status, body = influxd.request(f"/write?db={database}&rp={BARS_RP}&precision=s", "\n".join(lines).encode() or b"\n")
    assert status == 204, body
    proxy.heal()


def _cut_off(proxy: Proxy) -> None:
    hits = proxy.hits.value
    proxy.mode.value = REFUSE
    until(lambda: proxy.hits.value > hits, "the writer is cut off")


def line_of(market: str, second: int, fields: dict[str, float]) -> str:
    """A bar in line protocol."""
    return f"trades_1s,market={market} {','.join(f'{name}={value!r}' for name, value in fields.items())} {second}"


@contextmanager
def full_disk(influxd: Influx, database: str) -> Iterator[None]:
    """No file of influxd may grow; InfluxDB goes on refusing after there is room again, until it is restarted."""
    assert influxd.process is not None
    pid = influxd.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    status, body = influxd.request(f"/write?db={database}&precision=s", b"probe,a=b c=1 1700000000")
    assert status >= 400, (status, body)
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    influxd.kill()
    influxd.start()


def assert_equal_both_ways(store: JournalStore, influxd: Influx, database: str, told: object) -> int:
    """Each bar of the journal is in InfluxDB with its newest values, and no other is; how many there are."""
    names = store.market_names()
    truth = store.bars(names, 0, 1 << 40)
    expected = {(names[bar["market"]], int(bar["second"])): _fields(bar) for bar in truth}
    found = stored(influxd, database)
    assert found.keys() - expected.keys() == set(), told
    assert expected.keys() - found.keys() == set(), told
    assert found == expected, told
    return len(expected)


def _fields(bar: np.void) -> dict[str, float]:
    """What of a bar is stored, by the omission rules of the schema."""
    values = {name: float(bar[name]) for name in BAR_FIELDS}
    traded, forced = bar["open"] == bar["open"], bar["lbuy"] or bar["lsell"]
    left_out = set() if traded else {"open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell"}
    left_out |= set() if forced else {"lbuy", "lsell"}
    return {name: value for name, value in values.items() if name not in left_out}


def stored(influxd: Influx, database: str) -> dict[tuple[str, int], dict[str, float]]:
    """All bars of a database, by (market, second)."""
    found = {}
    for series in influxd.ask('SELECT * FROM "aggr_1s"."trades_1s"', database):
        for values in series["values"]:
            row = {name: value for name, value in zip(series["columns"], values, strict=True) if value is not None}
            found[str(row.pop("market")), int(row.pop("time"))] = row
    return found
