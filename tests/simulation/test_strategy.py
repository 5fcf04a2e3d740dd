"""What the strategy makes of a hole: five minutes without one exchange, whose perpetuals bought while another's sold.

Seen whole the perpetuals trade in balance, and nothing is to be done. Without the exchange that buys they seem to be sold
while spot is bought and the price holds: a squeeze that is building up. When the exchange is back its buying looks like the
reset. Only coverage tells the difference.
"""

from __future__ import annotations

from functools import cache
from random import Random

import numpy as np

from exchanges.api import Instrument, Trade
from sqfd.bars.ring import PERP, SPOT
from sqfd.bars.ring import PRICE as PRICE_ROW
from sqfd.bars.seconds import Closed
from sqfd.config import load
from sqfd.model import BAR_FIELDS, FLOW, PPM, PRICE_SCALE, Flow, market_of
from sqfd.signals.signal import Signal
from sqfd.wiring import engine_for
from tests.exchanges.support import identity
from tests.simulation.loop import START_MS, run
from tests.simulation.world import STEP_S, World

IDS = ("BINANCE_FUTURES", "BYBIT")
CUT_AT_S, CUT_S, RUN_S, END_S = 70.0, 300.0, 470.0, 620.0
SPOT_BUYS = (0.5, 0.7, 0.5, 0.65)
PERP_BUYS = {"BINANCE_FUTURES": (0.5, 1.0, 1.0, 0.9), "BYBIT": (0.5, 0.1, 0.4, 0.4)}
"""Share of trades that buy: before the cut, during it, after it, and while price runs."""
HISTORY_S = 1500
PRICE = 1000.0
STRATEGY = {
    "warmup_s": 600,
    "baseline_s": 1200,
    "sample_s": 15,
    "swing_window_s": 60,
    "context_windows_s": [120, 240, 480],
    "divergence_windows_s": [120, 240],
    "armed_s": 240,
    "reset_windows_s": [30, 60, 120],
    "reset_hold_s": 120,
    "reset_extreme_s": 60,
    "confirm_s": 240,
    "confirm_window_s": 60,
    "speed_window_s": 30,
    "candle_s": 60,
    "breakdown_candle_s": 20,
    "bias_window_s": 60,
    "exit_lookback_s": 120,
    "new_extreme_s": 60,
    "structure_s": 240,
    "min_entry_score": 3.0,
}
"""Windows of minutes instead of a quarter of an hour; all thresholds but the score are the defaults."""


def history() -> Flow:
    """What the engine knew before: flow of the usual size without direction."""
    rng, rows = np.random.default_rng(1), np.zeros(HISTORY_S, FLOW)
    rows["second"] = int(START_MS / 1e3) - 10 - HISTORY_S + np.arange(HISTORY_S)
    rows["spot_delta"], rows["perp_delta"] = rng.normal(0, 90_000, HISTORY_S), rng.normal(0, 490_000, HISTORY_S)
    rows["spot_volume"], rows["perp_volume"] = np.abs(rows["spot_delta"]), np.abs(rows["perp_delta"])
    price = np.log(PRICE) + np.cumsum(rng.normal(0, 4e-5, HISTORY_S))
    rows["price"] = np.rint((price - price[-1] + np.log(PRICE)) * PRICE_SCALE)
    rows["high"], rows["low"] = rows["price"] + 20_000, rows["price"] - 20_000
    rows["coverage_ppm"] = PPM
    return rows


