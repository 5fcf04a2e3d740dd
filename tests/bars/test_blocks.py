"""Flow from stored bars against the builder that live seconds go through."""

from __future__ import annotations

import numpy as np
import pytest

from sqfd.bars.blocks import FlowBlocks
from sqfd.bars.flow import FlowBuilder
from sqfd.model import BAR, FLOW, ClosedSecond, Market

FIRST_S = 1_723_075_200
MARKETS = [
    Market("BINANCE", "btcusdt", "spot", "BTC", "USDT"),
    Market("BINANCE", "btceur", "spot", "BTC", "EUR"),
    Market("BINANCE_FUTURES", "btcusdt", "perp", "BTC", "USDT"),
    Market("OKEX", "1000BTC-USD", "perp", "BTC", "USD", 1000.0),
]


def random_bars(rng, seconds):
    rows = []
    for second in range(FIRST_S, FIRST_S + seconds):
        quiet = (second - FIRST_S) // 100 % 4 == 3
        for market in range(len(MARKETS)):
            if rng.random() < (0.0 if quiet else 0.3 / (1 + market)):
                base = 60_000 * (1000 if market == 3 else 1) * np.exp(rng.normal(0, 0.001, 4))
                prices = (base[0], base.max(), base.min(), base[3]) if rng.random() > 0.1 else (np.nan,) * 4
                volumes = rng.exponential(10_000, 2) if prices[0] == prices[0] else (0.0, 0.0)
                rows.append((market, second, *prices, *volumes, 2, 3, *(rng.exponential(10, 2))))
    return np.array(rows, BAR)


@pytest.mark.parametrize("seed", [7])
def test_blocks_equal_the_builder_bit_for_bit(seed):
    """More than an hour of quiet and busy seconds, liquidations alone, a market in euros and one in thousands: equal rows."""
    rng = np.random.default_rng(seed)
    seconds = 3_900
    bars = random_bars(rng, seconds)
    whole = rng.random((len(MARKETS), seconds)) < 0.9
    builder = FlowBuilder(["BTC"])
    builder.add_markets(MARKETS)
    cuts = np.searchsorted(bars["second"], np.arange(FIRST_S, FIRST_S + seconds + 1))
    slow = np.concatenate(
        [builder.close(ClosedSecond(FIRST_S + n + 1, bars[cuts[n] : cuts[n + 1]], whole[:, n])) for n in range(seconds)]
    )
    fast = FlowBlocks(MARKETS)
    half = np.searchsorted(bars["second"], FIRST_S + 1_800)
    rows = [
        fast.close(FIRST_S, bars[:half], whole[:, :1_800]),
        fast.close(FIRST_S + 1_800, bars[half:], whole[:, 1_800:]),
    ]
    found = np.concatenate(rows)
    for name in FLOW.names or ():
        different = np.flatnonzero(found[name] != slow[name])
        assert len(different) == 0, (name, different[:5], found[name][different[:5]], slow[name][different[:5]])


def test_no_market_no_price():
    """Without a market in dollars there is a row for each second, empty and uncovered; a price is carried on."""
    blocks = FlowBlocks(MARKETS[1:2], price=77)
    rows = blocks.close(FIRST_S, np.zeros(0, BAR), np.ones((1, 60), bool))
    assert set(rows["price"].tolist()) == {77}
    assert rows["coverage_ppm"].max() == 0
