"""Signals traded on paper. Pure; jumps from event to event, cash and equity of the seconds between are columns.

Double entry: a fill moves money between cash and the position, so `equity = cash + Σ quantity × index price` at every tick,
and a trade's net is exactly what it did to cash. Longs are bought, shorts sold; leverage shows as cash below zero.

An order fills at the first tick, at least `latency_s` after the tick of its signal, whose second has a row of its own: at the
index price at which that second closed, worse by slippage. The second that caused the signal is over by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sqfd.backtest.fees import fees_of
from sqfd.backtest.prices import Floats, Prices
from sqfd.backtest.settings import BacktestSettings
from sqfd.backtest.trades import Trade
from sqfd.model import PPB
from sqfd.signals.signal import Signal

BPS = 1e-4
FUNDING_S = 28_800
MOST_IMPACT = 10.0
"""An order counts as at most so many times its second's volume; in a second without volume as that."""


class Account(NamedTuple):
    """[tick] of a block, dollars."""

    first: int
    cash: Floats
    equity: Floats
    notional: Floats
    """Gross value of open positions."""


class Order(NamedTuple):
    due: int
    """First tick at which it may fill."""
    signal: Signal


@dataclass
class Open:
    """An open position on paper."""

    place: int
    """Index of the symbol."""
    signal: Signal
    side: int
    tick: int
    quantity: float
    price: float
    mid: float
    notional: float
    margin: float
    leverage: float
    fees: float
    slippage: float
    high: float
    low: float
    funding: float = 0.0


