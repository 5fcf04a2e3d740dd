"""Bars read back from InfluxDB: history for charts and for a warm start."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from sqfd.influx.client import Client, Series
from sqfd.influx.lines import BARS_MEASUREMENT
from sqfd.influx.schema import BARS_RP, quoted
from sqfd.model import BAR, BAR_FIELDS, Bars

CHUNK_S = 21_600
AT_ONCE = 2
"""Pieces that are asked for together: InfluxDB spends most of its time on one core for each query."""
PIECE_S = 900
"""Pieces are no shorter than this because of that."""
_PRICES = frozenset({"open", "high", "low", "close"})


class History:
    """Reads `trades_1s`, or a rollup, of one database."""

    def __init__(
        self, client: Client, database: str, policy: str = BARS_RP, measurement: str = BARS_MEASUREMENT
    ) -> None:
        """`client`: that takes AT_ONCE requests at once, else they take turns. `policy`, `measurement`: where the 1-second bars are."""
        self._client, self._database = client, database
        self._policy, self._measurement = policy, measurement

    async def bars(self, market: str, from_s: int, to_s: int, timeframe: str = "1s") -> Bars:
        """Bars of `from_s <= second < to_s` by time, `market` 0; raises QueryError.

        Prices are NaN and volumes 0 where nothing is stored. `timeframe`: 1s 1m 5m 15m 30m 1h 4h.
        """
        span = to_s - from_s
        step = min(CHUNK_S, max(PIECE_S, -(-span // AT_ONCE))) if timeframe == "1s" else max(span, 1)
        queries = [
            self._query(market, start, min(start + step, to_s), timeframe) for start in range(from_s, to_s, step)
        ]
        parts = []
        for place in range(0, len(queries), AT_ONCE):
            together = (self._client.ask(query) for query in queries[place : place + AT_ONCE])
            for answer in await asyncio.gather(*together, return_exceptions=True):
                if isinstance(answer, BaseException):
                    raise answer
                parts += [_bars(series) for series in answer[0]]
        return np.concatenate(parts) if parts else np.zeros(0, BAR)

    def _query(self, market: str, from_s: int, to_s: int, timeframe: str) -> str:
        policy = self._policy if timeframe == "1s" else f"aggr_{timeframe}"
        measurement = self._measurement if timeframe == "1s" else f"trades_{timeframe}"
        source = ".".join(quoted(name) for name in (self._database, policy, measurement))
        value = market.replace("\\", "\\\\").replace("'", "\\'")
        fields = ", ".join(quoted(name) for name in BAR_FIELDS)
        return f"SELECT {fields} FROM {source} WHERE market = '{value}' AND time >= {from_s}s AND time < {to_s}s"


def _bars(series: Series) -> Bars:
    bars = np.zeros(len(series.values), BAR)
    columns: dict[str, Any] = dict(zip(series.columns, zip(*series.values, strict=True), strict=True))
    bars["second"] = columns["time"]
    for name in BAR_FIELDS:
        values = np.array(columns[name], np.float64)
        bars[name] = values if name in _PRICES else np.nan_to_num(values)
    return bars
