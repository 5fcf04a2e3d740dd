"""Bars of all markets → one exact row of flow per symbol and second.

Volumes are rounded to quote cents per market and second and added as integers, so that a revision can be applied to sums
exactly. The index price (`bars.index`) weighs markets by their trailing 1-hour notional, refreshed at each epoch minute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.bars.index import SILENT_S, Index, share
from sqfd.bars.recent import Recent, by_second, joined, places
from sqfd.model import FLOW, PPB, PPM, USD_LIKE, Bars, ClosedSecond, Flow, Market

WEIGHT_MINUTES = 60
CENTS = 100.0
_AMOUNTS = ("vbuy", "vsell", "lbuy", "lsell")
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class FlowBuilder:
    """Keeps what index prices and revisions need: last prices, trailing notional, recent amounts in cents."""

    def __init__(self, symbols: Sequence[str], revisable_s: int = 1800) -> None:
        """`symbols`: base assets; their order is the `symbol` index of the rows."""
        self.symbols = tuple(symbols)
        self.revisable_s = revisable_s
        self._symbol: NDArray[np.int64] = np.zeros(0, np.int64)
        self._spot: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.recent = Recent(revisable_s)
        """The bars that the rows of the last seconds were made from."""
        self._index = Index(len(self.symbols), self.recent)
        self._minutes: _Floats = np.zeros((WEIGHT_MINUTES, 0))
        self._weights: _Floats = np.zeros(0)
        self._minute = -1
        self._whole: NDArray[np.bool_] = np.zeros((revisable_s, 0), np.bool_)
        self._shares: _Floats = np.zeros((revisable_s // 60 + 2, 0))
        """Each market's share of its symbol's expected volume, by minute."""
        self._known_shares = np.zeros(0)
        """Each market's share of what is expected of its symbol, by the weights of now."""
        self._recovered: set[tuple[int, int]] = set()
        """(second, symbol) whose coverage changed since the last close."""
        self._rows = np.zeros((revisable_s, len(self.symbols)), FLOW)
        self._open_interest: _Ints = np.zeros(len(self.symbols), np.int64)
        self._funding: _Ints = np.zeros(len(self.symbols), np.int64)
        self._resumed: _Ints = self._index.price.copy()
        """Prices before the first second."""
        self._next_second: int | None = None
        """Where an earlier run left off, until the first second is closed."""

    def add_markets(self, markets: Sequence[Market]) -> None:
        """Append markets, in the order of their indices. Those in other quotes than dollars have no part in flow."""
        place = {symbol: index for index, symbol in enumerate(self.symbols)}
        symbol = [place.get(m.base, -1) if m.quote in USD_LIKE else -1 for m in markets]
        count = len(markets)
        self._symbol = np.append(self._symbol, np.array(symbol, np.int64))
        self._index.add_markets(np.array(symbol, np.int64), np.array([m.multiplier for m in markets], np.float64))
        self._spot = np.append(self._spot, np.array([m.kind == "spot" for m in markets], np.bool_))
        self._weights = np.append(self._weights, np.zeros(count))
        self._minutes = np.concatenate([self._minutes, np.zeros((WEIGHT_MINUTES, count))], axis=1)
        self._whole = np.concatenate([self._whole, np.zeros((self.revisable_s, count), np.bool_)], axis=1)
        self._shares = np.concatenate([self._shares, np.zeros((len(self._shares), count))], axis=1)
        self._weigh(self._weights)

    def set_open_interest(self, symbol: str, usd: float) -> None:
        """Open interest of a symbol over its markets, in dollars, valid from the next second on."""
        self._open_interest[self.symbols.index(symbol)] = round(usd * CENTS)

    def set_funding(self, symbol: str, rate_8h: float | None) -> None:
        """What longs of a symbol pay in 8 hours as a fraction, valid from the next second on; None: not known any more."""
        ppb = 0 if rate_8h is None else round(rate_8h * PPB) or 1
        self._funding[self.symbols.index(symbol)] = ppb

    def cover(self, market: int, seconds: _Ints, whole: NDArray[np.bool_]) -> None:
        """What is known of a market's feed in closed seconds changed: rows of the next `close` say so.

        Seconds that are not remembered any more (or are not closed yet) are left as they are.
        """
        symbol = int(self._symbol[market])
        if symbol < 0:
            return
        slot = seconds % self.revisable_s
        changed = (self._rows["second"][slot, symbol] == seconds) & (self._whole[slot, market] != whole)
        self._whole[slot[changed], market] = whole[changed]
        self._recovered.update((second, symbol) for second in seconds[changed].tolist())

    def resume(self, flow: Flow, second: int | None = None) -> None:
        """Go on where an earlier run ended: newest prices, open interest and funding of symbols.

        `second`: the first that it did not close. What lies between it and the first close can be recovered.
        """
        self._next_second = second
        for row in flow[np.argsort(flow["second"], kind="stable")]:
            self._index.price[row["symbol"]] = self._resumed[row["symbol"]] = row["price"]
            self._open_interest[row["symbol"]] = row["open_interest"]
            self._funding[row["symbol"]] = row["funding_ppb"]

    def recall(self, bars: Bars) -> None:
        """Bars of the earlier run's last hour, by second, a stretch at a time: what markets are weighed by, and their last prices."""
        if not len(bars):
            return
        cents, market = _cents(bars), bars["market"]
        np.add.at(self._minutes, (bars["second"] // 60 % WEIGHT_MINUTES, market), (cents[:, 0] + cents[:, 1]) / CENTS)
        self._index.recall(bars)
        self._minute = int(bars["second"].max()) // 60
        self._weigh(self._minutes.sum(axis=0))

    def close(self, closed: ClosedSecond) -> Flow:
        """Rows of every symbol for `closed.second`, preceded by the rows of earlier seconds that it revises."""
        second = closed.second
        if self._next_second is not None:
            self._carry(max(self._next_second, second - self.revisable_s + 1), second)
        self._next_second = None
        self._turn_minute(second)
        late = int(np.count_nonzero(closed.bars["second"] < second))  # they stand first
        revised = self._revise(closed.bars[:late], second)
        rows = self._row(second, closed.bars[late:] if late else closed.bars, closed.whole)
        self._rows[second % self.revisable_s] = rows
        return joined((revised, rows)) if len(revised) else rows

    def _carry(self, first: int, end: int) -> None:
        """Rows of seconds in which sqfd was down, as rings carry them: the last price, no flow, no coverage."""
        seconds = np.arange(first, end, dtype=np.int64)
        if not len(seconds):
            return
        slots = seconds % self.revisable_s
        rows = np.zeros((len(seconds), len(self.symbols)), FLOW)
        rows["symbol"], rows["second"] = np.arange(len(self.symbols)), seconds[:, None]
        rows["price"] = rows["high"] = rows["low"] = self._index.price
        rows["open_interest"], rows["funding_ppb"] = self._open_interest, self._funding
        self._rows[slots] = rows
        self.recent.forget(seconds.tolist())
        self._whole[slots] = False
        self._shares[seconds // 60 % len(self._shares)] = self._known_shares
        self._index.carry(seconds, self._weights)

    def _weigh(self, weights: _Floats) -> None:
        """From now on markets weigh this much."""
        self._weights = weights
        known = self._symbol >= 0
        self._known_shares = np.zeros(len(known))
        self._known_shares[known] = share(weights[known], self._symbol[known], len(self.symbols))

    def _turn_minute(self, second: int) -> None:
        minute = second // 60
        if minute == self._minute:
            return
        passed = WEIGHT_MINUTES if self._minute < 0 else min(minute - self._minute, WEIGHT_MINUTES)
        self._minute = minute
        self._weigh(self._minutes.sum(axis=0))
        for step in range(passed):
            self._minutes[(minute - step) % WEIGHT_MINUTES] = 0.0

    def _row(self, second: int, bars: Bars, whole: NDArray[np.bool_]) -> Flow:
        self.recent.put(second, bars)
        rows = np.zeros(len(self.symbols), FLOW)
        rows["symbol"] = np.arange(len(self.symbols))
        rows["second"] = second
        rows["price"], rows["high"], rows["low"] = self._index.close(second, bars, self._weights)
        if len(bars):
            market, cents = bars["market"], _cents(bars)
            self._minutes[self._minute % WEIGHT_MINUTES, market] += (cents[:, 0] + cents[:, 1]) / CENTS
            self._fill_amounts(rows, market, cents)
        rows["open_interest"], rows["funding_ppb"] = self._open_interest, self._funding
        self._whole[second % self.revisable_s] = whole
        self._shares[self._minute % len(self._shares)] = self._known_shares
        rows["coverage_ppm"] = self._coverage(second)
        return rows

    def _fill_amounts(self, rows: Flow, market: NDArray[np.int32], cents: _Ints) -> None:
        """Add amounts (rows: vbuy, vsell, lbuy, lsell) of markets to the rows of their symbols."""
        symbol = self._symbol[market]
        flows = symbol >= 0
        symbol, cents, spot = symbol[flows], cents[flows], self._spot[market][flows]
        buy, sell = cents[:, 0], cents[:, 1]
        for part, chosen in (("spot", spot), ("perp", ~spot)):
            np.add.at(rows[f"{part}_delta"], symbol[chosen], (buy - sell)[chosen])
            np.add.at(rows[f"{part}_volume"], symbol[chosen], (buy + sell)[chosen])
        np.add.at(rows["liq_buy"], symbol, cents[:, 2])
        np.add.at(rows["liq_sell"], symbol, cents[:, 3])

    def _coverage(self, second: int) -> _Ints:
        """Per symbol, the share of the expected volume whose feeds were whole in that second."""
        known = self._symbol >= 0
        shares = self._shares[second // 60 % len(self._shares)]
        whole = self._whole[second % self.revisable_s]
        covered = np.bincount(self._symbol[known], (shares * whole)[known], len(self.symbols))
        return np.round(covered * PPM).astype(np.int64)

    def _revise(self, bars: Bars, second: int) -> Flow:
        """Apply the differences that revised bars make; one row per (second, symbol) touched."""
        if not len(bars) and not self._recovered:
            return np.zeros(0, FLOW)
        touched: set[tuple[int, int]] = set()
        for one in by_second(bars):
            touched |= self._revise_second(bars[one], second)
        touched |= self._price_again(touched, second)
        recovered: dict[int, list[int]] = {}
        for at, symbol in self._recovered:
            recovered.setdefault(at, []).append(symbol)
        for at, symbols in recovered.items():
            slot = at % self.revisable_s
            if second - at < self.revisable_s and self._rows[slot, 0]["second"] == at:
                self._rows["coverage_ppm"][slot, symbols] = self._coverage(at)[symbols]
                touched |= {(at, symbol) for symbol in symbols}
        self._recovered.clear()
        if not touched:
            return np.zeros(0, FLOW)
        changed = np.array(sorted(touched), np.int64)
        return self._rows[changed[:, 0] % self.revisable_s, changed[:, 1]]

    def _revise_second(self, bars: Bars, second: int) -> set[tuple[int, int]]:
        """The same for the bars of one second; (second, symbol) of the rows that changed."""
        at, symbol = int(bars["second"][0]), self._symbol[bars["market"]]
        slot = at % self.revisable_s
        bars, symbol = bars[symbol >= 0], symbol[symbol >= 0]
        if not len(bars) or second - at >= self.revisable_s or self._rows[slot, 0]["second"] != at:
            return set()
        market, known = bars["market"], self.recent.of(at)
        place, there = places(known, market)
        difference = _cents(bars)
        difference[there] -= _cents(known[place[there]])
        self.recent.amend(bars)
        self._minutes[at // 60 % WEIGHT_MINUTES, market] += (difference[:, 0] + difference[:, 1]) / CENTS
        self._fill_amounts(self._rows[slot], market, difference)
        self._index.amend(bars)
        return {(at, one) for one in symbol.tolist()}

    def _price_again(self, touched: set[tuple[int, int]], second: int) -> set[tuple[int, int]]:
        """Make index prices of revised seconds again, and of those that look back at them; gives which changed."""
        changed: set[tuple[int, int]] = set()
        for symbol in {symbol for _, symbol in touched}:
            revised = [at for at, of in touched if of == symbol]
            first = max(min(revised), second - self.revisable_s + SILENT_S)
            seconds = np.arange(first, min(max(revised) + SILENT_S, second), dtype=np.int64)
            if len(seconds):
                slots = seconds % self.revisable_s
                earlier = self._rows[(first - 1) % self.revisable_s, symbol]
                before = earlier["price"] if earlier["second"] == first - 1 else self._resumed[symbol]
                rows, found = self._rows[:, symbol], self._index.again(symbol, seconds, int(before))
                for name, values in zip(found._fields, found, strict=True):
                    changed |= {(at, symbol) for at in seconds[rows[name][slots] != values].tolist()}
                    rows[name][slots] = values
                if seconds[-1] == second - 1:
                    self._index.price[symbol] = found.price[-1]
        return changed


def _cents(bars: Bars) -> _Ints:
    """Amounts of bars in whole cents, shape (bars, 4)."""
    amounts = np.array([bars[name] for name in _AMOUNTS])
    return np.round(amounts * CENTS).astype(np.int64).T
