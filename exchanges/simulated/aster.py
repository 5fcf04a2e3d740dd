"""Aster, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from exchanges.api import Instrument
from exchanges.simulated import binance


class Simulated(binance.Simulated):
    """exchangeInfo, aggTrades and openInterest of both products. The sockets are Binance's."""

    endpoints: ClassVar[Mapping[str, str]] = {"fapi": "perp", "sapi": "spot"}
    markets_are_asked_for: ClassVar[Sequence[str]] = ("aggTrades", "openInterest")
    funding_is_asked_for: ClassVar[Sequence[str]] = ("fundingInfo", "premiumIndex")

    def symbol(self, instrument: Instrument) -> dict[str, Any]:
        row = {
            "symbol": instrument.symbol,
            "status": "TRADING" if instrument.active else "SETTLING",
            "baseAsset": instrument.symbol.removesuffix(instrument.quote),
            "quoteAsset": instrument.quote,
        }
        return row if instrument.kind == "spot" else row | {"contractType": "PERPETUAL"}
