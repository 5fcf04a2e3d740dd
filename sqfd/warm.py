"""A warm start: take up where the last run ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from sqfd import log
from sqfd.bars.builder import SEAM_S
from sqfd.bars.seconds import Seconds
from sqfd.clock import Clock
from sqfd.config import Config
from sqfd.engine import Engine
from sqfd.influx.client import Client, QueryError
from sqfd.influx.warm import Earlier, FlowReader
from sqfd.journal import LastTraded, Missed, Ticked
from sqfd.journal.journal import Journal
from sqfd.model import FLOW, Flow

HOUR_S = 3600
STRETCH_S = 4 * HOUR_S
MINUTES_S = 300
"""Flow and bars are read so much at a time: a day of five symbols at once would take 100 MB for a moment."""
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
    end = last + 1
    for rows in earlier.flow if earlier is not None else ():
        await journal.load_flow(rows)  # a backtest must see what this run was warmed with
        end = max(end, int(rows["second"].max(initial=0)) + 2)
    # The journal keeps what it had: read back, so that no second comes twice.
    newest = await _fill(engine, journal, since, end)
    if not await _recall(seconds, journal, last) and earlier is not None:
        seconds.flow.recall(earlier.notional)
    told = await journal.bars([market.name for market in seconds.markets], last - SEAM_S, last) if last else None
    seconds.resume(last, np.concatenate(newest) if newest else np.zeros(0, FLOW), told)
    if (state := await journal.positions()) is not None:
        engine.restore(state)
    if last > 0:
        _log.info("warm", ticks_until=last, symbols=len(engine.symbols))
    return max([last, *(int(rows["second"][0]) + 1 for rows in newest if len(rows))]), state


async def _fill(engine: Engine, journal: Journal, since: int, end: int) -> list[Flow]:
    """The ticks `since <= tick < end` into the engine, in stretches; gives each symbol's last row, empty where there is none."""
    recent = max(since, end - engine.memory_s)
    newest, judged = [], list[Ticked]()
    for index, symbol in enumerate(engine.symbols):
        last = np.zeros(0, FLOW)
        for first in range(since, recent, STRETCH_S):
            found = await journal.flow(symbol, first, min(first + STRETCH_S, recent), index=index)
            engine.fill(symbol, found.ticks, found.rows)
            last = found.rows[-1:].copy() if len(found.rows) else last
        judged.append(await journal.flow(symbol, recent, end, index=index))
        newest.append(judged[-1].rows[-1:] if len(judged[-1].rows) else last)
    if judged:  # the stretch may begin with revisions: only the journal knows of which tick they are
        rows, ticks = (
            np.concatenate(columns) for columns in zip(*((one.rows, one.ticks) for one in judged), strict=True)
        )
        engine.warm(rows, ticks)
    return newest


async def _recall(seconds: Seconds, journal: Journal, last: int) -> bool:
    """The last hour's bars for the weights of the markets; False: the journal has none."""
    names, found = [market.name for market in seconds.markets], False
    for first in range(last - HOUR_S, last, MINUTES_S):
        bars = await journal.bars(names, first, min(first + MINUTES_S, last))
        seconds.flow.recall(bars)
        found |= bool(len(bars))
    return found


async def missed_by(journal: Journal) -> Mapping[str, Missed]:
    """By name; empty for a new journal."""
    last = journal.written
    if last == 0:
        return {}
    names = journal.names()
    coverage = await journal.coverage(names, last - HOUR_S, last)
    whole = dict(zip(names, coverage.sum(axis=1).tolist(), strict=True))
    traded = await journal.last_traded(last - HOUR_S, last - SEAM_S)
    never = LastTraded(last - HOUR_S, 0)
    return {name: Missed(*traded.get(name, never), whole[name]) for name in names if whole[name] or name in traded}


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
