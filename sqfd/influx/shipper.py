"""From the journal to InfluxDB: reads after its cursor, writes blocks, moves the cursor when all of a tick is acknowledged.

One task, one request in flight. What InfluxDB answers is judged by `verdict`; nothing is confirmed by reading, because after a
full disk InfluxDB shows points that vanish with its restart.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sqfd.clock import Clock
from sqfd.influx import lines as protocol
from sqfd.influx.client import Client, QueryError
from sqfd.influx.quarantine import Quarantine
from sqfd.influx.remake import Remaker
from sqfd.influx.schema import BARS_RP, compare, create, inspect, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.verdict import Failure, Verdict, judge, needs_schema
from sqfd.lean import structlog
from sqfd.model import Bars

SINK = "influx"
READ_ROWS = 5_000
MAX_OFFERED = 10_000
FIRST_SECOND = 1_230_768_000  # 2009-01-01: InfluxDB takes 1970 in silence
FUTURE_S = 86_400
UNSAFE_S = 30.0
"""VictoriaMetrics acknowledges from memory, and writes to disk seconds later; InfluxDB's 204 is durable."""

log = structlog.get_logger("influx")


class Source(Protocol):
    """What the shipper needs of the journal."""

    @property
    def written(self) -> int:
        """Newest tick that reads can see."""

    def names(self) -> Sequence[str]:
        """Market names; `market` of the bars is the index."""

    async def cursor(self, sink: str) -> int: ...

    async def move(self, sink: str, tick: int) -> None: ...

    async def bars_since(self, tick: int, limit: int) -> tuple[NDArray[np.int64], Bars]: ...


