"""The running stages as operators see them. Reads, never changes; every answer is plain data, ready for JSON."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sqfd import __version__, story
from sqfd.alerts.sender import Alerts
from sqfd.bars.seconds import Seconds
from sqfd.clock import Clock
from sqfd.engine import Engine
from sqfd.feed.coverage import Ledger
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.feed.supervisor import Supervisor
from sqfd.http import health as parts_of
from sqfd.http.chart import newest
from sqfd.influx.shipper import Shipper
from sqfd.journal import JournaledSignal
from sqfd.journal.journal import Journal
from sqfd.model import Market
from sqfd.stalls import Stalls

if TYPE_CHECKING:
    from sqfd.signals.redis import RedisPublisher

TOLD = 50
TOLD_MS = 24 * 3_600e3
"""`/health/detailed` tells the newest gaps of the last day; `sqfd gaps` tells all that the journal has."""
COVERAGE_MS = 3_600e3
"""Coverage of a market is told over the last hour, or since the start."""


class UnknownName(LookupError):
    """No such symbol, market or part; the text names the known ones."""


@dataclass
class View:
    """Every stage of one daemon. `now_ms` is on the exchanges' clock."""

    instance: str
    clock: Clock
    exchange_clock: Clock
    symbols: tuple[str, ...]
    exchanges: tuple[str, ...]
    missing: Collection[str]
    """Exchanges whose listing is not there yet."""
    seconds: Seconds
    intake: Intake
    supervisor: Supervisor
    engine: Engine
    journal: Journal
    stalls: Stalls
    shipper: Shipper | None = None
    publisher: RedisPublisher | None = None
    alerts: Alerts | None = None
    bars: int = 0
    revisions: int = 0
    signals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Signals given, by (symbol, action)."""
    since: parts_of.Since = field(default_factory=parts_of.Since)

    def __post_init__(self) -> None:
        self.started_ms = self.clock.now_ms()

    # --- once a second

    def note(self, bars: int, revisions: int, records: Sequence[JournaledSignal], actions: Sequence[str]) -> None:
        """What one tick brought."""
        self.bars += bars
        self.revisions += revisions
        for record, action in zip(records, actions, strict=True):
            self.signals[record.symbol, action] += 1

    # --- health

    @property
    def second(self) -> int:
        """Newest closed second; 0 before the first."""
        return (self.seconds.builder.next_second or 1) - 1

    @property
    def lag_s(self) -> float:
        """How long ago, on the exchanges' clocks, that second ended."""
        return self.exchange_clock.now_ms() / 1e3 - self.second - 1 if self.second > 0 else math.nan

    def health(self) -> parts_of.Health:
        """Every part's state now."""
        parts = [parts_of.seconds(self.second, self.lag_s), *(parts_of.feed(one) for one in self._feeds())]
        parts.append(parts_of.journal(self.journal.status()))
        if self.shipper is not None:
            parts.append(parts_of.influx(self.shipper.status()))
        if self.publisher is not None:
            parts.append(parts_of.redis(self.publisher.status()))
        if self.alerts is not None:
            parts.append(parts_of.alerts(self.alerts.status()))
        error_ms = self.seconds.watermark.host_error_ms()
        if error_ms is not None:
            error_ms += self.clock.wall_ms() - self.clock.now_ms()  # what the wall clock stepped since the start
        parts.append(parts_of.clock(error_ms))
        stalls = self.stalls
        parts.append(parts_of.loop(stalls.count, stalls.last_ago_s(), stalls.longest_s))
        return parts_of.judge(self.since.update(parts, self.clock.wall_ms()))

    def _feeds(self) -> list[parts_of.Feed]:
        age_s = (self.clock.now_ms() - self.started_ms) / 1e3
        by_exchange: dict[str, list[MarketFeed]] = {id: [] for id in self.exchanges}
        for feed in self.intake.markets.values():
            by_exchange.setdefault(feed.instrument.exchange, []).append(feed)
        return [_feed(id, feeds, id not in self.missing, age_s) for id, feeds in by_exchange.items()]

    def health_json(self) -> dict[str, Any]:
        """Health with its components."""
        found = self.health()
        components = [one._asdict() for one in found.components]
        return {"status": found.state, "why": found.why, "instance": self.instance, "components": components}

    def health_detailed(self) -> dict[str, Any]:
        """Health, and what became of feeds lately: the story of each cut in words, newest first."""
        return {**self.health_json(), "gaps": self.gaps()}

    def gaps(self, count: int = TOLD) -> list[dict[str, Any]]:
        """The newest cuts of this run: since when, which markets, how many trades were filled in, what is still missing."""
        now_ms = self.exchange_clock.now_ms()
        records = [
            record
            for feed in self.intake.markets.values()
            for interval in feed.ledger.intervals
            if interval.until_ms is None or interval.until_ms >= now_ms - TOLD_MS
            for record in story.gap_records(feed.market, interval)
        ]
        told = story.together(sorted(records, key=lambda gap: gap.from_ms), [m.name for m in self.seconds.markets])
        return [story.as_json(one, now_ms) for one in reversed(told[-count:])]

    # --- markets

    def market(self, name: str) -> int:
        """The index of `EXCHANGE:pair`. Raises UnknownName."""
        for index, market in enumerate(self.seconds.markets):
            if market.name == name:
                return index
        raise UnknownName(f"no market {name}: `sqfd markets` and /markets list them")

    def markets(self) -> list[dict[str, Any]]:
        """All collected markets, in the order of their indices."""
        now_ms = self.exchange_clock.now_ms()
        return [
            _market(self.seconds.markets[index], feed, now_ms, now_ms - self._age_ms())
            for index, feed in self.intake.markets.items()
        ]

    def _age_ms(self) -> float:
        return min(COVERAGE_MS, self.clock.now_ms() - self.started_ms)

    # --- symbols

    def symbol(self, name: str) -> str:
        """`btc`, `BTC` or `BTCUSDT` → `BTC`. Raises UnknownName."""
        wanted = name.upper()
        for symbol in self.symbols:
            if wanted in (symbol, f"{symbol}USDT", f"{symbol}USD"):
                return symbol
        raise UnknownName(f"no symbol {name}; known: {', '.join(self.symbols)}")

    def explain(self, symbol: str) -> dict[str, Any]:
        """Why there was a signal, or none, at the last tick."""
        return msgspec.structs.asdict(self.engine.explain(symbol))

    def symbol_now(self, symbol: str) -> dict[str, Any]:
        """Price and flow of the last second, the phases and the position."""
        told = self.explain(symbol)
        return {**newest(self.engine.rings[symbol]), **told}

    # --- everything

    def sinks(self) -> dict[str, Mapping[str, Any]]:
        """Status of each sink that is configured."""
        found: dict[str, Mapping[str, Any]] = {"journal": self.journal.status()}
        if self.shipper is not None:
            found["influx"] = self.shipper.status()
        if self.publisher is not None:
            found["redis"] = self.publisher.status()
        if self.alerts is not None:
            found["alerts"] = self.alerts.status()
        return found

    def status(self) -> dict[str, Any]:
        """One screen: `sqfd status`."""
        feeds = self.supervisor.status()
        return {
            "instance": self.instance,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round((self.clock.now_ms() - self.started_ms) / 1e3, 1),
            "health": self.health_json(),
            "second": self.second,
            "lag_s": _finite(self.lag_s),
            "markets": len(self.seconds.markets),
            "live": feeds.live,
            "counts": msgspec.structs.asdict(feeds.counts),
            "bars": self.bars,
            "revisions": self.revisions,
            "signals": sum(self.signals.values()),
            "spreads_ms": {id: round(ms, 1) for id, ms in self.seconds.watermark.spreads().items()},
            "offsets_ms": {id: round(ms, 1) for id, ms in self.seconds.watermark.offsets().items()},
            "symbols": {symbol: self.brief(symbol) for symbol in self.symbols},
            "sinks": self.sinks(),
            "stalls": {"count": self.stalls.count, "longest_s": round(self.stalls.longest_s, 3)},
        }

    def brief(self, symbol: str) -> dict[str, float]:
        """Flat numbers of a symbol; few while it is warming."""
        return {**newest(self.engine.rings[symbol]), **self.engine.mind(symbol)}

    def live(self) -> dict[str, Any]:
        """What the page needs each second."""
        totals = self.intake.totals()
        return {
            "instance": self.instance,
            "second": self.second,
            "lag_s": _finite(self.lag_s),
            "health": self.health_json(),
            "trades": totals.aggregated,
            "bars": self.bars,
            "signals": sum(self.signals.values()),
            "symbols": {symbol: self.symbol_now(symbol) for symbol in self.symbols},
            "markets": self.markets(),
            "sinks": self.sinks(),
        }


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _feed(exchange: str, feeds: Sequence[MarketFeed], listed: bool, age_s: float) -> parts_of.Feed:
    stale = [feed for feed in feeds if feed.ledger.open is not None]
    gap = stale[0].ledger.open if stale else None
    reason = gap.reason if gap is not None else ""
    names = tuple(feed.instrument.market for feed in stale)
    never = sum(feed.first_ms is None for feed in stale)
    return parts_of.Feed(exchange, len(feeds), names, reason, listed, never, age_s)


