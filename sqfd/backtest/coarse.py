"""Backtests over bars coarser than a second: the rows that the strategy sees, and its settings in their unit.

The engine then counts bars where it counts seconds live: bar `n` covers the seconds `[n · bar_s, (n + 1) · bar_s)` and is known at tick
`n + 1`. Prices and accounts stay in seconds: between two bars' ends a price is carried forward, and orders fill at a bar's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from sqfd.backtest.source import Block, Source
from sqfd.config import Config
from sqfd.model import NO_PRICE, FlowTable
from sqfd.strategy.settings import StrategySettings

TIMEFRAMES: Mapping[str, int] = MappingProxyType(
    {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "4h": 14_400}
)
"""Seconds of a bar, by its name."""
MINUTE_S = 60
COARSE_SENSITIVITY = 1.0
_LAST = ("price", "open_interest", "funding_ppb")
_REAL = frozenset({"ttl_s"})
"""Settings in seconds of the clock, whatever the bars."""


class Coarse:
    """Flow by bars, from a source by seconds. Ticks are in bars."""

    def __init__(self, source: Source, bar_s: int) -> None:
        """`source`: one row for each second that there is, as `Revised` gives them."""
        self._source, self._bar_s = source, bar_s

    def extent(self, symbol: str) -> tuple[int, int] | None:
        """The ticks of the first and of the last bar that ended within the data; None where none did."""
        found = self._source.extent(symbol)
        if found is None:
            return None
        first, last = (found[0] - 1) // self._bar_s + 1, found[1] // self._bar_s
        return (first, last) if first <= last else None

    def flow(self, symbol: str, from_tick: int, to_tick: int) -> FlowTable:
        """Bars of `from_tick <= tick < to_tick`; those without any second are left out."""
        start, stop = ((tick - 1) * self._bar_s + 1 for tick in (from_tick, to_tick))
        return bars_of(self._source.flow(symbol, start, stop), self._bar_s)


def bars_of(seconds: FlowTable, bar_s: int) -> FlowTable:
    """Seconds (ascending) as bars: the last price, the extremes, sums of flow and mean coverage, a missing second counting as uncovered.

    Seconds before the first price are left out.
    """
    seconds = seconds[seconds["price"] != NO_PRICE]
    bar = seconds["second"] // bar_s
    start = np.flatnonzero(np.diff(bar, prepend=-1))
    cells = np.zeros((len(FlowTable.names), len(start)), np.int64)
    if not len(start):
        return FlowTable(cells)
    end = np.append(start[1:], len(bar)) - 1
    for row, name in enumerate(FlowTable.names):
        column = seconds[name]
        if name in ("tick", "second"):
            cells[row] = bar[start] + (name == "tick")
        elif name in _LAST:
            cells[row] = column[end]
        elif name in ("high", "low"):
            known = np.where(column == NO_PRICE, seconds["price"], column)
            cells[row] = (np.maximum if name == "high" else np.minimum).reduceat(known, start)
        else:
            cells[row] = np.add.reduceat(column, start)
            if name == "coverage_ppm":
                cells[row] //= bar_s
    return FlowTable(cells)


def in_seconds(block: Block, bar_s: int) -> Block:
    """The same bars with the second and tick at which each ended."""
    if bar_s == 1:
        return block
    tables = []
    for table in block.tables:
        cells = table.cells.copy()
        cells[FlowTable.names.index("tick")] *= bar_s
        cells[FlowTable.names.index("second")] = cells[FlowTable.names.index("tick")] - 1
        tables.append(FlowTable(cells))
    return Block(block.first * bar_s, (block.last - 1) * bar_s + 1, tuple(tables))


def config_in_bars(config: Config, bar_s: int) -> Config:
    """The configuration whose strategy counts bars; the same one for seconds."""
    return config if bar_s == 1 else msgspec.structs.replace(config, strategy=in_bars(config.strategy, bar_s))


def in_bars(settings: StrategySettings, bar_s: int) -> StrategySettings:
    """Settings whose seconds (`_s`) are bars of `bar_s`.

    Up to a minute spans keep their time: 900 s are 15 bars of 1m. Beyond it they keep their number of bars: the same 15 bars of 1h, for a
    window of 15 h. The default sensitivity becomes that of longer bars, which are less noisy. Raises ValueError where two windows
    become one.
    """
    unit = min(bar_s, MINUTE_S)
    changed = {name: _bars(name, getattr(settings, name), unit) for name in settings.__struct_fields__ if _counts(name)}
    if settings.sensitivity == StrategySettings().sensitivity:
        changed["sensitivity"] = COARSE_SENSITIVITY
    changed["per_symbol"] = {
        symbol: {name: _bars(name, value, unit) if _counts(name) else value for name, value in own.items()}
        for symbol, own in settings.per_symbol.items()
    }
    try:
        return msgspec.structs.replace(settings, **changed)
    except ValueError as error:
        raise ValueError(f"in bars of {bar_s} s: {error}; longer windows are needed") from error


def _counts(name: str) -> bool:
    return name.endswith("_s") and name not in _REAL


def _bars(name: str, seconds: Any, unit: int) -> Any:
    if isinstance(seconds, (tuple, list)):
        return tuple(_bars(name, each, unit) for each in seconds)
    even = 2 if name == "reset_windows_s" else 1  # these are halved
    return even * max(1, int(seconds / unit / even + 0.5))