class Shipper:
    """Ships bars, and whatever lines are offered beside them."""

    def __init__(
        self,
        source: Source,
        client: Client,
        settings: InfluxSettings,
        clock: Clock,
        folder: Path,
        rng: random.Random | None = None,
    ) -> None:
        self._source, self._client, self._settings, self._clock = source, client, settings, clock
        self._random = random.random if rng is None else rng.random
        self._heads: list[str | None] = []
        self._offered: deque[tuple[str, str]] = deque()
        self._failures = 0
        self._resets = 0
        self._down: str | None = None
        self._accepted: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._again_from: int | None = None
        self._even_ms: float | None = None
        """When nothing waited, the last time that was looked."""
        self.quarantine = Quarantine(folder)
        self.counters: Counter[str] = Counter()
        self.remaker = Remaker(client, settings, clock, folder, self.counters)
        self.cursor = 0
        """Tick up to which everything is acknowledged."""
        self.state = "starting"
        """starting | ok | retry | hold"""

    async def run(self) -> None:
        """Ship until cancelled. InfluxDB may come later, go away and return."""
        self.cursor = await self._source.cursor(SINK)
        await self._advance(self.cursor)  # from now on retention knows that somebody waits for these bars
        self._look()
        await self._prepare()
        while True:
            busy = [await self._ship_next(), await self._ship_offered(), await self.remaker.step()]
            if not any(busy):
                await self._clock.sleep(self._settings.poll_s)

    def offer(self, retention: str, lines: Sequence[str]) -> None:
        """Queue other lines (`strategy_1s`, `strategy_signals`, `open_interest`); the oldest leave beyond MAX_OFFERED."""
        self._offered.extend((retention, line) for line in lines)
        while len(self._offered) > MAX_OFFERED:
            self._offered.popleft()
            self.counters["offered_dropped"] += 1

    def status(self) -> dict[str, Any]:
        """For health, metrics and `sqfd doctor`."""
        return {
            "state": self.state,
            "why": self._down,
            "cursor": self.cursor,
            "lag_s": self._lag_s(),
            "quarantined": self.quarantine.count,
            "revised_minutes": self.remaker.minutes,
            "counters": dict(self.counters),
        }

    def _lag_s(self) -> int | None:
        """Seconds of bars that wait; None before it is known. The first tick after a time without any leaps over that time:
        nothing waits longer than since nothing waited."""
        if not self.cursor:
            return None
        lag_s = max(0, self._source.written - self.cursor)
        if lag_s and self._even_ms is not None:
            lag_s = min(lag_s, 1 + int((self._clock.now_ms() - self._even_ms) / 1e3))
        return lag_s

    def _look(self) -> None:
        if self._source.written <= self.cursor:
            self._even_ms = self._clock.now_ms()

    # --- bars

    async def _ship_next(self) -> bool:
        """Ship the next ticks; True where there may be more at once."""
        written = self._source.written  # before reading: what is written meanwhile must not be skipped
        self._look()
        if written <= self.cursor:
            return False
        try:
            ticks, bars = await self._source.bars_since(self.cursor, READ_ROWS)
        except sqlite3.Error as error:
            await self._back_off(Verdict.RETRY, f"journal: {error}")
            return False
        if len(ticks) == 0:
            await self._advance(written)
            return False
        await self._settle(self._lines(bars), BARS_RP)
        self.remaker.note(bars["second"])
        self.counters["bars"] += len(bars)
        await self._advance(self._safe(self.cursor, int(ticks[-1])))
        return True

    async def _advance(self, tick: int) -> None:
        """Move the cursor. Where the disk refuses, it moves in memory: after a restart the same is written again."""
        self.cursor = tick
        try:
            await self._source.move(SINK, self.cursor)
        except sqlite3.Error as error:
            self.counters["cursor_not_kept"] += 1
            log.warning("cursor not kept", error=str(error))

    def _safe(self, before: int, tick: int) -> int:
        """The tick to go on from, after those between `before` and `tick` were accepted.

        What a server that acknowledges from memory may have lost when it went away is shipped again: that changes nothing.
        """
        now_ms = self._clock.now_ms()
        while self._accepted and self._accepted[0][0] < now_ms - UNSAFE_S * 1e3:
            self._accepted.popleft()
        if self._again_from is None:
            self._accepted.append((now_ms, before))
            return tick
        again, self._again_from = self._again_from, None
        self._accepted.clear()
        self.counters["shipped_again"] += tick - again
        return again

    def _lines(self, bars: Bars) -> list[str]:
        """Lines of the bars that InfluxDB can take; the others go to quarantine, counted."""
        now_s = self._clock.now_ms() / 1e3
        heads = self._series()
        known = np.array([head is not None for head in heads], bool)
        good = protocol.finite(bars) & known[bars["market"]]
        good &= (bars["second"] >= FIRST_SECOND) & (bars["second"] <= now_s + FUTURE_S)
        for bar in bars[~good]:
            self.counters["refused_here"] += 1
            self.quarantine.add(repr(bar.tolist()).encode(), "a bar that InfluxDB must not get")
        return protocol.bar_lines(bars[good], [head or "" for head in heads])

    def _series(self) -> list[str | None]:
        for name in self._source.names()[len(self._heads) :]:
            try:
                self._heads.append(protocol.series(name))
            except ValueError as error:
                self._heads.append(None)
                log.error("market cannot be written", market=name, error=str(error))
        return self._heads

    async def _ship_offered(self) -> bool:
        if not self._offered:
            return False
        retention = self._offered[0][0]
        lines: list[str] = []
        while self._offered and self._offered[0][0] == retention and len(lines) < self._settings.batch_lines:
            lines.append(self._offered.popleft()[1])
        await self._settle(lines, retention)
        return True

    # --- writing until it is settled

    async def _settle(self, lines: list[str], retention: str) -> None:
        """Write lines until each is acknowledged or in quarantine."""
        blocks = protocol.blocks(lines, self._settings.batch_lines, self._settings.batch_bytes)
        pending = [*blocks][::-1]
        while pending:
            block = pending.pop()
            verdict, why = await self._attempt(block, retention)
            if verdict is Verdict.SPLIT:
                half = len(block) // 2
                pending += [block[half:], block[:half]]
            elif verdict is Verdict.REJECTED:
                self.quarantine.add(block[0], why)
            elif verdict in (Verdict.RETRY, Verdict.HOLD):
                pending.append(block)
                await self._back_off(verdict, why)
            else:
                self._up()

    async def _attempt(self, block: list[bytes], retention: str) -> tuple[Verdict, str]:
        answer = await self._client.write(block, retention)
        self._resets = self._resets + 1 if answer.status is Failure.RESET else 0
        verdict = judge(answer.status, answer.body, lines=len(block), resets=self._resets)
        self.counters[f"writes_{verdict.value}"] += 1
        if verdict is Verdict.SPLIT:
            self._resets = 0
        if needs_schema(answer.status, answer.body):
            await self._create_schema()
        return verdict, f"{answer.status}: {answer.body.strip()[:300]}"

    async def _back_off(self, verdict: Verdict, why: str) -> None:
        """Wait 0.2 → 30 s, doubled each time, with jitter down to half."""
        # That somebody has to do something is news, also while it takes nothing for another reason.
        if self._down is None or (verdict is Verdict.HOLD and self.state != "hold"):
            log.error("InfluxDB takes nothing", verdict=verdict.value, why=why)
        self.state, self._down = verdict.value, why
        longest = min(self._settings.backoff_max_s, self._settings.backoff_min_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        await self._clock.sleep(longest * (0.5 + 0.5 * self._random()))

    def _up(self) -> None:
        if self._down is not None:
            if self.cursor:
                log.info("InfluxDB takes writes again", failures=self._failures, behind_s=self._lag_s())
            else:  # it never took any: there is no "again", and nothing to be behind
                log.info("InfluxDB takes writes", failures=self._failures)
            if not self._settings.influxql and self._accepted:
                self._again_from = self._accepted[0][1]
        self._down, self._failures, self.state = None, 0, "ok"

    # --- schema

    async def _prepare(self) -> None:
        """Wait for InfluxDB and create what is missing."""
        while self._settings.influxql and self._settings.create_schema and not await self._create_schema():
            await self._back_off(Verdict.RETRY, self._down or "schema not created yet")
        self._up()

    async def _create_schema(self) -> bool:
        if not self._settings.create_schema:
            return False
        try:
            found = await inspect(self._client, self._settings.database)
            differences = compare(wanted(self._settings), found)
            created = await create(self._client, differences)
        except QueryError as error:
            self._why_no_schema(str(error))
            return False
        for difference in differences:
            if difference not in created:
                log.warning("InfluxDB schema differs", name=difference.name, found=difference.found)
        if created:
            log.info("InfluxDB schema created", names=[difference.name for difference in created])
        return True

    def _why_no_schema(self, why: str) -> None:
        if self._down is None:
            log.error("InfluxDB schema cannot be made", why=why)
        self._down = why
