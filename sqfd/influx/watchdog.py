"""Accepted, but is it there? Each minute InfluxDB is asked for the newest seconds of some markets.

An answer of 204 says that InfluxDB took the lines, not that a reader finds them: a writer that names another database, policy
or precision than its readers is told 204 as well. So what the journal has and the cursor counts as shipped is read back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sqfd.clock import Clock
from sqfd.influx.client import Client, QueryError
from sqfd.influx.history import History
from sqfd.influx.settings import InfluxSettings
from sqfd.lean import structlog
from sqfd.model import Bars

EVERY_S = 60.0
LOOK_BACK_S = 300
"""Seconds before the cursor that are compared."""
MARKETS = 8
"""Markets that one look compares; the next look takes the next ones."""

log = structlog.get_logger("influx")


class Stored(Protocol):
    """What the watchdog needs of the journal."""

    def names(self) -> Sequence[str]: ...

    async def bars(self, markets: Sequence[str] | None, from_s: int, to_s: int) -> Bars: ...


class Shipped(Protocol):
    """What the watchdog needs of the shipper."""

    @property
    def cursor(self) -> int: ...


class Watchdog:
    """Compares InfluxDB with the journal, for a sample of markets in turn."""

    def __init__(
        self, journal: Stored, shipper: Shipped, client: Client, settings: InfluxSettings, clock: Clock
    ) -> None:
        self._journal, self._shipper, self._clock = journal, shipper, clock
        self._history = History(client, settings.database)
        self._first_market = 0
        self.looks = 0
        self.missing: dict[str, int] = {}
        """Market → how many seconds of the last look were not there."""
        self.newest_s = 0
        """Newest second that was found in InfluxDB."""
        self.unchecked: str | None = None
        """Why the last look saw nothing."""
        self.since_ms: float | None = None
        """When bars were first found missing; None: they are there."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self.look()

    async def look(self) -> bool:
        """Compare once; True: everything that was accepted is there. No answer changes nothing: the shipper tells that."""
        cursor = self._shipper.cursor
        names = self._sample()
        try:
            expected = await self._journal.bars(names, cursor - LOOK_BACK_S, cursor)
            missing = {}
            for index, name in enumerate(names):
                seconds = expected["second"][expected["market"] == index]
                if len(seconds):
                    absent = await self._absent(name, seconds)
                    if absent:
                        missing[name] = absent
        except (QueryError, sqlite3.Error) as error:
            if self.unchecked is None:
                log.warning("storage not checked", error=str(error))
            self.unchecked = str(error)
            return True
        self.looks += 1
        self.unchecked = None
        self._judge(missing, cursor)
        return not missing

    def _sample(self) -> list[str]:
        names = self._journal.names()
        if not names:
            return []
        first = self._first_market % len(names)
        self._first_market = first + MARKETS
        return [names[(first + n) % len(names)] for n in range(min(MARKETS, len(names)))]

    async def _absent(self, market: str, seconds: np.ndarray[Any, np.dtype[np.int64]]) -> int:
        """How many of these seconds InfluxDB does not have."""
        found = (await self._history.bars(market, int(seconds.min()), int(seconds.max()) + 1))["second"]
        if len(found):
            self.newest_s = max(self.newest_s, int(found.max()))
        return int(np.count_nonzero(~np.isin(seconds, found)))

    def _judge(self, missing: dict[str, int], cursor: int) -> None:
        if missing and self.since_ms is None:
            log.error("accepted by InfluxDB but not there", missing=missing, cursor=cursor, newest=self.newest_s)
            self.since_ms = self._clock.wall_ms()
        elif not missing and self.since_ms is not None:
            log.info("bars are in InfluxDB again", cursor=cursor)
            self.since_ms = None
        self.missing = missing

    def status(self) -> dict[str, Any]:
        """For health, metrics and `sqfd doctor`."""
        return {
            "ok": not self.missing,
            "looks": self.looks,
            "unchecked": self.unchecked,
            "missing": dict(self.missing),
            "newest_s": self.newest_s,
            "since_ms": self.since_ms,
        }