def _market(market: Market, feed: MarketFeed, now_ms: float, from_ms: float) -> dict[str, Any]:
    gap = feed.ledger.open
    return {
        "market": market.name,
        "exchange": market.exchange,
        "kind": market.kind,
        "base": market.base,
        "quote": market.quote,
        "state": "live" if gap is None else gap.state,
        "reason": "" if gap is None else gap.reason,
        "since_ms": _started(feed.ledger.since_ms(now_ms)),
        "rate_hz": round(feed.pace.rate_hz or 0.0, 3),
        "last_trade_ms": feed.newest_ms,
        "lag_s": round(max(0.0, now_ms - feed.newest_ms) / 1e3, 1) if feed.newest_ms else None,
        "coverage": round(covered(feed.ledger, from_ms, now_ms), 4),
        "counts": msgspec.structs.asdict(feed.counts()),
    }


def _started(since_ms: float) -> float | None:
    return round(since_ms, 1) if math.isfinite(since_ms) else None


def covered(ledger: Ledger, from_ms: float, to_ms: float) -> float:
    """Share of `[from_ms, to_ms)` in which the feed was whole, by the ledger; 0 for an empty stretch."""
    if to_ms <= from_ms:
        return 0.0
    missing = 0.0
    for interval in ledger.intervals:
        if interval.state == "recovered":
            continue
        end_ms = to_ms if interval.until_ms is None else min(interval.until_ms, to_ms)
        missing += max(0.0, end_ms - max(interval.from_ms, from_ms))
    return max(0.0, 1.0 - missing / (to_ms - from_ms))
