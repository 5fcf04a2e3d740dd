"""One simulated run: real supervisor, lines, links, intake, recovery and bars; exchanges in memory; cuts; and the truth.

After the run the bars of every second that sqfd calls whole must equal those of a slow, obvious twin that saw every trade.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import msgspec
import numpy as np
import structlog

from exchanges.api import Instrument, Trade
from sqfd.bars.seconds import Closed as ClosedRow
from sqfd.bars.seconds import Seconds
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.feed.settings import FeedSettings
from sqfd.feed.supervisor import Supervisor
from sqfd.feed.transport import Closed, Connection
from sqfd.model import BAR_FIELDS, FLOW, Bars, market_of
from tests.exchanges.support import identity
from tests.simulation.loop import START_MS, VirtualClock
from tests.simulation.venue import CODES, Cut, Limits, MemoryRest, Venue

SETTINGS = FeedSettings(stagger_s=0.1)
STEP_S = 0.1
EARLIER_S = 100.0
"""So long the exchanges traded while an earlier run collected them."""
HALF_OPEN_S = 1200.0
"""Within this long even the quietest connection here is known to be half open."""
TOLD_S = 130.0
"""After this long even the slowest market here has traded again, and the latest trade has come."""
PICK: dict[str, Sequence[tuple[str, str]]] = {
    "BINANCE": (("BTCUSDT", "spot"), ("ETHUSDT", "spot")),
    "BINANCE_FUTURES": (("BTCUSDT", "perp"), ("BTCUSD_PERP", "perp")),
    "BYBIT": (("BTCUSDT", "spot"), ("BTCUSDT", "perp")),
    "OKEX": (("BTC-USDT", "spot"), ("BTC-USDT-SWAP", "perp")),
    "COINBASE": (("BTC-USD", "spot"), ("ETH-USD", "spot")),
}
"""What is collected of each exchange."""


class Struck(NamedTuple):
    """A cut that happened."""

    kind: Cut
    exchange: str
    at_ms: float
    until_ms: float


class World:
    """Make it within a virtual loop, `await run(…)`, then `check()`."""

    def __init__(self, seed: int, exchange_ids: Sequence[str], *, recover: bool = True, base_hz: float = 3.0) -> None:
        self.random = Random(seed)
        random_module.seed(seed)  # the feeds' own jitter
        self.clock = VirtualClock()
        self.venues = {id: Venue(id, self.random, self.clock) for id in exchange_ids}
        self.log = structlog.testing.LogCapture()
        logger = structlog.wrap_logger(None, processors=[self.log])
        self.seconds = Seconds(("BTC", "ETH"))
        self.intake = Intake(self.seconds.builder, self.seconds.watermark)
        self.instruments: list[Instrument] = []
        settings = msgspec.structs.replace(SETTINGS, recover=recover)
        found = {id: venue.exchange for id, venue in self.venues.items()}
        rests = {id: MemoryRest(venue, settings, self.clock) for id, venue in self.venues.items()}
        self.supervisor = Supervisor(
            found, settings, self.intake, self.clock, logger, None, rests, connector=self._connect
        )
        for id, venue in self.venues.items():
            mine = [venue.exchange.assume(symbol, kind) for symbol, kind in PICK[id]]  # type: ignore[arg-type]  # kinds
            venue.simulated.list(mine)
            venue.past = {instrument: [] for instrument in mine}
            self.instruments += mine
        self.rates = {i.market: base_hz * self.random.choice([1.0, 1.0, 0.3, 0.05]) for i in self.instruments}
        self.ids = {i.market: self.random.randrange(1000, 9_000_000) for i in self.instruments}
        self.bars: dict[tuple[int, int], Bars] = {}
        """(market, second) → its newest bar."""
        self.coverage: dict[tuple[int, int], int] = {}
        """(symbol, second) → newest coverage in ppm."""
        self.struck: list[Struck] = []
        self.noticed: list[tuple[str, float, float]] = []
        """(market, when a gap was noticed, since when it was)."""
        self.live_ms: list[tuple[str, float]] = []
        """(exchange, when a connection of it began to carry trades)."""
        self.lost_ms: list[tuple[str, float]] = []
        """(exchange, when a connection of it was given up)."""
        self._losses: dict[int, int] = {}
        self._live: dict[int, bool] = {}
        self._closed_until = 0
        self._made_ms = START_MS
        self.down_s = 0.0
        """So long sqfd is down before the run begins, and an earlier run ended; 0: there was none."""
        self.resumed_s: int | None = None
        self.asked = 0
        """What a test counts of frames."""

    async def _connect(self, url: str, *args: object, **options: object) -> Connection:
        venue = next(
            v for v in self.venues.values() if any(v.exchange.url(e.name) == url for e in v.exchange.endpoints)
        )
        return await venue.connect(url, *args, **options)  # type: ignore[arg-type]  # passed on as they are

    # --- running

    async def run(self, seconds: float, cuts: Sequence[tuple[float, str, Cut, float]]) -> None:
        """`cuts`: (at, exchange, kind, length), in seconds from now. All faults are healed at their end."""
        indices = self.seconds.add_markets([market_of(instrument) for instrument in self.instruments])
        self.supervisor.add(self.instruments, indices)
        if self.down_s:
            await self._be_down()
        feeds = asyncio.create_task(self.supervisor.run())
        faults = [asyncio.create_task(self._cut(*cut)) for cut in cuts]
        end_ms = self.clock.now_ms() + seconds * 1e3
        last_ms, beat_ms = end_ms + HALF_OPEN_S * 1e3, self.clock.now_ms()
        while self.clock.now_ms() < end_ms:
            await asyncio.sleep(STEP_S)
            self._trade()
            if self.clock.now_ms() >= beat_ms + 1e3:
                beat_ms += 1e3
                for venue in self.venues.values():
                    for wire in list(venue.wires):
                        wire.heartbeat()
            self._tick()
            if self.clock.now_ms() >= end_ms - TOLD_S * 1e3 and self._half_open():
                # What nobody can have noticed yet is not told yet; ids tell of it by the next trade.
                end_ms = max(end_ms, min(last_ms, self.clock.now_ms() + TOLD_S * 1e3))
        for fault in faults:
            await fault
        self.status = self.supervisor.status()
        await self.supervisor.stop()
        await feeds
        while self.seconds.builder.unclosed:
            self._take(self.seconds.close(self._whole))

    async def _be_down(self) -> None:
        """The exchanges trade while sqfd does not run; an earlier run closed everything before `down_s` of it."""
        for _ in range(int((EARLIER_S + self.down_s) / STEP_S)):
            await asyncio.sleep(STEP_S)
            self._trade()
        ended = int(START_MS / 1e3 + EARLIER_S)
        self.seconds.resume(ended, np.zeros(0, FLOW))
        for market, instrument in enumerate(self.instruments):
            last = max(
                (t.ts_ms // 1000 for t in self.venues[instrument.exchange].past[instrument] if t.ts_ms < ended * 1000),
                default=0,
            )
            self.intake.markets[market].resume(ended * 1e3, max(1, ended - last) * 1000)
            self.resumed_s = ended

    def market(self, instrument: Instrument) -> MarketFeed:
        """The feed of one of its markets."""
        return self.intake.markets[self.instruments.index(instrument)]

    def _half_open(self) -> bool:
        """Or a connection that lacks a market's subscription, which only silence tells: some acknowledge what they refuse."""
        wires = [(venue, wire) for venue in self.venues.values() for wire in venue.wires]
        missed = {struck.exchange for struck in self.struck if struck.kind in ("one missing", "symbol refused")}
        return any(wire.dead or (venue.exchange.id in missed and wire.lacking()) for venue, wire in wires)

    def _trade(self) -> None:
        """What happened since the last step."""
        from_ms, self._made_ms = self._made_ms, self.clock.now_ms()
        for venue in self.venues.values():
            made: list[Trade] = []
            for instrument in venue.past:
                mean = self.rates[instrument.market] * (self._made_ms - from_ms) / 1e3
                count = int(mean) + (self.random.random() < mean % 1.0)
                if count and self.random.random() < 0.2:
                    count += self.random.randrange(4)  # several matches in a millisecond
                times = sorted(self.random.randrange(int(from_ms), int(self._made_ms)) for _ in range(count))
                made += [self._made(venue, instrument, at) for at in times]
            venue.publish(sorted(made, key=lambda trade: trade.ts_ms))

    def _made(self, venue: Venue, instrument: Instrument, at_ms: int) -> Trade:
        number = self.ids[instrument.market] = self.ids[instrument.market] + 1
        price, size = self.random.randrange(90_000, 110_000) / 100.0, self.random.randrange(1, 500) / 100.0
        if instrument.inverse:
            size = instrument.contract_size * self.random.randrange(1, 50) / price
        elif instrument.contract_size != 1.0:
            size = instrument.contract_size * self.random.randrange(1, 50)
        id = identity(venue.exchange.id, number, instrument.endpoint)
        return Trade(instrument, int(at_ms + venue.skew_ms), price, size, self.random.random() < 0.5, id)

    def _whole(self, second: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return self.supervisor.whole(second, len(self.instruments))

    def _tick(self) -> None:
        """As the daemon does once a second; and conservation, at every step."""
        assert self.intake.totals().conserved()
        now_ms = self.clock.now_ms()
        for number, line in enumerate(self.supervisor.lines):
            live = line.link is not None and line.link.session.state == "live"
            if live and not self._live.get(number):
                self.live_ms.append((line.exchange_id, now_ms))
            if line.losses > self._losses.get(number, 0):
                self.lost_ms.append((line.exchange_id, now_ms))
            self._live[number], self._losses[number] = live, line.losses
        for feed, interval in self.supervisor.changes():
            if interval.until_ms is None and interval.from_ms > 0:
                self.noticed.append((feed.instrument.market, now_ms, interval.from_ms))
            self.seconds.cover(feed.market, *interval.seconds(now_ms), feed.ledger.whole)
        for closed in self.seconds.due(now_ms, self._whole):
            self._take(closed)

    def _take(self, closed: ClosedRow) -> None:
        second = closed.second
        assert second.second > self._closed_until, "a second was closed again"
        self._closed_until = second.second
        for bar in second.bars:
            self.bars[int(bar["market"]), int(bar["second"])] = bar
        for row in closed.flow:
            self.coverage[int(row["symbol"]), int(row["second"])] = int(row["coverage_ppm"])

    # --- cuts

    async def _cut(self, at_s: float, exchange_id: str, kind: Cut, length_s: float) -> None:
        await asyncio.sleep(at_s)
        venue, now_ms = self.venues[exchange_id], self.clock.now_ms()
        self.struck.append(Struck(kind, exchange_id, now_ms, now_ms + length_s * 1e3))
        match kind:
            case "close" | "announced":
                self.clock.step_ms = self.random.choice([0, 1e3, -1e3, 3600e3, -3600e3])
                self._end_all(venue, Closed("the exchange closed", self.random.choice(CODES)))
            case "abort":
                self._end_all(venue, Closed("connection lost"))
            case "half open":
                for wire in list(venue.wires):
                    wire.freeze()
            case "silent":
                venue.silent = True
            case "silent market":
                venue.mute = self.random.choice(list(venue.past))
            case "refused" | "told to wait":
                told = kind == "told to wait"
                venue.refuse_status, venue.retry_after_s = (429, length_s / 2) if told else (503, None)
                self._end_all(venue, Closed("connection lost"))
            case "replayed":
                venue.replay_s = self.random.uniform(1, 40)
                self._end_all(venue, Closed("connection lost"))
            case "shuffled":
                venue.shuffle_s = self.random.uniform(0.3, 3)
            case "late":
                venue.late_s = self.random.uniform(0, 120)
            case "dropped":
                venue.drop = 0.05
            case "flapping":
                venue.flapping = True
                self._end_all(venue, Closed("connection lost"))
            case "symbol refused":
                venue.refused = gone = self.random.choice(list(venue.past))
                del venue.simulated.instruments[gone.endpoint, gone.symbol]
                self._end_all(venue, Closed("connection lost"))
            case "one missing":
                venue.missing = self.random.choice(list(venue.past))
                self._end_all(venue, Closed("connection lost"))
            case "rest refused":
                venue.rest_status, venue.rest_wait_s = self.random.choice([418, 429]), self.random.uniform(1.0, 60.0)
                self._end_all(venue, Closed("connection lost"))
            case "unanswered":
                venue.unanswered = self.random.randrange(1, 4)
                self._end_all(venue, Closed("connection lost"))
        venue.struck[kind] += 1
        await asyncio.sleep(length_s)
        self._heal(venue, kind)

    def _end_all(self, venue: Venue, how: Closed) -> None:
        for wire in list(venue.wires):
            wire.end(how)

    def _heal(self, venue: Venue, kind: Cut) -> None:
        match kind:
            case "silent":
                venue.silent = False
            case "flapping":
                venue.flapping = False
            case "silent market":
                venue.mute = None
            case "one missing":
                venue.missing = None
            case "symbol refused" if venue.refused is not None:
                venue.simulated.list([venue.refused])
                venue.refused = None
            case "rest refused":
                venue.rest_status = None
            case "refused" | "told to wait":
                venue.refuse_status = None
            case "replayed":
                venue.replay_s = 0.0
            case "shuffled":
                venue.shuffle_s = 0.0
            case "late":
                venue.late_s = 0.0
            case "dropped":
                venue.drop = 0.0

    # --- the truth

    def check(self) -> None:
        """P2, P5, P6 for the whole run; raises AssertionError with what is wrong."""
        totals = self.intake.totals()
        assert totals.conserved(), totals
        self._check_limits()
        told = [entry["event"] for entry in self.log.entries]
        assert not any("unexpectedly" in event for event in told), told
        for market, instrument in enumerate(self.instruments):
            self._check_bars(market, instrument)

    def _check_limits(self) -> None:
        for venue in self.venues.values():
            limits = venue.exchange.limits
            connects = [(at, 1.0) for at in venue.connects_ms]
            assert Limits.most(connects, limits.connects.seconds) <= limits.connects.count
            assert Limits.most(venue.asked, limits.rest.seconds) <= limits.rest.count
            for refused_ms, until_ms in venue.rest_closed:
                assert not any(refused_ms < at < until_ms for at, _ in venue.asked), "asked before Retry-After"
            for wire in venue.every_wire:
                rate = venue.exchange.endpoint(wire.endpoint).frames
                assert Limits.most([(at, 1.0) for at in wire.sent_ms], rate.seconds) <= max(1.0, rate.count)

    def truth(self, instrument: Instrument) -> dict[int, list[Trade]]:
        """All trades of a market, by second, in the exchange's order."""
        by_second: dict[int, list[Trade]] = {}
        for trade in self.venues[instrument.exchange].past[instrument]:
            by_second.setdefault(trade.ts_ms // 1000, []).append(trade)
        return by_second

    def _check_bars(self, market: int, instrument: Instrument) -> None:
        feed, truth = self.intake.markets[market], self.truth(instrument)
        assert feed.first_ms is not None, f"{instrument.market} never traded"
        first_s = feed.first_ms // 1000 if self.resumed_s is None else self.resumed_s
        for second in range(first_s, self._closed_until + 1):
            trades, bar = truth.get(second, []), self.bars.get((market, second))
            where = f"{instrument.market} in second {second} ({feed.ledger.state_at(second)})"
            if (instrument.market, second) in self.venues[instrument.exchange].unnoticed and not inside(feed, second):
                continue
            if feed.ledger.whole(second) and second < self._closed_until - TOLD_S:
                assert (bar is not None) == bool(trades), f"{where}: {bar} but {len(trades)} trades"
                if bar is not None:
                    assert_equals(bar, trades, where)
            elif bar is not None:
                assert bar["cbuy"] + bar["csell"] <= len(trades), f"{where}: more trades than happened"

    def back_s(self) -> list[float]:
        """For each time that an exchange was away and answered again: how long until it traded here."""
        waits = []
        for struck in self.struck:
            if struck.kind in ("refused", "told to wait", "close", "abort"):
                heal_ms = struck.until_ms if struck.kind in ("refused", "told to wait") else struck.at_ms
                lines = [line for line in self.live_ms if line[0] == struck.exchange and line[1] >= heal_ms]
                waits += [(lines[0][1] - heal_ms) / 1e3] if lines else []
        return waits

    def dead_s(self) -> list[float]:
        """For each silent or half-open connection: how long after its last frame that should have come it was left."""
        waits = []
        for struck in self.struck:
            if struck.kind == "half open":
                lost = [at for id, at in self.lost_ms if id == struck.exchange and at >= struck.at_ms]
                waits += [(lost[0] - struck.at_ms) / 1e3] if lost else []
        return waits

    def states(self, exchange_id: str) -> list[str]:
        """How the gaps of an exchange's markets ended, the time before their first trade aside."""
        feeds = [feed for feed in self.intake.markets.values() if feed.instrument.exchange == exchange_id]
        return [interval.state for feed in feeds for interval in feed.ledger.intervals if interval.from_ms > 0]


def inside(feed: MarketFeed, second: int) -> bool:
    """Whether a second lies within a gap as a whole."""
    return any(i.from_ms <= second * 1e3 and (i.until_ms or 0) >= second * 1e3 + 1e3 for i in feed.ledger.intervals)


def assert_equals(bar: Bars, trades: Sequence[Trade], where: str) -> None:
    """A bar against the slow, obvious one."""
    prices = [trade.price for trade in trades]
    slow = {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "vbuy": sum(t.price * t.size for t in trades if t.buy),
        "vsell": sum(t.price * t.size for t in trades if not t.buy),
        "cbuy": sum(t.buy for t in trades),
        "csell": sum(not t.buy for t in trades),
        "lbuy": 0.0,
        "lsell": 0.0,
    }
    for name in BAR_FIELDS:
        assert abs(bar[name] - slow[name]) <= 1e-9 * max(1.0, abs(slow[name])), f"{where}: {name}: {bar} is not {slow}"
