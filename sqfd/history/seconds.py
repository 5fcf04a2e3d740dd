"""Trades of one market → 1-second bars, a block at a time. Pure. The same rules as `bars.builder`, which is its twin in tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqfd.history.formats import Trades
from sqfd.model import BAR, Bars

Floats = NDArray[np.float64]


def notional(trades: Trades, contract_size: float, inverse: bool) -> Floats:
    """Quote notional of each row: contracts of an inverse market are worth `contract_size` quote units each."""
    worth: Floats = trades["size"] * contract_size
    return worth if inverse else worth * trades["price"]


def bars_of(trades: Trades, worth: Floats) -> Bars:
    """Bars by second, `market` 0: open and close by (time, place in the file). `worth`: quote notional of each row."""
    order = np.argsort(trades["ts_ms"], kind="stable")
    trades, worth = trades[order], worth[order]
    seconds = np.unique(trades["ts_ms"] // 1000)
    bars = np.zeros(len(seconds), BAR)
    bars["second"] = seconds
    for name in ("open", "high", "low", "close"):
        bars[name] = np.nan
    _forced(bars, trades[trades["forced"]], worth[trades["forced"]])
    _traded(bars, trades[~trades["forced"]], worth[~trades["forced"]])
    return bars


def _traded(bars: Bars, trades: Trades, worth: Floats) -> None:
    if not len(trades):
        return
    second = trades["ts_ms"] // 1000
    starts = np.flatnonzero(np.diff(second, prepend=second[0] - 1))
    ends = np.append(starts[1:], len(trades)) - 1
    rows = np.searchsorted(bars["second"], second[starts])
    bars["open"][rows], bars["close"][rows] = trades["price"][starts], trades["price"][ends]
    bars["high"][rows] = np.maximum.reduceat(trades["price"], starts)
    bars["low"][rows] = np.minimum.reduceat(trades["price"], starts)
    for side, chosen in (("buy", trades["buy"]), ("sell", ~trades["buy"])):
        bars[f"v{side}"][rows] = np.add.reduceat(np.where(chosen, worth, 0.0), starts)
        bars[f"c{side}"][rows] = np.add.reduceat(np.where(chosen, trades["count"], 0), starts)


def _forced(bars: Bars, trades: Trades, worth: Floats) -> None:
    rows = np.searchsorted(bars["second"], trades["ts_ms"] // 1000)
    np.add.at(bars["lbuy"], rows[trades["buy"]], worth[trades["buy"]])
    np.add.at(bars["lsell"], rows[~trades["buy"]], worth[~trades["buy"]])