class Hole(World):
    """The world with an engine behind it; each market trades by its part in the story, whatever happens to connections."""

    def __init__(self, recover: bool, min_coverage: float | None) -> None:
        super().__init__(21, IDS, recover=recover)
        gate = {} if min_coverage is None else {"min_coverage": min_coverage}
        flags = {"symbols.symbols": ["BTC"]} | {f"strategy.{k}": v for k, v in (STRATEGY | gate).items()}
        self.config = load(None, {}, flags).config
        markets = [market_of(instrument) for instrument in self.instruments]
        self.engine = engine_for(self.config, {"BTC": [market.name for market in markets]})
        self.engine.warm(history())
        self.signals: list[Signal] = []
        self._script = Random(5)

    def _take(self, closed: Closed) -> None:
        super()._take(closed)
        self.signals += self.engine.tick(closed.tick, closed.flow[closed.flow["symbol"] == 0])

    def _trade(self) -> None:
        """Five trades a second on each market, each side's share by the market's part."""
        from_ms, self._made_ms = self._made_ms, self.clock.now_ms()
        chance = self._script
        for venue in self.venues.values():
            made: list[Trade] = []
            for instrument in venue.past:
                buys, size = self.part(instrument, (from_ms - START_MS) / 1e3)
                for _ in range(chance.random() < 3.0 * STEP_S):
                    at_ms = chance.randrange(int(from_ms), int(self._made_ms))
                    made.append(self._scripted(instrument, at_ms, chance.random() < buys, size, venue.skew_ms))
            venue.publish(sorted(made, key=lambda trade: trade.ts_ms))

    def _scripted(self, instrument: Instrument, at_ms: int, buy: bool, size: float, skew_ms: float) -> Trade:
        number = self.ids[instrument.market] = self.ids[instrument.market] + 1
        id = identity(instrument.exchange, number, instrument.endpoint)
        step_s = (at_ms - START_MS) / 1e3
        run_s = max(0.0, step_s - RUN_S)
        price = round(PRICE * (1.0 + 1.2e-5 * run_s) + self._script.uniform(-0.02, 0.02), 3)
        if instrument.contract_size != 1.0 or instrument.inverse:
            size = instrument.contract_size * max(1, round(size)) / (price if instrument.inverse else 1.0)
        return Trade(instrument, int(at_ms + skew_ms), price, size, buy, id)

    def part(self, instrument: Instrument, at_s: float) -> tuple[float, float]:
        """(share of buys, coins of a trade)."""
        if instrument.inverse:
            return 0.5, 1.0
        place = next(n for n, until_s in enumerate((CUT_AT_S, CUT_AT_S + CUT_S, RUN_S, END_S)) if at_s < until_s)
        if instrument.kind == "spot":
            return SPOT_BUYS[place], 0.5
        return PERP_BUYS[instrument.exchange][place], 2.0


@cache
def after(cut: bool, recover: bool, min_coverage: float | None = None) -> Hole:
    async def main() -> Hole:
        world = Hole(recover, min_coverage)
        await world.run(END_S, [(CUT_AT_S, "BINANCE_FUTURES", "refused", CUT_S)] if cut else [])
        world.check()
        return world

    return run(main())


def hours_flow(world: Hole) -> dict[int, tuple[int, int]]:
    """Cumulative spot and perp delta since the run began, by tick: the whole memory of the strategy's flows."""
    ring = world.engine.rings["BTC"]
    first = int(START_MS / 1e3) + 5 - ring.base
    values = ring.series[:, first:] - ring.series[:, first : first + 1]
    return {ring.base + first + n: (int(values[SPOT, n]), int(values[PERP, n])) for n in range(values.shape[1])}


def test_without_the_gate_the_hole_gives_an_entry() -> None:
    """The scenario is a trap: with no coverage demanded, a long is opened on flow that never was, and it says so."""
    (entry,) = after(cut=True, recover=False, min_coverage=0.0).signals
    assert entry.action == "LONG"
    assert entry.coverage < 0.9
    assert after(cut=False, recover=True).signals == []


def test_without_recovery_no_entry_comes_of_the_hole() -> None:
    """With the default gate the same hole gives nothing, and what the strategy says of itself carries the lower coverage."""
    world = after(cut=True, recover=False)
    assert world.signals == []
    middle = int(START_MS / 1e3 + CUT_AT_S + CUT_S / 2)
    assert world.coverage[0, middle] < 0.8 * PPM
    assert not any(world.supervisor.whole(middle)[m] for m, i in enumerate(world.instruments) if i.exchange == IDS[0])
    assert world.engine.explain("BTC").coverage < 1.0


def test_with_recovery_everything_is_as_without_the_cut() -> None:
    """Once the hole is filled, bars and the strategy's flows equal those of an undisturbed run, to the cent."""
    world, twin = after(cut=True, recover=True), after(cut=False, recover=True)
    assert set(world.states(IDS[0])) == {"recovered"}
    first = int(START_MS / 1e3) + 5
    mine, true = ({k: v for k, v in w.bars.items() if k[1] >= first} for w in (world, twin))
    assert mine.keys() == true.keys()
    for key, bar in true.items():
        assert all(abs(bar[name] - mine[key][name]) <= 1e-9 * abs(bar[name]) for name in BAR_FIELDS)
    assert hours_flow(world) == hours_flow(twin)
    assert world.coverage[0, first + 200] == PPM
    assert world.signals == []


def test_prices_of_the_hole_are_those_of_the_undisturbed_run() -> None:
    """The index of recovered seconds is made again: within a basis point of the twin's, by the weights alone."""
    rings = [after(cut=cut, recover=True).engine.rings["BTC"] for cut in (True, False)]
    first = int(START_MS / 1e3 + CUT_AT_S)
    mine, true = (ring.series[PRICE_ROW, first - ring.base : first - ring.base + 400] for ring in rings)
    assert np.abs(mine - true).max() < 1e-4 * PRICE_SCALE
    assert len(np.unique(mine)) > 300