class Portfolio:
    """Cash, open positions and finished trades. Give it blocks in order."""

    def __init__(self, symbols: Sequence[str], settings: BacktestSettings) -> None:
        """Raises ValueError where the exchange's fees are not known."""
        self._settings = settings
        self._place = {symbol: place for place, symbol in enumerate(symbols)}
        fees = fees_of(settings)
        self._fee = (fees.taker if settings.order == "taker" else fees.maker) * BPS
        self._orders: list[Order] = []
        self._open: dict[int, Open] = {}
        self._forgotten: set[int] = set()
        self._at = 0
        self._marks = np.full(len(symbols), np.nan)
        self.cash = settings.capital
        self.trades: list[Trade] = []
        self.refused: Counter[str] = Counter()
        """Signals that were not traded, by reason."""

    def advance(self, prices: Prices, signals: Sequence[Signal]) -> Account:
        """Trade the signals of a block and value every tick of it."""
        ours = [signal for signal in signals if signal.base_symbol in self._place]
        if len(ours) < len(signals):
            self.refused["not_among_the_symbols"] += len(signals) - len(ours)
        self._orders += [Order(signal.second + 1 + self._settings.latency_s, signal) for signal in ours]
        account = Account(prices.first, *(np.zeros(prices.price.shape[1]) for _ in range(3)))
        fills = self._fills(prices)
        fundings = self._fundings(prices)
        at = prices.first
        for place in self._forgotten:
            self._close(prices, at, self._open.pop(place), None, ("restart",))
        self._forgotten.clear()
        while at < prices.last:
            while fundings and fundings[0] <= at:
                self._fund(prices, fundings.pop(0))
            while fills and fills[0][0] <= at:
                self._fill(prices, *fills.pop(0))
            until = min([prices.last, *(tick for tick, _ in fills[:1]), *fundings[:1]])
            at = self._mark(prices, at, until, account)
        self._at = prices.last - 1
        self._marks = prices.price[:, -1].copy()
        return account

    def keep_only(self, symbols: Container[str]) -> None:
        """Close what the strategy no longer holds (a start without its book) at the next tick; drop its orders."""
        for symbol, place in self._place.items():
            if symbol not in symbols and place in self._open:
                self._forgotten.add(place)
        self._orders = [order for order in self._orders if order.signal.base_symbol in symbols]

    def _fills(self, prices: Prices) -> list[tuple[int, Order]]:
        """Orders that fill in this block with their ticks, in their order; the others stay for the next."""
        found, waiting = [], []
        for order in self._orders:
            start = max(order.due - prices.first, 0)
            there = prices.there[self._place[order.signal.base_symbol], start:]
            if there.any():
                found.append((prices.first + start + int(there.argmax()), order))
            else:
                waiting.append(order)
        self._orders = waiting
        return sorted(found, key=lambda fill: fill[0])

    def _fundings(self, prices: Prices) -> list[int]:
        """Ticks at which funding is due, those of a hole before the block at its first tick."""
        after = max(self._at, prices.first - FUNDING_S) if self._at else prices.first
        due = range((after // FUNDING_S + 1) * FUNDING_S, prices.last, FUNDING_S)
        return [max(tick, prices.first) for tick in due]

    def _fund(self, prices: Prices, tick: int) -> None:
        for held in self._open.values():
            at = tick - prices.first
            paid = (
                held.quantity
                * float(prices.price[held.place, at])
                * self._rate(int(prices.funding_ppb[held.place, at]))
            )
            held.funding += paid
            self.cash -= paid

    def _rate(self, stored_ppb: int) -> float:
        """What longs pay: as it was collected, as it is assumed where nobody asked for it."""
        if stored_ppb and self._settings.stored_funding:
            return stored_ppb / PPB
        return self._settings.funding_bps * BPS

    def _mark(self, prices: Prices, at: int, until: int, account: Account) -> int:
        """Value the ticks `[at, until)`, during which nothing is traded; stops where a margin call ends that."""
        span = slice(at - prices.first, until - prices.first)
        if not self._open:
            account.cash[span] = account.equity[span] = self.cash
            return until
        value, notional = np.zeros(until - at), np.zeros(until - at)
        for held in self._open.values():
            worth = held.quantity * prices.price[held.place, span]
            value += worth
            notional += np.abs(worth)
        equity = self.cash + value
        called = np.flatnonzero(equity < self._settings.maintenance_share * notional)
        if len(called):
            until = at + int(called[0])
            span = slice(at - prices.first, until - prices.first)
        account.cash[span] = self.cash
        account.equity[span] = equity[: until - at]
        account.notional[span] = notional[: until - at]
        for held in self._open.values():
            _stretch(held, prices, at, until)
        if len(called):
            for place in list(self._open):
                self._close(prices, until, self._open.pop(place), None, ("margin_call",))
        return until

    def _fill(self, prices: Prices, tick: int, order: Order) -> None:
        signal = order.signal
        place = self._place[signal.base_symbol]
        held = self._open.get(place)
        if signal.action != "CLOSE":
            reason = self._enter(prices, tick, place, signal)
            if reason:
                self.refused[reason] += 1
        elif held is None or held.signal.position_id != signal.position_id:
            self.refused["nothing_to_close"] += 1
        else:
            self._close(prices, tick, self._open.pop(place), signal.second, signal.exit_reasons)

    def _enter(self, prices: Prices, tick: int, place: int, signal: Signal) -> str:
        """Open a position; gives the reason where it is not."""
        settings, at = self._settings, tick - prices.first
        if place in self._open:
            return "already_open"
        if settings.max_positions and len(self._open) >= settings.max_positions:
            return "max_positions"
        equity = self.cash + sum(held.quantity * float(prices.price[held.place, at]) for held in self._open.values())
        margin = equity * settings.margin_share * signal.position_size_factor
        if margin <= 0 or margin > equity - sum(held.margin for held in self._open.values()):
            return "no_margin"
        leverage = min(float(signal.leverage), settings.max_leverage)
        side, mid, notional = (1 if signal.side == "LONG" else -1), float(prices.price[place, at]), margin * leverage
        price = mid * (1 + side * self._slip(prices, place, at, notional))
        quantity, fee = side * notional / price, notional * self._fee
        self.cash -= quantity * price + fee
        lost = abs(quantity) * abs(price - mid)
        self._open[place] = Open(
            place, signal, side, tick, quantity, price, mid, notional, margin, leverage, fee, lost, mid, mid
        )
        return ""

    def _slip(self, prices: Prices, place: int, at: int, notional: float) -> float:
        """By which share a fill is worse than the index price."""
        volume = float(prices.volume[place, at])
        times = min(notional / volume, MOST_IMPACT) if volume > 0 else MOST_IMPACT
        return (self._settings.slippage_bps + self._settings.impact_bps * times) * BPS

    def _close(self, prices: Prices, tick: int, held: Open, second: int | None, reasons: tuple[str, ...]) -> None:
        at = tick - prices.first
        _stretch(held, prices, tick, tick + 1)
        mid = float(prices.price[held.place, at])
        price = mid * (1 - held.side * self._slip(prices, held.place, at, abs(held.quantity) * mid))
        fee = abs(held.quantity) * price * self._fee
        self.cash += held.quantity * price - fee
        held.fees += fee
        held.slippage += abs(held.quantity) * abs(price - mid)
        self.trades.append(_trade(held, tick, price, mid, second, reasons))

    def still_open(self) -> list[Trade]:
        """Open positions as trades that end at the last tick and its index price, without costs of leaving."""
        marks = ((held, float(self._marks[held.place])) for held in self._open.values())
        return [_trade(held, self._at, mark, mark, None, ("end_of_data",)) for held, mark in marks]

    @property
    def waiting(self) -> int:
        """Orders that found no tick to fill at yet."""
        return len(self._orders)


def _stretch(held: Open, prices: Prices, at: int, until: int) -> None:
    """Take the extremes of `[at, until)` into account, as far as the position was open during those seconds."""
    start, stop = max(at, held.tick + 1) - prices.first, until - prices.first
    if start < stop:
        held.high = max(held.high, float(np.exp(prices.high[held.place, start:stop].max() / 1e9)))
        held.low = min(held.low, float(np.exp(prices.low[held.place, start:stop].min() / 1e9)))


def _trade(held: Open, tick: int, price: float, mid: float, second: int | None, reasons: tuple[str, ...]) -> Trade:
    signal, gross = held.signal, held.quantity * (mid - held.mid)
    up, down = held.high / held.mid - 1, 1 - held.low / held.mid
    return Trade(
        position_id=signal.position_id,
        symbol=signal.base_symbol,
        side=signal.side,
        quality=signal.quality,
        score=signal.score,
        size_factor=signal.position_size_factor,
        leverage=held.leverage,
        signal_second=signal.second,
        entry_tick=held.tick,
        entry_price=held.price,
        exit_signal_second=second,
        exit_tick=tick,
        exit_price=price,
        exit_reasons=reasons,
        quantity=held.quantity,
        notional=held.notional,
        margin=held.margin,
        gross=gross,
        slippage=held.slippage,
        fees=held.fees,
        funding=held.funding,
        net=gross - held.slippage - held.fees - held.funding,
        mae=down if held.side > 0 else up,
        mfe=up if held.side > 0 else down,
        explain={
            "reasoning": signal.reasoning,
            "score_breakdown": signal.score_breakdown,
            "phases": signal.phases,
        },
    )
