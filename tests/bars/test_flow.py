"""Flow is exact: revisions leave what the whole data would have given, and prices are the weighted mean."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Instrument, Trade
from sqfd.bars.seconds import Seconds
from sqfd.model import FLOW, FLOW_VALUES, NO_PRICE, Market

MARKETS = [
    Market("A", "btc", "spot", "BTC", "USDT"),
    Market("B", "btc", "perp", "BTC", "USD"),
    Market("A", "kbtc", "perp", "BTC", "USDT", 1000.0),
    Market("A", "eth", "spot", "ETH", "USDT"),
    Market("A", "btceur", "spot", "BTC", "EUR"),
]
SECOND = 1_700_000_000
EXACT = ("price", "high", "low", "spot_delta", "perp_delta", "spot_volume", "perp_volume", "liq_buy", "liq_sell")
WHOLE = np.ones(len(MARKETS), np.bool_)


class Stage:
    """Builder and flow builder, with the newest row of each (second, symbol) kept."""

    def __init__(self) -> None:
        self.seconds = Seconds(["BTC", "ETH"], revisable_s=120)
        self.builder, self.flow = self.seconds.builder, self.seconds.flow
        self.seconds.add_markets(MARKETS)
        self.builder.start(SECOND)
        self.newest: dict[tuple[int, int], dict[str, int]] = {}

    def trade(self, market: int, second: int, price: float, size: float, buy: bool) -> None:
        one = MARKETS[market]
        instrument = Instrument(one.exchange, one.pair, one.pair, "spot", one.base, one.quote, "spot")
        assert self.builder.trade(market, Trade(instrument, (SECOND + second) * 1000, price, size, buy))

    def close(self, whole: np.ndarray = WHOLE) -> dict[str, int]:
        rows = self.seconds.close(lambda _: whole).flow
        for row in rows:
            self.newest[int(row["second"]), int(row["symbol"])] = {name: int(row[name]) for name in FLOW_VALUES}
        return {name: int(rows[-2][name]) for name in FLOW_VALUES}


steps = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 9), st.floats(0.5, 1e5), st.floats(1e-3, 10), st.booleans(), st.booleans()
    ),
    max_size=40,
)


@given(steps)
def test_flow_after_revisions_equals_flow_of_ordered_data(
    given_steps: list[tuple[int, int, float, float, bool, bool]],
) -> None:
    """Late trades leave exactly the cents, prices and extremes that the same trades give in order."""
    late, ordered = Stage(), Stage()
    closes = 0
    for market, second, price, size, buy, then_close in given_steps:
        late.trade(market, second, price, size, buy)
        if then_close and closes < 10:
            late.close()
            closes += 1
    for market, second, price, size, buy, _ in sorted(given_steps, key=lambda step: step[1]):
        ordered.trade(market, second, price, size, buy)
    for _ in range(12):
        ordered.close()
    for _ in range(12):
        late.close()
    for key, row in ordered.newest.items():
        assert {name: late.newest[key][name] for name in EXACT} == {name: row[name] for name in EXACT}


def test_deltas_are_cents_by_kind_and_foreign_quotes_stay_out() -> None:
    """Spot and perp apart, buys minus sells, dollars only."""
    stage = Stage()
    stage.trade(0, 0, 100.0, 2.0, True)
    stage.trade(1, 0, 100.0, 0.5, False)
    stage.trade(4, 0, 100.0, 9.0, True)
    row = stage.close()
    assert (row["spot_delta"], row["spot_volume"]) == (20_000, 20_000)
    assert (row["perp_delta"], row["perp_volume"]) == (-5_000, 5_000)


def test_index_price_is_the_mean_weighted_by_the_hours_notional() -> None:
    """Weights are equal until the first minute turns, then by notional; multiples count as single coins."""
    stage = Stage()
    stage.trade(0, 0, 100.0, 3.0, True)
    stage.trade(2, 0, 102_000.0, 0.001, True)
    row = stage.close()
    assert row["price"] == round(math.log(101.0) * 1e9)
    for second in range(1, 61):
        stage.trade(0, second, 100.0, 0.001, True)
        stage.trade(2, second, 102_000.0, 1e-6, True)
        row = stage.close()
    weights = (300.0, 102.0)
    mean = (weights[0] * 100.0 + weights[1] * 102.0) / sum(weights)
    assert abs(row["price"] - math.log(mean) * 1e9) < 1e5


def test_silent_market_leaves_the_mean_and_price_is_carried() -> None:
    """After 60 s without a trade a market has no say; without any market the last price stays."""
    stage = Stage()
    assert stage.close()["price"] == NO_PRICE
    stage.trade(0, 1, 100.0, 1.0, True)
    first = stage.close()
    for _ in range(70):
        last = stage.close()
    assert last["price"] == first["price"] == round(math.log(100.0) * 1e9)
    assert last["high"] == last["low"] == last["price"]


def test_coverage_is_the_share_of_volume_whose_feeds_were_whole() -> None:
    """A market with nine tenths of the volume costs nine tenths when its feed is broken."""
    stage = Stage()
    stage.trade(0, 0, 100.0, 9.0, True)
    stage.trade(1, 0, 100.0, 1.0, True)
    for _ in range(60):
        stage.close()
    broken = WHOLE.copy()
    broken[0] = False
    assert stage.close(broken)["coverage_ppm"] == 100_000
    assert stage.close()["coverage_ppm"] == 1_000_000


def test_a_later_run_goes_on_with_prices_and_weights() -> None:
    """After a restart the index continues from the last price, with the weights of the last hour."""
    stage = Stage()
    stage.trade(0, 0, 100.0, 3.0, True)
    stage.trade(1, 0, 102.0, 1.0, True)
    bars = stage.builder.close(WHOLE)
    flow = stage.flow.close(bars)
    resumed = Stage()
    resumed.flow.recall(bars.bars)
    resumed.flow.resume(flow)
    resumed.builder.start(SECOND + 60)
    assert resumed.close()["price"] == flow[0]["price"]
    resumed.trade(0, 61, 100.0, 1.0, True)
    resumed.trade(1, 61, 102.0, 1.0, True)
    mean = (300.0 * 100.0 + 102.0 * 102.0) / 402.0
    assert abs(resumed.close()["price"] - math.log(mean) * 1e9) < 2


def test_coverage_that_is_learned_later_revises_its_seconds() -> None:
    """A hole that is noticed late lowers the coverage of closed seconds, a filled one restores it; nothing else changes."""
    stage = Stage()
    for second in range(5):
        stage.trade(0, second, 100.0, 1.0, True)
        stage.trade(1, second, 100.0, 1.0, False)
        stage.close()
    before = dict(stage.newest[SECOND + 2, 0])
    assert before["coverage_ppm"] == 1_000_000
    seconds = np.arange(SECOND + 1, SECOND + 4)
    stage.flow.cover(0, seconds, np.zeros(3, np.bool_))
    stage.close()
    lowered = stage.newest[SECOND + 2, 0]
    assert 0 < lowered["coverage_ppm"] < 1_000_000
    assert stage.newest[SECOND, 0]["coverage_ppm"] == 1_000_000
    assert {**lowered, "coverage_ppm": 1_000_000} == before
    stage.flow.cover(0, seconds, np.ones(3, np.bool_))
    stage.close()
    assert stage.newest[SECOND + 2, 0] == before


def test_coverage_of_what_is_not_remembered_changes_nothing() -> None:
    """Seconds that never closed, or closed too long ago, give no row."""
    stage = Stage()
    stage.trade(0, 0, 100.0, 1.0, True)
    stage.close()
    stage.flow.cover(0, np.array([SECOND - 500, SECOND + 50]), np.zeros(2, np.bool_))
    stage.flow.cover(4, np.array([SECOND]), np.zeros(1, np.bool_))
    rows = stage.flow.close(stage.builder.close(WHOLE))
    assert set(rows["second"].tolist()) == {SECOND + 1}


def test_a_recovered_minute_revises_its_prices_and_those_that_look_back_at_it() -> None:
    """What was flat because nothing was heard follows the recovered bars, until the market trades again; the weights stay."""
    cut, whole = Stage(), Stage()
    for stage in (cut, whole):
        for second in range(200):
            missing = stage is cut and 50 <= second < 120
            if not missing:
                stage.trade(0, second, 100.0 + second, 1.0, True)
            if second % 50 == 0:
                stage.trade(1, second, 200.0, 0.001, False)
            if second == 150 and stage is cut:
                for late in range(50, 120):
                    stage.trade(0, late, 100.0 + late, 1.0, True)
            stage.close()
    for second in range(91, 200):  # what is 60 s short of the memory's end is not made again
        mine, twin = cut.newest[SECOND + second, 0], whole.newest[SECOND + second, 0]
        assert (mine["spot_delta"], mine["spot_volume"]) == (twin["spot_delta"], twin["spot_volume"])
        for name in ("price", "high", "low"):
            assert abs(mine[name] - twin[name]) < 2e6, (second, name)  # weights differ a little: a minute was missing
    assert cut.newest[SECOND + 100, 0]["price"] > cut.newest[SECOND + 90, 0]["price"]


def test_seconds_in_which_sqfd_was_down_can_be_recovered() -> None:
    """Between the last second of a run and the first of the next, recovered bars make flow and prices; the rest is carried."""
    stage = Stage()
    before = np.zeros(2, FLOW)
    before["symbol"], before["second"], before["price"], before["open_interest"] = [0, 1], SECOND - 30, 4_000_000_000, 7
    before["funding_ppb"] = -9
    stage.builder.resume(SECOND - 29)
    stage.flow.resume(before, SECOND - 29)
    stage.trade(0, 0, 100.0, 1.0, True)
    stage.builder.start(SECOND)
    stage.close()
    assert min(second for second, _ in stage.newest) == SECOND
    stage.trade(0, -10, 50.0, 2.0, True)
    stage.close()
    assert min(second for second, _ in stage.newest) == SECOND - 10
    row = stage.newest[SECOND - 10, 0]
    assert (row["spot_delta"], row["coverage_ppm"], row["open_interest"], row["funding_ppb"]) == (10_000, 0, 7, -9)
    assert [stage.newest[SECOND - at, 0]["price"] for at in (10, 1, 0)] == [
        round(math.log(price) * 1e9) for price in (50.0, 50.0, 100.0)
    ]
    stage.flow.cover(0, np.arange(SECOND - 29, SECOND), np.ones(29, np.bool_))
    stage.close()
    assert stage.newest[SECOND - 29, 0]["coverage_ppm"] > 0
    assert stage.newest[SECOND - 29, 0]["price"] == 4_000_000_000


def test_bars_that_were_revised_are_kept_once() -> None:
    """Builder and flow hold the same array of each second, which holds no bars of other seconds, however they were revised."""
    stage = Stage()
    for second in range(5):
        for market in range(3):
            stage.trade(market, second, 100.0, 1.0, True)
            stage.trade(market, max(0, second - 2), 101.0, 1.0, True)
        stage.close()
    for second in range(SECOND, SECOND + 5):
        bars = stage.builder.closed.of(second)
        assert len(bars) == 3
        assert bars is stage.flow.recent.of(second)
        assert bars.base is None
