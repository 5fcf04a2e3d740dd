"""Trades of a synthetic market: its seconds broken down over the markets where the symbol trades.

A minute is made at once (vectorised) and only when asked for. The trades of a second add up to the second's notional on
each side of each kind, fall within its prices, and end at its price. Habits of real tapes: sizes are Pareto-tailed, and one
taker order gives several trades of one side in the same millisecond. Ids count up by one per market, without holes, in order
of time, whatever is asked for first: which market has the n-th trade of a kind is read from a fixed pattern.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exchanges.api import Instrument, Liquidation, Trade
from sqfd.model import BAR, Bars
from sqfd.sim.hour import Seconds
from sqfd.sim.market import Market

TRADE = np.dtype(
    [
        ("market", np.int32),
        ("ts_ms", np.int64),
        ("price", np.float64),
        ("size", np.float64),
        ("buy", np.bool_),
        ("id", np.int64),
    ]
)
"""One trade; `market` is an index into the tape's listings."""

Trades = NDArray[np.void]
"""Rows of TRADE, in order of time."""

MINUTE_S = 60
PATTERN = 4_096
FIRST_ID = 1_000_000
ORDER_TRADES = 3
"""Trades of one taker order, on average."""
SIZE_DECIMALS = 9


@dataclass(frozen=True)
class Listing:
    """Where a symbol trades, with its share of that kind's volume and its distance from the index price."""

    instrument: Instrument
    weight: float
    basis: float = 0.0
    """Relative: 0.0001 is one basis point above."""


