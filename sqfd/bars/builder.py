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

from sqfd.bars.recent import Recent, Times, by_second
from sqfd.model import BAR, BAR_FIELDS, Bars, ClosedSecond

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exchanges.api import Liquidation, Trade

_NEVER = 1 << 62
SEAM_S = 3
"""The last seconds of an earlier run that are asked for again after a restart: what came late for them, nobody may have kept."""


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

    def put(self, trade: Trade, first: bool = False) -> None:
        """Add a trade. Within its millisecond it comes after what is known, or with `first` before it."""
        price, ts_ms = trade.price, trade.ts_ms
        notional = price * trade.size
        if trade.buy:
            self.vbuy += notional
            self.cbuy += trade.count
        else:
            self.vsell += notional
            self.csell += trade.count
        self.high, self.low = max(self.high, price), min(self.low, price)
        if ts_ms > self.last_ms or (ts_ms == self.last_ms and not first):
            self.last_ms, self.close = ts_ms, price
        if ts_ms < self.first_ms or (ts_ms == self.first_ms and first):
            self.first_ms, self.open = ts_ms, price
        if trade.forced is not None:
            self.force(notional, trade.forced)

    def force(self, notional: float, buy: bool) -> None:
        """Add a forced order, which is not volume."""
        if buy:
            self.lbuy += notional
        else:
            self.lsell += notional

    def remembered(self) -> tuple[float | int, ...]:
        """Its fields as in BAR, and the times of its first and last trade. A second with liquidations only has no prices."""
        traded = self.last_ms >= 0
        high, low = (self.high, self.low) if traded else (self.open, self.open)
        volumes = (self.vbuy, self.vsell, self.cbuy, self.csell, self.lbuy, self.lsell)
        return (self.open, high, low, self.close, *volumes, self.first_ms, self.last_ms)


def _recall(known: Bars, times: Times) -> Bar:
    """The bar as it was when its second closed; an empty one where there was none."""
    bar = Bar()
    for row, (first_ms, last_ms) in zip(known.tolist(), times.tolist(), strict=True):
        _, _, *values = row
        for name, value in zip(BAR_FIELDS, values, strict=True):
            setattr(bar, name, value)
        bar.first_ms, bar.last_ms = first_ms, last_ms
        if bar.last_ms < 0:
            bar.high, bar.low = float("-inf"), float("inf")
    return bar


class Newest:
    """A market's way into the bars, and the bar that its newest trade went to: nearly always the bar of the next one too."""

    __slots__ = ("_bar", "_builder", "_market", "_second", "newest")

    def __init__(self, builder: Builder, market: int) -> None:
        self._builder = builder
        self._market = market
        self._second = -1
        self._bar = Bar()
        """Of that second. It holds at least one trade while `_second` is not -1."""
        self.newest: Trade | None = None
        """The trade of the newest time, the last of them where several have it; None before the first."""

    def add(self, trades: Sequence[Trade]) -> Sequence[Trade]:
        """Add trades to their bars; gives back those that are too late (or too far ahead) to count, which the builder counts."""
        dropped: list[Trade] = []
        waiting = iter(trades)
        while (other := self._fill(waiting)) is not None:
            if not self._elsewhere(other):
                dropped.append(other)
        return dropped

    def _fill(self, trades: Iterator[Trade]) -> Trade | None:
        """Add trades to the newest bar until one is of another second, which is given back.

        Sums are kept in local names meanwhile: with 27 trades at once, each costs a quarter less.
        """
        second, bar, newest = self._second, self._bar, self.newest
        vbuy, vsell, cbuy, csell = bar.vbuy, bar.vsell, bar.cbuy, bar.csell
        high, low, close, last_ms = bar.high, bar.low, bar.close, bar.last_ms
        other = None
        for trade in trades:
            ts_ms = trade.ts_ms
            if ts_ms // 1000 != second:
                other = trade
                break
            price = trade.price
            if trade.buy:
                vbuy += price * trade.size
                cbuy += trade.count
            else:
                vsell += price * trade.size
                csell += trade.count
            if price > high:
                high = price
            elif price < low:
                low = price
            if ts_ms >= last_ms:
                last_ms, close, newest = ts_ms, price, trade
            elif ts_ms < bar.first_ms:
                bar.first_ms, bar.open = ts_ms, price
            if trade.forced is not None:
                bar.force(price * trade.size, trade.forced)
        bar.vbuy, bar.vsell, bar.cbuy, bar.csell = vbuy, vsell, cbuy, csell
        bar.high, bar.low, bar.close, bar.last_ms = high, low, close, last_ms
        self.newest = newest
        return other

    def _elsewhere(self, trade: Trade) -> bool:
        """Another second's: the next one's first trade, or an earlier one's."""
        second = trade.ts_ms // 1000
        if second < self._builder.floor:
            return self._builder.retold(self._market, trade, False)
        bar = self._builder.bar(self._market, second)
        if bar is None:
            return False
        bar.put(trade)
        self.notice(trade)
        if second > self._second and self._builder.is_open(second):
            self._second, self._bar = second, bar
        return True

    def notice(self, trade: Trade, recovered: bool = False) -> None:
        """It was added; it may be the newest. Among those of one time what came live is newer than what was recovered."""
        if self.newest is None or trade.ts_ms >= self.newest.ts_ms + recovered:
            self.newest = trade

    def closed(self, second: int) -> None:
        """From now on that second's trades are revisions."""
        if self._second == second:
            self._second = -1


