"""Trades of many markets → 1-second bars, by the exchanges' own trade time.

A second is *open* until `close` is called for it; trades of a closed second *revise* it while it is remembered
(`revisable_s`), and the revised bar appears with the next closed second. Whatever the order, delay or duplication of
trades (duplicates are stopped before), the newest bar of a second is the bar of all its trades:
`tests/bars/test_builder.py` holds it against a slow, obvious twin.
"""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sqfd.model import BAR, ClosedSecond

if TYPE_CHECKING:
    from exchanges.api import Liquidation, Trade

_CLOSED = np.dtype(
    [
        *((name, np.float64) for name in ("open", "high", "low", "close", "vbuy", "vsell")),
        *((name, np.int64) for name in ("cbuy", "csell")),
        *((name, np.float64) for name in ("lbuy", "lsell")),
        ("first_ms", np.int64),
        ("last_ms", np.int64),
    ]
)
"""A bar as it is remembered after its second closed: with what a late trade needs to find its place."""

_NEVER = 1 << 62


class Bar:
    """One market's second while trades arrive. Open and close are decided by (trade time, arrival)."""

    __slots__ = (
        "cbuy",
        "close",
        "csell",
        "first_ms",
        "high",
        "last_ms",
        "lbuy",
        "low",
        "lsell",
        "open",
        "vbuy",
        "vsell",
    )

    def __init__(self) -> None:
        self.open = self.close = float("nan")
        self.high = float("-inf")
        self.low = float("inf")
        self.vbuy = self.vsell = self.lbuy = self.lsell = 0.0
        self.cbuy = self.csell = 0
        self.first_ms = _NEVER
        self.last_ms = -1

    def remembered(self) -> tuple[float | int, ...]:
        """The values of `_CLOSED`. A second with liquidations only has no prices."""
        traded = self.last_ms >= 0
        high, low = (self.high, self.low) if traded else (self.open, self.open)
        volumes = (self.vbuy, self.vsell, self.cbuy, self.csell, self.lbuy, self.lsell)
        return (self.open, high, low, self.close, *volumes, self.first_ms, self.last_ms)


_FIELDS = ("open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell", "first_ms", "last_ms")


def _recall(row: np.void) -> Bar:
    bar = Bar()
    for name, value in zip(_FIELDS, row.tolist(), strict=True):
        setattr(bar, name, value)
    if bar.last_ms < 0:
        bar.high, bar.low = float("-inf"), float("inf")
    return bar


class _Newest:
    """The bar that a market's last trade went to: nearly always the bar of the next one as well."""

    __slots__ = ("bar", "second")

    def __init__(self) -> None:
        self.second = -1
        self.bar = Bar()


