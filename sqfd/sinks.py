"""Everything after a closed second, wired: journal → InfluxDB, Redis, alerts. None of them is waited for by a tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqfd import log
from sqfd.alerts.sender import Alerts
from sqfd.bars.seconds import Closed
from sqfd.clock import Clock
from sqfd.config import Config
from sqfd.feed.interest import InterestSum, total
from sqfd.http.aggr import Elsewhere
from sqfd.influx.client import Client
from sqfd.influx.history import AT_ONCE, History
from sqfd.influx.lines import open_interest_line, signal_line, strategy_line
from sqfd.influx.schema import BARS_RP, STRATEGY_RP
from sqfd.influx.shipper import SINK, Shipper
from sqfd.influx.watchdog import Watchdog
from sqfd.journal import GapRecord, JournaledSignal
from sqfd.journal.journal import Journal
from sqfd.outside import Outside
from sqfd.signals.signal import Signal
from sqfd.wiring import journaled

if TYPE_CHECKING:
    from sqfd.signals.redis import RedisPublisher

STOP_S = 8.0
"""On stopping, sinks have this long to take what is left; the journal keeps the rest for the next start."""


async def open_journal(config: Config, state: Path) -> Journal:
    """The journal of the state folder. Raises JournalBusy, JournalTooNew, OSError or sqlite3.Error."""
    settings = config.journal
    journal = await Journal.open(
        state,
        retain_s=settings.retention_s(config.influx is not None),
        max_bytes=settings.max_bytes,
        queue_rows=settings.queue_rows,
        instance=config.instance,
    )
    if config.influx is None:
        try:
            await journal.forget(SINK)  # nobody waits for bars any more: what retention takes is not lost
        except BaseException:
            await journal.close()
            raise
    return journal


class Sinks:
    """The journal and what is configured beside it."""

    def __init__(
        self,
        config: Config,
        state: Path,
        journal: Journal,
        clock: Clock,
        exchange_time: Clock,
        heartbeat: Callable[[], Mapping[str, Any]],
        outside: Outside = Outside(),  # noqa: B008  # immutable
    ) -> None:
        self.journal = journal
        self._clock, self._exchange_time = clock, exchange_time
        self._log = log.get("sinks")
        self.publisher: RedisPublisher | None = None
        self.influx: Client | None = None
        self._reader: Client | None = None
        self.shipper: Shipper | None = None
        self.history: History | Elsewhere | None = None
        """Where bars are that the journal does not have any more; None: nowhere."""
        self._watchdog: Watchdog | None = None
        self.alerts = Alerts(config.alerts, config.instance, clock) if config.alerts is not None else None
        if (redis := config.redis) is not None:
            from sqfd.signals.redis import RedisPublisher  # redis-py takes 7 MB: only where it is needed

            self.publisher = RedisPublisher(
                redis,
                journal,
                exchange_time,
                instance=config.instance,
                heartbeat=heartbeat,
                redis=outside.redis(redis),
            )
        if (influx := config.influx) is not None:
            self.influx = outside.influx(influx)
            self.shipper = Shipper(journal, self.influx, influx, clock, state)
            self.history = Elsewhere(f"VictoriaMetrics at {influx.base_url}")
            if influx.influxql:
                # Of its own, so that charts and the shipper do not wait for each other.
                self._reader = outside.influx(influx, AT_ONCE)
                self.history = History(self._reader, influx.database)
                self._watchdog = Watchdog(journal, self.shipper, self.influx, influx, clock)

    def running(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run beside the ticks, by name."""
        stages = {
            "redis": self.publisher,
            "influx": self.shipper,
            "influx-read-back": self._watchdog,
            "alerts": self.alerts,
        }
        return {name: stage.run() for name, stage in stages.items() if stage is not None}

    def take(
        self, closed: Closed, signals: Sequence[Signal], positions: bytes | None, gaps: Sequence[GapRecord]
    ) -> list[JournaledSignal]:
        """Hand over one tick: signals to Redis first, then everything to the journal. Never waits."""
        records = self.journal.number([journaled(signal) for signal in signals])
        if self.publisher is not None:
            self.publisher.offer(records)
        second = closed.second
        self.journal.append(closed.tick, second.bars, closed.flow, records, positions, second.whole, gaps)
        if self.alerts is not None:
            for signal in signals:
                self.alerts.signal(signal)
        return records

    def tell_mind(self, tick: int, minds: Mapping[str, Mapping[str, float]], signals: Sequence[Signal]) -> None:
        """What the strategy thought and said in a second, to InfluxDB, for charts."""
        if self.shipper is None:
            return
        late_ms = self._exchange_time.now_ms() - tick * 1e3
        lines = [strategy_line(s, tick - 1, {**mind, "latency_ms": late_ms}) for s, mind in minds.items() if mind]
        self.shipper.offer(STRATEGY_RP, lines)
        self.shipper.offer(BARS_RP, [_point(signal) for signal in signals])

    def tell_interest(self, symbol: str, sums: Mapping[str, InterestSum], second: int) -> None:
        """Open interest of a symbol by exchange, to InfluxDB."""
        if self.shipper is not None:
            self.shipper.offer(BARS_RP, _interest_lines(symbol, sums, second))

    async def drain(self) -> None:
        """Let the sinks take what is left, for a bounded time."""
        try:
            async with asyncio.timeout(STOP_S):
                await self.journal.flush()
                while not self._drained():  # noqa: ASYNC110  # they tell nobody when they are done
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self._log.warning("sinks are behind: the journal keeps the rest for the next start")

    def _drained(self) -> bool:
        if self.journal.status()["queued_rows"]:
            return False  # the disk refuses: it is asked again, and may take them before the end
        shipped = self.shipper is None or self.shipper.cursor >= self.journal.written
        return shipped and (self.publisher is None or not self.publisher.status()["pending"])

    async def close(self) -> None:
        """Give back connections."""
        for client in (self.influx, self._reader):
            if client is not None:
                await client.close()

    def status(self) -> dict[str, Mapping[str, Any]]:
        """Each sink's own words, by name."""
        found: dict[str, Mapping[str, Any]] = {"journal": self.journal.status()}
        if self.shipper is not None:
            found["influx"] = self.shipper.status()
        if self._watchdog is not None:
            found["influx"] = {**found["influx"], "read_back": self._watchdog.status()}
        if self.publisher is not None:
            found["redis"] = self.publisher.status()
        return found


def _point(signal: Signal) -> str:
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


def _interest_lines(symbol: str, sums: Mapping[str, InterestSum], second: int) -> list[str]:
    """Open interest of a symbol as InfluxDB has it: by exchange, and all together; rates of all are those of 8 hours only."""
    rows = [(exchange, "exchange", one) for exchange, one in sums.items()]
    if sums:
        rows.append(("ALL", "total", total(sums)))
    return [
        open_interest_line(
            second,
            symbol=symbol,
            exchange=exchange,
            aggregate_type=kind,
            open_interest=one.base,
            open_interest_usd=one.usd,
            funding_rate=one.funding,
            funding_8h=one.funding_8h,
        )
        for exchange, kind, one in rows
    ]
