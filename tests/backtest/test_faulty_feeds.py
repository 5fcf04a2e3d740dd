"""P7 over the real feeds: simulated exchanges with cuts, gaps and REST recovery, then the backtest of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import orjson
import pytest

from sqfd.backtest.run import Backtest, planned
from sqfd.bars.seconds import Closed
from sqfd.config import load
from sqfd.journal import Batch, JournalStore
from sqfd.model import market_of
from sqfd.signals.signal import encode
from sqfd.wiring import engine_for, engine_note, journaled
from tests.simulation.loop import run
from tests.simulation.plan import REST_S, cuts_of
from tests.simulation.world import World

SHORT = Path(__file__).parents[1] / "data" / "short.toml"
IDS = ("BINANCE", "BINANCE_FUTURES", "BYBIT")
CUTS = 6


class Journaled(World):
    """The simulated run, with engine and journal behind its seconds as in the daemon."""

    def __init__(self, seed: int, exchange_ids: Sequence[str], folder: Path) -> None:
        super().__init__(seed, exchange_ids)
        self.config = load(SHORT, {}, {"strategy.min_coverage": 0.2, "strategy.min_entry_score": 0.5}).config
        self.store = JournalStore(folder, bulk=True)
        symbols = self.config.symbols.symbols
        markets = [market_of(instrument) for instrument in self.instruments]
        self.store.register(markets, symbols)
        named = {symbol: [market.name for market in markets if market.base == symbol] for symbol in symbols}
        self.engine = engine_for(self.config, named)
        self.store.note_engine(1, engine_note(self.config, named, None))
        self.lines: list[bytes] = []

    def _take(self, closed: Closed) -> None:
        super()._take(closed)
        signals = self.engine.tick(closed.tick, closed.flow)
        records = [journaled(signal, len(self.lines) + number) for number, signal in enumerate(signals, 1)]
        self.lines += [record.line for record in records]
        self.store.append(Batch(closed.tick, closed.second.bars, closed.flow, records, None, closed.second.whole))


@pytest.mark.parametrize("seed", [3, 8])
def test_signals_equal_through_cuts_gaps_and_recoveries(seed: int, tmp_path: Path) -> None:
    """Connections are cut, holes are filled by REST, seconds are revised; the backtest gives the live run's bytes."""
    cuts = cuts_of(Random(seed), list(IDS), CUTS)

    async def main() -> Journaled:
        world = Journaled(seed, IDS, tmp_path)
        await world.run(cuts[-1][0] + cuts[-1][3] + REST_S, cuts)
        world.check()
        return world

    world = run(main())
    seen = world.store.flow("BTC", 0, 2**40)
    late = seen.rows["second"] < seen.ticks - 1
    recovered = [recovery.counts["recovered"] for recovery in world.supervisor.recoveries.values()]
    put_in = sum(recovery.counts["trades"] for recovery in world.supervisor.recoveries.values())
    assert len(world.struck) >= CUTS - 1
    assert sum(recovered) >= 3
    assert put_in >= 20
    assert np.count_nonzero(late) >= 5
    assert (seen.ticks - 1 - seen.rows["second"]).max() >= 10, "no hole was filled long after"
    assert len(world.lines) >= 2
    assert {orjson.loads(line)["action"] for line in world.lines} >= {"CLOSE"}
    short_blocks = msgspec.structs.replace(world.config.backtest, block_s=60)
    for settings in (world.config.backtest, short_blocks):
        config = msgspec.structs.replace(world.config, backtest=settings)
        result = Backtest(world.store, config, planned(world.store, config, (), None, None)).run()
        assert [encode(signal) for signal in result.signals] == world.lines
    world.store.close()
