"""The statistical habits of order flow, measured the same way on a capture and on the simulated market.

`sqfd.sim.hour` says where the simulated market's habits are made; here they are figures, so that both can be shown side by side
(`sqfd habits`, `docs/simulator.md`). Stylised facts of real markets: Cont (2001) for returns and volume, Lillo and Farmer (2004) for signs,
Gopikrishnan et al. (2000) for sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchanges.api import Instrument, Trade
from sqfd.sim.hour import BLOCK_S
from sqfd.sim.market import Market
from sqfd.sim.plan import DAY_S
from sqfd.sim.tape import Listing, Tape

Floats = NDArray[np.float64]

TAIL_SHARE = 0.02
"""Share of the trades that is taken for the tail of sizes."""
WARM_S = 2 * BLOCK_S
BUSY_H, QUIET_H = (14, 15), (2, 3)


class Prints(NamedTuple):
    """Trades of one symbol in order of time, one element each."""

    ts_ms: NDArray[np.int64]
    price: Floats
    notional: Floats
    buy: NDArray[np.bool_]
    perp: NDArray[np.bool_]

    def of(self, perp: bool) -> Prints:
        """Those of spot, or those of perps."""
        return Prints(*(column[self.perp == perp] for column in self))

    @property
    def sign(self) -> Floats:
        """1 for a buy, −1 for a sell."""
        return np.where(self.buy, 1.0, -1.0)


class Flows(NamedTuple):
    """The same by the second."""

    trades: Floats
    volume: Floats
    spot: Floats
    """Net taker flow of spot, and of perps."""
    perp: Floats
    log_return: Floats


def flows(prints: Prints) -> Flows:
    """Whole seconds from the first trade's to the one before the last trade's; the price is that of the last trade so far."""
    first = int(prints.ts_ms[0]) // 1_000
    at = prints.ts_ms // 1_000 - first
    length = int(at[-1])
    within = at < length
    signed = prints.sign * prints.notional

    def summed(weight: Floats) -> Floats:
        return np.bincount(at[within], weight[within], length).astype(np.float64)

    ends = np.searchsorted(at, np.arange(length), "right") - 1
    price = np.log(prints.price[ends])
    spot, perp = (summed(np.where(prints.perp == kind, signed, 0.0)) for kind in (False, True))
    return Flows(summed(np.ones(len(at))), summed(prints.notional), spot, perp, np.diff(price, prepend=price[0]))


def tail_exponent(notional: Floats) -> float:
    """Hill's estimate of α in P(size > x) ~ x^−α, from the largest TAIL_SHARE (Hill 1975); the smaller, the heavier."""
    ordered = np.sort(notional)[::-1]
    tail = max(10, int(len(ordered) * TAIL_SHARE))
    return float(1 / np.mean(np.log(ordered[:tail] / ordered[tail])))