class Builder:
    """Collects the trades of all markets; `close` ends one second for all of them."""

    def __init__(self, revisable_s: int = 1800, ahead_s: int = 600) -> None:
        """`revisable_s`: how long a closed second can still be revised. `ahead_s`: trades this far after the oldest open
        second (a wrong clock at the exchange) are dropped rather than kept until their second comes. It must exceed what an
        exchange can be behind by: closing waits for it, and when all that it owes comes at once, the newest is that far ahead."""
        self.revisable_s = revisable_s
        self.ahead_s = ahead_s
        self.next_second: int | None = None
        """The oldest second that is still open; None before the first trade."""
        self.dropped: Counter[str] = Counter()
        """Trades that were refused, by reason: `late` or `ahead`."""
        self.late = 0
        """Trades that revised a closed second."""
        self.floor = 0
        """Seconds before this one belong to an earlier run."""
        self._retold: dict[tuple[int, int], Bar] = {}
        """By (second, market): the trades that this run heard of the last seconds of the earlier one."""
        self._seam, self._resumed_markets = 0, 0
        self._newest: list[Newest] = []
        self._open: dict[int, dict[int, Bar]] = {}
        self._revised: dict[tuple[int, int], Bar] = {}
        self.closed = Recent(revisable_s)
        """The bars that can still be revised."""

    def add_markets(self, count: int) -> range:
        """Make room for `count` more markets and return their indices."""
        first = len(self._newest)
        self._newest += [Newest(self, first + number) for number in range(count)]
        return range(first, first + count)

    def start(self, second: int) -> None:
        """Let `second` be the oldest open one. Earlier trades revise nothing: they are late."""
        self.next_second = second

    def resume(self, second: int, known: Bars | None = None) -> None:
        """Seconds before `second` belong to an earlier run, whose trades are not known here: nothing is added to their bars.

        `known`: that run's bars of the last SEAM_S of them, of all markets that were added so far. Where more trades are told
        again of one of these seconds than its bar has, they are its bar. None: those seconds are left alone, too.
        """
        self.floor = self._seam = second
        if known is None:
            return
        self._seam = second - SEAM_S
        self._resumed_markets = len(self._newest)
        for earlier in range(second - SEAM_S, second):
            bars = np.sort(known[known["second"] == earlier], order="market")
            self.closed.put(earlier, bars, np.zeros((len(bars), 2), np.int64))

    def seam_s(self, market: int) -> int:
        """How many of the earlier run's last seconds can be told again of that market."""
        return self.floor - self._seam if market < self._resumed_markets else 0

    def retold(self, market: int, trade: Trade, first: bool) -> bool:
        """Take a trade of a second before `floor`; True where the bar of that second lacked one, False where it is too late."""
        second = trade.ts_ms // 1000
        if self.next_second is None:
            self.next_second = self.floor
        if second < self.floor - self.seam_s(market):
            self.dropped["late"] += 1
            return False
        bar = self._retold.get((second, market))
        if bar is None:
            bar = self._retold[second, market] = Bar()
        bar.put(trade, first)
        known, _ = self.closed.find(second, market)
        if len(known):
            if bar.cbuy + bar.csell <= known["cbuy"][0] + known["csell"][0]:
                self.dropped["late"] += 1
                return False
            bar.lbuy, bar.lsell = known["lbuy"][0].item(), known["lsell"][0].item()
        self.late += 1
        self._revised[second, market] = bar
        return True

    def way(self, market: int) -> Newest:
        """What adds trades of that market."""
        return self._newest[market]

    def trade(self, market: int, trade: Trade) -> bool:
        """As its `way`, for once; False when it is dropped."""
        return not self._newest[market].add((trade,))

    def recovered(self, market: int, trade: Trade, first: bool) -> bool:
        """Add a trade that was missing; False when it is too late to count, which is counted here.

        Open and close are decided as if it had come in time: within its millisecond it comes after what is known, or with
        `first` before it.
        """
        if trade.ts_ms // 1000 < self.floor:
            return self.retold(market, trade, first)
        bar = self.bar(market, trade.ts_ms // 1000)
        if bar is None:
            return False
        bar.put(trade, first)
        self._newest[market].notice(trade, recovered=True)
        return True

    @property
    def oldest_ms(self) -> int:
        """Trades before this are too late to count."""
        if self.next_second is None:
            return 0
        return max(self._seam, self.next_second - self.revisable_s) * 1000

    def liquidation(self, market: int, liquidation: Liquidation) -> bool:
        """Add a forced order to its second (not to volume); False when it is too late to count."""
        bar = self.bar(market, liquidation.ts_ms // 1000)
        if bar is None:
            return False
        bar.force(liquidation.price * liquidation.size, liquidation.buy)
        return True

    def is_open(self, second: int) -> bool:
        """Whether that second's bars are still to be closed."""
        return self.next_second is not None and second >= self.next_second

    def bar(self, market: int, second: int) -> Bar | None:
        """The bar of that second, made where there is none; None when it is too late or too far ahead, which is counted."""
        if self.next_second is None:
            self.next_second = max(second, self.floor)
        if second < self.next_second:
            return self._revise(market, second)
        if second > self.next_second + self.ahead_s:
            self.dropped["ahead"] += 1
            return None
        bars = self._open.setdefault(second, {})
        bar = bars.get(market)
        if bar is None:
            bar = bars[market] = Bar()
        return bar

    def _revise(self, market: int, second: int) -> Bar | None:
        assert self.next_second is not None
        if second < max(self.floor, self.next_second - self.revisable_s):
            self.dropped["late"] += 1
            return None
        self.late += 1
        bar = self._revised.get((second, market))
        if bar is None:
            bar = self._revised[second, market] = _recall(*self.closed.find(second, market))
        return bar

    @property
    def revised(self) -> bool:
        """Whether a revision waits for the next closing."""
        return bool(self._revised)

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
            self._newest[market].closed(second)
        revised, self._revised = self._revised, {}
        rows = []
        for (row_second, market), bar in (revised | bars).items():
            values = bar.remembered()
            rows.append((market, row_second, *values))
        rows.sort(key=itemgetter(1, 0))
        made = np.array([row[:12] for row in rows], BAR)
        times = np.array([row[12:] for row in rows], np.int64).reshape(-1, 2)
        for one in by_second(made[: len(revised)]):
            self.closed.amend(made[one], times[one])
        new = made[len(revised) :]
        self.closed.put(second, new.copy() if revised else new, times[len(revised) :])  # a view keeps the revisions too
        return ClosedSecond(second + 1, made, whole)
