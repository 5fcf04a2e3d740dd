"""Binance futures, seen from their own side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exchanges.api import Instrument
from exchanges.simulated import binance
from exchanges.simulated.api import History, base_name

OPEN_CONTRACTS = 250_000.0
"""Open interest of every market, in units of the wire."""
_ENDPOINTS = {"fapi": "usdm", "dapi": "coinm"}


class Simulated(binance.Simulated):
    """exchangeInfo of each product, aggTrades and openInterest. The sockets are as spot's."""

    def rest(
        self,
        method: str,
        name: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        history: History,
        now_ms: int,
    ) -> tuple[int, bytes]:
        if path.endswith("/exchangeInfo"):
            listed = [self._symbol(i) for i in self.listed(_ENDPOINTS[name])]
            return 200, msgspec.json.encode({"symbols": listed})
        if path.endswith("/openInterest"):
            if (_ENDPOINTS[name], query["symbol"]) not in self.instruments:
                return 400, msgspec.json.encode({"code": -1121, "msg": "Invalid symbol."})
            row = {"symbol": query["symbol"], "openInterest": repr(OPEN_CONTRACTS), "time": now_ms}
            return 200, msgspec.json.encode(row)
        return super().rest(method, name, path, query, body, history, now_ms)

    def _symbol(self, instrument: Instrument) -> dict[str, Any]:
        row: dict[str, Any] = {"symbol": instrument.symbol, "quoteAsset": instrument.quote}
        if instrument.endpoint == "coinm":
            row["contractStatus"] = "TRADING" if instrument.active else "PENDING_TRADING"
            row["contractSize"] = instrument.contract_size
        else:
            row["status"] = "TRADING" if instrument.active else "SETTLING"
        kind = "CURRENT_QUARTER" if instrument.kind == "future" else "PERPETUAL"
        return row | {"baseAsset": base_name(instrument), "contractType": kind}
