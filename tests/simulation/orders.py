"""Order flow that is cheap to make: trades of all markets, with spot and perp taking sides for a while, so that signals come."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from exchanges.api import Instrument, Trade
from tests.exchanges.support import identity
from tests.simulation.venue import Venue

MOODS = (-0.8, -0.4, 0.0, 0.4, 0.8)
MOOD_S = (15.0, 90.0)


class Orders:
    """Everything that is traded, since the beginning."""

    def __init__(self, random: Random, venues: Sequence[Venue], rate_hz: float, start_ms: float) -> None:
        self.random = random
        self._markets = [(venue, one, self._rate(rate_hz)) for venue in venues for one in venue.past]
        self._text_ids = {
            one.market: type(identity(v.exchange.id, 1, one.endpoint)) is str for v, one, _ in self._markets
        }
        self._ids = {one.market: random.randrange(1000, 9_000_000) for _, one, _ in self._markets}
        self._mood = {"spot": 0.0, "perp": 0.0}
        self._until_ms = {"spot": 0.0, "perp": 0.0}
        self._price = {one.base: 1_000.0 for _, one, _ in self._markets}
        self._made_ms = start_ms

    def _rate(self, rate_hz: float) -> float:
        return rate_hz * self.random.choice([1.0, 1.0, 0.5])

    def until(self, now_ms: float) -> None:
        """Trade up to now."""
        from_ms, self._made_ms = self._made_ms, now_ms
        random = self.random
        for kind, until_ms in self._until_ms.items():
            if now_ms >= until_ms:
                self._mood[kind] = random.choice(MOODS)
                self._until_ms[kind] = now_ms + 1e3 * random.uniform(*MOOD_S)
        happened: dict[Venue, list[Trade]] = {}
        for venue, instrument, rate_hz in self._markets:
            count = self._count(rate_hz * (now_ms - from_ms) / 1e3)
            if count:
                times = sorted(random.randrange(int(from_ms), int(now_ms)) for _ in range(count))
                happened.setdefault(venue, []).extend(self._trade(venue, instrument, at) for at in times)
        for venue, trades in happened.items():
            venue.publish(sorted(trades, key=_time) if len(trades) > 1 else trades)

    def _count(self, mean: float) -> int:
        random = self.random
        count = int(mean) + (random.random() < mean % 1.0)
        if count and random.random() < 0.1:
            count += random.randrange(4)  # several matches of one order
        return count

    def _trade(self, venue: Venue, instrument: Instrument, at_ms: int) -> Trade:
        random = self.random
        kind = "spot" if instrument.kind == "spot" else "perp"
        buy = random.random() < 0.5 + 0.5 * self._mood[kind]
        price = self._price[instrument.base] * (1.0 + random.gauss(2e-5 if buy else -2e-5, 5e-5))
        self._price[instrument.base] = min(max(price, 200.0), 5_000.0)
        price = round(price, 2)
        number = self._ids[instrument.market] = self._ids[instrument.market] + 1
        size = random.randrange(1, 500) / 100.0
        if instrument.inverse:
            size = instrument.contract_size * random.randrange(1, 50) / price
        elif instrument.contract_size != 1.0:
            size = instrument.contract_size * random.randrange(1, 50)
        id = str(number) if self._text_ids[instrument.market] else number
        return Trade(instrument, int(at_ms + venue.skew_ms), price, size, buy, id)


def _time(trade: Trade) -> int:
    return trade.ts_ms
