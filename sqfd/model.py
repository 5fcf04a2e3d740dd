"""The values that stages hand to each other. No behaviour beyond naming their parts.

Two tables flow through the daemon once a second, as numpy arrays so that they are written, shipped and evaluated in blocks:

- `BAR`: what traded on one market in one second (floats, as stored in InfluxDB);
- `FLOW`: what that means for one symbol (integers, exact), the only thing that strategies see.

Both are *bitemporal*: `second` is the time they speak of, `tick` is when they became known. Tick `k` closes second `k - 1`;
rows of a tick with an earlier second are revisions (late or recovered trades) and replace what was known of that second.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from exchanges.api import Instrument

MARKET_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,31}:[\w.\-/:@+&$#]{1,64}")
"""What a market may be called: names become tags, labels, keys, log lines and HTML."""

NAME_CHARS = 64

BAR = np.dtype(
    [
        ("market", np.int32),
        ("second", np.int64),
        ("open", np.float64),
        ("high", np.float64),
        ("low", np.float64),
        ("close", np.float64),
        ("vbuy", np.float64),
        ("vsell", np.float64),
        ("cbuy", np.int64),
        ("csell", np.int64),
        ("lbuy", np.float64),
        ("lsell", np.float64),
    ]
)
"""One bar: `market` is an index into `Markets`; prices are NaN where only liquidations happened; v, l are quote notional."""

BAR_FIELDS = ("open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell")

FLOW_VALUES = (
    "price",
    "high",
    "low",
    "spot_delta",
    "perp_delta",
    "spot_volume",
    "perp_volume",
    "liq_buy",
    "liq_sell",
    "open_interest",
    "coverage_ppm",
    "funding_ppb",
)
"""Columns of FLOW after its key, all int64.

`price high low`: natural logarithm of the symbol's index price × 1e9, rounded; NO_PRICE before the first trade.
`*_delta` (buys − sells), `*_volume`, `liq_*` (side of the forced order): quote cents in that second, stablecoins and USD
taken as one. `open_interest`: quote cents, 0 where not collected. `coverage_ppm`: share of the expected volume whose feeds
were whole in that second, in millionths. `funding_ppb`: what longs pay shorts in 8 hours, mean of the exchanges by their open
interest, in billionths of the position; 0 where not collected, and 1 where nobody pays."""

FLOW = np.dtype([("symbol", np.int32), ("second", np.int64), *((name, np.int64) for name in FLOW_VALUES)])
"""One second of one symbol: `symbol` is an index into the configured symbols."""

NO_PRICE = np.iinfo(np.int64).min
PRICE_SCALE = 1_000_000_000
"""Log prices are stored in units of 1e-9."""
PPM = 1_000_000
PPB = 1_000_000_000

Bars = NDArray[np.void]
"""Rows of BAR."""
Flow = NDArray[np.void]
"""Rows of FLOW."""


class FlowTable:
    """Rows of FLOW of one symbol, each with the tick at which it became known, as contiguous columns: what hours are read into.

    A name gives its column, a slice or places or a mask give fewer rows. Ordered by (tick, second) where nothing else is said.
    """

    __slots__ = ("cells",)
    names = ("tick", "second", *FLOW_VALUES)
    _row = MappingProxyType({name: row for row, name in enumerate(names)})

    def __init__(self, cells: NDArray[np.int64]) -> None:
        """`cells`: [names, rows]."""
        self.cells = cells

    @classmethod
    def of(cls, ticks: NDArray[np.int64], rows: Flow) -> FlowTable:
        """The same rows as columns."""
        return cls(np.stack([ticks, *(rows[name] for name in cls.names[1:])]))

    def __len__(self) -> int:
        return int(self.cells.shape[1])

    @overload
    def __getitem__(self, key: str) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, key: slice | NDArray[Any]) -> FlowTable: ...
    def __getitem__(self, key: str | slice | NDArray[Any]) -> NDArray[np.int64] | FlowTable:
        if isinstance(key, str):
            return np.asarray(self.cells[self._row[key]])
        return FlowTable(self.cells[:, key])

    def rows(self, symbol: int) -> Flow:
        """As rows of FLOW."""
        rows = np.empty(len(self), FLOW)
        rows["symbol"] = symbol
        for name in self.names[1:]:
            rows[name] = self[name]
        return rows


class Market(NamedTuple):
    """A market that is collected. Its index in the daemon's list of markets is its identity within a run."""

    exchange: str
    pair: str
    kind: str
    """spot | perp | future"""
    base: str
    """The symbol that it belongs to."""
    quote: str
    multiplier: float = 1.0
    """Coins per traded unit (1000PEPE: 1000): prices are divided by it before they enter an index."""

    @property
    def name(self) -> str:
        """`EXCHANGE:pair`, as users know it."""
        return f"{self.exchange}:{self.pair}"


def market_of(instrument: Instrument) -> Market:
    """The market that an instrument is."""
    return Market(
        instrument.exchange,
        instrument.pair,
        instrument.kind,
        instrument.base,
        instrument.quote,
        instrument.multiplier,
    )


def speakable(instrument: Instrument) -> bool:
    """Whether its names can be passed on: an exchange that lists others has been taken over, or wants to."""
    names = (instrument.symbol, instrument.base, instrument.quote)
    return MARKET_NAME.fullmatch(instrument.market) is not None and all(
        len(name) <= NAME_CHARS and name.isprintable() for name in names
    )


class ClosedSecond(NamedTuple):
    """Everything that became known at one tick."""

    tick: int
    """Epoch seconds; second `tick - 1` was closed."""
    bars: Bars
    """Bars of second `tick - 1` and revisions of earlier ones, ordered by (second, market)."""
    whole: NDArray[np.bool_]
    """Per market: its feed was live and without a known hole throughout second `tick - 1`."""

    @property
    def second(self) -> int:
        return self.tick - 1


USD_LIKE = frozenset({"USD", "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD1", "DAI", "USDE", "PYUSD", "USDD"})
"""Quote currencies that are taken as one dollar in flows and index prices."""
