"""Aster: perpetuals and spot, both with Binance's protocol.

Sources: the exchange's API documentation (futures and spot v3: market streams, aggTrades, openInterest, premiumIndex; fundingInfo), autumn 2026.
All perpetuals are linear and count base coins. Perpetuals and spot share symbols, so spot pairs end in `-SPOT` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from exchanges.api import Endpoint, Instrument, Kind
from exchanges.binance import socket
from exchanges.binance_futures import BinanceFutures


class Aster(BinanceFutures):
    """https://asterdex.com."""

    id: ClassVar[str] = "ASTER"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        socket("perp", "wss://fstream.asterdex.com/stream", 4),
        socket("spot", "wss://sstream.asterdex.com/stream", 4),
    )
    rest: ClassVar[Mapping[str, str]] = {"fapi": "https://fapi.asterdex.com", "sapi": "https://sapi.asterdex.com"}
    paths: ClassVar[Mapping[str, tuple[str, str]]] = {"perp": ("fapi", "/fapi/v3"), "spot": ("sapi", "/api/v3")}
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT",)
    notes: ClassVar[tuple[str, ...]] = (
        "Fills of the insurance fund and of auto-deleveraging are not market trades and are left out.",
        "A liquidation counts when its order is filled; its price is the order's (bankruptcy) price.",
        "Spot pairs end in -SPOT: they share their symbols with the perpetuals.",
    )

    def settled_url(self, endpoint: str) -> str:
        return self.url("fapi") + "/fapi/v1/fundingInfo"

    def pair(self, symbol: str, endpoint: str) -> str:
        return f"{symbol}-SPOT" if endpoint == "spot" else symbol

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        spot = kind == "spot" or symbol.endswith("-SPOT")
        return self.assumed(symbol.removesuffix("-SPOT"), "spot" if spot else "perp")
