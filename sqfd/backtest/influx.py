"""Flow made from the 1-second bars of an InfluxDB, or from its rollups, for backtests of what another host, or an older journal, collected.

InfluxDB holds the newest revision of each bar and not when it came, nor which feeds were whole. So this is data as it is known
now; a second counts as whole where any market of its symbol had a bar within the minute before, or within a rollup's bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.backtest.coarse import TIMEFRAMES
from sqfd.backtest.source import NoData, moment
from sqfd.bars.blocks import FlowBlocks
from sqfd.history.markets import NoSuchMarket, instrument_of
from sqfd.influx.client import Client
from sqfd.influx.history import CHUNK_S, History
from sqfd.influx.lines import BARS_MEASUREMENT
from sqfd.influx.schema import BARS_RP, quoted
from sqfd.journal import JournalStore
from sqfd.model import BAR, USD_LIKE, Bars, Market, market_of

SILENT_S = 60
COARSE_CHUNK_S = 86_400
"""Seconds of rollups that are asked for at once: a multiple of every rollup's bar."""


class Stored:
    """What a database has of some symbols, in one timeframe."""

    def __init__(self, client: Client, database: str, timeframe: str = "1s") -> None:
        self._client, self._history, self._database = client, History(client, database), database
        self.timeframe, self.bar_s = timeframe, TIMEFRAMES[timeframe]
        self.chunk_s = CHUNK_S if self.bar_s == 1 else COARSE_CHUNK_S
        policy, self.measurement = BARS_RP, BARS_MEASUREMENT
        if self.bar_s > 1:
            policy, self.measurement = f"aggr_{timeframe}", f"trades_{timeframe}"
        self._source = ".".join(quoted(name) for name in (database, policy, self.measurement))

    async def markets(self, symbols: Sequence[str]) -> dict[str, list[Market]]:
        """By symbol, the markets whose names tell what they are. Raises QueryError."""
        query = f'SHOW TAG VALUES ON {quoted(self._database)} FROM {quoted(self.measurement)} WITH KEY = "market"'
        (found,) = await self._client.ask(query)
        known: dict[str, list[Market]] = {symbol: [] for symbol in symbols}
        for series in found:
            for _, name in series.values:
                try:
                    market = market_of(instrument_of(name))
                except NoSuchMarket:
                    continue
                if market.base in known and market.quote in USD_LIKE:
                    known[market.base].append(market)
        return known

    async def extent(self, markets: Sequence[Market]) -> tuple[int, int] | None:
        """First and last second that any of the markets' bars covers. Raises QueryError."""
        seconds = []
        for end in ("first", "last"):
            where = " OR ".join(f"market = '{market.name}'" for market in markets)
            for field in ("close", "lbuy"):
                query = f"SELECT {end}({quoted(field)}) FROM {self._source} WHERE {where}"
                (found,) = await self._client.ask(query)
                seconds += [int(series.values[0][0]) for series in found]
        return (min(seconds), max(seconds) + self.bar_s - 1) if seconds else None

    async def bars(self, markets: Sequence[Market], from_s: int, to_s: int) -> Bars:
        """Of all markets, by (second, market); `market` is an index into them. A rollup's bar stands at its last second, when it was whole.

        Raises QueryError.
        """
        parts = []
        for index, market in enumerate(markets):
            part = await self._history.bars(market.name, from_s, to_s, self.timeframe)
            part["market"] = index
            part["second"] += self.bar_s - 1
            parts.append(part)
        bars = np.concatenate(parts) if parts else np.zeros(0, BAR)
        return bars[np.lexsort((bars["market"], bars["second"]))]


async def fetch(
    stored: Stored,
    store: JournalStore,
    symbols: Sequence[str],
    span: tuple[int | None, int | None],
    before_s: int,
    progress: Callable[[int, int], None],
) -> None:
    """Copy the flow of `span` (seconds, None: all there is) and of `before_s` before it into an empty journal: of each symbol from its
    first bar to its last, of those that have none nothing.

    Raises NoData, naming what there is, and QueryError.
    """
    known = await stored.markets(symbols)
    extents = {symbol: await stored.extent(markets) if markets else None for symbol, markets in known.items()}
    there = {symbol: extent for symbol, extent in extents.items() if extent is not None}
    if not there:
        raise NoData(f"InfluxDB has no bars of {', '.join(symbols)} in {stored.measurement}")
    there, first, last = _within(there, span, before_s)
    store.register([], tuple(there))
    makers = [FlowBlocks(known[symbol]) for symbol in there]
    bar_s, chunk_s = stored.bar_s, stored.chunk_s
    for start in range(first // chunk_s * chunk_s, last, chunk_s):
        end = min(start + chunk_s, -(-last // 60) * 60)
        for index, ((symbol, extent), maker) in enumerate(zip(there.items(), makers, strict=True)):
            bars = await stored.bars(known[symbol], start, end)
            rows = maker.close(start, bars, _whole(bars, len(known[symbol]), start, end, bar_s))
            rows["symbol"] = index
            kept = (rows["second"] >= max(first, extent[0])) & (rows["second"] < min(last, extent[1] + 1))
            kept &= (rows["second"] + 1) % bar_s == 0
            rows["coverage_ppm"] *= bar_s  # one row stands for a bar, whose mean is taken over all its seconds
            store.load_flow(rows[kept])
        progress(end - first, last - first)


Extents = dict[str, tuple[int, int]]
"""By symbol: the first and the last second with a bar."""


def _within(extents: Extents, span: tuple[int | None, int | None], before_s: int) -> tuple[Extents, int, int]:
    """Symbols that have bars in the span or `before_s` before it, and the seconds `[first, last)` to copy. Raises NoData."""
    first = max(min(e[0] for e in extents.values()), -(1 << 62) if span[0] is None else span[0] - before_s)
    last = min(max(e[1] for e in extents.values()) + 1, 1 << 62 if span[1] is None else span[1])
    there = {symbol: extent for symbol, extent in extents.items() if extent[0] < last and extent[1] >= first}
    if first >= last or not there:
        told = ", ".join(f"{symbol} {moment(e[0])} to {moment(e[1] + 1)}" for symbol, e in extents.items())
        raise NoData(f"InfluxDB has nothing in that range; there is {told}")
    return there, first, last


def _whole(bars: Bars, markets: int, start: int, end: int, bar_s: int) -> NDArray[np.bool_]:
    """Markets × seconds: any bar of any market within the last `SILENT_S`, or the last bar."""
    seconds, silent_s = np.arange(end - start), max(SILENT_S, bar_s - 1)
    newest = np.full(end - start, -silent_s - 1)
    newest[bars["second"] - start] = bars["second"] - start
    recent = seconds - np.maximum.accumulate(newest) <= silent_s
    return np.broadcast_to(recent, (markets, end - start))
