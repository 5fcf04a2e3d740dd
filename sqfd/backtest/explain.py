"""Why something happened, or did not, at any second that the journal holds: the engine is run up to it as it was live."""

from __future__ import annotations

from sqfd.backtest.run import Backtest, planned, told_by
from sqfd.backtest.source import NoData, moment
from sqfd.config import Config
from sqfd.engine import Explanation
from sqfd.journal import JournalStore

REACH_S = 7 * 86_400
"""A live run that began longer ago is not run from its start: positions older than this are not known."""
LEAD_S = 86_400
"""Then, and where no live run was, this much is run before the second that is asked for."""


def explain_at(store: JournalStore, config: Config, symbol: str, second: int) -> Explanation:
    """What the strategy made of a second, under the settings of the live run that it belongs to, else of `config`.

    Raises NoData, whose text names what there is.
    """
    tick = second + 1
    runs = [run for run in told_by(store) if run.tick <= tick and symbol in run.symbols and run.strategy is not None]
    first = runs[-1].tick if runs and tick - runs[-1].tick <= REACH_S else tick - LEAD_S
    symbols = runs[-1].symbols if runs else (symbol,)
    there = tuple(name for name in symbols if name == symbol or store.flow_extent(name) is not None)
    plan = planned(store, config, there, first - 1, tick)
    if plan.last <= tick:
        raise NoData(f"no flow of {symbol} at {moment(second)}: the journal ends at {moment(plan.last - 2)}")
    backtest = Backtest(store, config, plan, as_told=True)
    backtest.run()
    assert backtest.engine is not None  # a run leaves one
    return backtest.engine.explain(symbol)
