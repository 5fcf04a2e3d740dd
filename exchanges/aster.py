"""Aster: perpetuals and spot, both with Binance's protocol.

Sources: the exchange's API documentation (futures and spot v3: market streams, aggTrades, openInterest), autumn 2026.
All perpetuals are linear and count base coins. Perpetuals and spot share symbols, so spot pairs end in `-SPOT` here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from exchanges.api import (
    Call,
    Endpoint,
    Instrument,
    Kind,
    Limits,
    OpenInterest,
    Page,
    Rate,
    Request,
    Stream,
    base_asset,
    split_pair,
)
from exchanges.binance import QUOTES, TOPICS_PER_FRAME, Binance
from exchanges.numbers import lax

_REST = {"perp": ("fapi", "/fapi/v3"), "spot": ("sapi", "/api/v3")}


class Listed(msgspec.Struct):
    """A row of exchangeInfo; spot has no contractType."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str


class Listing(msgspec.Struct):
    symbols: list[Listed]


class Interest(msgspec.Struct):
    """Answer of openInterest, in base coins."""

    openInterest: float
    time: int | None = None


_listing = lax(Listing)
_interest = lax(Interest)


def _endpoint(name: str, url: str) -> Endpoint:
    return Endpoint(
        name,
        url,
        streams_per_connection=200,
        topics_per_frame=TOPICS_PER_FRAME,
        frames=Rate(4, 1),
        max_age_s=24 * 3600,
        gapless=True,
    )


class Aster(Binance):
    """https://asterdex.com."""

    id: ClassVar[str] = "ASTER"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        _endpoint("perp", "wss://fstream.asterdex.com/stream"),
        _endpoint("spot", "wss://sstream.asterdex.com/stream"),
    )
    rest: ClassVar[Mapping[str, str]] = {"fapi": "https://fapi.asterdex.com", "sapi": "https://sapi.asterdex.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(2400, 60), connections=300)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT",)
    recovery_note: ClassVar[str] = "by id; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Fills of the insurance fund and of auto-deleveraging are not market trades and are left out.",
        "A liquidation counts when its order is filled; its price is the order's (bankruptcy) price.",
        "Spot pairs end in -SPOT: they share their symbols with the perpetuals.",
    )
    history_weight: ClassVar[float] = 20

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        forced = liquidations and instrument.kind == "perp"
        name = instrument.symbol.lower()
        channels = ("aggTrade", "forceOrder") if forced else ("aggTrade",)
        return [Stream(instrument.endpoint, f"{name}@{channel}", instrument) for channel in channels]

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing("perp", "perp"), self._listing("spot", "spot")]

    def _listing(self, endpoint: str, kind: Kind) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            return Page([self._listed(row, kind) for row in _listing.decode(body).symbols])

        return Call(Request(self._rest_url(endpoint) + "/exchangeInfo"), read)

    def _listed(self, row: Listed, kind: Kind) -> Instrument:
        asset, multiplier = base_asset(row.baseAsset)
        return Instrument(
            self.id,
            f"{row.symbol}-SPOT" if kind == "spot" else row.symbol,
            row.symbol,
            kind,
            asset,
            row.quoteAsset,
            "spot" if kind == "spot" else "perp",
            multiplier=multiplier,
            active=row.status == "TRADING",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        spot = kind == "spot" or symbol.endswith("-SPOT")
        symbol = symbol.removesuffix("-SPOT")
        return self._listed(Listed(symbol, "TRADING", *split_pair(symbol, QUOTES)), "spot" if spot else "perp")

    def history_url(self, instrument: Instrument) -> str:
        return self._rest_url(instrument.endpoint) + "/aggTrades"

    def _rest_url(self, endpoint: str) -> str:
        name, path = _REST[endpoint]
        return self.url(name) + path

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(instrument) for instrument in instruments if instrument.kind == "perp"]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            row = _interest.decode(body)
            return Page([OpenInterest(instrument, row.time, row.openInterest)])

        return Call(Request(f"{self._rest_url('perp')}/openInterest?symbol={instrument.symbol}"), read)
