"""The flow of one symbol from stored bars, a stretch at a time. Pure.

`bars.flow.FlowBuilder` is fed second by second, because that is how bars come; imported days would take it half a minute each.
This does the same sums in the same order over columns, for bars that all came in time, and gives equal rows bit for bit:
`tests/bars/test_blocks.py` holds them against each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.bars.flow import CENTS, WEIGHT_MINUTES
from sqfd.bars.index import SILENT_S, mean_of, shares_of
from sqfd.model import FLOW, NO_PRICE, PPM, PRICE_SCALE, USD_LIKE, Bars, Flow, Market

MINUTE_S = 60
_NEVER = -(1 << 40)
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Bools = NDArray[np.bool_]


class FlowBlocks:
    """Keeps what index prices need from one stretch to the next."""

    def __init__(self, markets: Sequence[Market], price: int = NO_PRICE) -> None:
        """`markets`: those of the symbol; others than in dollars have no part in flow. `price`: of the second before."""
        self._part = np.array([market.quote in USD_LIKE for market in markets], np.bool_)
        chosen = [market for market in markets if market.quote in USD_LIKE]
        self._place = np.cumsum(self._part) - 1
        self._spot = np.array([market.kind == "spot" for market in chosen], np.bool_)
        self._units = np.array([market.multiplier for market in chosen], np.float64)
        self._last = np.zeros(len(chosen))
        self._traded = np.full(len(chosen), _NEVER, np.int64)
        self._minutes = np.zeros((WEIGHT_MINUTES, len(chosen)))
        self._price = price

    def close(self, first_s: int, bars: Bars, whole: _Bools) -> Flow:
        """Rows for whole minutes from second `first_s` on, `symbol` 0. Call with one stretch after the other.

        `bars`: ordered by second, `market` an index into the markets. `whole`: markets × seconds; its width is how many
        seconds are closed.
        """
        seconds = whole.shape[1]
        assert first_s % MINUTE_S == 0, "flow is closed by whole minutes"
        assert seconds % MINUTE_S == 0, "flow is closed by whole minutes"
        bars = bars[self._part[bars["market"]]]
        at = (bars["second"] - first_s, self._place[bars["market"]])
        amounts = np.zeros((seconds, len(self._units), 4), np.int64)
        for index, name in enumerate(("vbuy", "vsell", "lbuy", "lsell")):
            amounts[(*at, index)] = np.round(bars[name] * CENTS).astype(np.int64)
        weights = np.repeat(self._turn_minutes(first_s, amounts), MINUTE_S, axis=0)
        rows = np.zeros(seconds, FLOW)
        rows["second"] = np.arange(first_s, first_s + seconds)
        self._prices(rows, bars, at, weights)
        self._amounts(rows, amounts)
        covered = mean_of(shares_of(weights, np.ones(weights.shape, np.bool_)), whole[self._part].T)
        rows["coverage_ppm"] = np.round(covered * PPM)
        return rows

    def _turn_minutes(self, first_s: int, amounts: _Ints) -> _Floats:
        """Trailing notional that each minute weighs markets by: what the hour before it traded."""
        traded = ((amounts[:, :, 0] + amounts[:, :, 1]) / CENTS).reshape(
            len(amounts) // MINUTE_S, MINUTE_S, len(self._units)
        )
        weights = np.zeros((len(traded), len(self._units)))
        for minute, seconds in enumerate(traded):
            weights[minute] = self._minutes.sum(axis=0)
            self._minutes[(first_s // MINUTE_S + minute) % WEIGHT_MINUTES] = np.cumsum(seconds, axis=0)[-1]
        return weights

    def _prices(self, rows: Flow, bars: Bars, at: tuple[_Ints, _Ints], weights: _Floats) -> None:
        seconds = np.arange(len(rows))
        prices = {name: np.full(weights.shape, np.nan) for name in ("close", "high", "low")}
        for name, values in prices.items():
            values[at] = bars[name] / self._units[at[1]]
        valid = ~np.isnan(prices["close"])
        newest = np.maximum.accumulate(np.where(valid, seconds[:, None], -1), axis=0)
        there = newest >= 0
        last = np.where(there, np.take_along_axis(prices["close"], np.maximum(newest, 0), axis=0), self._last)
        traded = np.where(there, rows["second"][0] + newest, self._traded)
        self._last, self._traded = last[-1], traded[-1]
        shares = shares_of(weights, traded > rows["second"][:, None] - SILENT_S)
        mean = mean_of(shares, last)
        priced = mean > 0.0
        known = np.maximum.accumulate(np.where(priced, seconds, -1))
        logs = _logs(mean, priced)
        carried = np.where(known >= 0, logs[np.maximum(known, 0)], self._price)
        rows["price"] = carried
        for name in ("high", "low"):
            values = _logs(mean_of(shares, np.where(valid, prices[name], last)), priced)
            rows[name] = np.where(priced, values, carried)
        self._price = int(carried[-1])

    def _amounts(self, rows: Flow, amounts: _Ints) -> None:
        buy, sell = amounts[:, :, 0], amounts[:, :, 1]
        for part, chosen in (("spot", self._spot), ("perp", ~self._spot)):
            rows[f"{part}_delta"] = (buy - sell)[:, chosen].sum(axis=1)
            rows[f"{part}_volume"] = (buy + sell)[:, chosen].sum(axis=1)
        rows["liq_buy"], rows["liq_sell"] = amounts[:, :, 2].sum(axis=1), amounts[:, :, 3].sum(axis=1)


def _logs(mean: _Floats, priced: _Bools) -> _Ints:
    logs = np.log(mean, where=priced, out=np.zeros(len(mean)))
    return np.round(logs * PRICE_SCALE).astype(np.int64)
