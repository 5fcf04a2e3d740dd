"""Open interest: asked for by REST at an interval, where an exchange publishes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from exchanges.api import Exchange, OpenInterest, Rate
from sqfd.clock import Clock
from sqfd.feed.backoff import RateLimit
from sqfd.feed.intake import Intake
from sqfd.feed.rest import Rest, RestFailed

SHARE = 0.1
"""Its share of the exchange's REST limit."""

FIRST_S = 10.0
"""After the start, prices have to be there first."""


class Interest(NamedTuple):
    """Open interest of one market, known both ways."""

    market: int
    ts_ms: float
    base: float
    """Base coins."""
    usd: float
    funding: float | None = None
    """Rate of the market's funding interval as a fraction; None where its exchange does not say."""


class InterestSum(NamedTuple):
    """Open interest of a symbol's markets on one exchange, or of all."""

    base: float
    usd: float
    funding: float | None = None
    """Mean of the markets that say one, weighed by their open interest."""


class InterestPoller:
    """Asks one exchange for the open interest of its collected markets, in turn with everything else that asks it."""

    def __init__(
        self,
        exchange: Exchange,
        rest: Rest,
        intake: Intake,
        clock: Clock,
        log: Any,
        interval_s: float,
        tell: Callable[[Sequence[Interest]], None],
    ) -> None:
        self._exchange, self._rest, self._intake, self._clock = exchange, rest, intake, clock
        self._log = log.bind(exchange=exchange.id)
        self._interval_s, self._tell = interval_s, tell
        limit = exchange.limits.rest
        self._limit = RateLimit(Rate(limit.count * SHARE, limit.seconds))
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
        for call in self._exchange.open_interest(feeds) if feeds else ():
            while not self._limit.take(self._clock.now_ms(), call.request.weight):
                await self._clock.sleep(self._limit.wait_s(self._clock.now_ms(), call.request.weight))
            try:
                found = await self._rest.all(call)
            except RestFailed as error:
                if self.failures == 0:
                    self._log.warning("no open interest", reason=error.reason)
                self.failures += 1
                continue
            self.failures = 0
            self.answers += 1
            known = [(feeds[one.instrument], one) for one in found if one.instrument in feeds]
            self._tell([self._priced(feed.market, one, feed.newest) for feed, one in known])

    def _priced(self, market: int, found: OpenInterest, newest: Any) -> Interest:
        """Coins and dollars from whichever the exchange gave, at the last price."""
        price = newest.price
        usd = found.usd if found.usd is not None else (found.base or 0.0) * price
        base = found.base if found.base is not None else usd / price
        ts_ms = found.ts_ms if found.ts_ms is not None else self._clock.now_ms()
        return Interest(market, ts_ms, base, usd, found.funding)


class InterestBook:
    """The newest open interest of every market, summed up by exchange and by symbol. Pure."""

    def __init__(self, keep_ms: float) -> None:
        """`keep_ms`: what was not confirmed for this long leaves the sums."""
        self._keep_ms = keep_ms
        self._known: dict[int, tuple[str, str, Interest]] = {}

    def put(self, symbol: str, exchange: str, found: Interest) -> None:
        """Newest of a market."""
        self._known[found.market] = symbol, exchange, found

    def sums(self, symbol: str, now_ms: float) -> dict[str, InterestSum]:
        """Exchange → open interest and funding of a symbol."""
        by_exchange: dict[str, list[Interest]] = {}
        for known, exchange, found in self._known.values():
            if known == symbol and found.ts_ms >= now_ms - self._keep_ms:
                by_exchange.setdefault(exchange, []).append(found)
        return {exchange: _sum(found) for exchange, found in by_exchange.items()}


def _sum(found: Sequence[Interest]) -> InterestSum:
    """Of markets on one exchange: another's intervals may be of another length, so rates are never mixed with those."""
    said = [(one.usd, one.funding) for one in found if one.funding is not None and one.usd > 0]
    weight = sum(usd for usd, _ in said)
    funding = sum(usd * rate for usd, rate in said) / weight if said else None
    return InterestSum(sum(one.base for one in found), sum(one.usd for one in found), funding)
