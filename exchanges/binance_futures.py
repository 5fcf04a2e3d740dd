"""Binance USD-M and COIN-M futures.

Sources: the exchange's derivatives documentation (websocket market streams, aggTrades, openInterest), autumn 2026.
USD-M trades and liquidations come from its `/market` path; the older root path still acknowledges and stays silent.
Quantities are base coins on USD-M and contracts of `contractSize` dollars on COIN-M.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from exchanges.api import Call, Endpoint, Instrument, Kind, Limits, OpenInterest, Page, Rate, Request
from exchanges.binance import Binance, Listed, socket
from exchanges.numbers import lax

_COIN_MARGINED = re.compile(r"([A-Z0-9]+)USD_(PERP|\d{6})")


class Interest(msgspec.Struct):
    """Answer of openInterest: base coins, on COIN-M contracts."""

    openInterest: float
    time: int | None = None


_interest = lax(Interest)


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
    notes: ClassVar[tuple[str, ...]] = (
        "A liquidation's second is that of its last fill; some collectors use the event time, up to a few ms later.",
        "Of liquidations only one order a second and contract is published.",
        "COIN-M contracts are of 100 dollars (BTC) or 10; sizes are in coins at the price of the trade.",
    )
    listing_weight: ClassVar[float] = 1
    history_weight: ClassVar[float] = 20

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
