"""Flow of a symbol from bars in InfluxDB: a warm start where the journal is younger than the strategy's windows.

InfluxDB 1.x sums some 100,000 points a second: a day of 1-second bars of all markets would take minutes. So the newest
`DETAIL_S` are read second by second and everything before from the 1-minute rollups, summed over the markets by InfluxDB: a few
requests per symbol. What comes of it is near what live would have seen, not equal: a minute's amounts are spread evenly over
its seconds, they are rounded per symbol instead of per market, and the price is that of the busiest market.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqfd.influx.client import Client, Series
from sqfd.influx.lines import BARS_MEASUREMENT
from sqfd.influx.schema import BARS_RP, quoted
from sqfd.model import BAR, FLOW, NO_PRICE, PPM, PRICE_SCALE, USD_LIKE, Bars, Flow, Market

DETAIL_S = 600
HOUR_S, MINUTE_S = 3_600, 60
SILENT_S = 60
"""A second whose last bar is longer ago than this was not covered."""
_CENTS = 100
_Ints = NDArray[np.int64]


class Earlier(NamedTuple):
    """What InfluxDB tells of the time before a journal begins."""

    flow: list[Flow]
    """Per symbol, by second."""
    notional: Bars
    """Per market and minute of the last hour one row whose `vbuy` is all that was traded: what markets are weighed by."""


class FlowReader:
    """Reads one database."""

    def __init__(self, client: Client, database: str) -> None:
        self._client, self._database = client, database

    async def earlier(self, markets: Sequence[Market], symbols: Sequence[str], from_s: int, to_s: int) -> Earlier:
        """Flow of all symbols for `from_s <= second < to_s`, and the weights at its end. Raises QueryError."""
        flow = []
        for index, symbol in enumerate(symbols):
            flow.append(await self.flow([m for m in markets if m.base == symbol], index, from_s, to_s))
        return Earlier(flow, await self._notional(markets, to_s - HOUR_S, to_s))

    async def _notional(self, markets: Sequence[Market], from_s: int, to_s: int) -> Bars:
        fields = "sum(vbuy) AS vbuy, sum(vsell) AS vsell"
        where = f"time >= {from_s}s AND time < {to_s}s"
        query = f"SELECT {fields} FROM {self._source(MINUTE_S)} WHERE {where} GROUP BY time(1m), market fill(none)"
        (found,) = await self._client.ask(query)
        places = {market.name: index for index, market in enumerate(markets)}
        rows = []
        for series in found:
            if (place := places.get(series.tags["market"])) is not None:
                minutes, values = _columns(series, 0, MINUTE_S)
                bars = np.zeros(len(minutes), BAR)
                bars["market"], bars["second"] = place, minutes * MINUTE_S
                bars["vbuy"] = values["vbuy"] + values["vsell"]
                bars["close"] = np.nan
                rows.append(bars)
        return np.concatenate(rows) if rows else np.zeros(0, BAR)

    async def flow(self, markets: Sequence[Market], index: int, from_s: int, to_s: int) -> Flow:
        """Rows of `from_s <= second < to_s` (whole minutes are best) of one symbol's markets, without holes from the first.

        `symbol` of the rows is `index`. Empty where InfluxDB has nothing. Raises QueryError.
        """
        chosen = [market for market in markets if market.quote in USD_LIKE]
        cut = max(from_s, (to_s - DETAIL_S) // MINUTE_S * MINUTE_S)
        parts = []
        for step, first, end in ((MINUTE_S, from_s // MINUTE_S * MINUTE_S, cut), (1, cut, to_s)):
            if first < end and chosen:
                parts.append(await self._part(chosen, step, first, end))
        rows = np.concatenate(parts) if parts else np.zeros(0, FLOW)
        known = np.flatnonzero(rows["price"] != NO_PRICE)
        rows = rows[known[0] :] if len(known) else rows[:0]
        _carry(rows)
        rows["symbol"] = index
        return rows

    async def _part(self, markets: Sequence[Market], step: int, first: int, end: int) -> Flow:
        buckets = -(-(end - first) // step)
        there = np.zeros(buckets, bool)
        rows = np.zeros(buckets, FLOW)
        rows["second"] = first + np.arange(buckets) * step
        for part, kinds in (("spot", ("spot",)), ("perp", ("perp", "future"))):
            names = [market.name for market in markets if market.kind in kinds]
            if not names:
                continue
            (found,) = await self._client.ask(self._sums(names, step, first, end))
            for series in found:
                at, values = _columns(series, first, step)
                there[at] = True
                vbuy, vsell, lbuy, lsell = (_cents(values[name]) for name in ("vbuy", "vsell", "lbuy", "lsell"))
                rows[f"{part}_delta"][at], rows[f"{part}_volume"][at] = vbuy - vsell, vbuy + vsell
                rows["liq_buy"][at] += lbuy
                rows["liq_sell"][at] += lsell
        await self._prices(rows, markets, step, first, end)
        rows["coverage_ppm"] = np.where(_recent(there, max(1, SILENT_S // step)), PPM, 0)
        return rows if step == 1 else _spread(rows, step)

    async def _prices(self, rows: Flow, markets: Sequence[Market], step: int, first: int, end: int) -> None:
        busiest = await self._busiest(markets, step, first, end)
        rows["price"] = NO_PRICE
        if busiest is None:
            return
        fields = '"close", "high", "low"'
        where = _where([busiest.name], first, end)
        (found,) = await self._client.ask(f"SELECT {fields} FROM {self._source(step)} WHERE {where}")
        for series in found:
            at, values = _columns(series, first, step)
            for column, name in (("price", "close"), ("high", "high"), ("low", "low")):
                price = values[name] / busiest.multiplier
                good = price > 0.0
                rows[column][at[good]] = np.round(np.log(price[good]) * PRICE_SCALE)

    async def _busiest(self, markets: Sequence[Market], step: int, first: int, end: int) -> Market | None:
        where = _where([market.name for market in markets], first, end)
        query = f"SELECT sum(vbuy) AS traded FROM {self._source(step)} WHERE {where} GROUP BY market"
        (found,) = await self._client.ask(query)
        traded = {series.tags["market"]: series.values[0][1] or 0.0 for series in found}
        return max((m for m in markets if m.name in traded), key=lambda m: traded[m.name], default=None)

    def _sums(self, names: Sequence[str], step: int, first: int, end: int) -> str:
        fields = ", ".join(f"sum({name}) AS {name}" for name in ("vbuy", "vsell", "lbuy", "lsell"))
        grouped = f"GROUP BY time({step}s) fill(none)"
        return f"SELECT {fields} FROM {self._source(step)} WHERE {_where(names, first, end)} {grouped}"

    def _source(self, step: int) -> str:
        policy, measurement = (BARS_RP, BARS_MEASUREMENT) if step == 1 else ("aggr_1m", "trades_1m")
        return ".".join(quoted(name) for name in (self._database, policy, measurement))


def _where(names: Sequence[str], first: int, end: int) -> str:
    values = (name.replace("\\", "\\\\").replace("'", "\\'") for name in names)
    chosen = " OR ".join(f"market = '{value}'" for value in values)
    return f"({chosen}) AND time >= {first}s AND time < {end}s"


def _columns(series: Series, first: int, step: int) -> tuple[_Ints, dict[str, NDArray[np.float64]]]:
    """(bucket of each row, its fields); null is 0."""
    columns: dict[str, Any] = dict(zip(series.columns, zip(*series.values, strict=True), strict=True))
    at = (np.array(columns.pop("time"), np.int64) - first) // step
    return at, {name: np.nan_to_num(np.array(values, np.float64)) for name, values in columns.items()}


def _cents(amounts: NDArray[np.float64]) -> _Ints:
    return np.round(amounts * _CENTS).astype(np.int64)


def _recent(there: NDArray[np.bool_], buckets: int) -> NDArray[np.bool_]:
    """Per bucket: there is something in it or in the `buckets` before."""
    newest = np.maximum.accumulate(np.where(there, np.arange(len(there)), -(1 << 40)))
    result: NDArray[np.bool_] = np.arange(len(there)) - newest <= buckets
    return result


def _spread(rows: Flow, step: int) -> Flow:
    """Each bucket as its seconds: amounts in equal parts whose sum is exact, prices as they are."""
    seconds = np.repeat(rows, step)
    nth = np.tile(np.arange(step), len(rows))
    seconds["second"] += nth
    for name in ("spot_delta", "perp_delta", "spot_volume", "perp_volume", "liq_buy", "liq_sell"):
        whole = seconds[name]
        seconds[name] = whole * (nth + 1) // step - whole * nth // step
    return seconds


def _carry(rows: Flow) -> None:
    """Prices of seconds without a trade are those before them."""
    if not len(rows):
        return
    newest = np.maximum.accumulate(np.where(rows["price"] != NO_PRICE, np.arange(len(rows)), 0))
    traded = rows["price"] != NO_PRICE
    rows["price"] = rows["price"][newest]
    for name in ("high", "low"):
        rows[name] = np.where(traded & (rows[name] != 0), rows[name], rows["price"])
