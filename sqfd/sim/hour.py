"""One hour of a synthetic market, second by second: where its habits are made.

`sqfd.sim.market` asks for hours in order and hands each the `State` that the one before left. The habits that it shares with real order flow, and where each comes from:

- volume clusters: each of the two taker flows, spot and perp, excites itself and the other over seconds and over minutes
  (a multiplicative error model, Engle 2002: volume = expected × unit-mean noise, expected from past volumes);
- volume follows the hour of the day: a U from one American opening to the next;
- signs persist (orders are split, Lillo and Farmer 2004): imbalance has a part that lives for seconds and one for minutes,
  both partly common to spot and perp;
- sizes and counts are heavy-tailed;
- price follows the *surprise* in net flow (Kyle's lambda, concave), with noise, around a slow level. Expected flow moves it
  little, else persistent signs would make returns predictable.

Planted episodes (`sqfd.sim.plan`) add their own flow and drift to that. Their flow has no impact beyond their drift: a build-up
is absorbed by definition. `sqfd.sim.tape` breaks seconds down into trades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sqfd.sim.plan import DIP, FREE, HELD, Episode, Script, blank

SECOND = np.dtype(
    [
        ("open", np.float64),
        ("high", np.float64),
        ("low", np.float64),
        ("price", np.float64),
        *((name, np.float64) for name in ("spot_buy", "spot_sell", "perp_buy", "perp_sell")),
        *((name, np.int64) for name in ("spot_buys", "spot_sells", "perp_buys", "perp_sells")),
        ("liq_buy", np.float64),
        ("liq_sell", np.float64),
        ("lost_buy", np.float64),
        ("lost_sell", np.float64),
        ("spot_count", np.int64),
        ("perp_count", np.int64),
    ]
)
"""One second: prices; quote notional by kind and side of the taker; numbers of trades (plural names); liquidations, which are
part of perp notional; share of perp notional that no feed delivers; and trades of each kind before this second, from which
trades get their ids."""

Seconds = NDArray[np.void]
"""Rows of SECOND."""

BLOCK_S = 3_600

_USUAL_SWING = 52.0
"""Usual |change of CVD| over 15 minutes in seconds of mean volume; measured over 10 days of this market without episodes."""
_FAST, _SLOW = math.exp(-1 / 10), math.exp(-1 / 600)
"""Memory of volume clustering: 10 s and 10 min."""
_SIGN_FAST, _SIGN_SLOW = math.exp(-1 / 8), math.exp(-1 / 300)
"""Memory of signs: 8 s and 5 min."""
_PULL = {FREE: 1 / 172_800, HELD: 1 / 240, DIP: 1 / 5}
_STALL = 1 / 20


@dataclass(frozen=True)
class Profile:
    """How large, lively and dear a symbol is."""

    price: float
    spot_per_s: float
    """Mean notional of spot takers in a second."""
    perp_per_s: float
    spot_trades_per_s: float
    perp_trades_per_s: float
    volatility: float = 0.03
    """Standard deviation of a day's log return, without episodes."""


PROFILES = {
    "BTC": Profile(61_800.0, 110_000.0, 420_000.0, 14.0, 30.0, 0.028),
    "ETH": Profile(2_680.0, 48_000.0, 210_000.0, 9.0, 22.0, 0.035),
    "SOL": Profile(154.0, 14_000.0, 60_000.0, 5.0, 12.0, 0.045),
}
"""Of the order of the busiest markets in 2024; any other symbol is made up from its name."""


def profile(symbol: str) -> Profile:
    """The known profile of a symbol, or one of a small coin that depends on its name only."""
    if symbol in PROFILES:
        return PROFILES[symbol]
    rng = np.random.default_rng(crc32(symbol.encode()))
    size = float(np.exp(rng.normal(7.5, 0.8)))
    return Profile(float(10 ** rng.uniform(-2, 2)), size, 4 * size, 1.5, 4.0, float(rng.uniform(0.04, 0.07)))


@dataclass(frozen=True)
class State:
    """All that one block leaves to the next."""

    volume: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    signs: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    log_price: float = 0.0
    held: tuple[float, float, float] = (0.0, 0.0, 0.0)
    counts: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class _Block:
    """What the parts of a block share."""

    shape: Profile
    rng: np.random.Generator
    plan: Script
    direction: NDArray[np.float64]


def make(
    shape: Profile, state: State, rng: np.random.Generator, at: int, scripts: Sequence[tuple[Episode, Script]]
) -> tuple[Seconds, State]:
    """The hour from `at` on, and what it leaves behind."""
    block = _Block(shape, rng, *_combine(at, scripts))
    made = np.zeros(BLOCK_S, SECOND)
    volume, state = _volumes(block, state, at)
    surprise, state = _flows(block, state, volume, made)
    state = _prices(block, state, surprise, made)
    _liquidations(block, made)
    return made, _count(state, made)


