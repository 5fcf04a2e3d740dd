"""One symbol's recent flow in memory: contiguous int64 columns, so that any window is a plain view.

Everything is indexed by *tick*: column `t` holds what was known when tick `t` closed second `t - 1`. Sums are cumulative
through that second, so the flow of a window is `x[t] - x[t - window]`, exactly. The absolute value of a cumulative column
means nothing (it starts at zero with the ring); only differences do.

Two lengths are kept: `series` (log price and the two CVDs) for a day and the longest window, `detail` for a few hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sqfd.model import FLOW, NO_PRICE, Flow

Ints = NDArray[np.int64]


class Rows(Protocol):
    """Rows by name: an array of FLOW, or a `model.FlowTable`."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


PRICE, SPOT, PERP = 0, 1, 2
"""Rows of `series`: log price × 1e9, cumulative spot delta, cumulative perp delta (quote cents)."""
HIGH, LOW, SPOT_VOLUME, PERP_VOLUME, LIQ_BUY, LIQ_SELL, COVERAGE, OPEN_INTEREST, FUNDING = range(9)
"""Rows of `detail`: extremes of the second (log × 1e9), cumulative volumes and liquidations (cents), cumulative coverage
(ppm · seconds), open interest (cents, 0 where not collected), funding of 8 hours (1e-9, 0 where not collected)."""

_SERIES = ("price", "spot_delta", "perp_delta")
_DETAIL = (
    "high",
    "low",
    "spot_volume",
    "perp_volume",
    "liq_buy",
    "liq_sell",
    "coverage_ppm",
    "open_interest",
    "funding_ppb",
)
_FIELDS = FLOW.names or ()
_SECOND = _FIELDS.index("second")
_prices, _of_series, _of_detail = (
    itemgetter(*map(_FIELDS.index, names)) for names in (("price", "high", "low"), _SERIES, _DETAIL)
)
"""Values of a row of FLOW."""
_SUMS = frozenset({"spot_delta", "perp_delta", "spot_volume", "perp_volume", "liq_buy", "liq_sell", "coverage_ppm"})

HISTORY_S = 28 * 3600
DETAIL_S = 4 * 3600
HEADROOM_S = 3600


class _Table:
    """Columns of equal length with room to append; `before` is the column left of the first one."""

    def __init__(self, names: tuple[str, ...], keep: int, headroom: int) -> None:
        self.sums = np.array([name in _SUMS for name in names])
        summed = self.sums.nonzero()[0]
        self._summed = slice(int(summed[0]), int(summed[-1]) + 1)
        """Rows that hold sums; they stand together."""
        self._places: tuple[int, ...] = tuple(summed.tolist())
        self.keep = keep
        self.cells: Ints = np.zeros((len(names), keep + headroom), np.int64)
        self.before: Ints = np.zeros(len(names), np.int64)
        self.size = 0
        self.base = 0

    def append(self, values: Sequence[Ints]) -> None:
        """Add columns of per-second values, one array per row, at most `headroom` of them."""
        count = len(values[0])
        if self.size + count > self.cells.shape[1]:
            self._compact()
        new = self.cells[:, self.size : self.size + count]
        last = self.cells[:, self.size - 1] if self.size else self.before
        for row, column in zip(new, values, strict=True):
            row[:] = column
        summed = new[self._summed]
        summed[:, 0] += last[self._summed]
        np.add.accumulate(summed, axis=1, out=summed)
        self.size += count

    def append_one(self, values: list[int]) -> None:
        """Add one column; takes `values` over."""
        if self.size == self.cells.shape[1]:
            self._compact()
        last = (self.cells[:, self.size - 1] if self.size else self.before).tolist()
        for place in self._places:
            values[place] += last[place]
        self.cells[:, self.size] = values
        self.size += 1

    def _compact(self) -> None:
        drop = self.size - self.keep
        if drop <= 0:
            return
        self.before = self.cells[:, drop - 1].copy()
        for row in self.cells:
            row[: self.keep] = row[drop : self.size]
        self.base += drop
        self.size = self.keep

    def restart(self, base: int) -> None:
        """Forget all columns but go on with the last sums."""
        if self.size:
            self.before = self.cells[:, self.size - 1].copy()
        self.size, self.base = 0, base

    def amend_one(self, tick: int, values: list[int]) -> None:
        """The everyday case: one tick, with another before it that is held."""
        at = tick - self.base
        left, there = self.cells[:, at - 1 : at + 1].T.tolist()
        for row, (summed, value) in enumerate(zip(self.sums.tolist(), values, strict=True)):
            if not summed:
                self.cells[row, at] = there[row] if value == NO_PRICE else value
            elif changed := value - (there[row] - left[row]):
                self.cells[row, at : self.size] += changed

    def amend(self, ticks: Ints, values: Ints) -> None:
        """Replace the per-second values of known ticks; unknown, older ones change no difference and are skipped."""
        inside = ticks >= self.base
        at = ticks[inside] - self.base
        if not len(at):
            return
        values = values[:, inside]
        there = self.cells[:, at]
        left = np.where(at > 0, self.cells[:, at - 1], self.before[:, None])
        changed = np.where(self.sums[:, None], values - (there - left), (values != NO_PRICE) & (values != there))
        for row, place in zip(*(where.tolist() for where in changed.nonzero()), strict=True):
            if self.sums[row]:
                self.cells[row, at[place] : self.size] += changed[row, place]
            else:
                self.cells[row, at[place]] = values[row, place]


