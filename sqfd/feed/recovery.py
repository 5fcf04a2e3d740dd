"""Fills holes by REST: one task per exchange, the newest hole first, within a share of the exchange's limit.

A hole ends `recovered` (all that is missing came, or ids and images show that nothing is), `partial` (the exchange reaches
back no further, or did not answer to the end) or `lost`, and its ledger interval says why.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from exchanges.api import Call, Exchange, Gap, Rate, Trade
from sqfd.clock import Clock
from sqfd.feed.backoff import RateLimit
from sqfd.feed.coverage import State
from sqfd.feed.dedup import Gapless
from sqfd.feed.ended import Ended
from sqfd.feed.holes import Hole
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.feed.rest import Rest, RestFailed

LOOK_S = 0.5
SETTLE_S = 2.0
"""Histories lag behind streams: a hole is asked for this long after it ended."""
FIRST_TRADE_S = 10.0
"""A market that is live again but does not trade is asked for by time after this long."""
SHARE = 0.5
"""Recovery's share of the exchange's REST limit; the rest is for listings, tokens and open interest."""
TRIES = 5
"""Failed questions after which a hole is given up."""
PAGES = 400
TRADES = 300_000
"""Trades of one hole that are asked for at most."""
AT_ONCE = 2000
"""Trades that are merged before other tasks may run."""
TELL_S = 60.0
"""Holes of one endpoint that end within this long are told in one line, or sooner where no other is being filled."""
APART_S = 61.0
"""Lines of one endpoint are further apart than the log's repeats, which would leave the second one out: it waits and tells both."""

_time = attrgetter("ts_ms")


class Answer(NamedTuple):
    """What was found of a hole."""

    trades: list[Trade]
    """Oldest first."""
    complete: bool
    note: str
    """Why not."""


