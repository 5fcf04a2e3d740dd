"""The past of a simulated world, and what it lists."""

from __future__ import annotations

import numpy as np

import exchanges
from sqfd.model import BAR, FLOW
from sqfd.sim.history import HISTORY_S, RUN_IN_S, world
from sqfd.sim.listing import listed, shared
from tests.sim.conftest import START

NOW = START + 40 * 3_600 + 1_234


def test_a_day_of_history() -> None:
    """28 h of three symbols end at `now` without a hole."""
    made = world([exchanges.get("BINANCE")], ["BTC", "ETH", "SOL"], 2, NOW)
    history = made.history(NOW)
    assert history.flow.dtype == FLOW
    assert history.bars.dtype == BAR
    for symbol in range(3):
        seconds = history.flow["second"][history.flow["symbol"] == symbol]
        assert seconds[-1] == NOW - 1
        assert len(seconds) == HISTORY_S
        assert np.all(np.diff(seconds) == 1)
    order = history.bars["second"] * 1_000 + history.bars["market"]
    assert np.all(np.diff(order) > 0)
    assert history.bars["second"].max() < NOW
    assert set(history.bars["market"]) == set(range(len(history.markets)))


def test_bars_agree_with_flow() -> None:
    """Where all markets are spot, a second's bars add up to its spot flow."""
    made = world([exchanges.get("BINANCE")], ["BTC"], 2, NOW, history_s=7_200)
    history = made.history(NOW, bars_s=60)
    for second in range(NOW - 60, NOW):
        bars = history.bars[history.bars["second"] == second]
        flow = history.flow[history.flow["second"] == second][0]
        assert np.isclose((bars["vbuy"] - bars["vsell"]).sum(), flow["spot_delta"] / 100, rtol=1e-4, atol=1.0)


def test_what_was_lived_is_not_written_again() -> None:
    """A folder that is kept has a past of its own: of the new one only what came after it is written."""
    history = world([exchanges.get("BINANCE")], ["BTC", "ETH"], 2, NOW, history_s=7_200).history(NOW)
    later = history.since(NOW - 60)
    assert np.array_equal(later.flow, history.flow[history.flow["second"] >= NOW - 60])
    assert np.array_equal(later.bars, history.bars[history.bars["second"] >= NOW - 60])
    assert len(later.flow) == 2 * 60
    assert len(history.since(NOW).bars) == 0
    assert len(history.since(0).flow) == len(history.flow)


def test_the_past_goes_on() -> None:
    """The first live second opens at the price where history ends."""
    made = world([exchanges.get("BINANCE")], ["BTC"], 2, NOW, history_s=7_200)
    last = made.history(NOW).flow["price"][-1]
    opened = np.log(made.tapes[0].market.second(NOW)["open"]) * 1e9
    assert abs(last - opened) <= 1


def test_staged_squeezes() -> None:
    """At `now` the first symbol is at the end of its reset; it runs soon, and the others follow in alternate directions."""
    made = world([exchanges.get("BINANCE")], ["BTC", "ETH", "SOL"], 2, NOW)
    first, second, third = (made.episodes[symbol][0] for symbol in made.symbols)
    assert first.reset_start < NOW - 300
    assert first.run_start == NOW + RUN_IN_S
    assert first.run_start < second.run_start < third.run_start
    assert (first.direction, second.direction, third.direction) == (1, -1, 1)
    assert len(made.episodes["BTC"]) > 20


def test_random_world_has_no_episode_in_its_first_hours() -> None:
    """Without staging, squeezes come after six hours at the earliest, so that a strategy has a baseline."""
    made = world([exchanges.get("BINANCE")], ["BTC"], 2, NOW, staged=False)
    assert made.episodes["BTC"][0].start >= made.start + 6 * 3_600


def test_usual_markets() -> None:
    """An exchange lists its usual markets of each symbol, those in dollars only."""
    found = listed(exchanges.get("BINANCE"), ["BTC", "DOGE"])
    assert [i.market for i in found] == ["BINANCE:btcusdt", "BINANCE:dogeusdt"]
    assert listed(exchanges.get("BINANCE"), []) == []
    assert [i.market for i in listed(exchanges.get("UPBIT"), ["BTC"])] == ["UPBIT:USDT-BTC"]


def test_shares() -> None:
    """A symbol's listings are its own markets only, each with a positive share."""
    instruments = listed(exchanges.get("BINANCE"), ["BTC", "ETH"])
    mine = shared(instruments, "ETH")
    assert [each.instrument.base for each in mine] == ["ETH"]
    assert all(each.weight > 0 for each in mine)
