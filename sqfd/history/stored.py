"""1-second bars that somebody else has written to InfluxDB → the journal, as they stand.

InfluxDB does not say which seconds were looked at: a second counts as whole where a bar is no further away than `NEAR_S`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exchanges.api import Instrument
from sqfd.history.derive import derive
from sqfd.history.importer import Counts
from sqfd.influx.client import Client
from sqfd.influx.history import History
from sqfd.influx.lines import finite
from sqfd.influx.settings import InfluxSettings
from sqfd.journal import JournalStore
from sqfd.journal.imports import HOUR_S, ImportedFile, MarketImport
from sqfd.model import Bars, market_of

NEAR_S = 30


async def import_stored(
    store: JournalStore, instrument: Instrument, settings: InfluxSettings, from_s: int, to_s: int, source: str
) -> Counts:
    """Import `from_s <= second < to_s`, hour by hour. `source`: `POLICY.MEASUREMENT`. Raises QueryError, ValueError."""
    policy, dot, measurement = source.partition(".")
    if not (policy and dot and measurement):
        raise ValueError(f"{source!r}: write POLICY.MEASUREMENT, for example aggr_1s.trades_1s")
    into, counts = MarketImport(store, market_of(instrument)), Counts()
    async with Client(settings) as client:
        history = History(client, settings.database, policy, measurement)
        hours = range(from_s // HOUR_S * HOUR_S, to_s, HOUR_S)
        for start, end in ((max(hour, from_s), min(hour + HOUR_S, to_s)) for hour in hours):
            bars = await history.bars(instrument.market, start, end)
            if len(bars):
                _hour(store, into, instrument, bars, (start, end), counts)
    return counts


def _hour(
    store: JournalStore,
    into: MarketImport,
    instrument: Instrument,
    bars: Bars,
    span: tuple[int, int],
    counts: Counts,
) -> None:
    good = bars[finite(bars)]
    written = into.write(good)
    counts.rows += len(bars)
    counts.trades += len(good)
    counts.malformed += len(bars) - len(good)
    counts.bars += written.written
    counts.kept += written.kept
    first, last = int(bars["second"].min()), int(bars["second"].max())
    name = f"influx {instrument.market} {span[0]}"
    with into.finish(ImportedFile(name, name, first, last, len(good), len(bars) - len(good)), *stretches(bars, *span)):
        counts.flow += derive(store, into, instrument.base, *span)


def stretches(bars: Bars, from_s: int, to_s: int) -> list[tuple[int, int]]:
    """The stretches (from, to) in which each second has a bar within NEAR_S."""
    near: NDArray[np.int64] = np.zeros(to_s - from_s + 1, np.int64)
    np.add.at(near, np.maximum(bars["second"] - NEAR_S - from_s, 0), 1)
    np.add.at(near, np.minimum(bars["second"] + NEAR_S + 1 - from_s, to_s - from_s), -1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.cumsum(near)[:-1] > 0, [False]]).astype(np.int8)))
    return [(from_s + int(one), from_s + int(two)) for one, two in zip(edges[::2], edges[1::2], strict=True)]
