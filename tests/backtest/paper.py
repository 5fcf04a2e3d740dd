"""Made signals and prices, and a slow, obvious twin of the paper portfolio."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sqfd.backtest.prices import Prices
from sqfd.backtest.settings import BacktestSettings
from sqfd.signals.signal import Signal

T0 = 28_800 * 60_000 - 50
"""First tick: funding is due 50 ticks later."""
SYMBOLS = ("BTC", "ETH")


def signal(
    symbol: str, second: int, action: str, side: str, number: int, leverage: int = 3, size: float = 1.0
) -> Signal:
    return Signal(
        signal_id=f"{symbol}{second}{action}",
        timestamp="",
        symbol=symbol + "USDT",
        base_symbol=symbol,
        action=action,
        side=side,
        score=5.0,
        position_size_factor=size,
        leverage=leverage,
        entry_price=1.0,
        price=1.0,
        ttl=600,
        confidence=0.5,
        reasoning="made",
        strategy="made",
        service="sqfd",
        schema_version=2,
        valid_until="",
        second=second,
        quality="medium",
        score_breakdown={},
        phases={},
        coverage=1.0,
        position_id=f"{symbol}-{number}",
        exit_reasons=("flow_reversal",) if action == "CLOSE" else (),
        spot_cvd=0.0,
        futures_cvd=0.0,
        cvd_divergence=0.0,
        markets=(),
        instance="made",
    )


def round_trips(plan: list[tuple[int, int, int, bool, int]], ticks: int) -> list[Signal]:
    """Alternating entries and exits per symbol from (symbol, wait, hold, long, leverage), in the order of seconds."""
    at, made = [T0, T0], []
    for number, (place, wait, hold, long, leverage) in enumerate(plan):
        entry = at[place] + wait
        side = "LONG" if long else "SHORT"
        at[place] = entry + hold + 1
        for second, action in ((entry, side), (entry + hold, "CLOSE")):
            if second < T0 + ticks - 1:
                made.append(signal(SYMBOLS[place], second, action, side, number, leverage))
    return sorted(made, key=lambda one: one.second)


def walk(seed: int, ticks: int, step: float = 0.001, holes: float = 0.0) -> Prices:
    """Two symbols' random walks; a share of seconds has no row."""
    rng = np.random.default_rng(seed)
    price = 100 * np.exp(np.cumsum(rng.normal(0, step, (2, ticks)), axis=1))
    there = rng.random((2, ticks)) >= holes
    there[:, 0] = True
    source = np.maximum.accumulate(np.where(there, np.arange(ticks), 0), axis=1)
    price = np.take_along_axis(price, source, axis=1)
    spread = rng.uniform(0, step, (2, ticks))
    volume = np.where(there, rng.uniform(0, 50_000, (2, ticks)) * (rng.random((2, ticks)) > 0.1), 0.0)
    funding = np.where(np.arange(ticks) % 200 < 100, rng.integers(-500_000, 500_000, (2, 1)), 0) * (seed % 3 > 0)
    high, low = (np.rint(np.log(price * (1 + side * spread)) * 1e9).astype(np.int64) for side in (1, -1))
    return Prices(T0, price, high, low, volume, there, funding)


def part(prices: Prices, start: int, stop: int) -> Prices:
    return Prices(prices.first + start, *(column[:, start:stop] for column in prices[1:]))  # type: ignore[arg-type]  # each of its own type


class Twin(NamedTuple):
    cash: list[float]
    equity: list[float]
    nets: list[float]
    """Of closed positions, as they changed cash."""
    fills: list[tuple[int, int]]
    """(tick, due)"""


def twin(prices: Prices, signals: list[Signal], settings: BacktestSettings, fee: float) -> Twin:
    """One tick after the other, plain numbers."""
    cash, out = settings.capital, Twin([], [], [], [])
    held: dict[int, dict[str, Any]] = {}
    waiting = [(s.second + 1 + settings.latency_s, s) for s in signals]

    def slip(place: int, at: int, notional: float) -> float:
        volume = prices.volume[place, at]
        times = min(notional / volume, 10.0) if volume > 0 else 10.0
        return (settings.slippage_bps + settings.impact_bps * times) / 10_000

    def leave(place: int, at: int) -> None:
        nonlocal cash
        of = held.pop(place)
        mid = prices.price[place, at]
        price = mid * (1 - of["side"] * slip(place, at, abs(of["quantity"]) * mid))
        cash += of["quantity"] * price - abs(of["quantity"]) * price * fee
        out.nets.append(of["quantity"] * price - abs(of["quantity"]) * price * fee - of["spent"])

    for at in range(prices.price.shape[1]):
        tick, now = prices.first + at, prices.price[:, at]
        if tick % 28_800 == 0:
            for place, of in held.items():
                stored = prices.funding_ppb[place, at] if settings.stored_funding else 0
                paid = of["quantity"] * now[place] * (stored / 1e9 if stored else settings.funding_bps / 10_000)
                cash -= paid
                of["spent"] += paid
        for due, one in list(waiting):
            place = SYMBOLS.index(one.base_symbol)
            if due > tick or not prices.there[place, at]:
                continue
            waiting.remove((due, one))
            if one.action == "CLOSE":
                if place in held and held[place]["id"] == one.position_id:
                    leave(place, at)
                    out.fills.append((tick, due))
                continue
            equity = cash + sum(of["quantity"] * now[p] for p, of in held.items())
            margin = equity * settings.margin_share * one.position_size_factor
            free = equity - sum(of["margin"] for of in held.values())
            full = settings.max_positions and len(held) >= settings.max_positions
            if place in held or full or margin <= 0 or margin > free:
                continue
            notional = margin * min(one.leverage, settings.max_leverage)
            side = 1 if one.side == "LONG" else -1
            price = now[place] * (1 + side * slip(place, at, notional))
            quantity = side * notional / price
            spent = quantity * price + notional * fee
            cash -= spent
            held[place] = {"quantity": quantity, "side": side, "margin": margin, "spent": spent, "id": one.position_id}
            out.fills.append((tick, due))
        equity = cash + sum(of["quantity"] * now[p] for p, of in held.items())
        gross = sum(abs(of["quantity"] * now[p]) for p, of in held.items())
        if held and equity < settings.maintenance_share * gross:
            for place in list(held):
                leave(place, at)
            equity = cash
        out.cash.append(cash)
        out.equity.append(equity)
    return out
