"""The index price of each symbol: the mean of its markets' last prices, weighted by their trailing hour. Pure.

A market that was silent for `SILENT_S` leaves the mean; without any market the last price stays. Bars that come late or are
recovered revise the prices of their seconds and of those that still looked back at them; the weights stay as they were seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqfd.bars.recent import Recent
from sqfd.model import NO_PRICE, PRICE_SCALE, Bars

SILENT_S = 60
MINUTE_S = 60
PARTS = ("close", "high", "low")
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Prices(NamedTuple):
    """Log prices × 1e9, NO_PRICE before the first trade: per symbol, or per second of one symbol."""

    price: _Ints
    high: _Ints
    low: _Ints


class Index:
    """Last prices of all markets; prices of the past are made again from the bars of the last seconds."""

    def __init__(self, symbols: int, recent: Recent) -> None:
        """`recent`: the bars of closed seconds, kept up to date by its owner before `amend` and `again` are called."""
        self._symbols, self._recent = symbols, recent
        self._symbol: _Ints = np.zeros(0, np.int64)
        self._units: _Floats = np.zeros(0)
        self._last: _Floats = np.zeros(0)
        self._traded: _Ints = np.zeros(0, np.int64)
        self._weights: _Floats = np.zeros((recent.revisable_s // MINUTE_S + 2, 0))
        self.price: _Ints = np.full(symbols, NO_PRICE, np.int64)
        """Newest price of each symbol."""

    def add_markets(self, symbol: _Ints, units: _Floats) -> None:
        """`symbol`: the symbol's index of each market, -1: none. `units`: coins in what the market's price is for."""
        count = len(symbol)
        self._symbol, self._units = np.append(self._symbol, symbol), np.append(self._units, units)
        self._last = np.append(self._last, np.zeros(count))
        self._traded = np.append(self._traded, np.full(count, -(1 << 40), np.int64))
        self._weights = np.concatenate([self._weights, np.zeros((len(self._weights), count))], axis=1)

    def recall(self, bars: Bars) -> None:
        """Bars of an earlier run, by second: the last prices of their markets."""
        bars = bars[~np.isnan(bars["close"])]
        self._last[bars["market"]] = bars["close"] / self._units[bars["market"]]  # of several, the last stays
        self._traded[bars["market"]] = bars["second"]

    def carry(self, seconds: _Ints, weights: _Floats) -> None:
        """Seconds in which nothing was heard."""
        self._weights[seconds // MINUTE_S % len(self._weights)] = weights

    def close(self, second: int, bars: Bars, weights: _Floats) -> Prices:
        """Prices of every symbol in `second`, which has these bars; `weights` per market."""
        self._weights[second // MINUTE_S % len(self._weights)] = weights
        high, low = self._last, self._last
        if len(bars := bars[~np.isnan(bars["close"])]):
            market = bars["market"]
            units = self._units[market]
            self._last[market], self._traded[market] = bars["close"] / units, second
            high, low = self._last.copy(), self._last.copy()
            high[market], low[market] = bars["high"] / units, bars["low"] / units
        alive = ((self._symbol >= 0) & (self._traded > second - SILENT_S)).nonzero()[0]
        symbol = self._symbol[alive]
        shares = share(weights[alive], symbol, self._symbols)
        means = np.array([np.bincount(symbol, shares * one[alive], self._symbols) for one in (self._last, high, low)])
        found = Prices(*_logs(means, means[0] > 0.0, self.price))
        self.price = found.price.copy()
        return found

    def amend(self, bars: Bars) -> None:
        """These bars of one closed second are others now."""
        second, market = int(bars["second"][0]), bars["market"]
        newer = (self._traded[market] <= second) & ~np.isnan(bars["close"])
        market = market[newer]
        self._last[market], self._traded[market] = bars["close"][newer] / self._units[market], second

    def again(self, symbol: int, seconds: _Ints, before: int) -> Prices:
        """Prices of consecutive closed seconds of one symbol, made again. `before`: the price before the first of them.

        What happened `SILENT_S` before the first must be remembered.
        """
        chosen = np.flatnonzero(self._symbol == symbol)
        back = np.arange(seconds[0] - SILENT_S + 1, seconds[-1] + 1)
        recent = self._prices(int(back[0]), len(back), chosen)
        at = np.arange(len(back))[:, None]
        newest = np.maximum.accumulate(np.where(np.isnan(recent[:, :, 0]), -1, at), axis=0)
        alive = (newest >= 0) & (at - newest < SILENT_S)
        last = np.take_along_axis(recent[:, :, 0], np.maximum(newest, 0), axis=0)
        shares = shares_of(self._weights[back // MINUTE_S % len(self._weights)][:, chosen], alive)
        traded = newest == at
        parts = [np.where(alive, np.where(traded, recent[:, :, n], last), 0.0) for n in range(len(PARTS))]
        first = SILENT_S - 1
        means = [mean_of(shares[first:], part[first:]) for part in parts]
        priced = means[0] > 0.0
        known = np.maximum.accumulate(np.where(priced, np.arange(len(seconds)), -1))
        price = _logs(means[0], priced, np.zeros(len(seconds), np.int64))
        carried = np.where(known >= 0, price[np.maximum(known, 0)], before)
        return Prices(carried, _logs(means[1], priced, carried), _logs(means[2], priced, carried))

    def _prices(self, first: int, seconds: int, markets: _Ints) -> _Floats:
        """Seconds × markets × PARTS, NaN where nothing traded."""
        place = np.full(len(self._symbol), -1, np.int64)
        place[markets] = np.arange(len(markets))
        bars = self._recent.between(first, first + seconds - 1)
        bars = bars[(place[bars["market"]] >= 0) & ~np.isnan(bars["close"])]
        found = np.full((seconds, len(markets), len(PARTS)), np.nan)
        values = np.stack([bars[name] / self._units[bars["market"]] for name in PARTS], axis=1)
        found[bars["second"] - first, place[bars["market"]]] = values
        return found


def share(weights: _Floats, symbol: _Ints, symbols: int) -> _Floats:
    """Each market's share of its symbol; equal shares until an hour's notional is known."""
    total = np.bincount(symbol, weights, symbols)
    weights = np.where(total[symbol] > 0.0, weights, 1.0)
    shares: _Floats = weights / np.bincount(symbol, weights, symbols)[symbol]
    return shares


def shares_of(weights: _Floats, chosen: NDArray[np.bool_]) -> _Floats:
    """Each chosen market's share, seconds × markets; equal shares where no notional is known."""
    weighted = np.where(chosen, weights, 0.0)
    total = _sum(weighted)
    weighted = np.where((total > 0.0)[:, None], weighted, chosen.astype(np.float64))
    total = _sum(weighted)
    shares: _Floats = np.divide(weighted, total[:, None], out=np.zeros_like(weighted), where=(total > 0.0)[:, None])
    return shares


def mean_of(shares: _Floats, values: _Floats | NDArray[np.bool_]) -> _Floats:
    """Weighted mean over markets, per second."""
    return _sum(shares * values)


def _sum(values: _Floats) -> _Floats:
    """Over markets, one after the other as `bincount` does: numpy's own sum adds in pairs, and would differ in the last bit."""
    total = np.zeros(len(values))
    for market in range(values.shape[1]):
        total += values[:, market]
    return total


def _logs(mean: NDArray[Any], priced: NDArray[np.bool_], otherwise: _Ints) -> _Ints:
    logs = np.log(mean, where=priced, out=np.zeros(mean.shape))
    return np.where(priced, np.round(logs * PRICE_SCALE).astype(np.int64), otherwise)
