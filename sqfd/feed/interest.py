"""Open interest and funding: asked for by REST at intervals, where an exchange publishes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from exchanges.api import Call, Exchange, Funding, Instrument, OpenInterest, Rate
from sqfd.clock import Clock
from sqfd.feed.backoff import RateLimit
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.feed.rest import Rest, RestFailed

SHARE = 0.1
"""Open interest's share of the exchange's REST limit."""

FUNDING_SHARE = 0.05
"""And that of funding, where it is asked for by itself."""

USUAL_S = 28_800.0
"""Funding of different intervals is compared by what 8 hours cost."""

FIRST_S = 10.0
"""After the start, prices have to be there first."""


Asked = TypeVar("Asked", OpenInterest, Funding)


class Interest(NamedTuple):
    """Open interest of one market, known both ways."""

    market: int
    ts_ms: float
    base: float
    """Base coins."""
    usd: float
    funding: float | None = None
    """Rate of the market's funding interval as a fraction; None where the answer does not say."""
    funding_8h: float | None = None
    """The same for 8 hours."""


class Funded(NamedTuple):
    """Funding of one market that was asked for by itself; rates as in `Interest`."""

    market: int
    ts_ms: float
    funding: float
    funding_8h: float


class InterestSum(NamedTuple):
    """Open interest of a symbol's markets on one exchange, or of all."""

    base: float
    usd: float
    funding: float | None = None
    """Mean of the markets that say one, weighed by their open interest."""
    funding_8h: float | None = None


class Poller(Generic[Asked]):
    """Asks one exchange about its collected derivatives at an interval, in turn with everything else that asks it."""

    def __init__(
        self,
        what: str,
        calls: Callable[[Iterable[Instrument]], Sequence[Call[Asked]]],
        tell: Callable[[Sequence[tuple[MarketFeed, Asked]]], None],
        exchange: Exchange,
        rest: Rest,
        intake: Intake,
        clock: Clock,
        log: Any,
        interval_s: float,
        share: float,
    ) -> None:
        """`calls` asks for `what`; `share`: of the exchange's REST limit."""
        self._what = what
        self._calls: Callable[[Iterable[Instrument]], Sequence[Call[Asked]]] = calls
        self._tell: Callable[[Sequence[tuple[MarketFeed, Asked]]], None] = tell
        self._exchange, self._rest, self._intake, self._clock = exchange, rest, intake, clock
        self._log = log.bind(exchange=exchange.id)
        self._interval_s = interval_s
        limit = exchange.limits.rest
        self._limit = RateLimit(Rate(limit.count * share, limit.seconds))
        self.failures = 0
        """In a row."""
        self.answers = 0

    async def run(self) -> None:
        """Until cancelled. A question that fails is asked again at the next interval."""
        await self._clock.sleep(min(FIRST_S, self._interval_s))
        while True:
            await self.ask()
            await self._clock.sleep(self._interval_s)

    async def ask(self) -> None:
        """All calls once; what each answers is told at once."""
        feeds = {
            feed.instrument: feed
            for feed in self._intake.markets.values()
            if feed.instrument.exchange == self._exchange.id
            and feed.instrument.kind != "spot"
            and feed.newest is not None
        }
        for call in self._calls(feeds) if feeds else ():
            while not self._limit.take(self._clock.now_ms(), call.request.weight):
                await self._clock.sleep(self._limit.wait_s(self._clock.now_ms(), call.request.weight))
            try:
                found = await self._rest.all(call)
            except RestFailed as error:
                if self.failures == 0:
                    self._log.warning(f"no {self._what}", reason=error.reason)
                self.failures += 1
                continue
            self.failures = 0
            self.answers += 1
            self._tell([(feeds[one.instrument], one) for one in found if one.instrument in feeds])


def interest_poller(
    exchange: Exchange,
    rest: Rest,
    intake: Intake,
    clock: Clock,
    log: Any,
    interval_s: float,
    tell: Callable[[Sequence[Interest]], None],
) -> Poller[OpenInterest]:
    """Open interest of the exchange's markets, with their funding where the same answer says it."""

    def told(found: Sequence[tuple[MarketFeed, OpenInterest]]) -> None:
        tell([_priced(feed, one, exchange.funding_s, clock.now_ms()) for feed, one in found])

    calls = exchange.open_interest
    return Poller("open interest", calls, told, exchange, rest, intake, clock, log, interval_s, SHARE)


