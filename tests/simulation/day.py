"""A host with the whole daemon on it, in virtual time: exchanges, InfluxDB, Redis and the disk in memory, faults, crashes.

The daemon is `sqfd.daemon.Daemon` as it ships; what it reaches outside of its process comes by `sqfd.outside.Outside`. A new
process is started when one ends, as systemd does. `await Day(…).run(…)` and then `check()`.
"""

from __future__ import annotations

import asyncio
import gc
import random as random_module
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from importlib.metadata import EntryPoint
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import msgspec
import structlog

import sqfd.daemon
from exchanges.api import Exchange, Instrument, Trade
from sqfd.config import Config, SymbolsSettings
from sqfd.daemon import Daemon
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Closed, Connection
from sqfd.heap import give_back
from sqfd.http.settings import HttpSettings
from sqfd.influx.settings import InfluxSettings
from sqfd.journal import JournalStore
from sqfd.journal.journal import Journal, JournalBusy
from sqfd.outside import Outside
from sqfd.signals.settings import RedisSettings
from sqfd.stalls import Stalls
from sqfd.strategy import registry
from sqfd.strategy.settings import StrategySettings
from tests.real.blinker import Blinker
from tests.simulation.disk import Disk
from tests.simulation.influx import FakeInflux, InfluxClient
from tests.simulation.loop import PROCESS, START_MS, Process, VirtualClock, VirtualLoop
from tests.simulation.oracle import EXCUSED_LONGEST_S, EXCUSED_S, LEARNT, PUNCTUAL_S, Oracle, Seen, conserved
from tests.simulation.orders import Orders
from tests.simulation.redis import FakeRedis, RedisClient
from tests.simulation.venue import MemoryRest, Venue

STEP_S = 0.4
HEALTHY_S = 150.0
"""After the last fault everything is well again this soon: back-off goes up to a minute, and a quiet market proves itself."""
STOP_S = 20.0
SUSPENDED = "host: is suspended"
PICK: dict[str, Sequence[tuple[str, str]]] = {
    "BINANCE": (("BTCUSDT", "spot"),),
    "BINANCE_FUTURES": (("BTCUSDT", "perp"),),
    "BYBIT": (("BTCUSDT", "spot"), ("BTCUSDT", "perp")),
    "OKEX": (("BTC-USDT", "spot"), ("BTC-USDT-SWAP", "perp")),
    "COINBASE": (("BTC-USD", "spot"),),
}
STRATEGY = StrategySettings(
    warmup_s=120,
    baseline_s=1_200,
    sample_s=10,
    swing_window_s=30,
    context_windows_s=(60, 120, 300),
    divergence_windows_s=(30, 60),
    divergence_gap_min=0.1,
    divergence_gap_rank=0.2,
    divergence_leg_rank=0.05,
    divergence_price_rank=0.95,
    armed_s=90,
    reset_windows_s=(20, 60, 120),
    reset_hold_s=40,
    reset_extreme_s=20,
    confirm_s=60,
    confirm_window_s=20,
    speed_window_s=10,
    candle_s=15,
    breakdown_candle_s=5,
    bias_window_s=15,
    require_reset=False,
    min_entry_score=0.0,
    min_coverage=0.6,
    cooldown_s=10,
    ttl_s=60,
    exit_lookback_s=20,
    new_extreme_s=15,
    structure_s=60,
)
"""Short windows, and gates that are nearly always open: what is tested is what becomes of signals."""
OWN_EVERY = 4
"""Each so many seeds sqfd's own strategy judges; in the others one that takes no time, and gives a signal every six seconds."""


def _installed(group: str) -> list[EntryPoint]:
    """Strategies that come with other packages."""
    return [EntryPoint(Blinker.name, f"{Blinker.__module__}:{Blinker.__name__}", group)]


def _tidy() -> None:
    """What lives on after the daemon's own collection is left out of the next: most of it is the oracle's."""
    give_back()
    gc.freeze()


