"""Cost of the five phases for one symbol with full rings: per live tick, and per block of 7,200 ticks.

`python -m benchmarks.tick_kernel` prints one table and a line of JSON. CPU time, so that a busy machine matters less.
"""

from __future__ import annotations

import json
import time

import numpy as np

from sqfd.engine import Engine
from sqfd.model import FLOW, PPM, Flow
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import SqueezeFlow

BLOCK_S = 7_200
BLOCKS = 6
LIVE_TICKS = 3_000


def correlated_flow(seconds: int, seed: int = 0) -> Flow:
    """Spot and perp taker flow with a common, slowly varying part, and a price that follows it."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, seconds)
    spot = 60_000 * common + 80_000 * rng.normal(0, 1, seconds)
    perp = 240_000 * common + 180_000 * rng.normal(0, 1, seconds)
    rows = np.zeros(seconds, FLOW)
    rows["second"] = 1_700_000_000 + np.arange(seconds)
    price = np.rint(1e10 + np.cumsum(rng.normal(0, 50_000, seconds) + 0.3 * perp)).astype(np.int64)
    rows["price"], rows["high"], rows["low"] = price, price + 9_000, price - 9_000
    rows["spot_delta"], rows["perp_delta"] = np.rint(spot), np.rint(perp)
    rows["spot_volume"], rows["perp_volume"] = np.abs(rows["spot_delta"]), np.abs(rows["perp_delta"])
    rows["coverage_ppm"] = PPM
    return rows


def main() -> None:
    settings = StrategySettings()
    history = settings.history_s + 3_600
    rows = correlated_flow(history + BLOCKS * BLOCK_S + LIVE_TICKS)
    engine = Engine(["BTC"], SqueezeFlow(settings), settings, "benchmark", {}, BLOCK_S)
    engine.warm(rows[:history])
    blocks, signals, armed = [], 0, []
    for start in range(history, history + BLOCKS * BLOCK_S, BLOCK_S):
        part = rows[start : start + BLOCK_S]
        began = time.process_time()
        signals += len(engine.block(part["second"] + 1, part))
        blocks.append((time.process_time() - began) * 1e3)
        armed.append(engine.mind("BTC")["divergence"] != 0)
    ticks = []
    for start in range(history + BLOCKS * BLOCK_S, len(rows)):
        row, tick = rows[start : start + 1], int(rows["second"][start]) + 1
        began = time.process_time()
        engine.tick(tick, row)
        ticks.append((time.process_time() - began) * 1e6)
    p50, p99 = np.percentile(ticks, [50, 99])
    result = {
        "block_ms_median": round(float(np.median(blocks)), 2),
        "block_ms_worst": round(max(blocks), 2),
        "ticks_per_s": round(BLOCK_S / float(np.median(blocks)) * 1e3),
        "live_us_p50": round(float(p50), 1),
        "live_us_p99": round(float(p99), 1),
        "signals": signals,
    }
    for name, value in result.items():
        print(f"{name:<18}{value:>12}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
