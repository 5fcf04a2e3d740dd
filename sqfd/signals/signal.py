"""The JSON of a signal: the contract with its consumers.

Its core is a pure function of the flow, the settings and the instance's name, so a live run, a replay and a backtest write the
same bytes. What only the publisher knows (`seq`, `published_at`, `latency_ms`) is added by it.
"""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

SCHEMA_VERSION = 2
"""1 is what the strategy runner wrote before sqfd."""
SERVICE = "sqfd"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "signals.sqfd")
QUOTE = "USDT"
"""Symbols are named as their most traded market: BTC is BTCUSDT."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, fields in the order in which they are written."""

    signal_id: str
    timestamp: str
    """When the second closed: ISO 8601, UTC with offset."""
    symbol: str
    base_symbol: str
    action: str
    """LONG | SHORT | CLOSE"""
    side: str
    """LONG | SHORT: of the position that is opened or closed."""
    score: float
    position_size_factor: float
    leverage: int
    entry_price: float
    """Index price at the entry, for a CLOSE too."""
    price: float
    """Index price now."""
    ttl: int
    confidence: float
    reasoning: str
    strategy: str
    service: str
    schema_version: int
    valid_until: str
    second: int
    """Epoch second whose close caused it."""
    quality: str
    score_breakdown: dict[str, float]
    phases: dict[str, Any]
    coverage: float
    position_id: str
    exit_reasons: tuple[str, ...]
    """All that held at a CLOSE; empty otherwise."""
    spot_cvd: float
    futures_cvd: float
    cvd_divergence: float
    markets: tuple[str, ...]
    instance: str


def signal_id(strategy: str, symbol: str, second: int, action: str) -> str:
    """UUIDv5 of what makes a signal unique, so that live, replay and retries agree."""
    return str(uuid.uuid5(NAMESPACE, f"{strategy}:{symbol}:{second}:{action}"))


def market_symbol(base: str) -> str:
    """`BTC` → `BTCUSDT`."""
    return base + QUOTE


def iso_time(second: int) -> str:
    """Epoch seconds as ISO 8601 with `+00:00`."""
    return datetime.fromtimestamp(second, UTC).isoformat()


def price_of(log_price: int) -> float:
    """Index price to the nine significant digits that a log × 1e9 holds."""
    return float(f"{math.exp(log_price / 1e9):.9g}")


def encode(signal: Signal) -> bytes:
    """One line of JSON without its line end; keys in the order of the struct."""
    return orjson.dumps(msgspec.structs.asdict(signal))


def published(core: bytes, seq: int, published_at: str, latency_ms: float) -> bytes:
    """The line as it leaves: the core of `encode` with what only the publisher knows at its end."""
    extra = orjson.dumps({"seq": seq, "published_at": published_at, "latency_ms": latency_ms})
    return core[:-1] + b"," + extra[1:]


def cvd_record(signal: Signal) -> bytes:
    """The value of the key `signal_cvd:{signal_id}`."""
    names = ("signal_id", "symbol", "side", "entry_price", "spot_cvd", "futures_cvd", "cvd_divergence", "timestamp")
    return orjson.dumps({name: getattr(signal, name) for name in names})