class QuietStalls(Stalls):
    """The real one watches by the host's clock, which has no part here."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Day:
    """Make it within a virtual loop."""

    def __init__(self, seed: int, folder: Path, rate_hz: float = 0.5) -> None:
        self.seed, self.random = seed, Random(seed)
        random_module.seed(seed)  # the daemon's own jitter
        self.loop: VirtualLoop = asyncio.get_running_loop()  # type: ignore[assignment]  # it is one
        self.loop.job_s = lambda: self.random.uniform(0.0002, 0.008) + self.slow_disk_s
        self.slow_disk_s = 0.0
        self.kill_after_signal_s: float | None = None
        self.world = copy_context()
        self.clock = VirtualClock(self.random.choice([0.1, 0.25, 0.5, 0.5, 0.5, 0.5]))
        chosen = self._chosen()
        self.venues = {id: Venue(id, self.random, self.clock) for id in chosen}
        self.instruments: list[Instrument] = []
        for id, venue in self.venues.items():
            mine = [venue.exchange.assume(symbol, kind) for symbol, kind in PICK[id]]  # type: ignore[arg-type]  # kinds
            venue.simulated.list(mine)
            venue.past = {instrument: [] for instrument in mine}
            venue.delivered, venue.offered = self._deliver, self._offer
            self.instruments += mine
        self.orders = Orders(self.random, list(self.venues.values()), rate_hz, self.clock.now_ms())
        self.influx, self.redis = FakeInflux(self.random), FakeRedis(self.random, self.clock)
        self.disk = Disk(self.random, folder)
        behind_s = max(0.0, *(-venue.skew_ms / 1e3 for venue in self.venues.values()))
        self.oracle = Oracle(self._disk_refused, self._excused, behind_s)
        self.config = self._config()
        self.daemon: Daemon | None = None
        self.process: Process | None = None
        self.seen: Seen | None = None
        self.counts: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        """Faults that began, by name."""
        self.on: dict[int, str] = {}
        """Faults that are on."""
        self.spans: list[tuple[str, float, float]] = []
        """(fault, when it began, when it had ended)."""
        self.events: Counter[str] = Counter()
        self.last_events: list[Mapping[str, Any]] = []
        self.healthy_s: float | None = None
        """How long after the last fault everything was well."""
        self.errands: list[asyncio.Task[None]] = []
        """What faults have begun and nobody waits for yet."""
        self.loop_s = 0.0
        """How long it all took, in its own time."""
        self._over = asyncio.Event()
        self._ending = False
        self._failed: BaseException | None = None
        self._started_s = 0.0

    def _chosen(self) -> list[str]:
        """One exchange of spot and perp at least, so that there is something to diverge."""
        both = self.random.choice(
            [["BYBIT"], ["OKEX"], ["BINANCE", "BINANCE_FUTURES"], ["COINBASE", "OKEX"], ["BYBIT", "OKEX"]]
        )
        return list(both)

    def _config(self) -> Config:
        markets = tuple(instrument.market for instrument in self.instruments)
        return Config(
            symbols=SymbolsSettings(symbols=("BTC",), markets=markets),
            feed=FeedSettings(open_interest_s=self.random.choice([0.0, 60.0])),
            influx=InfluxSettings(),
            redis=RedisSettings(),
            strategy=STRATEGY if self.seed % OWN_EVERY == 0 else msgspec.structs.replace(STRATEGY, name=Blinker.name),
            http=HttpSettings(enabled=False),
        )

    # --- the daemon and what surrounds it

    def _outside(self) -> Outside:
        def rest(exchange: Exchange, settings: FeedSettings, clock: Any) -> MemoryRest:
            return MemoryRest(self.venues[exchange.id], settings, clock)

        return Outside(
            connector=self._connect,
            rest=rest,
            influx=lambda settings, at_once=1: InfluxClient(settings, self.influx),
            redis=lambda settings: RedisClient(self.redis, settings.timeout_s),  # type: ignore[arg-type, return-value]  # what the publisher uses of it
            stalls=QuietStalls,
        )

    async def _connect(self, url: str, *args: object, **options: object) -> Connection:
        venue = next(
            v for v in self.venues.values() if any(v.exchange.url(e.name) == url for e in v.exchange.endpoints)
        )
        return await venue.connect(url, *args, **options)  # type: ignore[arg-type]  # passed on as they are

    async def _keep(self) -> None:
        """As systemd: start it, and start it again when it ended."""
        while not self._ending:
            self.counts["starts"] += 1
            self.process = process = Process(f"daemon {self.counts['starts']}")
            self._over.clear()
            self._started_s = self.loop.time()
            self.seen = Seen(self._started_s)
            self.oracle.lives.append(self.seen)
            make = lambda: Daemon(self.config, self.disk.folder, clock=self.clock, outside=self._outside())  # noqa: E731
            self.daemon = process.context.run(make)
            task = self.loop.start(process, self.daemon.run())
            task.add_done_callback(lambda _: self._over.set())
            await self._over.wait()
            self.seen.ended_s = self.loop.time()
            if process.alive:
                self._judge_end(task)
            await asyncio.sleep(self.random.uniform(0.5, 5.0))

    def _judge_end(self, task: asyncio.Task[None]) -> None:
        """It ended by itself: because it was told to, or because it could not start."""
        error = task.exception()
        assert self.process is not None
        assert self.seen is not None
        self.process.alive = False  # nothing of it may be left
        if error is None:
            return
        refused = self.disk.trouble != "well" or self._fault_within("disk", 5.0)
        assert refused, f"the daemon ended by itself: {error!r}"
        assert not self.seen.appended, f"the daemon ended by itself: {error!r}"
        assert not isinstance(error, JournalBusy), error
        self.counts["could not start"] += 1

    def kill(self, power_cut: bool = False) -> bool:
        """`kill -9`, or the power fails. False where nothing runs."""
        if self.process is None or not self.process.alive or self._over.is_set():
            return False
        self.loop.kill(self.process)
        assert self.seen is not None
        self.seen.killed = True
        self._hang_up()
        self.disk.crash(power_cut)
        self.counts["kills"] += 1
        self._over.set()
        return True

    def _hang_up(self) -> None:
        for venue in self.venues.values():
            for wire in list(venue.wires):
                wire.end(Closed("the client is gone"))

    async def stop(self) -> None:
        """SIGTERM: it ends within 20 s (P11), whatever is broken."""
        process, daemon, over = self.process, self.daemon, self._over
        if process is None or daemon is None or not process.alive or over.is_set():
            return
        asked_s = self.loop.time()
        daemon.stop()
        while process is self.process and not over.is_set():
            assert self.loop.time() - asked_s <= STOP_S, "it does not stop"
            await asyncio.sleep(0.1)
        self.counts["stops"] += 1

    # --- what reaches it, and what it does

    def _deliver(self, trades: Sequence[Trade]) -> None:
        if self.seen is not None and self.process is not None and self.process.alive:
            now_ms = self.clock.now_ms()
            happened_ms = max((t.ts_ms - self.venues[t.instrument.exchange].skew_ms for t in trades), default=now_ms)
            self.seen.deliver(trades, now_ms / 1e3, (now_ms - happened_ms) / 1e3)
            self.counts["trades delivered"] += len(trades)

    def _offer(self, trades: Sequence[Trade]) -> None:
        if self.seen is not None:
            self.seen.offer(trades)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Every append to a journal is looked at; logs are kept."""
        append, day = Journal.append, self

        def appended(
            journal: Journal,
            tick: int,
            bars: Any,
            flow: Any,
            signals: Any = (),
            positions: Any = None,
            whole: Any = None,
            gaps: Any = (),
        ) -> None:
            assert day.seen is not None
            assert day.daemon is not None
            assert PROCESS.get() is day.process
            conserved(day.daemon.counts())
            if not day.seen.appended:
                day.seen.first = journal.written
            day.seen.append(tick, day.loop.time(), day.daemon.markets(), bars, signals, whole, gaps)
            day.counts["bars"] += len(bars)
            day.counts["signals"] += len(signals)
            day.counts["gaps told"] += len(gaps)
            append(journal, tick, bars, flow, signals, positions, whole, gaps)
            if signals and day.kill_after_signal_s is not None:
                day.loop.call_later(day.kill_after_signal_s, day.kill, context=day.world)
                day.kill_after_signal_s = None

        with ExitStack() as stack:
            stack.enter_context(self.disk.in_place())
            stack.enter_context(mock.patch.object(Journal, "append", appended))
            stack.enter_context(mock.patch.object(registry, "entry_points", _installed))
            stack.enter_context(mock.patch.object(sqfd.daemon, "give_back", _tidy))
            structlog.configure(processors=[self._log], cache_logger_on_first_use=False)
            try:
                yield
            finally:
                structlog.reset_defaults()

    def _log(self, logger: Any, method: str, event: Any) -> Any:
        told = event["event"]
        self.events[told] += 1
        self.last_events.append({"s": round(self.loop.time(), 3), "level": method, **event})
        del self.last_events[:-400]
        raise structlog.DropEvent

    # --- time

    async def run(self, seconds: float, liveness_s: float, plan: Coroutine[Any, Any, None]) -> None:
        """`seconds` in which `plan` strikes, and then `liveness_s` without any fault, in which all must become well."""
        self.loop.set_exception_handler(self._broken)
        with self._watched():
            tasks = [asyncio.create_task(one) for one in (self._keep(), self._trade(), self._look())]
            faults = asyncio.create_task(plan)
            await self._until(seconds, tasks, faults)
            await faults
            assert not self.on, self.on
            await self._recovers(liveness_s, tasks)
            await self._finish(tasks)

    async def _until(self, seconds: float, tasks: Sequence[asyncio.Task[None]], faults: asyncio.Task[None]) -> None:
        while self.loop.time() < seconds:
            await asyncio.sleep(1.0)
            for task in [*tasks, faults]:
                if task.done():
                    task.result()
            self._check_callbacks()

    def _broken(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """A callback failed, of the world or of the daemon: neither may."""
        if "was never retrieved" not in context["message"]:
            self._failed = context.get("exception") or RuntimeError(context["message"])

    def _check_callbacks(self) -> None:
        if self._failed is not None:
            raise self._failed

    async def _recovers(self, liveness_s: float, tasks: Sequence[asyncio.Task[None]]) -> None:
        off_s = self.loop.time()
        while self.loop.time() < off_s + liveness_s:
            await asyncio.sleep(1.0)
            for task in tasks:
                if task.done():
                    task.result()
            health = self.daemon.health() if self.daemon is not None else None
            if health is None or health.state != "healthy":
                self.healthy_s = None
                assert self.loop.time() - off_s <= HEALTHY_S, (
                    f"not well {HEALTHY_S:.0f} s after the last fault: {health}"
                )
            elif self.healthy_s is None:
                self.healthy_s = self.loop.time() - off_s
        assert self.healthy_s is not None, "not well at the end"

    async def _finish(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """A clean end: every sink has everything."""
        self.loop_s = self.loop.time()
        self._ending = True
        tasks[1].cancel()
        await asyncio.sleep(3.0)
        await self.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _trade(self) -> None:
        beat_s = self.loop.time()
        while True:
            await asyncio.sleep(STEP_S)
            self.orders.until(self.clock.now_ms())
            if self.loop.time() >= beat_s + 1.0:
                beat_s = self.loop.time()
                for venue in self.venues.values():
                    for wire in list(venue.wires):
                        wire.heartbeat()

    async def _look(self) -> None:
        """P1's sixty seconds."""
        while True:
            await asyncio.sleep(5.0)
            if self.daemon is None or self.process is None or not self.process.alive:
                continue
            status = self.daemon.status().sinks.get("influx")
            long = self.loop.time() - self._started_s > 90.0
            # The bars of minutes in which nothing ran are written when it runs again.
            broken = any(self._fault_within(p, s) for p, s in (("influx", 75.0), ("disk", 75.0), (SUSPENDED, 15.0)))
            # A host that stalls again before it has caught up has not had its 15 s.
            asleep = self._fault_within("host: stalls", 15.0) and self._fault_within(SUSPENDED, 75.0)
            if status and long and not broken and not asleep:
                assert not status["lag_s"] or status["lag_s"] <= 60, f"InfluxDB is well and {status['lag_s']} s behind"

    # --- what was on when

    def _fault_within(self, part: str, seconds: float) -> bool:
        since = self.loop.time() - seconds
        running = any(name.startswith(part) for name in self.on.values())
        return running or any(name.startswith(part) and until >= since for name, _, until in self.spans)

    def _excused(self, at_s: float) -> bool:
        """Whether a fault makes a signal of that moment late."""
        for name, begin, until in self.spans:
            if begin <= at_s + PUNCTUAL_S and until >= at_s - EXCUSED_LONGEST_S:
                excused_s = EXCUSED_S.get(name, EXCUSED_S.get(name.partition(":")[0]))
                if excused_s is not None and until >= at_s - excused_s:
                    return True
        return any(
            name in LEARNT and begin <= at_s and not self._prompt_between(until, at_s)
            for name, begin, until in self.spans
        )

    def _prompt_between(self, from_s: float, until_s: float) -> bool:
        """Whether a trade of each exchange came in time, to any process, between two moments."""
        first, end = START_MS / 1e3 + from_s, START_MS / 1e3 + until_s
        return all(
            any(bisect_right(times, first) < bisect_left(times, end) for times in self._prompts(id))
            for id in self.venues
        )

    def _prompts(self, exchange: str) -> Iterator[Sequence[float]]:
        return (life.prompts_s.get(exchange, ()) for life in self.oracle.lives)

    def _disk_refused(self, from_s: float, until_s: float) -> bool:
        """Whether the disk refused all the time but for less than WRITTEN_S in a row."""
        spans = sorted((b, u) for name, b, u in self.spans if name.startswith("disk"))
        free_from = from_s
        for begin, until in spans:
            if until > free_from and begin < until_s:
                if begin - free_from > 2.0:
                    return False
                free_from = max(free_from, until)
        return until_s - free_from <= 2.0 and free_from > from_s

    # --- the truth

    def check(self) -> dict[str, Any]:
        """Everything that must hold in the end. Gives figures of the run."""
        self._check_callbacks()
        bad = [
            told
            for told in self.events
            if "unexpectedly" in told or "could not be processed" in told or "append failed" in told
        ]
        assert not bad, bad
        store = JournalStore(self.disk.folder, read_only=True)
        try:
            rows = self.oracle.check_journal(store)
            self.oracle.check_influx(self.influx, rows)
            self.oracle.check_signals(self.redis, store)
            unnoticed = self.oracle.lost.union(*(venue.unnoticed for venue in self.venues.values()))
            whole, every = self.oracle.check_coverage(store, self._happened(), unnoticed, rows)
        finally:
            store.close()
        return {
            "whole": whole,
            "market_seconds": every,
            "rows": len(rows),
            "stream": len(self.redis.every),
            "punctual": self.oracle.punctual,
            "healthy_s": self.healthy_s,
        }

    def _happened(self) -> dict[str, dict[int, int]]:
        counts: dict[str, dict[int, int]] = {}
        for venue in self.venues.values():
            for instrument, trades in venue.past.items():
                mine: defaultdict[int, int] = defaultdict(int)
                for trade in trades:
                    mine[trade.ts_ms // 1000] += 1
                counts[instrument.market] = mine
        return counts
