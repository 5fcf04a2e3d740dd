"""What the simulator's tests share."""

from __future__ import annotations

import pytest

import exchanges
from exchanges.api import Instrument
from sqfd.sim.history import World
from sqfd.sim.hour import BLOCK_S
from sqfd.sim.market import Market
from sqfd.sim.tape import Listing, Tape

START = 1_766_016_000 // BLOCK_S * BLOCK_S


def listings() -> list[Listing]:
    """Two spot markets on a real exchange, two perps on an exchange that exists in tests only."""
    binance = exchanges.get("BINANCE")
    spots = [binance.assume("BTCUSDT"), binance.assume("BTCUSDC")]
    perps = [Instrument("PERPS", name, name, "perp", "BTC", "USDT", "perp") for name in ("one", "two")]
    weights = (0.7, 0.3, 0.9, 0.1)
    return [Listing(i, w, 1e-4) for i, w in zip((*spots, *perps), weights, strict=True)]


@pytest.fixture(scope="session")
def day() -> Market:
    """A day of BTC without episodes."""
    return Market("BTC", 11, START)


@pytest.fixture
def btc() -> World:
    """BTC on two spot markets of BINANCE, and nothing planted."""
    tape = Tape(Market("BTC", 5, START), [each for each in listings() if each.instrument.exchange == "BINANCE"])
    return World(START, (tape,))