class FlowRing:
    """The last `history_s` seconds of one symbol, and at least that much before any block of up to `headroom_s` ticks.

    The ring begins at the first second that has a price. Memory: 8 B × (3 × (history + headroom) + 8 × (detail + headroom)).
    """

    def __init__(
        self, history_s: int = HISTORY_S, detail_s: int = DETAIL_S, headroom_s: int = HEADROOM_S, bar_s: int = 1
    ) -> None:
        """`bar_s`: what a row covers. Where it is more than a second, all that is called seconds here is bars."""
        self.bar_s = bar_s
        self.headroom_s = headroom_s
        self._series = _Table(_SERIES, history_s, headroom_s)
        self._detail = _Table(_DETAIL, detail_s, headroom_s)
        self._first_tick: int | None = None
        self.shared: dict[str, Any] = {}
        """What those who read this ring make of it together, by their name."""

    @property
    def empty(self) -> bool:
        return self._first_tick is None

    @property
    def first_tick(self) -> int:
        """Tick of the first second with a price, also when that is no longer kept."""
        if self._first_tick is None:
            raise LookupError("the ring holds no second yet")
        return self._first_tick

    @property
    def end_tick(self) -> int:
        """One past the last tick held; 0 in an empty ring."""
        return self._series.base + self._series.size

    @property
    def nbytes(self) -> int:
        return self._series.cells.nbytes + self._detail.cells.nbytes

    @property
    def series(self) -> Ints:
        """[3, ticks]: PRICE, SPOT, PERP; column 0 is tick `base`. A view, valid until the next append."""
        return self._series.cells[:, : self._series.size]

    @property
    def base(self) -> int:
        return self._series.base

    @property
    def detail(self) -> Ints:
        """[9, ticks]: HIGH … FUNDING; column 0 is tick `detail_base`. A view, valid until the next append."""
        return self._detail.cells[:, : self._detail.size]

    def at(self, places: Ints) -> Ints:
        """[3, place]: `series` at these places, which are not checked."""
        return self._series.cells.take(places, axis=1)

    @property
    def detail_base(self) -> int:
        return self._detail.base

    def append(self, rows: Rows) -> None:
        """Add seconds after the last one held, ascending. Seconds left out are carried forward with coverage 0.

        Raises ValueError for seconds that are not new or not ascending.
        """
        rows = self._from_first_price(rows)
        if not len(rows):
            return
        if isinstance(rows, np.ndarray) and len(rows) == 1 and self._append_next(rows):
            return
        ticks = rows["second"] + 1
        step = np.diff(ticks)
        if (self.end_tick and ticks[0] < self.end_tick) or bool((step <= 0).any()):
            raise ValueError(f"seconds must ascend from {self.end_tick - 1}: got {ticks[0] - 1} … {ticks[-1] - 1}")
        cuts = [0, *(np.flatnonzero(step > self._series.keep) + 1).tolist(), len(rows)]
        for left, right in pairwise(cuts):
            self._append_part(rows[left:right], ticks[left:right])

    def _append_part(self, rows: Rows, ticks: Ints) -> None:
        """Rows without a hole longer than the ring between them."""
        self._bound_gap(int(ticks[0]))
        start = self.end_tick
        while start <= ticks[-1]:
            stop = min(start + self.headroom_s, int(ticks[-1]) + 1)
            low, high = np.searchsorted(ticks, (start, stop))
            self._append_dense(start, stop, rows[low:high])
            start = stop

    def _append_next(self, row: Flow) -> bool:
        """The everyday case, one complete row for the next second, without arrays; False where it is another case."""
        values = row[0].item()
        if values[_SECOND] + 1 != self.end_tick or NO_PRICE in _prices(values):
            return False
        self._series.append_one([*_of_series(values)])
        self._detail.append_one([*_of_detail(values)])
        return True

    def extend_to(self, tick: int) -> None:
        """Carry the last second forward, with coverage 0, until `tick` is held; an empty ring stays empty."""
        while not self.empty and self.end_tick <= tick:
            self._bound_gap(tick)
            self._append_dense(self.end_tick, min(self.end_tick + self.headroom_s, tick + 1), np.zeros(0, FLOW))

    def _from_first_price(self, rows: Rows) -> Rows:
        if self._first_tick is not None or not len(rows):
            return rows
        priced = np.flatnonzero(rows["price"] != NO_PRICE)
        if not len(priced):
            return none(rows)
        rows = rows[int(priced[0]) :]
        self._first_tick = int(rows["second"][0]) + 1
        self._series.restart(self._first_tick)
        self._detail.restart(self._first_tick)
        return rows

    def _bound_gap(self, tick: int) -> None:
        """A hole longer than the ring leaves only its last part, all carried forward."""
        start = tick - self._series.keep
        if start > self.end_tick:
            self._first_tick = start
            self._series.restart(start)
            self._detail.restart(start)

    def _append_dense(self, start: int, stop: int, rows: Rows) -> None:
        if len(rows) == stop - start and not (rows["price"] == NO_PRICE).any():
            self._append_complete(rows)
            return
        at = rows["second"] + 1 - start
        missing = np.ones(stop - start, np.bool_)
        missing[at] = False
        price = np.full(stop - start, NO_PRICE, np.int64)
        price[at] = rows["price"]
        price = _carried(price, price == NO_PRICE, self._last(self._series, PRICE))
        self._series.append([price, *(_placed(rows, name, at, stop - start) for name in _SERIES[1:])])
        extremes = [_placed(rows, name, at, stop - start, missing) for name in ("high", "low")]
        extremes = [np.where(values == NO_PRICE, price, values) for values in extremes]
        sums = [_placed(rows, name, at, stop - start) for name in _DETAIL[2:7]]
        polled = []
        for name, row in (("open_interest", OPEN_INTEREST), ("funding_ppb", FUNDING)):
            values = _placed(rows, name, at, stop - start)
            polled.append(_carried(values, missing, self._last(self._detail, row)))
        self._detail.append([*extremes, *sums, *polled])

    def _append_complete(self, rows: Rows) -> None:
        """A row for each second, each with a price: nothing needs to be carried."""
        extremes = [rows[name] for name in _DETAIL[:2]]
        extremes = [np.where(hole, rows["price"], e) if (hole := e == NO_PRICE).any() else e for e in extremes]
        self._series.append([rows[name] for name in _SERIES])
        self._detail.append([*extremes, *(rows[name] for name in _DETAIL[2:])])

    @staticmethod
    def _last(table: _Table, row: int) -> int:
        return int(table.cells[row, table.size - 1] if table.size else table.before[row])

    def amend(self, rows: Rows) -> int | None:
        """Replace seconds that are held already; of several rows for one second the last wins.

        Returns the earliest tick that changed, None when all rows lie outside of what is kept.
        """
        ticks = rows["second"] + 1
        if len(ticks) == 1 and self.detail_base < (tick := int(ticks[0])) < self.end_tick:
            self._series.amend_one(tick, [int(rows[name][0]) for name in _SERIES])
            self._detail.amend_one(tick, [int(rows[name][0]) for name in _DETAIL])
            return tick
        inside = (ticks >= self.base) & (ticks < self.end_tick)
        rows = rows[inside]
        if not len(rows):
            return None
        if len(rows) > 1:
            _, newest = np.unique(rows["second"][::-1], return_index=True)
            rows = rows[len(rows) - 1 - newest]
        ticks = rows["second"] + 1
        self._series.amend(ticks, np.stack([rows[name] for name in _SERIES]))
        self._detail.amend(ticks, np.stack([rows[name] for name in _DETAIL]))
        return int(ticks[0])


def none(rows: Rows) -> Rows:
    """No rows of that kind."""
    nothing: Rows = rows[:0]
    return nothing


def _placed(rows: Rows, name: str, at: Ints, length: int, missing: NDArray[np.bool_] | None = None) -> Ints:
    """The column `name` at its places; elsewhere 0, or NO_PRICE where `missing` is given."""
    values = np.zeros(length, np.int64)
    if missing is not None:
        values[missing] = NO_PRICE
    values[at] = rows[name]
    return values


def _carried(values: Ints, holes: NDArray[np.bool_], last: int) -> Ints:
    """`values` with each hole filled by the value before it, `last` before the first."""
    if not holes.any():
        return values
    source = np.maximum.accumulate(np.where(holes, -1, np.arange(len(values))))
    return np.where(source >= 0, values[source], last)
