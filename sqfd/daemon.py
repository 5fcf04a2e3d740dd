"""The daemon: the one place where stages are wired together. `Daemon.run` reads as a table of contents.

```
 collector (listings ─► feeds ─► trades ─► bars ─► flow)
     │ once a second
     ├──► engine (phases, positions) ──► signals
     │                                     │
     └──────────────┬──────────────────────┘
                    ▼
 sinks (Redis · journal ─► InfluxDB · alerts)      server (health, metrics, history, page)
```

Everything runs on one event loop; the journal has its own thread. No stage waits for a sink.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from sqfd import log
from sqfd.bars.seconds import Closed
from sqfd.clock import Clock, SystemClock
from sqfd.collector import Collector
from sqfd.config import LIVE, Config, changes
from sqfd.ending import GIVE_UP_S, SAY_S, ended_in_time
from sqfd.engine import Engine
from sqfd.feed.intake import Counts
from sqfd.feed.interest import InterestSum
from sqfd.heap import give_back
from sqfd.http.api import Server
from sqfd.http.health import Health
from sqfd.http.view import View
from sqfd.journal import GapRecord
from sqfd.journal.journal import Journal
from sqfd.model import Market
from sqfd.notify import Notifier
from sqfd.outside import Outside
from sqfd.settings import SettingsError, is_secret, without_login
from sqfd.signals.signal import Signal
from sqfd.sinks import Sinks, open_journal
from sqfd.warm import missed_by, warm_up
from sqfd.wiring import engine_for, engine_note, strategy_of

MINUTE_S = 60
LAST_TICK_S = 2.0
"""A stop waits so long for the tick that brings late trades into the journal."""
REGISTER_S = 1.0
"""The names of new markets are offered to a journal that refuses them this often."""
TIDY_S = 0.3
"""Memory is tidied so long after a minute's tick: its signals have left by then, and the next tick is not yet due."""
LOOK_S, REST_S, NAP_SHARE = 0.02, 0.5, 0.75
"""Seconds are closed at most LOOK_S later than they are over. Until then NAP_SHARE of what is left is slept, REST_S at most: an
exchange's offset may fall meanwhile."""


class Status(NamedTuple):
    """One glance at the running daemon."""

    markets: int
    live: int
    trades: int
    """Aggregated so far."""
    bars: int
    second: int
    """Newest closed second; 0 before the first."""
    lag_s: float
    """How long ago, on the exchanges' clocks, that second ended."""
    signals: int
    symbols: Mapping[str, Mapping[str, Any]]
    """Per symbol: price, score, the phases' verdicts."""
    sinks: Mapping[str, Mapping[str, Any]]


def nap_s(wait_s: float) -> float:
    """How long to sleep before looking again, where the next second is over in `wait_s`."""
    return min(max(wait_s, 0.001), max(LOOK_S, wait_s * NAP_SHARE), REST_S)


