"""The daemon: the one place where stages are wired together. `Daemon.run` reads as a table of contents.

```
 catalog ─► markets
 supervisor ─► intake ─► seconds ─┬─► engine ─► publisher (Redis)
 (one task per connection)        │      │
                                  └──────┴────► journal ─► shipper (InfluxDB)
```

Everything runs on one event loop; the journal has its own thread. No stage waits for a sink.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchanges.api import Instrument
from sqfd import log
from sqfd.alerts.sender import Alerts
from sqfd.bars.seconds import Closed, Seconds
from sqfd.clock import Clock, SystemClock
from sqfd.config import LIVE, Config, changes, is_secret
from sqfd.engine import Engine
from sqfd.feed.catalog import Catalog, choose
from sqfd.feed.intake import Counts, Intake
from sqfd.feed.interest import Interest, InterestBook
from sqfd.feed.limits import FILE_NAME as LIMITS_FILE
from sqfd.feed.record import Recorder
from sqfd.feed.rest import Rest
from sqfd.feed.settings import Wanted
from sqfd.feed.supervisor import Supervisor
from sqfd.http.api import Server
from sqfd.http.health import Health
from sqfd.http.view import View
from sqfd.influx.client import Client, QueryError
from sqfd.influx.history import History
from sqfd.influx.lines import signal_line, strategy_line
from sqfd.influx.schema import BARS_RP, STRATEGY_RP
from sqfd.influx.shipper import Shipper
from sqfd.influx.warm import Earlier, FlowReader
from sqfd.influx.watchdog import Watchdog
from sqfd.journal import GapRecord, Journal
from sqfd.model import market_of
from sqfd.notify import Notifier
from sqfd.settings import SettingsError
from sqfd.signals.redis import RedisPublisher
from sqfd.signals.signal import Signal
from sqfd.stalls import Stalls
from sqfd.wiring import (
    engine_for,
    engine_note,
    exchanges_of,
    gap_records,
    interest_lines,
    journaled,
    strategy_of,
    symbols_of,
)

HOUR_S = 3600
MINUTE_S = 60
LOOK_S = 0.02
"""Seconds are closed at most this much later than they are over."""
WARM_S = 10.0
"""History that InfluxDB does not give within this long is gone without."""
INTEREST_ROUNDS = 10
"""Open interest that was not confirmed for so many intervals is no longer counted."""
STOP_S = 10.0
"""On stopping, sinks have this long to take what is left; the journal keeps the rest for the next start."""


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


class ExchangeTime:
    """The exchanges' clock: steady time less the offset that the watermark found. A `Clock` for what signals mean."""

    def __init__(self, clock: Clock, seconds: Seconds) -> None:
        self._clock, self._seconds = clock, seconds

    def now_ms(self) -> float:
        return self._clock.now_ms() - self._seconds.watermark.offset_ms()

    def wall_ms(self) -> float:
        return self._clock.wall_ms()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


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
    ) -> None:
        """`state`: folder of the journal. `record`: keep received frames there. `on_signal` is told each signal."""
        self.config = config
        self._state = state
        self._clock = clock or SystemClock()
        self._on_signal = on_signal
        self._log = log.get("daemon")
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when the loops run: the configuration is valid and markets are known (not: when every market trades)."""
        self._exchanges = exchanges_of(config)
        self._symbols = symbols_of(config)
        self._seconds = Seconds(self._symbols, config.feed.grace_s, config.bars.revisable_s)
        self._time = ExchangeTime(self._clock, self._seconds)
        self._intake = Intake(self._seconds.builder, self._seconds.watermark)
        self._rests = {id: Rest(exchange, config.feed, self._clock) for id, exchange in self._exchanges.items()}
        feed, feed_log = config.feed, log.get("feed")
        recorder = None
        if record is not None:
            recorder = Recorder(record, feed.record_file_bytes, feed.record_total_bytes, feed_log)
        self._supervisor = Supervisor(
            self._exchanges,
            feed,
            self._intake,
            self._clock,
            feed_log,
            recorder,
            self._rests,
            limits=state / LIMITS_FILE,
            on_interest=self._take_interest,
        )
        self._interest = InterestBook(INTEREST_ROUNDS * 1e3 * feed.open_interest_s)
        self._engine: Engine | None = None
        self._journal: Journal | None = None
        self._publisher: RedisPublisher | None = None
        self._shipper: Shipper | None = None
        self._alerts = Alerts(config.alerts, config.instance, self._clock) if config.alerts is not None else None
        self._influx = Client(config.influx) if config.influx is not None else None
        self._watchdog: Watchdog | None = None
        self._server: Server | None = None
        self._view: View | None = None
        self._notifier = Notifier()
        self._stalls = Stalls(log.get("loop"))
        self._told_minute = Counts()
        self._noting: asyncio.Task[None] | None = None
        self._registering = asyncio.Lock()
        self._gaps: list[GapRecord] = []
        """What became of gaps since the last tick."""
        self._bars = self._signals = 0
        self.revisions = 0
        """Bars that were stored again because trades came late."""

    def stop(self) -> None:
        """Ask `run` to end: feeds first, then the sinks, then the journal."""
        self._stopping.set()

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

    async def _note_engine(self, config: Config, state: bytes) -> None:
        """A backtest of this journal has to know from which tick on other settings decide."""
        assert self._journal is not None
        second = self._seconds.builder.next_second
        first = self._journal.written + 1 if second is None else second + 1
        await self._journal.note_engine(first, engine_note(config, self._markets_by_symbol(), state))

    def _apply(self, config: Config) -> None:
        changed = changes(self.config, config)
        engine, live = self._engine, {key: change for key, change in changed.items() if key.startswith(LIVE)}
        if engine is not None and any(key.startswith("strategy.") for key in live):
            try:
                engine.use(strategy_of(config), config.strategy)
            except ValueError as error:
                self._log.error("strategy not changed", why=str(error))
                return
            self._noting = asyncio.create_task(self._note_engine(config, engine.positions()), name="engine-note")
        log.set_level(config.log.level)
        replace = msgspec.structs.replace
        self.config = replace(
            self.config, strategy=config.strategy, log=replace(self.config.log, level=config.log.level)
        )
        for key, (old, new) in changed.items():
            shown = {} if is_secret(key) else {"old": old, "new": new}
            self._log.info("setting changed" if key in live else "setting needs a restart", key=key, **shown)
        if not changed:
            self._log.info("configuration reloaded: nothing changed")

    async def run(self) -> None:
        """Run until `stop`. Raises UnknownMarket, JournalBusy or OSError when it cannot start."""
        self._journal = journal = await self._open_journal()
        try:
            if not await self._unless_stopped(self._prepare(journal)):
                return
            self._stalls.start()
            async with asyncio.TaskGroup() as group:
                sinks = [group.create_task(sink) for sink in self._sinks(journal)]
                sinks += [group.create_task(server.run()) for server in await self._listen(journal)]
                feeds = group.create_task(self._supervisor.run(), name="feeds")
                ticks = group.create_task(self._close_seconds(), name="ticks")
                late = group.create_task(self._retry_listings(), name="listings")
                self.ready.set()
                self._log.info(
                    "ready", markets=len(self._seconds.markets), symbols=",".join(self._symbols), page=self.url
                )
                self._notifier.ready(f"{len(self._seconds.markets)} markets, waiting for trades")
                await self._stopping.wait()
                self._notifier.stopping()
                await self._supervisor.stop()
                await feeds
                for task in (late, ticks):
                    task.cancel()
                await self._drain()
                for task in sinks:
                    task.cancel()
        finally:
            if self._server is not None:
                await self._server.close()
            self._stalls.stop()
            for rest in self._rests.values():
                await rest.close()
            await journal.close()
            self._notifier.close()
            self._log.info("stopped", bars=self._bars, signals=self._signals)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work, or leave it when `stop` is called first: an exchange that hangs must not hold up the end."""
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        done = task.done()
        for one in (task, stopped):
            one.cancel()
        await asyncio.wait({task, stopped})
        if done:
            task.result()
        return done

    # --- start --------------------------------------------------------------------------------------------------------

    async def _prepare(self, journal: Journal) -> None:
        await self._collect(await self._catalog())
        await self._warm(journal)

    async def _open_journal(self) -> Journal:
        settings = self.config.journal
        return await Journal.open(
            self._state,
            retain_s=settings.retention_s(self.config.influx is not None),
            max_bytes=settings.max_bytes,
            queue_rows=settings.queue_rows,
            instance=self.config.instance,
        )

    async def _catalog(self) -> list[Instrument]:
        """What the exchanges list; those that do not answer are asked again while the others run."""
        self._listings = Catalog(
            self._exchanges,
            self._rests,
            self._state / "listings",
            self.config.feed,
            self._clock,
            log.get("catalog"),
        )
        loaded = await asyncio.gather(*(self._listings.load(id) for id in self._exchanges))
        self._missing = {id for id, listed in zip(self._exchanges, loaded, strict=True) if listed is None}
        return choose([one for listed in loaded if listed is not None for one in listed], self._wanted())

    def _wanted(self) -> Wanted:
        settings = self.config.symbols
        return Wanted(
            symbols=self._symbols,
            quotes=settings.quotes,
            exchanges=settings.exchanges,
            markets=settings.markets,
        )

    async def _collect(self, instruments: Sequence[Instrument]) -> None:
        """Give markets their indices and let the feeds have them."""
        assert self._journal is not None
        async with self._registering:
            markets = [market_of(instrument) for instrument in instruments]
            await self._journal.register([*self._seconds.markets, *markets], self._symbols)
            indices = self._seconds.add_markets(markets)
            self._supervisor.add(instruments, indices)

    async def _retry_listings(self) -> None:
        """Collect from exchanges whose listing comes late."""
        group = asyncio.TaskGroup()

        def found(exchange_id: str, listed: list[Instrument]) -> None:
            self._missing.discard(exchange_id)
            group.create_task(self._collect(choose(listed, self._wanted())))

        async with group:
            await self._listings.retry(sorted(self._missing), found)

    async def _warm(self, journal: Journal) -> None:
        """Take up where the last run ended: 28 h of flow, prices and weights, positions."""
        self._engine = engine = engine_for(self.config, self._markets_by_symbol())
        last = journal.written
        since = (last or int(self._time.now_ms() / 1e3)) - engine.history_s
        earlier = await self._before_journal(journal, since)
        if earlier is not None:
            await journal.load_flow(np.concatenate(earlier.flow))  # a backtest must see what this run was warmed with
        flows = []
        for index, symbol in enumerate(self._symbols):
            flow = (await journal.flow(symbol, since, last + 1, index=index)).rows
            flows.append(flow if earlier is None else np.concatenate([earlier.flow[index], flow]))
        newest = [flow[-1:] for flow in flows]
        if flows:
            engine.warm(np.concatenate(flows))  # at once, as backtests do: what is remembered depends on it
        bars = await journal.bars([m.name for m in self._seconds.markets], last - HOUR_S, last)
        if earlier is not None and not len(bars):
            bars = earlier.notional
        if newest:
            self._seconds.flow.resume(np.concatenate(newest), bars)
        if (positions := await journal.positions()) is not None:
            engine.restore(positions)
        warmed = max([last, *(int(rows["second"][0]) + 1 for rows in newest if len(rows))])
        await journal.note_engine(warmed + 1, engine_note(self.config, self._markets_by_symbol(), positions))
        if last > 0:
            self._log.info("warm", ticks_until=last, symbols=len(self._symbols))

    async def _before_journal(self, journal: Journal, since: int) -> Earlier | None:
        """What InfluxDB has of the time before the journal begins; None: nothing is needed, or nothing is there."""
        influx = self.config.influx
        if self._influx is None or influx is None or not influx.influxql or not self._symbols:
            return None
        oldest = await journal.first_flow(self._symbols)
        until = int(self._time.now_ms() / 1e3) if oldest is None else oldest
        if until - since < HOUR_S:
            return None
        reader = FlowReader(self._influx, influx.database)
        try:
            async with asyncio.timeout(WARM_S):
                earlier = await reader.earlier(self._seconds.markets, self._symbols, since, until)
        except (QueryError, TimeoutError) as error:
            self._log.warning("no history from InfluxDB", error=str(error) or f"not within {WARM_S:.0f} s")
            return None
        self._log.info("history from InfluxDB", seconds=max(map(len, earlier.flow)), until=until)
        return earlier

    def _markets_by_symbol(self) -> dict[str, list[str]]:
        return {
            symbol: [market.name for market in self._seconds.markets if market.base == symbol]
            for symbol in self._symbols
        }

    def _sinks(self, journal: Journal) -> list[Any]:
        """The coroutines of the sinks that are configured."""
        running = []
        if (redis := self.config.redis) is not None:
            self._publisher = RedisPublisher(
                redis, journal, self._time, instance=self.config.instance, heartbeat=self._heartbeat
            )
            running.append(self._publisher.run())
        if (influx := self.config.influx) is not None:
            assert self._influx is not None
            self._shipper = Shipper(journal, self._influx, influx, self._clock, self._state)
            running.append(self._shipper.run())
            if influx.influxql:
                self._watchdog = Watchdog(journal, self._shipper, self._influx, influx, self._clock)
                running.append(self._watchdog.run())
        if self._alerts is not None:
            running.append(self._alerts.run())
        return running

    async def _listen(self, journal: Journal) -> list[Server]:
        """The HTTP server, listening, where one is configured. Raises CannotListen."""
        assert self._engine is not None
        self._view = view = View(
            instance=self.config.instance,
            clock=self._clock,
            exchange_clock=self._time,
            symbols=self._symbols,
            exchanges=tuple(self._exchanges),
            missing=self._missing,
            seconds=self._seconds,
            intake=self._intake,
            supervisor=self._supervisor,
            engine=self._engine,
            journal=journal,
            stalls=self._stalls,
            shipper=self._shipper,
            publisher=self._publisher,
            alerts=self._alerts,
        )
        if not self.config.http.enabled:
            return []
        influx = self.config.influx
        history = History(self._influx, influx.database) if influx is not None and self._influx is not None else None
        self._server = Server(self.config.http, view, history, self._health_changed)
        await self._server.start()
        return [self._server]

    def _health_changed(self, before: str, found: Health) -> None:
        """One line per change, with what is not well."""
        told = self._log.info if found.state == "healthy" else self._log.warning
        told(f"health: {found.state}", before=before, **({"why": found.why} if found.why else {}))
        if self._alerts is not None:
            self._alerts.health(before, found.state, found.why)

    @property
    def url(self) -> str:
        """Address of the live page; empty where HTTP is off."""
        return self._server.url if self._server is not None else ""

    # --- once a second ------------------------------------------------------------------------------------------------

    async def _close_seconds(self) -> None:
        """Close each second when it is over; the one loop that drives bars, strategy and sinks."""
        while True:
            self._take_changes()
            for closed in self._seconds.due(self._clock.now_ms(), self._whole):
                self._tick(closed)
                await asyncio.sleep(0)  # after a stall many are due: frames must not wait for all of them
            due_ms = self._seconds.next_due_ms()
            if due_ms is None:
                self._notifier.alive()  # no trade yet: there is no second to close, and this loop would close it
            wait_s = LOOK_S if due_ms is None else (due_ms - self._clock.now_ms()) / 1e3
            await self._clock.sleep(min(max(wait_s, 0.001), LOOK_S))

    def _minute(self) -> dict[str, Any]:
        """What a quiet minute says: one line."""
        totals, before = self._intake.totals(), self._told_minute
        self._told_minute = totals
        live = sum(feed.ledger.open is None for feed in self._intake.markets.values())
        lost = {name: getattr(totals, name) - getattr(before, name) for name in ("late", "malformed")}
        return {
            "live": f"{live}/{len(self._seconds.markets)}",
            "trades": totals.aggregated - before.aggregated,
            **{name: count for name, count in lost.items() if count},
            "lag_s": round(self.status().lag_s, 2),
            "signals": self._signals,
        }

    def _take_changes(self) -> None:
        """Gaps that were noticed or filled after their seconds closed revise the coverage of those seconds."""
        for feed, interval in self._supervisor.changes():
            self._gaps += gap_records(feed, interval)
            from_s, until_s = interval.seconds(self._clock.now_ms())
            self._seconds.cover(feed.market, from_s, until_s, feed.ledger.whole)

    @property
    def _told(self) -> str:
        """systemd's status line."""
        live = sum(feed.ledger.open is None for feed in self._intake.markets.values())
        return f"{live}/{len(self._seconds.markets)} markets live, {self._bars} bars, {self._signals} signals"

    def _take_interest(self, found: Sequence[Interest]) -> None:
        """Open interest of some markets: into the flow of their symbols, and to InfluxDB by exchange."""
        now_ms, symbols = self._time.now_ms(), dict.fromkeys(self._seconds.markets[one.market].base for one in found)
        for one in found:
            market = self._seconds.markets[one.market]
            self._interest.put(market.base, market.exchange, one)
        for symbol in symbols:
            sums = self._interest.sums(symbol, now_ms)
            if sums and symbol in self._symbols:
                self._seconds.flow.set_open_interest(symbol, sum(usd for _, usd in sums.values()))
            if self._shipper is not None:
                self._shipper.offer(BARS_RP, interest_lines(symbol, sums, int(now_ms // 1000)))

    def _whole(self, second: int) -> NDArray[np.bool_]:
        return self._supervisor.whole(second, len(self._seconds.markets))

    def _tick(self, closed: Closed) -> None:
        """One closed second: strategy, then every sink, none of which is waited for."""
        assert self._engine is not None
        assert self._journal is not None
        signals = self._engine.tick(closed.tick, closed.flow)
        records = self._journal.number([journaled(signal) for signal in signals])
        positions = self._engine.positions() if signals else None
        if self._publisher is not None:
            self._publisher.offer(records)
        gaps, self._gaps = self._gaps, []
        self._journal.append(
            closed.tick, closed.second.bars, closed.flow, records, positions, closed.second.whole, gaps
        )
        revisions = int(np.count_nonzero(closed.second.bars["second"] < closed.second.second))
        if self._shipper is not None:
            self._offer_mind(self._shipper, closed.tick, signals)
        self._bars += len(closed.second.bars)
        self.revisions += revisions
        self._signals += len(signals)
        if self._view is not None:
            self._view.note(len(closed.second.bars), revisions, records, [signal.action for signal in signals])
        if self._server is not None:
            self._server.tick(records)
        self._notifier.alive(self._told)
        if closed.tick % MINUTE_S == 0:
            self._log.info("minute", **self._minute())
        for signal in signals:
            self._log.info(
                "signal",
                action=signal.action,
                symbol=signal.symbol,
                score=round(signal.score, 2),
                price=signal.entry_price,
                second=signal.second,
                reasoning=signal.reasoning,
            )
            if self._alerts is not None:
                self._alerts.signal(signal)
            self._on_signal(signal)

    def _offer_mind(self, shipper: Shipper, tick: int, signals: Sequence[Signal]) -> None:
        """What the strategy thought and said, for charts."""
        assert self._engine is not None
        late_ms = self._time.now_ms() - tick * 1e3
        minds = {symbol: self._engine.mind(symbol) for symbol in self._symbols}
        lines = [strategy_line(s, tick - 1, mind | {"latency_ms": late_ms}) for s, mind in minds.items() if mind]
        shipper.offer(STRATEGY_RP, lines)
        shipper.offer(BARS_RP, [_told(signal) for signal in signals])

    # --- stop, status -------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Let the sinks take what is left, for a bounded time."""
        assert self._journal is not None
        await self._journal.flush()
        for _ in range(int(STOP_S / 0.05)):
            shipped = self._shipper is None or self._shipper.cursor >= self._journal.written
            if shipped and (self._publisher is None or not self._publisher.status()["pending"]):
                return
            await asyncio.sleep(0.05)
        self._log.warning("sinks are behind: the journal keeps the rest for the next start")

    def counts(self) -> Counts:
        """What became of all trades received."""
        return self._intake.totals()

    def markets(self) -> list[str]:
        """Names of the collected markets."""
        return [market.name for market in self._seconds.markets]

    def _heartbeat(self) -> dict[str, Any]:
        status = self.status()
        return {"second": status.second, "lag_s": round(status.lag_s, 3), "symbols": list(self._symbols)}

    def status(self) -> Status:
        """One glance; cheap enough for every second."""
        second = (self._seconds.builder.next_second or 1) - 1
        exchange_s = self._time.now_ms() / 1e3
        sinks: dict[str, Mapping[str, Any]] = {}
        if self._journal is not None:
            sinks["journal"] = self._journal.status()
        if self._shipper is not None:
            sinks["influx"] = self._shipper.status()
        if self._watchdog is not None:
            sinks["influx"] = {**sinks["influx"], "read_back": self._watchdog.status()}
        if self._publisher is not None:
            sinks["redis"] = self._publisher.status()
        feeds = self._supervisor.status()
        return Status(
            markets=len(self._seconds.markets),
            live=feeds.live,
            trades=feeds.counts.aggregated,
            bars=self._bars,
            second=second,
            lag_s=max(0.0, exchange_s - second - 1) if second > 0 else math.nan,
            signals=self._signals,
            symbols={symbol: self._engine.mind(symbol) for symbol in self._symbols} if self._engine else {},
            sinks=sinks,
        )


def _told(signal: Signal) -> str:
    """A signal as a point of `strategy_signals`."""
    tags = {
        "symbol": signal.symbol,
        "action": signal.action,
        "strategy": signal.strategy,
        "score_tier": signal.quality,
    }
    fields: dict[str, float | str] = {
        "signal_id": signal.signal_id,
        "score": signal.score,
        "position_size_factor": signal.position_size_factor,
        "leverage": signal.leverage,
        "entry_price": signal.entry_price,
        "confidence": signal.confidence,
        "reasoning": signal.reasoning,
    }
    return signal_line(signal.second, tags, fields)
