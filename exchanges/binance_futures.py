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

from exchanges.api import (
    Call,
    Endpoint,
    Instrument,
    Kind,
    Limits,
    OpenInterest,
    Page,
    Rate,
    Recovery,
    Request,
    Stream,
    base_asset,
    split_pair,
)
from exchanges.binance import QUOTES, TOPICS_PER_FRAME, Binance
from exchanges.numbers import lax

_COIN_MARGINED = re.compile(r"([A-Z0-9]+)USD_(PERP|\d{6})")
_DATED = re.compile(r".+_\d{6}")
_REST = {"usdm": ("fapi", "/fapi/v1"), "coinm": ("dapi", "/dapi/v1")}


class Contract(msgspec.Struct):
    """A row of exchangeInfo; COIN-M says `contractStatus` and `contractSize`, USD-M `status`."""

    symbol: str
    baseAsset: str
    quoteAsset: str
    status: str = ""
    contractStatus: str = ""
    contractSize: float = 1.0


class ContractInfo(msgspec.Struct):
    symbols: list[Contract]


class Interest(msgspec.Struct):
    """Answer of openInterest: base coins on USD-M, contracts on COIN-M."""

    symbol: str
    openInterest: float
    time: int


_info = lax(ContractInfo)
_interest = lax(Interest)


def _endpoint(name: str, url: str) -> Endpoint:
    return Endpoint(
        name,
        url,
        streams_per_connection=200,
        topics_per_frame=TOPICS_PER_FRAME,
        frames=Rate(2, 1),
        max_age_s=24 * 3600,
        gapless=True,
    )


class BinanceFutures(Binance):
    """Both futures markets of https://binance.com."""

    id: ClassVar[str] = "BINANCE_FUTURES"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        _endpoint("usdm", "wss://fstream.binance.com/market/stream"),
        _endpoint("coinm", "wss://dstream.binance.com/stream"),
    )
    rest: ClassVar[Mapping[str, str]] = {"fapi": "https://fapi.binance.com", "dapi": "https://dapi.binance.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(2400, 60), connections=300)
    kinds: ClassVar[tuple[Kind, ...]] = ("perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT", "{base}USD_PERP")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "A liquidation's second is that of its last fill; some collectors use the event time, up to a few ms later.",
        "Of liquidations only one order a second and contract is published.",
        "COIN-M contracts are of 100 dollars (BTC) or 10; sizes are in coins at the price of the trade.",
    )
    history_weight: ClassVar[float] = 20

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channels = ("aggTrade", "forceOrder") if liquidations else ("aggTrade",)
        name = instrument.symbol.lower()
        return [Stream(instrument.endpoint, f"{name}@{channel}", instrument) for channel in channels]

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing(endpoint) for endpoint in _REST]

    def _listing(self, endpoint: str) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            return Page([self._contract(row, endpoint) for row in _info.decode(body).symbols])

        return Call(Request(self._rest_url(endpoint) + "/exchangeInfo"), read)

    def _contract(self, row: Contract, endpoint: str) -> Instrument:
        asset, multiplier = base_asset(row.baseAsset)
        return Instrument(
            self.id,
            row.symbol.lower(),
            row.symbol,
            "future" if _DATED.fullmatch(row.symbol) else "perp",
            asset,
            row.quoteAsset,
            endpoint,
            contract_size=row.contractSize if endpoint == "coinm" else 1.0,
            inverse=endpoint == "coinm",
            multiplier=multiplier,
            active="TRADING" in (row.status, row.contractStatus),
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        match = _COIN_MARGINED.fullmatch(symbol)
        if match is None:
            base, quote = split_pair(symbol.partition("_")[0], QUOTES)
            return self._contract(Contract(symbol, base, quote, "TRADING"), "usdm")
        size = 100.0 if match[1] == "BTC" else 10.0
        return self._contract(Contract(symbol, match[1], "USD", "TRADING", contractSize=size), "coinm")

    def history_url(self, instrument: Instrument) -> str:
        return self._rest_url(instrument.endpoint) + "/aggTrades"

    def _rest_url(self, endpoint: str) -> str:
        name, path = _REST[endpoint]
        return self.url(name) + path

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(instrument) for instrument in instruments]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            row = _interest.decode(body)
            amount = row.openInterest * instrument.contract_size
            if instrument.inverse:
                return Page([OpenInterest(instrument, row.time, None, amount)])
            return Page([OpenInterest(instrument, row.time, amount)])

        url = f"{self._rest_url(instrument.endpoint)}/openInterest?symbol={instrument.symbol}"
        return Call(Request(url), read)
