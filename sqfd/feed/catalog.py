"""What exchanges list, and which of it is collected. `choose` is pure; `Catalog` fetches, and remembers on disk."""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from exchanges.api import Exchange, Instrument, Kind
from sqfd.clock import Clock
from sqfd.feed.backoff import Backoff
from sqfd.feed.rest import Rest, RestFailed
from sqfd.feed.settings import FeedSettings, Wanted
from sqfd.model import speakable

SHOWN = 5
NEAREST = 3
"""Suggestions for an unknown name."""


class UnknownMarket(ValueError):
    """A symbol or market that no listing has; the text names the nearest ones."""


def split_market(name: str) -> tuple[str, str]:
    """`EXCHANGE:pair` → (exchange, pair), at the first colon only (`BITFINEX:BTCF0:USTF0`)."""
    exchange, colon, pair = name.partition(":")
    if not (exchange and colon and pair):
        raise UnknownMarket(f"{name!r} is not a market: write EXCHANGE:pair, for example BINANCE:btcusdt")
    return exchange, pair


def choose(instruments: Iterable[Instrument], wanted: Wanted) -> list[Instrument]:
    """The instruments that are wanted, in the order of their names.

    By name: all of `wanted.markets`. Else: active, not quanto, its base among the symbols, quote and kind among the
    allowed ones (spot and perp by default). Raises UnknownMarket where a name is in no listing.
    """
    known = list(instruments)
    found = _by_name(known, wanted.markets) if wanted.markets else _by_symbol(known, wanted)
    return sorted(found, key=lambda instrument: instrument.market)


def _by_name(known: Sequence[Instrument], names: Sequence[str]) -> list[Instrument]:
    by_market = {instrument.market: instrument for instrument in known}
    listed = {instrument.exchange for instrument in known}
    found = []
    for name in dict.fromkeys(names):
        exchange, _ = split_market(name)
        if name in by_market:
            found.append(by_market[name])
        elif exchange in listed:  # else its listing is not there yet
            raise UnknownMarket(f"symbols.markets: no market {name}{_nearest(name, by_market)}")
    return found


def _by_symbol(known: Sequence[Instrument], wanted: Wanted) -> list[Instrument]:
    symbols = frozenset(wanted.symbols)
    bases = {instrument.base for instrument in known}
    for symbol in wanted.symbols:
        if known and symbol not in bases:
            raise UnknownMarket(f"symbols.symbols: no exchange lists {symbol}{_nearest(symbol, bases)}")
    return [
        instrument
        for instrument in known
        if instrument.active
        and not instrument.quanto
        and instrument.base in symbols
        and instrument.kind in wanted.kinds
        and (not wanted.quotes or instrument.quote in wanted.quotes)
        and (not wanted.exchanges or instrument.exchange in wanted.exchanges)
    ]


def _nearest(name: str, known: Iterable[str]) -> str:
    """The nearest known names as the end of a sentence; spelling in capitals or not does not count."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), folded, NEAREST, 0.5)
    if near:
        return f"; did you mean {', '.join(folded[match] for match in near)}?"
    some = sorted(folded.values())[:SHOWN]
    return f"; listed are {', '.join(some)}{' …' if len(folded) > SHOWN else ''}" if some else ""


class Listed(msgspec.Struct):
    """An exchange's listing as it is kept on disk."""

    exchange: str
    fetched_ms: float
    instruments: list[Instrument]


class Catalog:
    """Listings of all exchanges: from the exchange, or else as last seen."""

    def __init__(
        self,
        exchanges: Mapping[str, Exchange],
        rests: Mapping[str, Rest],
        folder: Path,
        settings: FeedSettings,
        clock: Clock,
        log: Any,
    ) -> None:
        """`folder` holds one JSON file per exchange; it is made when missing."""
        self._exchanges = exchanges
        self._rests = rests
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._log = log

    async def load(self, exchange_id: str) -> list[Instrument] | None:
        """The listing of one exchange; None where it does not answer and was never seen."""
        listed: list[Instrument] | None
        try:
            listed = await self.fetch(exchange_id)
        except RestFailed as error:
            listed = self._remembered(exchange_id)
            self._log.warning(
                "no listing",
                exchange=exchange_id,
                reason=error.reason,
                remembered=None if listed is None else len(listed),
            )
        return listed

    async def fetch(self, exchange_id: str) -> list[Instrument]:
        """Ask the exchange, and remember. Raises RestFailed."""
        found: dict[tuple[str, str, Kind], Instrument] = {}
        for call in self._exchanges[exchange_id].listings():
            for instrument in await self._rests[exchange_id].all(call):
                found[instrument.endpoint, instrument.symbol, instrument.kind] = instrument
        if not found:
            raise RestFailed("an empty listing")
        listed = [instrument for instrument in found.values() if speakable(instrument)]
        if len(listed) < len(found):
            first = next(one.market for one in found.values() if not speakable(one))
            count = len(found) - len(listed)
            self._log.warning("names that no market has: left out", exchange=exchange_id, count=count, first=first[:80])
        self._remember(Listed(exchange_id, self._clock.wall_ms(), listed))
        return listed

    async def retry(self, exchange_ids: Iterable[str], found: Callable[[str, list[Instrument]], None]) -> None:
        """Ask exchanges that did not list until each has; hand over what they list, one exchange at a time."""
        missing = list(exchange_ids)
        backoff = Backoff(self._settings.backoff_min_s * 4, self._settings.listing_retry_s, random.random)
        while missing:
            await self._clock.sleep(self._settings.backoff_min_s + backoff.next_s())
            for exchange_id in list(missing):
                try:
                    listed = await self.fetch(exchange_id)
                except RestFailed as error:
                    self._log.debug("no listing yet", exchange=exchange_id, reason=error.reason)
                    continue
                missing.remove(exchange_id)
                self._log.info("listing is back", exchange=exchange_id, instruments=len(listed))
                found(exchange_id, listed)

    async def follow(self, every_s: float, found: Callable[[str, list[Instrument]], None]) -> None:
        """Ask one exchange after the other, each once in `every_s`; hand over what they list. For ever."""
        while True:
            for exchange_id in self._exchanges:
                await self._clock.sleep(every_s / len(self._exchanges))
                try:
                    found(exchange_id, await self.fetch(exchange_id))
                except RestFailed as error:
                    self._log.debug("no listing", exchange=exchange_id, reason=error.reason)

    def _path(self, exchange_id: str) -> Path:
        return self._folder / f"{exchange_id}.json"

    def _remember(self, listed: Listed) -> None:
        """Write beside, then rename: a reader sees the old list or the new one. A full disk costs only the memory."""
        path = self._path(listed.exchange)
        beside = path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(listed))
            os.replace(beside, path)
        except OSError as error:
            self._log.warning("listing not kept", exchange=listed.exchange, path=str(path), reason=str(error))

    def _remembered(self, exchange_id: str) -> list[Instrument] | None:
        try:
            return msgspec.json.decode(self._path(exchange_id).read_bytes(), type=Listed).instruments
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            self._log.warning("kept listing cannot be read", exchange=exchange_id, reason=str(error))
            return None
