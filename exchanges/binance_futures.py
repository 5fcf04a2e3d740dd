"""Binance USD-M and COIN-M futures.

Sources: the exchange's derivatives documentation (websocket market streams, aggTrades, openInterest, premiumIndex and fundingInfo),
autumn 2026.
USD-M trades and liquidations come from its `/market` path; the older root path still acknowledges and stays silent.
Quantities are base coins on USD-M and contracts of `contractSize` dollars on COIN-M.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from exchanges.api import Call, Endpoint, Funding, Instrument, Kind, Limits, OpenInterest, Page, Rate, Request
from exchanges.binance import Binance, Listed, socket
from exchanges.numbers import hours_s, lax, rate

_COIN_MARGINED = re.compile(r"([A-Z0-9]+)USD_(PERP|\d{6})")


class Interest(msgspec.Struct):
    """Answer of openInterest: base coins, on COIN-M contracts."""

    openInterest: float
    time: int | None = None


class Premium(msgspec.Struct):
    """A row of premiumIndex. Dated contracts have an empty rate."""

    symbol: str
    lastFundingRate: float | str | None = None


class Settled(msgspec.Struct):
    """A row of fundingInfo, which has only contracts that are not settled every 8 hours, and once were not."""

    symbol: str
    fundingIntervalHours: float | str | None = None


_interest, _premiums, _settled = lax(Interest), lax(list[Premium]), lax(list[Settled])


class BinanceFutures(Binance):
    """Both futures markets of https://binance.com."""

    id: ClassVar[str] = "BINANCE_FUTURES"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        socket("usdm", "wss://fstream.binance.com/market/stream", 2),
        socket("coinm", "wss://dstream.binance.com/stream", 2),
    )
    rest: ClassVar[Mapping[str, str]] = {"fapi": "https://fapi.binance.com", "dapi": "https://dapi.binance.com"}
    paths: ClassVar[Mapping[str, tuple[str, str]]] = {"usdm": ("fapi", "/fapi/v1"), "coinm": ("dapi", "/dapi/v1")}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(2400, 60), connections=300)
    kinds: ClassVar[tuple[Kind, ...]] = ("perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT", "{base}USD_PERP")
    recovery_note: ClassVar[str] = "by id; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "A liquidation's second is that of its last fill; some collectors use the event time, up to a few ms later.",
        "Of liquidations only one order a second and contract is published.",
        "COIN-M contracts are of 100 dollars (BTC) or 10; sizes are in coins at the price of the trade.",
    )
    listing_weight: ClassVar[float] = 1
    history_weight: ClassVar[float] = 20
    premium_weight: ClassVar[float] = 10

    def listed(self, row: Listed, endpoint: str) -> Instrument:
        made = super().listed(row, endpoint)
        if endpoint != "coinm":
            return made
        return msgspec.structs.replace(made, contract_size=row.contractSize, inverse=True)

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        match = _COIN_MARGINED.fullmatch(symbol)
        if match is None:
            return self.assumed(symbol, "usdm")
        size = 100.0 if match[1] == "BTC" else 10.0
        return self.listed(Listed(symbol, match[1], "USD", contractStatus="TRADING", contractSize=size), "coinm")

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(instrument) for instrument in instruments if instrument.kind != "spot"]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            row = _interest.decode(body)
            amount = row.openInterest * instrument.contract_size
            if instrument.inverse:
                return Page([OpenInterest(instrument, row.time, None, amount)])
            return Page([OpenInterest(instrument, row.time, amount)])

        url = f"{self.rest_url(instrument.endpoint)}/openInterest?symbol={instrument.symbol}"
        return Call(Request(url), read)

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """For each product the intervals of all its contracts, and then the rates of all."""
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind == "perp":
                wanted.setdefault(instrument.endpoint, {})[instrument.symbol] = instrument
        return [self._intervals(endpoint, by_symbol) for endpoint, by_symbol in wanted.items()]

    def _intervals(self, endpoint: str, wanted: Mapping[str, Instrument]) -> Call[Funding]:
        def read(body: bytes) -> Page[Funding]:
            settled = {row.symbol: hours_s(row.fundingIntervalHours) for row in _settled.decode(body)}
            return Page([], self._rates(endpoint, wanted, settled))

        return Call(Request(self.settled_url(endpoint)), read)

    def settled_url(self, endpoint: str) -> str:
        """Where a product's funding intervals are asked for."""
        return self.rest_url(endpoint) + "/fundingInfo"

    def _rates(
        self, endpoint: str, wanted: Mapping[str, Instrument], settled: Mapping[str, float | None]
    ) -> Call[Funding]:
        def read(body: bytes) -> Page[Funding]:
            rows = [row for row in _premiums.decode(body) if row.symbol in wanted]
            found = [(row.symbol, rate(row.lastFundingRate)) for row in rows]
            return Page([Funding(wanted[of], said, settled.get(of)) for of, said in found if said is not None])

        return Call(Request(self.rest_url(endpoint) + "/premiumIndex", weight=self.premium_weight), read)