def funding_poller(
    exchange: Exchange,
    rest: Rest,
    intake: Intake,
    clock: Clock,
    log: Any,
    interval_s: float,
    tell: Callable[[Sequence[Funded]], None],
) -> Poller[Funding]:
    """Funding of the exchange's markets, where it is asked for by itself."""

    def told(found: Sequence[tuple[MarketFeed, Funding]]) -> None:
        spans = [one.interval_s or exchange.funding_s for _, one in found]
        tell(
            [
                Funded(feed.market, clock.now_ms(), one.rate, one.rate * (USUAL_S / span_s))
                for (feed, one), span_s in zip(found, spans, strict=True)
            ]
        )

    calls = exchange.funding
    return Poller("funding", calls, told, exchange, rest, intake, clock, log, interval_s, FUNDING_SHARE)


def _priced(feed: MarketFeed, found: OpenInterest, usual_s: float, now_ms: float) -> Interest:
    """Coins and dollars from whichever the exchange gave, at the last price."""
    price = feed.newest.price if feed.newest is not None else 0.0
    usd = found.usd if found.usd is not None else (found.base or 0.0) * price
    base = found.base if found.base is not None else usd / price
    ts_ms = found.ts_ms if found.ts_ms is not None else now_ms
    per_8h = None if found.funding is None else found.funding * (USUAL_S / (found.funding_s or usual_s))
    return Interest(feed.market, ts_ms, base, usd, found.funding, per_8h)


class InterestBook:
    """The newest open interest and funding of every market, summed up by exchange and by symbol. Pure."""

    def __init__(self, keep_ms: float, keep_funding_ms: float | None = None) -> None:
        """`keep_ms`: open interest that was not confirmed for this long leaves the sums; `keep_funding_ms`: funding that was
        asked for by itself, the same where None."""
        self._keep_ms = keep_ms
        self._keep_funding_ms = keep_ms if keep_funding_ms is None else keep_funding_ms
        self._known: dict[int, tuple[str, str, Interest]] = {}
        self._funded: dict[int, Funded] = {}

    def put(self, symbol: str, exchange: str, found: Interest) -> None:
        """Newest of a market."""
        self._known[found.market] = symbol, exchange, found

    def put_funding(self, found: Funded) -> None:
        """Newest of a market; it counts with the market's open interest, once that is known."""
        self._funded[found.market] = found

    def sums(self, symbol: str, now_ms: float) -> dict[str, InterestSum]:
        """Exchange → open interest and funding of a symbol."""
        by_exchange: dict[str, list[Interest]] = {}
        for known, exchange, found in self._known.values():
            if known == symbol and found.ts_ms >= now_ms - self._keep_ms:
                by_exchange.setdefault(exchange, []).append(self._with_funding(found, now_ms))
        return {exchange: _sum(found) for exchange, found in by_exchange.items()}

    def _with_funding(self, found: Interest, now_ms: float) -> Interest:
        funded = self._funded.get(found.market)
        if found.funding is not None or funded is None or funded.ts_ms < now_ms - self._keep_funding_ms:
            return found
        return found._replace(funding=funded.funding, funding_8h=funded.funding_8h)


def _sum(found: Sequence[Interest]) -> InterestSum:
    """Of markets on one exchange: another's intervals may be of another length, so rates are never mixed with those."""
    funding, per_8h = (
        mean_funding((one.usd, rate) for one, rate in zip(found, rates, strict=True))
        for rates in ([one.funding for one in found], [one.funding_8h for one in found])
    )
    return InterestSum(sum(one.base for one in found), sum(one.usd for one in found), funding, per_8h)


def total(sums: Mapping[str, InterestSum]) -> InterestSum:
    """Of all exchanges, whose intervals differ: funding of 8 hours only."""
    per_8h = mean_funding((one.usd, one.funding_8h) for one in sums.values())
    return InterestSum(sum(one.base for one in sums.values()), sum(one.usd for one in sums.values()), None, per_8h)


def mean_funding(rates: Iterable[tuple[float, float | None]]) -> float | None:
    """Of (open interest in dollars, rate): those that say one, by their open interest; None where none does."""
    said = [(usd, rate) for usd, rate in rates if rate is not None and usd > 0]
    weight = sum(usd for usd, _ in said)
    return sum(usd * rate for usd, rate in said) / weight if said else None
