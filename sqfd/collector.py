"""Everything up to a closed second, wired: listings → feeds → trades → bars → flow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exchanges.api import Instrument
from sqfd import log
from sqfd.bars.seconds import Closed, Seconds
from sqfd.clock import Clock
from sqfd.config import Config
from sqfd.feed.catalog import Catalog, choose
from sqfd.feed.intake import Intake
from sqfd.feed.interest import Funded, Interest, InterestBook, InterestSum, total
from sqfd.feed.limits import FILE_NAME as LIMITS_FILE
from sqfd.feed.record import Recorder
from sqfd.feed.settings import Wanted
from sqfd.feed.supervisor import Supervisor
from sqfd.journal import GapRecord, Missed
from sqfd.model import Market, market_of
from sqfd.outside import Outside
from sqfd.story import gap_records
from sqfd.wiring import exchanges_of, symbols_of

INTEREST_ROUNDS = 10
"""Open interest or funding that was not confirmed for so many intervals is no longer counted."""
RATES_S = 86_400
"""A run that ended longer ago says nothing about how often markets trade."""
TellInterest = Callable[[str, Mapping[str, InterestSum], int], None]
"""(symbol, exchange → (base coins, dollars), second)."""
Register = Callable[[Sequence[Market]], Awaitable[None]]
"""Tells the journal the names of all markets, in the order of their indices."""


class ExchangeTime:
    """The exchanges' clock: steady time less what the watermark found it to be ahead. A `Clock` for what signals mean.

    Trades that come late do not stop it: a signal of trades that are older than its `ttl` has expired.
    """

    def __init__(self, clock: Clock, seconds: Seconds) -> None:
        self._clock, self._seconds = clock, seconds

    def now_ms(self) -> float:
        return self._clock.now_ms() - self._seconds.watermark.clock_ms()

    def wall_ms(self) -> float:
        return self._clock.wall_ms()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class Collector:
    """The feeds of the configured markets, and the seconds that they fill."""

    def __init__(
        self,
        config: Config,
        state: Path,
        clock: Clock,
        record: Path | None,
        register: Register,
        tell: TellInterest,
        outside: Outside = Outside(),  # noqa: B008  # immutable
    ) -> None:
        """`state`: folder of what is remembered over restarts. `record`: keep received frames there."""
        self.symbols = symbols_of(config)
        self.exchanges = exchanges_of(config)
        self.seconds = Seconds(self.symbols, config.feed.grace_s, config.bars.revisable_s)
        self.time = ExchangeTime(clock, self.seconds)
        self.intake = Intake(self.seconds.builder, self.seconds.watermark)
        self.missing: set[str] = set()
        """Exchanges whose listing is not there yet."""
        self._config, self._clock, self._register = config, clock, register
        self._rests = {id: outside.rest(exchange, config.feed, clock) for id, exchange in self.exchanges.items()}
        self.supervisor = Supervisor(
            self.exchanges,
            config.feed,
            self.intake,
            clock,
            log.get("feed"),
            _recorder(config, record),
            self._rests,
            outside.connector,
            limits=state / LIMITS_FILE,
            on_interest=self._take_interest,
            on_funding=self._take_funding,
        )
        self._interest = InterestBook(
            *(INTEREST_ROUNDS * 1e3 * every for every in (config.feed.open_interest_s, config.feed.funding_s))
        )
        self._tell_interest = tell
        self._catalog = Catalog(self.exchanges, self._rests, state / "listings", config.feed, clock, log.get("catalog"))
        self._adding = asyncio.Lock()
        self._down_since: int | None = None
        self._missed: Mapping[str, Missed] = {}

    # --- which markets

    async def find_markets(self) -> None:
        """Ask all exchanges what they list and collect what is wanted. Raises UnknownMarket."""
        loaded = await asyncio.gather(*(self._catalog.load(id) for id in self.exchanges))
        self.missing |= {id for id, listed in zip(self.exchanges, loaded, strict=True) if listed is None}
        listed = [one for listed in loaded if listed is not None for one in listed]
        await self._collect(choose(listed, self._wanted()))

    async def keep_listings(self) -> None:
        """Collect from exchanges whose listing comes late, and see which markets are delisted. For ever."""
        every_s = self._config.feed.listing_refresh_s
        async with asyncio.TaskGroup() as group:
            group.create_task(self.retry_listings(), name="listings-retry")
            if every_s > 0:
                group.create_task(self._catalog.follow(every_s, self.supervisor.relisted), name="listings-follow")

    async def retry_listings(self) -> None:
        """Collect from exchanges whose listing comes late, while the others run."""
        group = asyncio.TaskGroup()

        def found(exchange_id: str, listed: list[Instrument]) -> None:
            self.missing.discard(exchange_id)
            group.create_task(self._collect(choose(listed, self._wanted())), name=f"listing-{exchange_id}")

        async with group:
            await self._catalog.retry(sorted(self.missing), found)

    async def _collect(self, instruments: Sequence[Instrument]) -> None:
        """Give markets their indices and let the feeds have them."""
        async with self._adding:
            markets = [market_of(instrument) for instrument in instruments]
            await self._register([*self.seconds.markets, *markets])
            self.supervisor.add(instruments, self.seconds.add_markets(markets))
            self._resume(instruments)

    def resume(self, second: int, missed: Mapping[str, Missed]) -> None:
        """An earlier run closed everything before `second`. `missed`: what it knew of each of its markets.

        What happened on them since is a gap, and is asked for, and so are the last seconds before: what came late for them
        may have been lost with that run. As often as they traded they are expected to trade again.
        """
        self._down_since, self._missed = second, missed
        self._resume([feed.instrument for feed in self.intake.markets.values()])

    def _resume(self, instruments: Sequence[Instrument]) -> None:
        if self._down_since is None:
            return
        chosen = {instrument.market for instrument in instruments} & self._missed.keys()
        for feed in self.intake.markets.values():
            if feed.instrument.market in chosen:
                known = self._missed[feed.instrument.market]
                from_s = self._down_since - self.seconds.builder.seam_s(feed.market)
                feed.resume(from_s * 1e3, max(1, from_s - known.second) * 1000)
                if self.time.now_ms() / 1e3 - self._down_since < RATES_S:
                    feed.pace.assume(known.traded, known.whole)

    def _wanted(self) -> Wanted:
        settings = self._config.symbols
        return Wanted(
            symbols=self.symbols,
            quotes=settings.quotes,
            exchanges=settings.exchanges,
            markets=settings.markets,
        )

    def markets_by_symbol(self) -> dict[str, list[str]]:
        """Names of the markets behind each symbol."""
        markets = self.seconds.markets
        return {symbol: [one.name for one in markets if one.base == symbol] for symbol in self.symbols}

    def _take_interest(self, found: Sequence[Interest]) -> None:
        """Open interest of some markets: into the flow of their symbols, and told on."""
        now_ms, markets = self.time.now_ms(), self.seconds.markets
        for one in found:
            self._interest.put(markets[one.market].base, markets[one.market].exchange, one)
        for symbol in dict.fromkeys(markets[one.market].base for one in found):
            sums = self._interest.sums(symbol, now_ms)
            if sums and symbol in self.symbols:
                whole = total(sums)
                self.seconds.flow.set_open_interest(symbol, whole.usd)
                self.seconds.flow.set_funding(symbol, whole.funding_8h)
            self._tell_interest(symbol, sums, int(now_ms // 1000))

    def _take_funding(self, found: Sequence[Funded]) -> None:
        """Funding that was asked for by itself: told on with the open interest that weighs it."""
        for one in found:
            self._interest.put_funding(one)

    # --- once a second

    async def catch_up(self) -> bool:
        """Whether a second is over, or none will be before the first trade. What came in time has been read then."""
        due_s = self.due_in_s()
        over = due_s is None or due_s <= 0.0
        if over:
            await self.supervisor.looks.before_closing()
        return over

    def due(self) -> Iterator[Closed]:
        """Close, oldest first, every second that is over."""
        for closed in self.seconds.due(self._clock.now_ms(), self._whole):
            self.supervisor.looks.closed()
            yield closed

    def due_in_s(self) -> float | None:
        """How long until the next second is over; None before the first trade."""
        due_ms = self.seconds.next_due_ms()
        return None if due_ms is None else (due_ms - self._clock.now_ms()) / 1e3

    def take_changes(self) -> list[GapRecord]:
        """Gaps that were noticed or filled after their seconds closed: they revise the coverage of those seconds."""
        records = []
        for feed, interval in self.supervisor.changes():
            records += gap_records(feed.market, interval)
            from_s, until_s = interval.seconds(self._clock.now_ms())
            self.seconds.cover(feed.market, from_s, until_s, feed.ledger.whole)
        return records

    def _whole(self, second: int) -> NDArray[np.bool_]:
        return self.supervisor.whole(second, len(self.seconds.markets))

    # --- what is known

    @property
    def live(self) -> int:
        """Markets that are live now."""
        return sum(feed.ledger.open is None for feed in self.intake.markets.values())

    @property
    def second(self) -> int:
        """Newest closed second; 0 before the first."""
        return (self.seconds.builder.next_second or 1) - 1

    @property
    def lag_s(self) -> float:
        """How long ago, on the exchanges' clocks, that second ended; NaN before the first."""
        return max(0.0, self.time.now_ms() / 1e3 - self.second - 1) if self.second > 0 else float("nan")

    async def close(self) -> None:
        """Give back connections that are kept for REST."""
        for rest in self._rests.values():
            await rest.close()


def _recorder(config: Config, folder: Path | None) -> Recorder | None:
    if folder is None:
        return None
    return Recorder(folder, config.feed.record_file_bytes, config.feed.record_total_bytes, log.get("record"))
