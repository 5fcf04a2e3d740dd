"""A warm start: take up where the last run ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from sqfd import log
from sqfd.bars.seconds import Seconds
from sqfd.clock import Clock
from sqfd.config import Config
from sqfd.engine import Engine
from sqfd.influx.client import Client, QueryError
from sqfd.influx.warm import Earlier, FlowReader
from sqfd.journal import Journal
from sqfd.model import FLOW

HOUR_S = 3600
WARM_S = 10.0
"""History that InfluxDB does not give within this long is gone without."""

_log = log.get("warm")


async def warm_up(
    engine: Engine, seconds: Seconds, journal: Journal, influx: Client | None, config: Config, time: Clock
) -> tuple[int, bytes | None]:
    """Fill the engine's rings, prices and weights, and restore positions.

    History comes from the journal, and from InfluxDB where the journal is younger than what the engine wants. Gives the tick
    that the engine knows everything up to, and the state that it was restored from.
    """
    last = journal.written
    since = (last or int(time.now_ms() / 1e3)) - engine.history_s
    earlier = await _before_journal(engine.symbols, seconds, journal, influx, config, since, int(time.now_ms() / 1e3))
    if earlier is not None:
        await journal.load_flow(np.concatenate(earlier.flow))  # a backtest must see what this run was warmed with
    # The journal keeps what it had: read back, so that no second comes twice.
    end = last + 1 if earlier is None else 1 << 40
    flows = [(await journal.flow(symbol, since, end, index=index)).rows for index, symbol in enumerate(engine.symbols)]
    newest = [flow[-1:] for flow in flows]
    if flows:
        engine.warm(np.concatenate(flows))  # at once, as backtests do: what is remembered depends on it
    bars = await journal.bars([market.name for market in seconds.markets], last - HOUR_S, last)
    if earlier is not None and not len(bars):
        bars = earlier.notional
    ended = np.concatenate(newest) if newest else np.zeros(0, FLOW)
    if last > 0:
        seconds.resume(last, ended, bars)
    else:
        seconds.flow.resume(ended, bars)
    if (state := await journal.positions()) is not None:
        engine.restore(state)
    if last > 0:
        _log.info("warm", ticks_until=last, symbols=len(engine.symbols))
    return max([last, *(int(rows["second"][0]) + 1 for rows in newest if len(rows))]), state


async def missed_by(journal: Journal) -> Mapping[str, int]:
    """The markets that the last run collected in its last hour, with the second in which each last traded (or that hour's
    first): what happened on them since the journal's last tick was missed. Empty for a new journal."""
    last = journal.written
    if last == 0:
        return {}
    names = journal.names()
    coverage = await journal.coverage(names, last - HOUR_S, last)
    known = {name: last - HOUR_S for name, whole in zip(names, coverage, strict=True) if whole.any()}
    return known | await journal.last_traded(last - HOUR_S)


async def _before_journal(
    symbols: Sequence[str],
    seconds: Seconds,
    journal: Journal,
    influx: Client | None,
    config: Config,
    since: int,
    now: int,
) -> Earlier | None:
    """What InfluxDB has of the time before the journal begins; None: nothing is needed, or nothing is there."""
    settings = config.influx
    if influx is None or settings is None or not settings.influxql or not symbols:
        return None
    oldest = await journal.first_flow(symbols)
    until = now if oldest is None else oldest
    if until - since < HOUR_S:
        return None
    try:
        async with asyncio.timeout(WARM_S):
            reader = FlowReader(influx, settings.database)
            earlier = await reader.earlier(seconds.markets, symbols, since, until)
    except (QueryError, TimeoutError) as error:
        _log.warning("no history from InfluxDB", error=str(error) or f"not within {WARM_S:.0f} s")
        return None
    _log.info("history from InfluxDB", seconds=max(map(len, earlier.flow)), until=until)
    return earlier