def _combine(at: int, scripts: Sequence[tuple[Episode, Script]]) -> tuple[Script, NDArray[np.float64]]:
    """The scripts of one block laid over a blank one. Episodes do not overlap (`plan`); where they do, the later wins."""
    whole, direction = blank(BLOCK_S), np.ones(BLOCK_S)
    for episode, part in scripts:
        low, high = max(at, episode.start), min(at + BLOCK_S, episode.end)
        here, there = slice(low - at, high - at), slice(low - episode.start, high - episode.start)
        direction[here] = episode.direction
        for name in Script.__dataclass_fields__:
            getattr(whole, name)[here] = getattr(part, name)[there]
    return whole, direction


def hour_shape(second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Usual volume by time of day, mean 1: a U from 15:00 UTC (the American opening) to the next."""
    part = ((second / 86_400) - 15 / 24) % 1.0
    shape: NDArray[np.float64] = 0.7 + 0.9 * (2 * part - 1) ** 2
    return shape


def _volumes(block: _Block, state: State, at: int) -> tuple[NDArray[np.float64], State]:
    """Volume of both flows, shape (2, BLOCK_S), in units of their means."""
    common, own = block.rng.standard_normal(BLOCK_S), block.rng.standard_normal((2, BLOCK_S))
    noise = np.exp(0.95 * (math.sqrt(0.6) * common + math.sqrt(0.4) * own) - 0.95**2 / 2)
    s_fast, p_fast, s_slow, p_slow = state.volume
    spot, perp = noise.tolist()
    gain_f, gain_s = 1 - _FAST, 1 - _SLOW
    for i in range(BLOCK_S):
        spot[i] *= 0.15 + 0.2 * s_fast + 0.1 * p_fast + 0.55 * s_slow
        perp[i] *= 0.15 + 0.2 * p_fast + 0.1 * s_fast + 0.55 * p_slow
        s_fast += gain_f * (spot[i] - s_fast)
        p_fast += gain_f * (perp[i] - p_fast)
        s_slow += gain_s * (spot[i] - s_slow)
        p_slow += gain_s * (perp[i] - p_slow)
    usual = hour_shape(np.arange(at, at + BLOCK_S)) * block.plan.volume
    return np.array((spot, perp)) * usual, replace(state, volume=(s_fast, p_fast, s_slow, p_slow))


def _flows(
    block: _Block, state: State, volume: NDArray[np.float64], made: Seconds
) -> tuple[NDArray[np.float64], State]:
    """Write notionals and counts by side; give the surprise in net flow, in mean seconds of volume."""
    fast, slow, state = _imbalance(block, state)
    common, own = block.rng.standard_normal(BLOCK_S), block.rng.standard_normal((2, BLOCK_S))
    white = math.sqrt(0.7) * common + math.sqrt(0.3) * own
    imbalance = np.tanh(0.7 * white + 0.3 * fast + 0.13 * slow)
    shape = block.shape
    means = ((shape.spot_per_s, shape.spot_trades_per_s), (shape.perp_per_s, shape.perp_trades_per_s))
    for row, (kind, push) in enumerate((("spot", block.plan.spot), ("perp", block.plan.perp))):
        extra = push * (_USUAL_SWING / 900) * block.rng.gamma(2.0, 0.5, BLOCK_S)
        buy = volume[row] * (1 + imbalance[row]) / 2 + np.maximum(extra, 0)
        sell = volume[row] * (1 - imbalance[row]) / 2 + np.maximum(-extra, 0)
        _sides(block.rng, made, kind, buy, sell, *means[row])
    weights = np.array(((shape.spot_per_s,), (shape.perp_per_s,))) / (shape.spot_per_s + shape.perp_per_s)
    expected = 0.7 * np.tanh(0.3 * fast + 0.13 * slow)
    surprise: NDArray[np.float64] = (weights * volume * (imbalance - expected)).sum(axis=0)
    return surprise, state


def _imbalance(block: _Block, state: State) -> tuple[NDArray[np.float64], NDArray[np.float64], State]:
    """Fast and slow imbalance of both flows, each of unit variance, correlated by 0.5 and 0.6."""
    left: list[float] = []
    parts: list[NDArray[np.float64]] = []
    for memory, shared, before in ((_SIGN_FAST, 0.5, state.signs[:2]), (_SIGN_SLOW, 0.6, state.signs[2:])):
        common, own = block.rng.standard_normal(BLOCK_S), block.rng.standard_normal((2, BLOCK_S))
        shocks = math.sqrt(1 - memory**2) * (math.sqrt(shared) * common + math.sqrt(1 - shared) * own)
        rows = [_decaying(row, memory, old) for row, old in zip(shocks, before, strict=True)]
        left += [float(row[-1]) for row in rows]
        parts.append(np.array(rows))
    return parts[0], parts[1], replace(state, signs=(left[0], left[1], left[2], left[3]))


def _decaying(shocks: NDArray[np.float64], memory: float, before: float) -> NDArray[np.float64]:
    """y[t] = memory · y[t−1] + shock[t]."""
    walk = accumulate(shocks.tolist(), lambda y, shock: memory * y + shock, initial=before)
    return np.fromiter(walk, np.float64, len(shocks) + 1)[1:]


def _sides(
    rng: np.random.Generator,
    made: Seconds,
    kind: str,
    buy: NDArray[np.float64],
    sell: NDArray[np.float64],
    mean: float,
    trades: float,
) -> None:
    """Notional and number of trades of both sides. A second without a trade has no notional; the others make up for it."""
    for side, volume in (("buy", buy), ("sell", sell)):
        rate = trades * volume**0.8
        count = rng.poisson(rate)
        traded = np.where(count > 0, volume * mean / -np.expm1(-np.maximum(rate, 1e-6)), 0.0)
        made[f"{kind}_{side}"], made[f"{kind}_{side}s"] = traded, count


def _prices(block: _Block, state: State, surprise: NDArray[np.float64], made: Seconds) -> State:
    """Write prices: impact of the surprise, noise, drift, and the pull of a level."""
    usual = block.shape.volatility / math.sqrt(86_400)
    # Measured: |surprise|^0.7 has a deviation of 0.6. The weights give impact and noise their share of a variance of one.
    impact = 1.08 * np.sign(surprise) * np.abs(surprise) ** 0.7
    step = usual * block.plan.noise * (impact + 0.65 * block.rng.standard_normal(BLOCK_S))
    step += block.plan.drift * usual * math.sqrt(1_800) * math.sqrt(2 / math.pi)
    closes, state = _walk(block, state, step, 6 * usual)
    opens = np.concatenate(([state.log_price], closes[:-1]))
    wicks = 0.4 * usual * np.abs(block.rng.standard_normal((2, BLOCK_S)))
    made["open"], made["price"] = np.exp(opens), np.exp(closes)
    made["high"] = np.exp(np.maximum(opens, closes) + wicks[0])
    made["low"] = np.exp(np.minimum(opens, closes) - wicks[1])
    return replace(state, log_price=float(closes[-1]))


def _walk(block: _Block, state: State, step: NDArray[np.float64], depth: float) -> tuple[NDArray[np.float64], State]:
    """Log price second by second. While held it is drawn to where it stood; a dip aims `depth` beyond the held extreme."""
    anchor, price, (level, low, high) = math.log(block.shape.price), state.log_price, state.held
    closes: list[float] = []
    for move, mode, way in zip(step.tolist(), block.plan.mode.tolist(), block.direction.tolist(), strict=True):
        if mode == FREE:
            price += move + _PULL[FREE] * (anchor - price)
            level = low = high = price
        elif mode == HELD:
            price += move + _PULL[HELD] * (level - price)
            low, high = min(low, price), max(high, price)
        elif mode == DIP:
            price += move + _PULL[DIP] * ((low - depth if way > 0 else high + depth) - price)
        else:
            price += move + _STALL * (level - price)
        closes.append(price)
    return np.array(closes), replace(state, held=(level, low, high))


def _liquidations(block: _Block, made: Seconds) -> None:
    """Forced orders: a share of perp takers on the squeezed side, and now and then a stray one on either side."""
    stray = (block.rng.random((2, BLOCK_S)) < 0.004) * block.rng.uniform(0.05, 0.5, (2, BLOCK_S))
    forced = np.minimum(block.plan.forced, 0.5)
    made["liq_buy"] = made["perp_buy"] * np.maximum(stray[0], forced * (block.direction > 0))
    made["liq_sell"] = made["perp_sell"] * np.maximum(stray[1], forced * (block.direction < 0))
    made["lost_buy"], made["lost_sell"] = block.plan.lost_buy, block.plan.lost_sell


def _count(state: State, made: Seconds) -> State:
    """Write how many trades there were before each second."""
    after: list[int] = []
    for kind, before in zip(("spot", "perp"), state.counts, strict=True):
        total = before + np.cumsum(made[f"{kind}_buys"] + made[f"{kind}_sells"])
        made[f"{kind}_count"] = np.concatenate(([before], total[:-1]))
        after.append(int(total[-1]))
    return replace(state, counts=(after[0], after[1]))
