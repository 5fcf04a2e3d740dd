"""Binance futures, seen from their own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from exchanges.api import Instrument
from exchanges.simulated import binance
from exchanges.simulated.api import base_name


class Simulated(binance.Simulated):
    """exchangeInfo, aggTrades and openInterest of both products. The sockets are as spot's."""

    endpoints: ClassVar[Mapping[str, str]] = {"fapi": "usdm", "dapi": "coinm"}
    markets_are_asked_for: ClassVar[Sequence[str]] = ("aggTrades", "openInterest")
    funding_is_asked_for: ClassVar[Sequence[str]] = ("fundingInfo", "premiumIndex")

    def symbol(self, instrument: Instrument) -> dict[str, Any]:
        row: dict[str, Any] = {"symbol": instrument.symbol, "quoteAsset": instrument.quote}
        if instrument.endpoint == "coinm":
            row["contractStatus"] = "TRADING" if instrument.active else "PENDING_TRADING"
            row["contractSize"] = instrument.contract_size
        else:
            row["status"] = "TRADING" if instrument.active else "SETTLING"
        kind = "CURRENT_QUARTER" if instrument.kind == "future" else "PERPETUAL"
        return row | {"baseAsset": base_name(instrument), "contractType": kind}