class Tape:
    """The trades of one `Market` on its listings. A kind without a listing has no trades."""

    def __init__(self, market: Market, listings: Sequence[Listing], keep_minutes: int = 16) -> None:
        self.market, self.listings = market, tuple(listings)
        self._keep = keep_minutes
        self._minutes: OrderedDict[int, Trades] = OrderedDict()
        self._patterns = {kind: self._pattern(number, kind) for number, kind in enumerate(("spot", "perp"))}
        self._basis = np.array([1.0 + listing.basis for listing in self.listings])

    def _pattern(self, number: int, kind: str) -> _Pattern | None:
        indices = [i for i, listing in enumerate(self.listings) if listing.instrument.kind == kind]
        if not indices:
            return None
        rng = self.market.rng(0x7A9E, number)
        return _Pattern.of(rng, indices, [self.listings[i].weight for i in indices])

    def trades(self, first: int, last: int) -> Trades:
        """The trades of the seconds [first, last). Raises what `Market.seconds` raises."""
        minutes = range(first // MINUTE_S, -(-last // MINUTE_S))
        rows = np.concatenate([self._minute(minute) for minute in minutes]) if minutes else np.empty(0, TRADE)
        low, high = np.searchsorted(rows["ts_ms"], (first * 1_000, last * 1_000))
        return rows[low:high]

    def second(self, at: int) -> list[Trade]:
        """The trades of one second as values, in order of time."""
        return list(self.values(self.trades(at, at + 1)))

    def values(self, trades: Trades) -> Iterator[Trade]:
        """Rows of TRADE as `Trade`."""
        for market, ts_ms, price, size, buy, number in trades.tolist():
            yield Trade(self.listings[market].instrument, ts_ms, price, size, buy, number)

    def liquidations(self, at: int) -> list[Liquidation]:
        """The forced orders of one second, one per side, each where its side's largest perp trade was."""
        second, trades = self.market.second(at), self.trades(at, at + 1)
        found = []
        for buy, notional in ((True, float(second["liq_buy"])), (False, float(second["liq_sell"]))):
            side = trades[self._is_perp(trades) & (trades["buy"] == buy)]
            if notional > 0 and len(side):
                row = side[np.argmax(side["size"])]
                size = round(notional / float(row["price"]), SIZE_DECIMALS)
                if size > 0:
                    found.append(self._forced(row, size, buy))
        return found

    def _forced(self, row: np.void, size: float, buy: bool) -> Liquidation:
        instrument = self.listings[int(row["market"])].instrument
        return Liquidation(instrument, int(row["ts_ms"]), float(row["price"]), size, buy, int(row["id"]))

    def _is_perp(self, trades: Trades) -> NDArray[np.bool_]:
        perps = np.array([listing.instrument.kind == "perp" for listing in self.listings])
        chosen: NDArray[np.bool_] = perps[trades["market"]]
        return chosen

    def bars(self, first: int, last: int, first_market: int = 0) -> Bars:
        """The bars of [first, last), by (second, market); `market` is the listing's index plus `first_market`."""
        trades = self.trades(first, last)
        bars = _bars(trades)
        self._add_liquidations(bars, first, last)
        bars["market"] += first_market
        return bars

    def _add_liquidations(self, bars: Bars, first: int, last: int) -> None:
        place = {key: i for i, key in enumerate(zip(bars["second"].tolist(), bars["market"].tolist(), strict=True))}
        markets = {listing.instrument.market: i for i, listing in enumerate(self.listings)}
        seconds = self.market.seconds(first, last)
        for at in (np.flatnonzero(seconds["liq_buy"] + seconds["liq_sell"]) + first).tolist():
            for forced in self.liquidations(at):
                row = place[at, markets[forced.instrument.market]]
                bars["lbuy" if forced.buy else "lsell"][row] += forced.size * forced.price

    def _minute(self, minute: int) -> Trades:
        """One minute of the epoch (as far as the market reaches back)."""
        if minute not in self._minutes:
            first = max(minute * MINUTE_S, self.market.start)
            made = self._make(
                self.market.rng(0x7A9E, 2, minute), self.market.seconds(first, (minute + 1) * MINUTE_S), first
            )
            self._minutes[minute] = made
            if len(self._minutes) > self._keep:
                self._minutes.popitem(last=False)
        self._minutes.move_to_end(minute)
        return self._minutes[minute]

    def _make(self, rng: np.random.Generator, seconds: Seconds, first: int) -> Trades:
        parts = []
        for kind, pattern in self._patterns.items():
            if pattern is not None:
                part = _kind(rng, seconds, first, kind)
                part["market"], part["id"] = pattern.place(int(seconds[f"{kind}_count"][0]), len(part))
                parts.append(part)
        trades = np.concatenate(parts) if parts else np.empty(0, TRADE)
        trades = trades[np.argsort(trades["ts_ms"], kind="stable")]
        notional = trades["size"]
        price = np.round(trades["price"] * self._basis[trades["market"]], _decimals(self.market.shape.price))
        trades["price"], trades["size"] = (
            price,
            np.maximum(np.round(notional / price, SIZE_DECIMALS), 10.0**-SIZE_DECIMALS),
        )
        return trades


@dataclass(frozen=True)
class _Pattern:
    """Which market has the n-th trade of a kind, and as its how-manieth."""

    markets: NDArray[np.int32]
    nth: NDArray[np.int64]
    totals: NDArray[np.int64]
    """Trades of the pattern's market in one whole pattern, by position."""

    @classmethod
    def of(cls, rng: np.random.Generator, indices: Sequence[int], weights: Sequence[float]) -> _Pattern:
        share = np.cumsum(weights) / np.sum(weights)
        markets = rng.permutation(
            np.asarray(indices, np.int32)[np.searchsorted(share, (np.arange(PATTERN) + 0.5) / PATTERN)]
        )
        nth, totals = np.zeros(PATTERN, np.int64), np.zeros(PATTERN, np.int64)
        for index in indices:
            mine = np.flatnonzero(markets == index)
            nth[mine], totals[mine] = np.arange(len(mine)), len(mine)
        return cls(markets, nth, totals)

    def place(self, before: int, count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Markets and ids of the trades number `before` … `before + count - 1`."""
        rounds, at = np.divmod(np.arange(before, before + count), PATTERN)
        return self.markets[at], FIRST_ID + rounds * self.totals[at] + self.nth[at]


def _kind(rng: np.random.Generator, seconds: Seconds, first: int, kind: str) -> Trades:
    """The trades of one kind in order of time, notional in the place of size, without markets and ids."""
    sides = [_side(rng, seconds, kind, side) for side in ("buy", "sell")]
    at, notional, part = (np.concatenate(columns) for columns in zip(*sides, strict=True))
    buy = np.repeat((True, False), [len(side[0]) for side in sides])
    order = np.lexsort((part, at))
    at, notional, part, buy = at[order], notional[order], part[order], buy[order]
    trades = np.zeros(len(at), TRADE)
    trades["ts_ms"] = (first + at) * 1_000 + part
    trades["size"], trades["buy"] = notional, buy
    trades["price"] = _path(rng, seconds, at, part, buy)
    return trades


def _side(
    rng: np.random.Generator, seconds: Seconds, kind: str, side: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """(second, notional, millisecond) of each trade of one side."""
    counts = seconds[f"{kind}_{side}s"]
    at = np.repeat(np.arange(len(counts)), counts)
    weight = 0.02 + rng.pareto(1.3, len(at))
    total = np.bincount(at, weight, len(counts))
    notional = seconds[f"{kind}_{side}"][at] * weight / np.maximum(total, 1e-12)[at]
    orders = np.maximum(1, counts // ORDER_TRADES)
    when = rng.integers(0, 1_000, (len(counts), int(orders.max(initial=1))))
    part = when[at, (rng.random(len(at)) * orders[at]).astype(np.int64)]
    return at, notional, part


def _path(
    rng: np.random.Generator, seconds: Seconds, at: NDArray[np.int64], part: NDArray[np.int64], buy: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Prices from each second's open to its price; its high and low are touched where there are trades enough."""
    opens, closes, highs, lows = (seconds[name] for name in ("open", "price", "high", "low"))
    raw = opens[at] + (closes - opens)[at] * (part / 1_000) + np.where(buy, 2e-5, -2e-5) * opens[at]
    price: NDArray[np.float64] = np.clip(raw, lows[at], highs[at])
    if len(at) == 0:
        return price
    first = np.flatnonzero(np.diff(at, prepend=-1))
    count = np.diff(first, append=len(at))
    for extreme in (highs, lows):
        many = count > 2
        touched = first[many] + (rng.random(int(many.sum())) * (count[many] - 1)).astype(np.int64)
        price[touched] = extreme[at[touched]]
    last = first + count - 1
    price[last] = closes[at[last]]
    return price


def _decimals(price: float) -> int:
    """Decimals that leave seven significant digits."""
    return max(0, 6 - int(np.floor(np.log10(price))))


def _bars(trades: Trades) -> Bars:
    """Bars of trades in order of time, liquidations left at zero."""
    second = trades["ts_ms"] // 1_000
    order = np.lexsort((trades["market"], second))
    rows, second = trades[order], second[order]
    first = np.flatnonzero(np.diff(second, prepend=-1).astype(bool) | np.diff(rows["market"], prepend=-1).astype(bool))
    bars = np.zeros(len(first), BAR)
    if len(first) == 0:
        return bars
    bars["market"], bars["second"] = rows["market"][first], second[first]
    bars["open"], bars["close"] = rows["price"][first], rows["price"][np.append(first[1:], len(rows)) - 1]
    bars["high"] = np.maximum.reduceat(rows["price"], first)
    bars["low"] = np.minimum.reduceat(rows["price"], first)
    notional = rows["price"] * rows["size"]
    for side, mine in (("buy", rows["buy"]), ("sell", ~rows["buy"])):
        bars[f"v{side}"] = np.add.reduceat(np.where(mine, notional, 0.0), first)
        bars[f"c{side}"] = np.add.reduceat(mine.astype(np.int64), first)
    return bars
