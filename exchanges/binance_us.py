"""Binance US: spot, the same protocol as Binance under another roof.

Sources: the exchange's API documentation (web-socket-streams, rest-api), autumn 2026. Its own matching engine and ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from exchanges.api import Endpoint, Limits, Rate
from exchanges.binance import Binance, socket


class BinanceUs(Binance):
    """https://binance.us spot."""

    id: ClassVar[str] = "BINANCE_US"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (socket("spot", "wss://stream.binance.us:9443/stream", 4),)
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.binance.us"}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(1200, 60), connections=300)
    usual: ClassVar[tuple[str, ...]] = ("{base}USD",)
    notes: ClassVar[tuple[str, ...]] = (
        "A bar's second is the trade time T; some collectors use the event time E, up to a few ms later.",
    )