class Daemon:
    """All stages of one process. Make it, `await run()`, and `stop()` it from a signal handler."""

    def __init__(
        self,
        config: Config,
        state: Path,
        *,
        clock: Clock | None = None,
        record: Path | None = None,
        on_signal: Callable[[Signal], None] = lambda signal: None,
        outside: Outside = Outside(),  # noqa: B008  # immutable
    ) -> None:
        """`state`: folder of the journal. `record`: keep received frames there. `on_signal` is told each signal."""
        self.config = config
        self.ready = asyncio.Event()
        """Set when the loops run: the configuration is valid and markets are known (not: when every market trades)."""
        self.revisions = 0
        """Bars that were stored again because trades came late."""
        self.ticks = 0
        """Seconds that were closed."""
        self.say_s, self.give_up_s = SAY_S, GIVE_UP_S
        """Bounds of a stop."""
        self._state = state
        self._clock = clock or SystemClock()
        self._on_signal = on_signal
        self._log = log.get("daemon")
        self._stopping = asyncio.Event()
        self._outside = outside
        self._collector = Collector(config, state, self._clock, record, self._register, self._tell_interest, outside)
        self._engine: Engine | None = None
        self._sinks: Sinks | None = None
        self._server: Server | None = None
        self._view: View | None = None
        self._notifier = Notifier()
        self._stalls = outside.stalls(log.get("loop"))
        self._told_minute = Counts()
        self._settings_changed = False
        self._gaps: list[GapRecord] = []
        """What became of gaps since the last tick."""
        self._bars = self._signals = 0

    def stop(self) -> None:
        """Ask `run` to end: feeds first, then the sinks, then the journal."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`. Raises UnknownMarket, JournalBusy, CannotListen or OSError when it cannot start.

        Raises StopOverdue where something did not end within GIVE_UP_S of `stop`; what that is was logged.
        """
        await ended_in_time(self._run(), self._stopping, self._log, self.say_s, self.give_up_s)

    async def _run(self) -> None:
        journal = await open_journal(self.config, self._state)
        collector = self._collector
        self._sinks = sinks = Sinks(
            self.config, self._state, journal, self._clock, collector.time, self._heartbeat, self._outside
        )
        try:
            if not await self._unless_stopped(self._prepare(sinks)):
                return
            assert self._engine is not None, "prepared"
            engine = self._engine
            self._stalls.start()
            async with asyncio.TaskGroup() as group:
                after = [group.create_task(stage, name=name) for name, stage in sinks.running().items()]
                after += [group.create_task(one.run(), name="page") for one in await self._listen(sinks, engine)]
                feeds = group.create_task(collector.supervisor.run(), name="feeds")
                ticks = group.create_task(self._close_seconds(engine, sinks), name="ticks")
                late = group.create_task(collector.keep_listings(), name="listings")
                self._say_ready()
                await self._stopping.wait()
                self._notifier.stopping()
                await self._keep_revisions()
                await collector.supervisor.stop()
                await feeds
                for task in (late, ticks):
                    task.cancel()
                await sinks.drain()
                for task in after:
                    task.cancel()
        finally:
            if self._server is not None:
                await self._server.close()
            self._stalls.stop()
            await collector.close()
            await sinks.close()
            await journal.close()
            self._notifier.close()
            self._log.info("stopped", bars=self._bars, signals=self._signals)

    # --- start --------------------------------------------------------------------------------------------------------

    async def _register(self, markets: Sequence[Market]) -> None:
        """Tell the journal all names. While it runs, a full disk delays the markets of a late listing, and nothing else."""
        while True:
            try:
                await self._journal.register(markets, self._collector.symbols)
                return
            except sqlite3.Error as error:
                if not self.ready.is_set():
                    raise
                self._log.warning("new markets wait for the journal", error=str(error))
            await self._clock.sleep(REGISTER_S)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work, or leave it when `stop` is called first: an exchange that hangs must not hold up the end."""
        task, stopped = asyncio.create_task(work, name="start"), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        done = task.done()
        for one in (task, stopped):
            one.cancel()
        await asyncio.wait({task, stopped})
        if done:
            task.result()
        return done

    async def _prepare(self, sinks: Sinks) -> None:
        """Find the markets, and the engine where the last run left it. Raises UnknownMarket."""
        collector = self._collector
        await collector.find_markets()
        self._engine = engine = engine_for(self.config, collector.markets_by_symbol())
        known, state = await warm_up(
            engine, collector.seconds, sinks.journal, sinks.influx, self.config, collector.time
        )
        if missed := await missed_by(sinks.journal):
            collector.resume(sinks.journal.written, missed)
        await self._note_engine(known + 1, state)
        give_back()

    async def _note_engine(self, tick: int, state: bytes | None) -> None:
        """Tell the journal what the engine was told, so that a backtest can repeat the run from `tick` on."""
        self._settings_changed = False
        note = engine_note(self.config, self._collector.markets_by_symbol(), state)
        try:
            await self._journal.note_engine(tick, note)
        except sqlite3.Error as error:
            self._log.warning("a backtest of this run will not know its settings", error=str(error))

    async def _listen(self, sinks: Sinks, engine: Engine) -> list[Server]:
        """The HTTP server, listening, where one is configured. Raises CannotListen."""
        collector = self._collector
        self._view = view = View(
            instance=self.config.instance,
            clock=self._clock,
            exchange_clock=collector.time,
            symbols=collector.symbols,
            exchanges=tuple(collector.exchanges),
            missing=collector.missing,
            seconds=collector.seconds,
            intake=collector.intake,
            supervisor=collector.supervisor,
            engine=engine,
            journal=sinks.journal,
            stalls=self._stalls,
            shipper=sinks.shipper,
            publisher=sinks.publisher,
            alerts=sinks.alerts,
        )
        if not self.config.http.enabled:
            return []
        self._server = Server(self.config.http, view, sinks.history, self._health_changed)
        await self._server.start()
        return [self._server]

    def _say_ready(self) -> None:
        markets = len(self._collector.seconds.markets)
        self.ready.set()
        self._log.info("ready", markets=markets, symbols=",".join(self._collector.symbols), page=self.url)
        self._notifier.ready(f"{markets} markets, waiting for trades")

    # --- once a second ------------------------------------------------------------------------------------------------

    async def _close_seconds(self, engine: Engine, sinks: Sinks) -> None:
        """Close each second when it is over; the one loop that drives bars, strategy and sinks."""
        collector = self._collector
        while True:
            if await collector.catch_up():
                self._gaps += collector.take_changes()
            for closed in collector.due():
                if self._settings_changed:
                    await self._note_engine(closed.tick, engine.positions())
                self._tick(closed, engine, sinks)
                await asyncio.sleep(0)  # after a stall many are due: frames must not wait for all of them
            wait_s = collector.due_in_s()
            if wait_s is None:
                # No trade yet: there is no second to close, and this loop would close it. A host without network is not
                # restarted for that; health says unhealthy when every feed is down.
                self._notifier.alive(f"{self._told}: no trade has come yet")
            await self._clock.sleep(LOOK_S if wait_s is None else nap_s(wait_s))

    async def _keep_revisions(self) -> None:
        """Before feeds end: trades that revise closed seconds are in no tick yet, and the next run would not know of them."""
        ticks, until_ms = self.ticks, self._clock.now_ms() + LAST_TICK_S * 1e3
        while self._collector.seconds.builder.revised and self.ticks == ticks and self._clock.now_ms() < until_ms:
            await self._clock.sleep(LOOK_S)

    def _tick(self, closed: Closed, engine: Engine, sinks: Sinks) -> None:
        """One closed second: strategy, then every sink, none of which is waited for."""
        signals = engine.tick(closed.tick, closed.flow)
        gaps, self._gaps = self._gaps, []
        records = sinks.take(closed, signals, engine.positions() if signals else None, gaps)
        sinks.tell_mind(closed.tick, self._minds(), signals)
        bars = closed.second.bars
        revisions = int(np.count_nonzero(bars["second"] < closed.second.second))
        self.ticks += 1
        self._bars += len(bars)
        self.revisions += revisions
        self._signals += len(signals)
        if self._view is not None:
            self._view.note(len(bars), revisions, records, [signal.action for signal in signals])
        if self._server is not None:
            self._server.tick(records)
        self._notifier.alive(self._told)
        if closed.tick % MINUTE_S == 0:
            self._log.info("minute", second=closed.tick - 1, **self._minute())
            asyncio.get_running_loop().call_later(TIDY_S, give_back)
        for signal in signals:
            self._say_signal(signal)

    def _say_signal(self, signal: Signal) -> None:
        self._log.info(
            "signal",
            action=signal.action,
            symbol=signal.symbol,
            score=round(signal.score, 2),
            price=signal.entry_price,
            second=signal.second,
            reasoning=signal.reasoning,
        )
        self._on_signal(signal)

    def _tell_interest(self, symbol: str, sums: Mapping[str, InterestSum], second: int) -> None:
        if self._sinks is not None:
            self._sinks.tell_interest(symbol, sums, second)

    def _minute(self) -> dict[str, Any]:
        """What a quiet minute says: one line."""
        totals, before = self.counts(), self._told_minute
        self._told_minute = totals
        lost = {name: getattr(totals, name) - getattr(before, name) for name in ("late", "malformed")}
        return {
            "live": f"{self._collector.live}/{len(self._collector.seconds.markets)}",
            "trades": totals.aggregated - before.aggregated,
            **{name: count for name, count in lost.items() if count},
            "lag_s": round(self._collector.lag_s, 2),
            "signals": self._signals,
        }

    # --- changes while it runs ------------------------------------------------------------------------------------------

    def _health_changed(self, before: str, found: Health) -> None:
        """One line per change, with what is not well."""
        told = self._log.info if found.state == "healthy" else self._log.warning
        told(f"health: {found.state}", before=before, **({"why": found.why} if found.why else {}))
        if self._sinks is not None and self._sinks.alerts is not None:
            self._sinks.alerts.health(before, found.state, found.why)

    def reload(self, read: Callable[[], Config]) -> None:
        """Read the configuration again and apply what can change while running, from the next second on.

        A configuration that is wrong changes nothing. What needs a restart is said, and waits for it.
        """
        self._notifier.reloading()
        try:
            self._apply(read())
        except SettingsError as error:
            self._log.error("configuration not reloaded, the old one stays", why=str(error))
        if self.ready.is_set():
            self._notifier.ready(self._told)

    def _apply(self, config: Config) -> None:
        changed = changes(self.config, config)
        engine, live = self._engine, {key: change for key, change in changed.items() if key.startswith(LIVE)}
        if engine is not None and any(key.startswith("strategy.") for key in live):
            try:
                engine.use(strategy_of(config), config.strategy)
            except ValueError as error:
                self._log.error("strategy not changed", why=str(error))
                return
            self._settings_changed = True
        log.set_level(config.log.level)
        replace = msgspec.structs.replace
        self.config = replace(
            self.config, strategy=config.strategy, log=replace(self.config.log, level=config.log.level)
        )
        for key, (old, new) in changed.items():
            shown = {} if is_secret(key) else {"old": without_login(old), "new": without_login(new)}
            self._log.info("setting changed" if key in live else "setting needs a restart", key=key, **shown)
        if not changed:
            self._log.info("configuration reloaded: nothing changed")

    # --- what is known --------------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Journal:
        assert self._sinks is not None, "the journal is opened by run()"
        return self._sinks.journal

    @property
    def url(self) -> str:
        """Address of the live page; empty where HTTP is off."""
        return self._server.url if self._server is not None else ""

    @property
    def _told(self) -> str:
        """systemd's status line."""
        collector = self._collector
        return f"{collector.live}/{len(collector.seconds.markets)} markets live, {self._bars} bars, {self._signals} signals"

    def _minds(self) -> dict[str, dict[str, float]]:
        engine = self._engine
        return {symbol: engine.mind(symbol) for symbol in self._collector.symbols} if engine is not None else {}

    def counts(self) -> Counts:
        """What became of all trades received."""
        return self._collector.intake.totals()

    def excluded(self) -> dict[str, int]:
        """Rows that were left out, by reason."""
        return self._collector.intake.excluded()

    def markets(self) -> list[str]:
        """Names of the collected markets."""
        return [market.name for market in self._collector.seconds.markets]

    def health(self) -> Health | None:
        """What is well and what is not; None before the markets are known."""
        return self._view.health() if self._view is not None else None

    def _heartbeat(self) -> dict[str, Any]:
        collector = self._collector
        return {
            "second": collector.second,
            "lag_s": round(collector.lag_s, 3) if collector.second else None,
            "coverage": round(collector.live / max(1, len(collector.seconds.markets)), 4),
            "symbols": list(collector.symbols),
        }

    def status(self) -> Status:
        """One glance; cheap enough for every second."""
        collector = self._collector
        return Status(
            markets=len(collector.seconds.markets),
            live=collector.live,
            trades=self.counts().aggregated,
            bars=self._bars,
            second=collector.second,
            lag_s=collector.lag_s,
            signals=self._signals,
            symbols=self._minds(),
            sinks=self._sinks.status() if self._sinks is not None else {},
        )
