"""What aggr's charts ask of aggr-server: `/products` and `/historical/{from}/{to}/{timeframe}/{markets}`.

The path is read raw: aggr encodes `A+B` as one segment (`A%2BB`), pairs hold slashes (`KRAKEN:XBT/USD`) and colons.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import numpy as np

from sqfd.model import BAR, Bars

COLUMNS = ("time", "cbuy", "close", "csell", "high", "lbuy", "low", "lsell", "market", "open", "vbuy", "vsell")
DEFAULT_MS = 60_000
HOUR_S = 3_600
MAX_ROWS = 4_000_000
"""1-second rows, market by market, that one request may make us read."""
RECENT_S = 7_200
"""The journal answers for this much; what is older, InfluxDB has."""
ROLLUPS = {60: "1m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1h", 14_400: "4h"}


class Refused(Exception):
    """A request that is answered with `{"error": …}`."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Wish(NamedTuple):
    """What was asked for; milliseconds became seconds."""

    from_s: int
    to_s: int
    step_s: int
    markets: tuple[str, ...]
    """Empty: all."""


def parse(raw_path: str, max_bars: int) -> Wish:
    """Read `/historical/{from}/{to}[/{timeframe}[/{markets}]]`; `from` and `to` in ms, `to` not included.

    Raises Refused as aggr-server does: 400 `missing interval`, `too many bars`, `from > to`.
    """
    parts = raw_path.partition("?")[0].split("/")[2:]
    start, end = (_leading_int(part) for part in [*parts, "", ""][:2])
    if start is None or end is None:
        raise Refused(400, "missing interval")
    step_ms = (_leading_int(parts[2]) if len(parts) > 2 else None) or DEFAULT_MS
    step_s = max(1, step_ms // 1000)
    if (end - start) / (step_s * 1000) > max_bars:
        raise Refused(400, "too many bars")
    if start > end:
        raise Refused(400, "from > to")
    names = unquote("/".join(parts[3:])).replace(" ", "+").split("+")
    return Wish(start // 1000, -(-end // 1000), step_s, tuple(dict.fromkeys(name for name in names if name)))


def _leading_int(text: str) -> int | None:
    """The number that a segment begins with, as JavaScript's parseInt reads it; None where there is none."""
    digits = len(text) - len(text.lstrip("0123456789"))
    return int(text[: min(digits, 15)]) if digits else None


class Stored(Protocol):
    """1-second bars of the journal."""

    async def bars(self, markets: Sequence[str] | None, from_s: int, to_s: int) -> Bars: ...


class Rollups(Protocol):
    """Bars that InfluxDB aggregated."""

    async def bars(self, market: str, from_s: int, to_s: int, timeframe: str = "1s") -> Bars: ...


async def from_journal(journal: Stored, wish: Wish) -> Bars:
    """Bars of `wish.step_s` seconds; read hour by hour, so that the journal's appends are never held up for long.

    Raises Refused where that would read more than MAX_ROWS.
    """
    if (wish.to_s - wish.from_s) * len(wish.markets) > MAX_ROWS:
        raise Refused(400, "too many bars")
    piece_s = max(HOUR_S // wish.step_s, 1) * wish.step_s
    parts = []
    start = wish.from_s
    while start < wish.to_s:
        end = min((start // wish.step_s) * wish.step_s + piece_s, wish.to_s)
        parts.append(combined(await journal.bars(wish.markets, start, end), wish.step_s))
        start = end
    return np.concatenate(parts) if parts else np.zeros(0, BAR)


class Elsewhere(NamedTuple):
    """Bars that left the journal are in a store that does not answer InfluxQL."""

    where: str


class Kept(Stored, Protocol):
    """Knows how far its bars reach back."""

    async def span(self) -> tuple[int, int]: ...


async def from_journal_alone(journal: Kept, elsewhere: Elsewhere, wish: Wish) -> Bars:
    """As `from_journal`. Raises Refused where some of it is kept elsewhere only."""
    first, _ = await journal.span()
    if wish.from_s < first:
        since = datetime.fromtimestamp(first, UTC).isoformat()
        raise Refused(
            501,
            f"bars before {since} are in {elsewhere.where} only, which does not answer InfluxQL: "
            "ask its /api/v1/export for trades_1s_close and the other fields",
        )
    return await from_journal(journal, wish)


async def from_rollups(rollups: Rollups, wish: Wish) -> Bars:
    """Bars that InfluxDB has ready; `market` is the index into `wish.markets`. Raises QueryError."""
    parts = []
    for index, market in enumerate(wish.markets):
        bars = await rollups.bars(market, wish.from_s, wish.to_s, ROLLUPS.get(wish.step_s, "1s"))
        bars["market"] = index
        parts.append(bars)
    found = np.concatenate(parts) if parts else np.zeros(0, BAR)
    return found[np.lexsort((found["market"], found["second"]))]


async def from_influx(rollups: Rollups, journal: Stored, wish: Wish, now_s: int) -> Bars:
    """Old bars from InfluxDB, the last hours from the journal, whose newest seconds InfluxDB may not have yet.

    Raises QueryError, or Refused where too much would be read.
    """
    cut = min(max((now_s - RECENT_S) // wish.step_s * wish.step_s, wish.from_s), wish.to_s)
    old, new = wish._replace(to_s=cut), wish._replace(from_s=cut)
    if wish.step_s in ROLLUPS:
        found = await from_rollups(rollups, old)
    elif (cut - wish.from_s) * len(wish.markets) > MAX_ROWS:
        raise Refused(400, "too many bars")
    else:
        found = combined(await from_rollups(rollups, old), wish.step_s)
    return np.concatenate([found, await from_journal(journal, new)])


def combined(bars: Bars, step_s: int) -> Bars:
    """1-second bars ordered by (second, market) → bars of `step_s` seconds, ordered alike.

    first(open) max(high) min(low) last(close) over the seconds that traded, sums of the rest.
    """
    if step_s == 1 or not len(bars):
        return bars
    bucket = bars["second"] // step_s * step_s
    order = np.lexsort((bars["second"], bars["market"], bucket))
    bars, bucket = bars[order], bucket[order]
    fresh = np.ones(len(bars), np.bool_)
    fresh[1:] = (np.diff(bucket) != 0) | (np.diff(bars["market"]) != 0)
    starts = np.flatnonzero(fresh)
    made = np.zeros(len(starts), BAR)
    made["market"], made["second"] = bars["market"][starts], bucket[starts]
    for name in ("vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell"):
        made[name] = np.add.reduceat(bars[name], starts)
    made["high"], made["low"] = np.fmax.reduceat(bars["high"], starts), np.fmin.reduceat(bars["low"], starts)
    traded = ~np.isnan(bars["open"])
    group = np.cumsum(fresh) - 1
    made["open"] = made["close"] = np.nan
    at = np.flatnonzero(traded)
    made["close"][group[at]] = bars["close"][at]
    made["open"][group[at[::-1]]] = bars["open"][at[::-1]]
    return made


def document(bars: Bars, markets: Sequence[str]) -> dict[str, Any]:
    """The answer: rows in the order of COLUMNS, `time` in seconds, None where nothing traded."""
    columns: list[list[Any]] = []
    for name in COLUMNS:
        if name == "market":
            columns.append([markets[index] for index in bars["market"].tolist()])
        else:
            column = bars["second" if name == "time" else name]
            values = column.tolist()
            if np.isnan(column).any():
                values = [None if value != value else value for value in values]
            columns.append(values)
    rows = [*zip(*columns, strict=True)]
    return {"format": "point", "columns": {name: index for index, name in enumerate(COLUMNS)}, "results": rows}
