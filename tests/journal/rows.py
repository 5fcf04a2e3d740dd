"""Rows for tests of storage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import numpy as np

from sqfd.journal import JournaledSignal
from sqfd.model import BAR, FLOW, FLOW_VALUES, Bars, Flow, Market

T0 = 1_723_075_200

MARKETS = tuple(
    Market(exchange, pair, kind, pair[:3].upper(), "USDT")
    for exchange, pair, kind in (
        ("BINANCE", "btcusdt", "spot"),
        ("BINANCE_FUTURES", "btcusdt", "perp"),
        ("OKEX", "ETH-USDT", "spot"),
    )
)
NAMES = tuple(market.name for market in MARKETS)
SYMBOLS = ("BTC", "ETH")


def bars(*keys: tuple[int, int], value: float = 1.0) -> Bars:
    """Bars of (market, second), told apart by `value`."""
    rows = np.zeros(len(keys), BAR)
    for index, (market, second) in enumerate(keys):
        rows[index] = (market, second, 100.0, 102.0 + value, 99.0, 101.0, value, 2.5, 3, 4, 0.0, 0.0)
    return rows


def flow(*keys: tuple[int, int], value: int = 1) -> Flow:
    """Flow of (symbol, second)."""
    rows = np.zeros(len(keys), FLOW)
    for index, (symbol, second) in enumerate(keys):
        rows[index] = (symbol, second, *(value * 1000 + number for number in range(len(FLOW_VALUES))))
    return rows


def signal(number: int, *, tick: int | None = None, valid_s: int = 600, symbol: str = "BTCUSDT") -> JournaledSignal:
    """Signal `number`."""
    tick = T0 + number if tick is None else tick
    line = b'{"signal_id":"id-%d","symbol":"%s","action":"LONG"}' % (number, symbol.encode())
    return JournaledSignal(f"id-{number}", tick, tick - 1, number, symbol, tick + valid_s, line, b'{"spot_cvd":1}')


def refused(_batches: object) -> None:
    """A `JournalStore.write_all` on a disk that is full."""
    raise sqlite3.OperationalError("full")


def as_tuples(rows: Iterable[np.void]) -> list[tuple[object, ...]]:
    """Rows as plain tuples, NaN replaced so that equal rows compare equal."""
    return [tuple("nan" if value != value else value for value in row.tolist()) for row in rows]
