"""Aster, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exchanges.api import Instrument
from exchanges.simulated import binance
from exchanges.simulated.api import History

OPEN_COINS = 250_000.0
"""Open interest of every perpetual, in base coins."""
_ENDPOINTS = {"fapi": "perp", "sapi": "spot"}


class Simulated(binance.Simulated):
    """exchangeInfo of each product, aggTrades and openInterest. The sockets are Binance's."""

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
        endpoint = _ENDPOINTS[name]
        if path.endswith("/exchangeInfo"):
            return 200, msgspec.json.encode({"symbols": [self._symbol(i) for i in self.listed(endpoint)]})
        if path.endswith("/openInterest"):
            if ("perp", query["symbol"]) not in self.instruments:
                return 400, msgspec.json.encode({"code": -1121, "msg": "Invalid symbol."})
            row = {"symbol": query["symbol"], "openInterest": repr(OPEN_COINS), "time": now_ms}
            return 200, msgspec.json.encode(row)
        product = binance.Simulated(self.exchange)  # spot and perpetuals share symbols: look among one's own only
        product.list(self.listed(endpoint))
        return product.rest(method, name, path, query, body, history, now_ms)

    def _symbol(self, instrument: Instrument) -> dict[str, Any]:
        row = {
            "symbol": instrument.symbol,
            "status": "TRADING" if instrument.active else "SETTLING",
            "baseAsset": instrument.symbol.removesuffix(instrument.quote),
            "quoteAsset": instrument.quote,
        }
        return row if instrument.kind == "spot" else row | {"contractType": "PERPETUAL"}
