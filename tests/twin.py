"""A slow, obvious twin of the whole path from captured Binance frames to bars, written without any of sqfd's code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COIN_M_USD = {"BTCUSD_PERP": 100.0, "ETHUSD_PERP": 10.0}
"""Contract sizes of the capture's COIN-M markets, from its README."""


def captured_trades(folder: Path) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """(recv_ms, market, Binance trade) of every frame that is a trade of the public book, file by file."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                entry = json.loads(line)
                data = json.loads(entry["frame"])["data"]
                if data["e"] == "trade" and data.get("X", "MARKET") in ("MARKET", "RPI"):
                    yield entry["recv_ms"], f"{entry['exchange']}:{data['s'].lower()}", data


def expected_bars(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """(market, second) → bar, from all trades of the capture sorted by (trade time, arrival)."""
    seconds: dict[tuple[str, int], list[tuple[int, int, dict[str, Any]]]] = {}
    for arrival, (_, market, data) in enumerate(captured_trades(folder)):
        seconds.setdefault((market, data["T"] // 1000), []).append((data["T"], arrival, data))
    return {key: _bar([data for _, _, data in sorted(rows, key=lambda row: row[:2])]) for key, rows in seconds.items()}


def _bar(trades: list[dict[str, Any]]) -> dict[str, float]:
    prices = [float(trade["p"]) for trade in trades]
    buys = [trade for trade in trades if not trade["m"]]
    sells = [trade for trade in trades if trade["m"]]
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "vbuy": sum(_notional(trade) for trade in buys),
        "vsell": sum(_notional(trade) for trade in sells),
        "cbuy": len(buys),
        "csell": len(sells),
        "lbuy": 0.0,
        "lsell": 0.0,
    }


def _notional(trade: dict[str, Any]) -> float:
    if trade["s"] in COIN_M_USD:
        return float(trade["q"]) * COIN_M_USD[trade["s"]]
    return float(trade["p"]) * float(trade["q"])
