"""Flow rows as dense columns of ticks, for the portfolio and charts: what a symbol's price and volume were at each tick."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqfd.backtest.source import Block
from sqfd.model import NO_PRICE, FlowTable

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Prices(NamedTuple):
    """[symbol, tick] of the ticks `[first, first + n)`; a tick's values are those of the second that it closed."""

    first: int
    price: Floats
    """Index price; the last one before where the second is missing, NaN before the first."""
    high: Ints
    low: Ints
    """Logarithms × 1e9, which are turned into prices where somebody asks."""
    volume: Floats
    """Spot and perp notional of the second, dollars; 0 where it is missing."""
    there: Bools
    """The second's own row was known at the tick and had a price."""
    funding_ppb: Ints
    """What longs pay in 8 hours, as it was known last; 0 where it was not collected."""

    @property
    def last(self) -> int:
        """One past the last tick."""
        return self.first + len(self.price[0])


class PriceTrack:
    """Makes `Prices` of one block after the other; remembers the last price of each symbol."""

    def __init__(self, symbols: int) -> None:
        self._last = np.full(symbols, NO_PRICE, np.int64)
        self._funding = np.zeros(symbols, np.int64)
        self._end = 0

    @property
    def began(self) -> bool:
        """There was a block with a row."""
        return self._end > 0

    def of(self, block: Block) -> Prices:
        """The block's columns, from its first row's tick or where the block before ended, to its end: holes are carried over, wherever
        blocks are cut. There must be a row, or a block before."""
        first, last = self._end or block.ticks[0], block.last
        self._end = last
        shape = (len(self._last), last - first)
        logs = np.empty((3, *shape), np.int64)
        volume, funding = np.zeros(shape), np.zeros(shape, np.int64)
        for symbol, rows in enumerate(map(current, block.tables)):
            at = rows["tick"] - first
            place = slice(at[0], at[-1] + 1) if len(at) and at[-1] - at[0] == len(at) - 1 else at
            if len(at) < shape[1]:
                logs[:, symbol] = NO_PRICE
            for table, name in zip(logs, ("price", "high", "low"), strict=True):
                table[symbol, place] = rows[name]
            volume[symbol, place] = (rows["spot_volume"] + rows["perp_volume"]) / 100.0
            funding[symbol] = self._last_funding(symbol, rows, last - first, place)
        there = logs[0] != NO_PRICE
        self._carry(logs, there)
        price = logs[0] / 1e9
        np.exp(price, out=price)
        if (logs[0, :, 0] == NO_PRICE).any():
            price[logs[0] == NO_PRICE] = np.nan
        return Prices(first, price, logs[1], logs[2], volume, there, funding)

    def _last_funding(self, symbol: int, rows: FlowTable, ticks: int, place: slice | Ints) -> Ints:
        """[tick]: the rate of each tick's row, of the one before it where there is none."""
        if not rows["funding_ppb"].any() and not self._funding[symbol]:
            return np.zeros(ticks, np.int64)
        column, known = np.full(ticks, self._funding[symbol]), np.full(ticks, -1)
        column[place], known[place] = rows["funding_ppb"], np.arange(ticks)[place]
        source = np.maximum.accumulate(known)
        column = np.where(source >= 0, column[np.maximum(source, 0)], self._funding[symbol])
        self._funding[symbol] = column[-1]
        return column

    def _carry(self, logs: Ints, there: Bools) -> None:
        """Fill each hole of the price with the price before it, and missing extremes with the price."""
        for symbol, (column, known) in enumerate(zip(logs[0], there, strict=True)):
            if not known.all():
                source = np.maximum.accumulate(np.where(known, np.arange(len(column)), -1))
                column[:] = np.where(source >= 0, column[source], self._last[symbol])
            self._last[symbol] = column[-1]
        for table in logs[1:]:
            np.copyto(table, logs[0], where=table == NO_PRICE)


def current(table: FlowTable) -> FlowTable:
    """Rows of the second that their tick closed; the others are revisions."""
    own = table["second"] == table["tick"] - 1
    return table if own.all() else table[own]