class Recovery:
    """The holes of one exchange's markets."""

    def __init__(self, exchange: Exchange, rest: Rest, intake: Intake, clock: Clock, log: Any) -> None:
        self._exchange = exchange
        self._rest = rest
        self._intake = intake
        self._clock = clock
        self._log = log.bind(exchange=exchange.id)
        limit = exchange.limits.rest
        self._limit = RateLimit(Rate(limit.count * SHARE, limit.seconds))
        self.counts: Counter[str] = Counter()
        """`recovered`, `partial`, `lost`: holes by how they ended; `trades`: put in; `questions`: pages asked for."""
        self._woken = asyncio.Event()
        self._ended: dict[str, Ended] = {}
        """By endpoint."""
        self._told_ms: dict[str, float] = {}
        """When one's line was last told."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._fill_all()
        finally:
            for endpoint in list(self._ended):
                self._tell(endpoint)

    async def _fill_all(self) -> None:
        while True:
            self._tell_ended()
            if (found := self._next()) is None:
                await self._idle()
                continue
            try:
                await self._fill(*found)
            except Exception:  # noqa: BLE001  # the boundary: counted and logged; this hole is given up, others go on
                self._log.exception("recovery failed unexpectedly", market=found[0].instrument.market)
                self.counts["crashes"] += 1
                self._resolve(*found, "partial" if found[1].filled else "lost", note="recovery failed unexpectedly")

    def wake(self) -> None:
        """Something may be missing."""
        self._woken.set()

    async def _idle(self) -> None:
        if self._ended:
            await self._clock.sleep(LOOK_S)
        else:
            self._woken.clear()
            await self._woken.wait()

    # --- which

    def _feeds(self) -> Iterator[MarketFeed]:
        return self._intake.of_exchange(self._exchange.id)

    def _next(self) -> tuple[MarketFeed, Hole] | None:
        """The hole to fill now: the newest of those that are ready."""
        now_ms = self._clock.now_ms()
        ready = []
        for feed in self._feeds():
            feed.look_for_holes(feed.newest_ms - SETTLE_S * 1e3)
            ready += [(feed, hole) for hole in feed.watch.holes if self._ready(feed, hole, now_ms)]
        return max(ready, key=lambda one: one[1].until_ms, default=None)

    def _ready(self, feed: MarketFeed, hole: Hole, now_ms: float) -> bool:
        if not hole.closed or now_ms < hole.retry_ms:
            return False
        if hole.ready_ms is None:
            hole.ready_ms = now_ms + FIRST_TRADE_S * 1e3
        if hole.before is not None:
            hole.ready_ms = min(hole.ready_ms, now_ms + SETTLE_S * 1e3)
        return now_ms >= hole.ready_ms

    # --- filling one

    async def _fill(self, feed: MarketFeed, hole: Hole) -> None:
        # An image may lag behind: where the exchange can be asked for all, it is.
        if hole.continuous and self._exchange.recovery != "exact":
            await self._merge(feed, hole, hole.image)
        if hole.adjacent or (hole.continuous and self._exchange.recovery != "exact"):
            self._resolve(feed, hole, "recovered", missed=0)
            return
        gap = hole.question(feed.instrument, self._numbered(feed))
        gap, clipped = self._clip(feed, hole, gap)
        call = self._exchange.recover(gap)
        if self._exchange.recovery == "none" or call is None:
            await self._merge(feed, hole, hole.image)
            state: State = "partial" if hole.filled else "lost"
            self._resolve(feed, hole, state, note=f"{self._exchange.id} offers no past trades")
        elif hole.overgrown or clipped == "all":
            note = "too old to be revised" if clipped else "too much arrived out of order"
            self._resolve(feed, hole, "lost", note=note)
        else:
            await self._ask(feed, hole, call)

    def _numbered(self, feed: MarketFeed) -> bool:
        """Whether ids say where to begin; else the trade before the hole is asked for too, as a proof of the reach."""
        ids = self._exchange.endpoint(feed.instrument.endpoint).ids
        return self._exchange.recovery == "exact" and ids == "monotonic"

    def _clip(self, feed: MarketFeed, hole: Hole, gap: Gap) -> tuple[Gap, str]:
        """Leave out what can no longer be revised; the ledger says so."""
        oldest_ms = self._intake.oldest_ms
        if hole.lead_ms is not None and hole.after.ts_ms >= oldest_ms:
            return gap, ""
        oldest_ms += 1000
        if gap.after_ms >= oldest_ms:
            return gap, ""
        if gap.before_ms <= oldest_ms:
            return gap, "all"
        hole.clip(oldest_ms, feed.ledger)
        return Gap(gap.instrument, oldest_ms, gap.before_ms, None, gap.before_id, gap.before_count), "part"

    async def _ask(self, feed: MarketFeed, hole: Hole, call: Call[Trade]) -> None:
        extent = hole.extent
        answer = await self._answer(feed, hole, call)
        failed = bool(answer.note) and hole.tries < TRIES and self._worth_another(answer, None)
        if not failed:  # else all is asked for again: put in by parts, trades of one millisecond would lose their order
            # Sorting keeps what shares a millisecond as the answer has it; what of the image it has too is no news there.
            await self._merge(feed, hole, sorted([*answer.trades, *hole.image], key=_time))
        missing = self._missing(feed, hole)
        if hole.extent != extent:  # lost again meanwhile, before it traded: the hole is larger now
            hole.ready_ms = None
        elif answer.complete and not missing:
            self._resolve(feed, hole, "recovered", missed=0)
        elif hole.tries < TRIES and self._worth_another(answer, missing):
            hole.tries += 1
            hole.retry_ms = self._clock.now_ms() + 1e3 * (
                SETTLE_S + min(300.0, 5.0 * 2.0**hole.tries) * random.random()
            )
        else:
            note = answer.note or f"{self._exchange.id} does not have {missing} of the missing trades"
            self._resolve(feed, hole, "partial" if hole.filled else "lost", missed=missing, note=note)

    async def _merge(self, feed: MarketFeed, hole: Hole, trades: Sequence[Trade]) -> None:
        """Put trades that came from one place into their bars, a part at a time."""
        hole.begin_anew()
        # The end of a hole may have become known after the question, or after an image: what came live beyond it is no part.
        trades = [trade for trade in trades if hole.covers(trade)]
        for first in range(0, len(trades), AT_ONCE):
            self.counts["trades"] += self._intake.merge(feed, hole, trades[first : first + AT_ONCE])
            await self._clock.sleep(0.0)

    def _worth_another(self, answer: Answer, missing: int | None) -> bool:
        """A failure may pass and histories lag behind; that an exchange reaches no further back stays so."""
        return not answer.note.startswith(self._exchange.id) and bool(missing or answer.note)

    def _missing(self, feed: MarketFeed, hole: Hole) -> int | None:
        """How many trades are known to be missing still, where ids count."""
        dedup, after, before = feed.dedup, hole.after.id, hole.before.id if hole.before is not None else None
        if not isinstance(dedup, Gapless) or type(after) is not int or type(before) is not int:
            return None
        return dedup.missing(after + 1, before - 1)

    async def _answer(self, feed: MarketFeed, hole: Hole, call: Call[Trade]) -> Answer:
        """All pages; what came before a failure is kept."""
        pages: list[list[Trade]] = []
        note = ""
        following: Call[Trade] | None = call
        while following is not None:
            if len(pages) >= PAGES or sum(map(len, pages)) >= TRADES:
                note = "more trades than are asked for"
                break
            try:
                await self._turn(following.request.weight)
                page = await self._rest.call(following)
            except RestFailed as error:
                note = error.reason
                break
            pages.append(page.items)
            following = page.next
        trades = ordered(pages)
        if not note and not self._numbered(feed) and not hole.reached(trades):
            note = f"{self._exchange.id} reaches back no further"
        return Answer(trades, not note, note)

    async def _turn(self, weight: float) -> None:
        while not self._limit.take(self._clock.now_ms(), weight):
            await self._clock.sleep(self._limit.wait_s(self._clock.now_ms(), weight))
        self.counts["questions"] += 1

    # --- the end of it

    def _resolve(self, feed: MarketFeed, hole: Hole, state: State, missed: int | None = None, note: str = "") -> None:
        feed.resolve(hole, state, missed, note)
        self.counts[state] += 1
        endpoint = feed.instrument.endpoint
        ended = self._ended.setdefault(endpoint, Ended(self._clock.now_ms()))
        ended.add(feed.instrument.market, hole, state, note)

    def _tell_ended(self) -> None:
        """A line per endpoint when all its holes are at an end, or after TELL_S, but never two within APART_S."""
        if not self._ended:
            return
        now_ms = self._clock.now_ms()
        at_work = {feed.instrument.endpoint for feed in self._feeds() if any(hole.closed for hole in feed.watch.holes)}
        for endpoint, ended in list(self._ended.items()):
            due = endpoint not in at_work or now_ms - ended.since_ms >= TELL_S * 1e3
            if due and now_ms - self._told_ms.get(endpoint, float("-inf")) >= APART_S * 1e3:
                self._tell(endpoint)

    def _tell(self, endpoint: str) -> None:
        ended, self._told_ms[endpoint] = self._ended.pop(endpoint), self._clock.now_ms()
        tell = self._log.info if set(ended.states) <= {"recovered"} else self._log.warning
        tell("gap closed", endpoint=endpoint, **ended.told())


async def look_for_holes(recoveries: Mapping[str, Recovery], intake: Intake, clock: Clock) -> None:
    """Wake those with something to do, by exchange: one timer for all of them. For ever."""
    while True:
        await clock.sleep(LOOK_S)
        for exchange in {feed.instrument.exchange for feed in intake.markets.values() if feed.lacking}:
            recoveries[exchange].wake()


def ordered(pages: Sequence[Sequence[Trade]]) -> list[Trade]:
    """Pages, each oldest first, as one list, oldest first; within a millisecond in the exchange's own order.

    Where a page ends within a millisecond, the next one may begin and end with the same times: then ids tell which is older.
    """
    full = [page for page in pages if page]
    if len(full) > 1 and _extent(full[0]) > _extent(full[-1]):
        full.reverse()
    return sorted((trade for page in full for trade in page), key=_time)


def _extent(page: Sequence[Trade]) -> tuple[int, int, int]:
    """Orders pages that follow each other; 0 stands for ids that do not count."""
    first = page[0]
    return first.ts_ms, page[-1].ts_ms, first.id if type(first.id) is int else 0
