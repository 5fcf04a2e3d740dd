"""Rows as InfluxDB line protocol. Pure.

Timestamps are in seconds: the writer must say `precision=s`. A newline in a name would smuggle in a line of its own, so names
of markets are allow-listed and every tag and string is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.model import MARKET_NAME, Bars

BARS_MEASUREMENT = "trades_1s"
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_QUOTED = str.maketrans({'"': r"\"", "\\": r"\\"})


def tag(value: str) -> str:
    """A tag's value, escaped; raises ValueError where no escape exists (control characters, a backslash at the end)."""
    if not value or not value.isprintable() or value.endswith("\\"):
        raise ValueError(f"not possible as a tag: {value!r}")
    return value.translate(_ESCAPED)


def series(market: str, measurement: str = BARS_MEASUREMENT) -> str:
    """The beginning of each line of a market; raises ValueError for a name that no exchange would give."""
    if MARKET_NAME.fullmatch(market) is None:
        raise ValueError(f"not a market name: {market!r}")
    return f"{measurement},market={tag(market)}"


def finite(bars: Bars) -> NDArray[np.bool_]:
    """Per bar: InfluxDB can take it. Prices may be NaN together (no trade), nothing may be infinite."""
    prices = np.stack([bars[name] for name in ("open", "high", "low", "close")])
    volumes = np.stack([bars[name] for name in ("vbuy", "vsell", "lbuy", "lsell")])
    priced = np.isfinite(prices).all(axis=0) | np.isnan(prices).all(axis=0)
    result: NDArray[np.bool_] = priced & np.isfinite(volumes).all(axis=0)
    return result


def bar_lines(bars: Bars, heads: Sequence[str]) -> list[str]:
    """One line per bar; `heads[market]` is its `series`. A bar in which nothing happened gives no line.

    Prices are left out where there was no trade, `v* c*` together where nothing traded, `l*` where nothing was liquidated.
    """
    lines = []
    for market, second, o, h, low, c, vbuy, vsell, cbuy, csell, lbuy, lsell in bars.tolist():
        fields = f",open={o},high={h},low={low},close={c}" if o == o else ""
        if cbuy or csell:
            fields += f",vbuy={vbuy},vsell={vsell},cbuy={cbuy},csell={csell}"
        if lbuy or lsell:
            fields += f",lbuy={lbuy},lsell={lsell}"
        if fields:
            lines.append(f"{heads[market]} {fields[1:]} {second}")
    return lines


def blocks(lines: Iterable[str], max_lines: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Encoded lines in groups that one write may carry; a line longer than `max_bytes` is alone in its group."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        data = line.encode()
        if block and (len(block) == max_lines or size + len(data) + 1 > max_bytes):
            yield block
            block, size = [], 0
        block.append(data)
        size += len(data) + 1
    if block:
        yield block


def point(measurement: str, tags: Mapping[str, str], fields: Mapping[str, float | str], second: int) -> str:
    """Any other line; fields that are not finite are left out. Raises ValueError for bad names, or where no field is left."""
    names = [measurement, *tags, *fields]
    if not all(_FIELD.fullmatch(name) for name in names):
        raise ValueError(f"not possible as names: {names}")
    written = [
        f"{name}={_value(value)}" for name, value in fields.items() if isinstance(value, str) or math.isfinite(value)
    ]
    if not written:
        raise ValueError("a line needs a field")
    head = ",".join([measurement, *(f"{name}={tag(value)}" for name, value in sorted(tags.items()))])
    return f"{head} {','.join(written)} {second}"


def _value(value: float | str) -> str:
    """Numbers are always float fields: an integer today and a float tomorrow would be a type conflict."""
    if isinstance(value, str):
        return '"' + value.replace("\n", " ").replace("\r", " ").translate(_QUOTED) + '"'
    return repr(float(value))


def strategy_line(symbol: str, second: int, fields: Mapping[str, float]) -> str:
    """The strategy's mind in one second, for charts: `strategy_1s` (score, its parts, context, coverage, latency_ms …)."""
    return point("strategy_1s", {"symbol": symbol}, fields, second)


def signal_line(second: int, tags: Mapping[str, str], fields: Mapping[str, float | str]) -> str:
    """A signal: tags `symbol action strategy score_tier`; fields `signal_id score position_size_factor leverage
    entry_price confidence reasoning`."""
    return point("strategy_signals", tags, fields, second)


def open_interest_line(
    second: int,
    *,
    symbol: str,
    exchange: str,
    aggregate_type: str,
    open_interest: float,
    open_interest_usd: float,
    funding_rate: float | None = None,
    funding_8h: float | None = None,
) -> str:
    """Open interest in base coin and in dollars; the funding rate of one interval and of 8 hours as fractions, where known."""
    tags = {"symbol": symbol, "exchange": exchange, "aggregate_type": aggregate_type}
    rates = (("funding_rate", funding_rate), ("funding_8h", funding_8h))
    fields: dict[str, float | str] = {"open_interest": open_interest, "open_interest_usd": open_interest_usd}
    fields |= {name: rate for name, rate in rates if rate is not None}
    return point("open_interest", tags, fields, second)