def largest_share(notional: Floats) -> float:
    """What part of all that traded the largest hundredth of the trades is."""
    ordered = np.sort(notional)[::-1]
    return float(ordered[: max(1, len(ordered) // 100)].sum() / ordered.sum())


def autocorrelation(series: Floats, lag: int) -> float:
    """Of a series with itself, `lag` elements later."""
    return correlation(series[lag:], series[:-lag])


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's; 0 where one of them does not move."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 0.0


def moved(series: Floats, seconds: int) -> Floats:
    """Sums over each stretch of so many seconds."""
    total = np.concatenate(([0.0], np.cumsum(series)))
    return total[seconds:] - total[:-seconds]


def order_trades(prints: Prints) -> float:
    """Trades of one side in one millisecond, on average: what one taker order becomes."""
    breaks = np.count_nonzero((np.diff(prints.ts_ms) != 0) | (np.diff(prints.buy) != 0))
    return len(prints.ts_ms) / (breaks + 1)


def burstiness(count: Floats) -> float:
    """Variance over mean of the trades in a second; 1 where they come independently (Poisson)."""
    return float(count.var() / count.mean())


HABITS: Mapping[str, Callable[[Prints, Flows], float]] = {
    "spot sizes: tail exponent": lambda p, f: tail_exponent(p.of(False).notional),
    "perp sizes: tail exponent": lambda p, f: tail_exponent(p.of(True).notional),
    "spot: largest 1 % of trades, share of volume": lambda p, f: largest_share(p.of(False).notional),
    "perp: largest 1 % of trades, share of volume": lambda p, f: largest_share(p.of(True).notional),
    "trades of one side in one ms": lambda p, f: order_trades(p),
    "perp signs: autocorrelation 1 trade later": lambda p, f: autocorrelation(p.of(True).sign, 1),
    "perp signs: 10 trades later": lambda p, f: autocorrelation(p.of(True).sign, 10),
    "perp signs: 100 trades later": lambda p, f: autocorrelation(p.of(True).sign, 100),
    "net perp flow: autocorrelation 1 s later": lambda p, f: autocorrelation(f.perp, 1),
    "log volume: autocorrelation 1 s later": lambda p, f: autocorrelation(np.log1p(f.volume), 1),
    "log volume: 10 s later": lambda p, f: autocorrelation(np.log1p(f.volume), 10),
    "trades in a second: variance over mean": lambda p, f: burstiness(f.trades),
    "spot with perp flow: correlation over 1 s": lambda p, f: correlation(f.spot, f.perp),
    "spot with perp flow: over 10 s": lambda p, f: correlation(moved(f.spot, 10), moved(f.perp, 10)),
    "perp flow with return: over 10 s": lambda p, f: correlation(moved(f.perp, 10), moved(f.log_return, 10)),
    "volume a second, thousands": lambda p, f: float(f.volume.mean()) / 1e3,
    "daily volatility of 10 s returns": lambda p, f: float(moved(f.log_return, 10).std() * np.sqrt(DAY_S / 10)),
}
"""Name → figure, of some minutes of trades of one symbol on spot and perps."""


def measured(prints: Prints) -> dict[str, float]:
    """All habits. Needs a few hundred trades of each kind."""
    by_second = flows(prints)
    return {name: float(figure(prints, by_second)) for name, figure in HABITS.items()}


def captured(trades: Sequence[Trade]) -> dict[str, Prints]:
    """A capture's trades by symbol, in order of trade time; symbols without spot or without perps are left out."""
    by_symbol: dict[str, list[Trade]] = {}
    for trade in trades:
        if trade.instrument.kind in ("spot", "perp"):
            by_symbol.setdefault(trade.instrument.base, []).append(trade)
    found = {symbol: _prints(sorted(mine, key=lambda t: t.ts_ms)) for symbol, mine in sorted(by_symbol.items())}
    return {symbol: prints for symbol, prints in found.items() if len(set(prints.perp.tolist())) == 2}


def _prints(trades: Sequence[Trade]) -> Prints:
    return Prints(
        np.array([t.ts_ms for t in trades], np.int64),
        np.array([t.price for t in trades]),
        np.array([t.price * t.size for t in trades]),
        np.array([t.buy for t in trades]),
        np.array([t.instrument.kind == "perp" for t in trades]),
    )


def listings_of(trades: Sequence[Trade], symbol: str) -> list[Listing]:
    """A capture's markets of a symbol, each with the share that it had of its kind's trades."""
    counts: dict[Instrument, int] = {}
    for trade in trades:
        if trade.instrument.base == symbol and trade.instrument.kind in ("spot", "perp"):
            counts[trade.instrument] = counts.get(trade.instrument, 0) + 1
    return [Listing(instrument, float(count)) for instrument, count in counts.items()]


def simulated(symbol: str, listings: Sequence[Listing], seed: int, first: int, length_s: int) -> Prints:
    """The seconds from `first` on of a market without episodes that began two hours before."""
    tape = Tape(Market(symbol, seed, (first - WARM_S) // BLOCK_S * BLOCK_S), listings)
    rows = tape.trades(first, first + length_s)
    perp = np.array([listing.instrument.kind == "perp" for listing in listings])[rows["market"]]
    return Prints(rows["ts_ms"], rows["price"], rows["price"] * rows["size"], rows["buy"], perp)


def busy_over_quiet(symbol: str, seed: int, first: int, days: int) -> float:
    """How much more trades around 15:00 than around 03:00 UTC, in a market over whole days."""
    midnight = first // DAY_S * DAY_S
    seconds = Market(symbol, seed, midnight).seconds(midnight, midnight + days * DAY_S)
    volume = seconds["spot_buy"] + seconds["spot_sell"] + seconds["perp_buy"] + seconds["perp_sell"]
    hour = np.arange(len(seconds)) // 3_600 % 24
    return float(volume[np.isin(hour, BUSY_H)].mean() / volume[np.isin(hour, QUIET_H)].mean())


class Compared(NamedTuple):
    """One habit: of a capture (None where it is too short to tell), and of as long windows of the simulated market."""

    name: str
    captured: float | None
    simulated: float
    low: float
    """Fifth percentile over the windows, and ninety-fifth."""
    high: float


def compared(symbol: str, prints: Prints, listings: Sequence[Listing], windows: int) -> list[Compared]:
    """A capture of a symbol beside `windows` markets of other seeds, at the same time of day and as long."""
    first = int(prints.ts_ms[0]) // 1_000
    length_s = int(prints.ts_ms[-1]) // 1_000 - first + 1
    real = measured(prints)
    made = [measured(simulated(symbol, listings, seed, first, length_s)) for seed in range(windows)]
    rows = [_compared(name, real[name], [figures[name] for figures in made]) for name in HABITS]
    return [*rows, _compared(SHAPE, None, [busy_over_quiet(symbol, seed, first, 1) for seed in range(windows)])]


SHAPE = "volume at 15:00 over that at 03:00 UTC"
"""The shape of the day; no capture of minutes has one."""


def _compared(name: str, real: float | None, made: Sequence[float]) -> Compared:
    return Compared(name, real, *(float(np.quantile(made, q)) for q in (0.5, 0.05, 0.95)))
