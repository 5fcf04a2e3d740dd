"""Rollups of revised ranges are made again. What is due is kept in a file: a crash must not leave a rollup wrong for good."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sqfd.clock import Clock
from sqfd.influx.client import Client, QueryError
from sqfd.influx.rollups import Revised
from sqfd.influx.schema import rollup_queries
from sqfd.influx.settings import InfluxSettings
from sqfd.lean import structlog

FILE_NAME = "influx-rollups.json"
BEYOND_RETENTION = "points beyond retention policy"

log = structlog.get_logger("influx")


class Due(msgspec.Struct):
    """What is kept on disk: epoch seconds."""

    minutes: list[int] = []
    ranges: list[tuple[int, int]] = []


class Remaker:
    """Gathers revised ranges for a while and makes their rollups again, one range at a time."""

    def __init__(
        self, client: Client, settings: InfluxSettings, clock: Clock, folder: Path, counters: Counter[str]
    ) -> None:
        self._client, self._settings, self._clock, self._counters = client, settings, clock, counters
        self._path = folder / FILE_NAME
        self._revised = Revised()
        self._revised_at_s: float | None = None
        self._ranges: deque[tuple[int, int]] = deque()
        self._not_before_ms = 0.0
        self._read()

    @property
    def minutes(self) -> int:
        """How many minutes are due."""
        return len(self._revised) + sum(end - start for start, end in self._ranges) // 60

    def note(self, seconds: NDArray[np.int64]) -> None:
        """Note seconds whose bars were just accepted; those too late for the continuous queries are due."""
        if not self._settings.influxql:
            return
        before, now_s = len(self._revised), self._clock.now_ms() / 1e3
        self._revised.note(seconds, now_s)
        if len(self._revised) and self._revised_at_s is None:
            self._revised_at_s = now_s
        if len(self._revised) != before:
            self._write()

    async def step(self) -> bool:
        """Make the rollups of one range, so that bars wait for no more than one; True: there are others."""
        self._gather()
        if not self._ranges or self._clock.now_ms() < self._not_before_ms:
            return False
        start, end = self._ranges[0]
        try:
            for query in rollup_queries(self._settings, start, end):
                await self._roll_up(query)
        except QueryError as error:
            self._counters["rollups_failed"] += 1
            log.warning("rollups not made, tried again later", error=str(error))
            self._not_before_ms = self._clock.now_ms() + self._settings.rollup_delay_s * 1e3
            return False
        self._ranges.popleft()
        self._write()
        return bool(self._ranges)

    async def _roll_up(self, query: str) -> None:
        """One rollup of one range. What is older than the target keeps is left out, as it is for plain writes."""
        try:
            await self._client.ask(query)
        except QueryError as error:
            if BEYOND_RETENTION not in str(error):
                raise
            self._counters["rollups_beyond_retention"] += 1
        self._counters["rollups"] += 1

    def _gather(self) -> None:
        """Take what was noted a while ago, once the ranges before are done."""
        if self._revised_at_s is None or self._ranges:
            return
        if self._clock.now_ms() / 1e3 >= self._revised_at_s + self._settings.rollup_delay_s:
            self._ranges.extend(self._revised.take())
            self._revised_at_s = None

    def _read(self) -> None:
        try:
            due = msgspec.json.decode(self._path.read_bytes(), type=Due)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            self._counters["rollups_forgotten"] += 1
            log.error("which rollups were due cannot be read", file=str(self._path), error=str(error))
            return
        self._ranges.extend(due.ranges)
        self._revised.restore(due.minutes)
        self._revised_at_s = self._clock.now_ms() / 1e3 if due.minutes else None

    def _write(self) -> None:
        """Where the disk refuses, it is known in memory only."""
        due = Due(self._revised.minutes(), list(self._ranges))
        fresh = self._path.with_name(FILE_NAME + ".new")
        try:
            if due.minutes or due.ranges:
                fresh.write_bytes(msgspec.json.encode(due))
                fresh.replace(self._path)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            self._counters["rollups_not_kept"] += 1
            log.warning("which rollups are due is not kept", error=str(error))
