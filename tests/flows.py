"""Order flow for tests: plain noise, and a planted squeeze (build-up, reset, run) with known times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqfd.model import FLOW, PPM, Flow

START = 1_700_000_040
"""First second of made flows: not on a candle boundary."""


def noise(seconds: int, seed: int = 0, symbol: int = 0, scale: float = 1.0) -> Flow:
    """Uncorrelated taker flow and a random walk of price."""
    rng = np.random.default_rng(seed)
    spot = rng.normal(0, 100_000 * scale, seconds)
    perp = rng.normal(0, 300_000 * scale, seconds)
    returns = rng.normal(0, 60_000, seconds) + 0.02 * perp / scale
    return make(spot, perp, returns, symbol)


def make(spot: NDArray[np.float64], perp: NDArray[np.float64], returns: NDArray[np.float64], symbol: int = 0) -> Flow:
    """Rows of FLOW from per-second deltas in cents and log returns × 1e9."""
    rows = np.zeros(len(spot), FLOW)
    rows["symbol"] = symbol
    rows["second"] = START + np.arange(len(spot))
    price = np.rint(10.0e9 + np.cumsum(returns)).astype(np.int64)
    before = np.concatenate([price[:1], price[:-1]])
    rows["price"] = price
    rows["high"] = np.maximum(price, before) + 5_000
    rows["low"] = np.minimum(price, before) - 5_000
    rows["spot_delta"] = np.rint(spot)
    rows["perp_delta"] = np.rint(perp)
    rows["spot_volume"] = np.abs(rows["spot_delta"]) + 1_000
    rows["perp_volume"] = np.abs(rows["perp_delta"]) + 1_000
    rows["coverage_ppm"] = PPM
    return rows


def squeeze(seed: int = 0, symbol: int = 0, quiet_s: int = 4 * 3600, strength: float = 1.0) -> Flow:
    """A long squeeze after `quiet_s`: 30 min of spot buying against perp selling with price held, 10 min in which perps buy
    back and price stalls, 15 min in which both buy and price runs, 30 min in which both sell."""
    rng = np.random.default_rng(seed)
    phases = ((quiet_s, 0, 0, 0), (1800, 40, -90, 0), (600, -15, 90, 0), (900, 60, 150, 9), (1800, -60, -150, -6))
    length = sum(phase[0] for phase in phases)
    drift = np.concatenate([np.repeat([phase[1:]], phase[0], axis=0) for phase in phases]) * strength
    spot = rng.normal(0, 60_000, length) + 1_000 * drift[:, 0]
    perp = rng.normal(0, 150_000, length) + 1_000 * drift[:, 1]
    returns = rng.normal(0, 30_000, length) + 1_000 * drift[:, 2]
    held = (np.arange(length) >= quiet_s) & (np.arange(length) < quiet_s + 2400)
    returns[held] *= 0.3
    return make(spot, perp, returns, symbol)


def mirrored(rows: Flow) -> Flow:
    """Buys become sells and prices turn over."""
    out = rows.copy()
    for name in ("spot_delta", "perp_delta"):
        out[name] = -rows[name]
    out["price"], out["high"], out["low"] = -rows["price"], -rows["low"], -rows["high"]
    out["funding_ppb"] = -rows["funding_ppb"]
    out["liq_buy"], out["liq_sell"] = rows["liq_sell"], rows["liq_buy"]
    return out


def scaled(rows: Flow, factor: int) -> Flow:
    """All volumes × `factor`."""
    out = rows.copy()
    for name in (
        "spot_delta",
        "perp_delta",
        "spot_volume",
        "perp_volume",
        "liq_buy",
        "liq_sell",
        "open_interest",
    ):
        out[name] = rows[name] * factor
    return out


def together(*flows: Flow) -> Flow:
    """Rows of several symbols in the order in which a journal holds them."""
    rows = np.concatenate(flows)
    return rows[np.lexsort((rows["symbol"], rows["second"]))]


def ticks_of(rows: Flow) -> NDArray[np.int64]:
    """The tick at which each row becomes known when nothing is late."""
    return np.asarray(rows["second"] + 1)
