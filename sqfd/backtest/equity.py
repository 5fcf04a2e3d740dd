"""The equity curve in constant memory: exact per-second extremes as they pass, a sample a minute for statistics and charts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sqfd.backtest.portfolio import Account
from sqfd.backtest.prices import Floats, Ints, Prices

SAMPLE_S = 60


class Samples(NamedTuple):
    """One row a minute, and the very last tick, however ticks were blocked."""

    tick: Ints
    cash: Floats
    equity: Floats
    notional: Floats
    hold: Floats
    """Buy-and-hold: the mean of the symbols' prices, each relative to its first; 1 at the start."""

    def taken(self, some: slice) -> Samples:
        """Copies of some rows."""
        return Samples._make(column[some].copy() for column in self)


class Drawdown:
    """Largest fall from a peak, and the longest time under one, over all values so far."""

    def __init__(self, start: float) -> None:
        self.peak, self.peak_tick = start, 0
        self.depth = 0.0
        """Share of the peak, ≥ 0."""
        self.longest_s = 0

    def add(self, first: int, values: Floats) -> None:
        """Take the values of the ticks from `first` on."""
        if not self.peak_tick:
            self.peak_tick = first - 1
        if values.max() < self.peak:  # then all lie under it, and nothing is to be accumulated
            self.depth = max(self.depth, 1.0 - float(values.min()) / self.peak)
            self.longest_s = max(self.longest_s, first + len(values) - self.peak_tick - 1)
            return
        peaks = np.maximum(np.maximum.accumulate(values), self.peak)
        self.depth = max(self.depth, 1.0 - float((values / peaks).min()))
        at_peak = first + np.flatnonzero(values >= peaks)
        edges = np.concatenate([[self.peak_tick], at_peak, [first + len(values)]])
        self.longest_s = max(self.longest_s, int(np.diff(edges).max()) - 1)
        self.peak = float(peaks[-1])
        if len(at_peak):
            self.peak_tick = int(at_peak[-1])


class EquityCurve:
    """Takes one block's account after the other."""

    def __init__(self, capital: float, symbols: int) -> None:
        self.capital = capital
        self.drawdown, self.hold_drawdown = Drawdown(capital), Drawdown(1.0)
        self.ticks = self.exposed = 0
        """Ticks in all, and those with a position open."""
        self.turnover_s = 0.0
        """Sum over ticks of notional / equity: average gross leverage × ticks."""
        self._first = np.full(symbols, np.nan)
        self._parts: list[Samples] = []
        self._last: Samples | None = None

    def add(self, account: Account, prices: Prices) -> None:
        """The account and prices of one block's ticks."""
        hold = self._hold(prices)
        ticks = np.arange(account.first, account.first + len(account.cash))
        self.drawdown.add(account.first, account.equity)
        self.hold_drawdown.add(account.first, hold)
        self.ticks += len(ticks)
        held = account.notional > 0
        self.exposed += int(np.count_nonzero(held))
        self.turnover_s += float((account.notional[held] / account.equity[held]).sum())
        every = Samples(ticks, account.cash, account.equity, account.notional, hold)
        self._parts.append(every.taken(slice(-account.first % SAMPLE_S, None, SAMPLE_S)))
        self._last = every.taken(slice(-1, None)) if ticks[-1] % SAMPLE_S else None

    def _hold(self, prices: Prices) -> Floats:
        for symbol, column in enumerate(prices.price):
            if np.isnan(self._first[symbol]) and not np.isnan(column[-1]):
                self._first[symbol] = column[np.flatnonzero(~np.isnan(column))[0]]
        relative = prices.price / self._first[:, None]
        if np.isnan(prices.price[:, 0]).any():  # later ones are carried forward
            np.copyto(relative, 1.0, where=np.isnan(relative))
        return relative[0] if len(relative) == 1 else np.asarray(relative.mean(axis=0))

    def samples(self) -> Samples:
        """All samples so far."""
        if not self._parts:
            return Samples(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(4)))
        parts = self._parts if self._last is None else [*self._parts, self._last]
        return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