class Builder:
    """Collects the trades of all markets; `close` ends one second for all of them."""

    def __init__(self, revisable_s: int = 1800, ahead_s: int = 60) -> None:
        """`revisable_s`: how long a closed second can still be revised. `ahead_s`: trades further in the future than
        this (a wrong clock at the exchange) are dropped rather than kept until their second comes."""
        self.revisable_s = revisable_s
        self.ahead_s = ahead_s
        self.next_second: int | None = None
        """The oldest second that is still open; None before the first trade."""
        self.dropped: Counter[str] = Counter()
        """Trades that were refused, by reason: `late` or `ahead`."""
        self.late = 0
        """Trades that revised a closed second."""
        self._floor = 0
        self._newest: list[_Newest] = []
        self._open: dict[int, dict[int, Bar]] = {}
        self._revised: dict[tuple[int, int], Bar] = {}
        self._closed = np.zeros((revisable_s, 0), _CLOSED)
        self._closed_second = np.full((revisable_s, 0), -1, np.int64)

    def add_markets(self, count: int) -> range:
        """Make room for `count` more markets and return their indices."""
        first = len(self._newest)
        self._newest += [_Newest() for _ in range(count)]
        shape = (self.revisable_s, count)
        self._closed = np.concatenate([self._closed, np.zeros(shape, _CLOSED)], axis=1)
        self._closed_second = np.concatenate([self._closed_second, np.full(shape, -1, np.int64)], axis=1)
        return range(first, first + count)

    def start(self, second: int) -> None:
        """Let `second` be the oldest open one. Earlier trades revise nothing: they are late."""
        self.next_second = second

    def resume(self, second: int) -> None:
        """Seconds before `second` belong to an earlier run, whose bars are not known here: nothing revises them."""
        self._floor = second

    def trade(self, market: int, trade: Trade, recv_ms: float) -> bool:
        """Add a trade to its bar; False when it is too late (or too far ahead) to count, which is counted here."""
        ts_ms = trade.ts_ms
        newest = self._newest[market]
        if ts_ms // 1000 == newest.second:
            bar = newest.bar
        else:
            found = self._bar(market, ts_ms // 1000)
            if found is None:
                return False
            bar = found
        price = trade.price
        notional = price * trade.size
        if trade.buy:
            bar.vbuy += notional
            bar.cbuy += trade.count
        else:
            bar.vsell += notional
            bar.csell += trade.count
        if price > bar.high:
            bar.high = price
        if price < bar.low:
            bar.low = price
        if ts_ms >= bar.last_ms:
            bar.last_ms = ts_ms
            bar.close = price
        if ts_ms < bar.first_ms:
            bar.first_ms = ts_ms
            bar.open = price
        if trade.forced is not None:
            _add_forced(bar, notional, trade.forced)
        return True

    def recovered(self, market: int, trade: Trade, first: bool) -> bool:
        """Add a trade that was missing; False when it is too late to count, which is counted here.

        Open and close are decided as if it had come in time: within its millisecond it comes after what is known, or with
        `first` before it.
        """
        bar = self._bar(market, trade.ts_ms // 1000)
        if bar is None:
            return False
        price, ts_ms = trade.price, trade.ts_ms
        notional = price * trade.size
        if trade.buy:
            bar.vbuy += notional
            bar.cbuy += trade.count
        else:
            bar.vsell += notional
            bar.csell += trade.count
        bar.high, bar.low = max(bar.high, price), min(bar.low, price)
        if ts_ms > bar.last_ms or (ts_ms == bar.last_ms and not first):
            bar.last_ms, bar.close = ts_ms, price
        if ts_ms < bar.first_ms or (ts_ms == bar.first_ms and first):
            bar.first_ms, bar.open = ts_ms, price
        if trade.forced is not None:
            _add_forced(bar, notional, trade.forced)
        return True

    @property
    def oldest_ms(self) -> int:
        """Trades before this are too late to count."""
        return 0 if self.next_second is None else max(self._floor, self.next_second - self.revisable_s) * 1000

    def liquidation(self, market: int, liquidation: Liquidation, recv_ms: float) -> bool:
        """Add a forced order to its second (not to volume); False when it is too late to count."""
        bar = self._bar(market, liquidation.ts_ms // 1000)
        if bar is None:
            return False
        _add_forced(bar, liquidation.price * liquidation.size, liquidation.buy)
        return True

    def _bar(self, market: int, second: int) -> Bar | None:
        if self.next_second is None:
            self.next_second = max(second, self._floor)
        if second < self.next_second:
            return self._revise(market, second)
        if second > self.next_second + self.ahead_s:
            self.dropped["ahead"] += 1
            return None
        bars = self._open.setdefault(second, {})
        bar = bars.get(market)
        if bar is None:
            bar = bars[market] = Bar()
        newest = self._newest[market]
        if second > newest.second:
            newest.second, newest.bar = second, bar
        return bar

    def _revise(self, market: int, second: int) -> Bar | None:
        assert self.next_second is not None
        if second < max(self._floor, self.next_second - self.revisable_s):
            self.dropped["late"] += 1
            return None
        self.late += 1
        bar = self._revised.get((second, market))
        if bar is None:
            slot = second % self.revisable_s
            known = self._closed_second[slot, market] == second
            bar = self._revised[second, market] = _recall(self._closed[slot, market]) if known else Bar()
        return bar

    @property
    def unclosed(self) -> bool:
        """Whether any trade waits in an open second, or a revision for the next closing."""
        return bool(self._open or self._revised)

    def close(self, whole: NDArray[np.bool_]) -> ClosedSecond:
        """Close the oldest open second. `whole`: per market, whether its feed missed nothing in it."""
        assert self.next_second is not None, "nothing to close before the first trade or start()"
        second = self.next_second
        self.next_second = second + 1
        bars = {(second, market): bar for market, bar in self._open.pop(second, {}).items()}
        for _, market in bars:
            if self._newest[market].second == second:
                self._newest[market].second = -1
        revised, self._revised = self._revised, {}
        rows = []
        for (row_second, market), bar in (revised | bars).items():
            values = bar.remembered()
            slot = row_second % self.revisable_s
            self._closed[slot, market] = values
            self._closed_second[slot, market] = row_second
            rows.append((market, row_second, *values[:10]))
        rows.sort(key=itemgetter(1, 0))
        return ClosedSecond(second + 1, np.array(rows, BAR), whole)


def _add_forced(bar: Bar, notional: float, buy: bool) -> None:
    if buy:
        bar.lbuy += notional
    else:
        bar.lsell += notional
