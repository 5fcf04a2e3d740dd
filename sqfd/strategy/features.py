"""Moves of a block of ticks, normalised by what is usual, and the array tools that all phases share.

Columns are made when a phase first asks for them and kept for the block: phases that share them share the work.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from sqfd.bars.ring import COVERAGE, PERP, PRICE, SPOT, FlowRing
from sqfd.lazy import lazy
from sqfd.strategy.baseline import Baseline, Bools, Floats, Ints
from sqfd.strategy.settings import StrategySettings

Column = TypeVar("Column", Ints, Floats)

NEVER = -(1 << 40)
"""A tick long before any."""
FEW = 8
"""Up to so many ranges a loop over plain slices is faster than a table."""


class Layout:
    """Which moves the phases ask for, by (windows, lagged), and where each lies in a table of all of them.

    A lagged move of a window is that of the window before: it ended one window ago.
    """

    def __init__(self, settings: StrategySettings) -> None:
        halves = tuple(window // 2 for window in settings.reset_windows_s)
        single = ((settings.confirm_window_s,), (settings.bias_window_s,))
        plain = (settings.context_windows_s, settings.divergence_windows_s, halves, *single)
        self.halves = halves
        self.place: dict[tuple[tuple[int, ...], bool], slice] = {}
        windows: list[int] = []
        lags: list[int] = []
        for asked, lagged in (*((asked, False) for asked in plain), (halves, True)):
            self.place[asked, lagged] = slice(len(windows), len(windows) + len(asked))
            windows += asked
            lags += asked if lagged else [0] * len(asked)
        right: Ints = -np.array(lags)
        self.ends: Ints = np.concatenate([right, right - np.array(windows)])
        """Where each move ends, and then where each begins, from the tick itself."""
        self.reach_s = -int(self.ends.min())
        rows = {window: row for row, window in enumerate(settings.windows_s)}
        self.rows: Ints = np.array([rows[window] for window in windows])


class Columns:
    """What was made of a block's ticks so far, for all that read them with the same windows."""

    def __init__(self) -> None:
        self.moves: dict[tuple[tuple[int, ...], int, bool], Ints] = {}
        self.normals: dict[tuple[tuple[int, ...], int, bool], Floats] = {}


class Features:
    """The ticks `[first, last)` of one symbol. Every value depends on its own tick only."""

    def __init__(
        self,
        ring: FlowRing,
        baseline: Baseline,
        settings: StrategySettings,
        layout: Layout,
        first: int,
        last: int,
        columns: Columns | None = None,
    ) -> None:
        self.ring, self.baseline, self.settings, self.layout = ring, baseline, settings, layout
        self.first, self.last = first, last
        self._columns = columns or Columns()
        self._one = last - first == 1 and first - layout.reach_s >= ring.first_tick

    def only(self, tick: int) -> Features:
        """One tick of the block alone: what explains it does not make columns of all."""
        return Features(self.ring, self.baseline, self.settings, self.layout, tick, tick + 1)

    def part(self, left: int, right: int) -> Features:
        """The places `[left, right)` of the block alone; the block itself where that is all of it."""
        if left == 0 and right == self.last - self.first:
            return self
        first, last = self.first + left, self.first + right
        return Features(self.ring, self.baseline, self.settings, self.layout, first, last)

    @lazy
    def ticks(self) -> Ints:
        return np.arange(self.first, self.last)

    @lazy
    def minute(self) -> Ints:
        """Each tick's column of the baseline."""
        base = self.baseline
        if self.last - self.first == 1:
            return np.array([(self.first - base.first_minute) // self.settings.sample_s])
        return base.minute(self.first, self.last)

    # --- columns of all ticks

    @lazy
    def price(self) -> Ints:
        """Log price × 1e9."""
        base = self.ring.base
        return np.asarray(self.ring.series[PRICE, self.first - base : self.last - base])

    def moves(self, windows: tuple[int, ...], series: int, lagged: bool = False) -> Ints:
        """[window, tick]: Δ over each window, see `Layout`; 0 before there was that much history."""
        if self._one:
            return np.asarray(self._table[0][series, self.layout.place[windows, lagged], None])
        key = windows, series, lagged
        known = self._columns.moves
        if key not in known:
            known[key] = self._take(*key)
        return known[key]

    def normals(self, windows: tuple[int, ...], series: int, lagged: bool = False) -> Floats:
        """[window, tick]: n(X, window) of `moves`, by the baseline of each tick."""
        if self._one:
            return np.asarray(self._table[1][series, self.layout.place[windows, lagged], None])
        key = windows, series, lagged
        known = self._columns.normals
        if key not in known:
            together = (PRICE,) if series == PRICE else (SPOT, PERP)  # who asks for one flow asks for the other
            found = self._normalised(windows, together, lagged)
            known.update({(windows, each, lagged): column for each, column in zip(together, found, strict=True)})
        return known[key]

    def gaps(self, windows: tuple[int, ...], lagged: bool = False) -> Floats:
        """[window, tick]: n(S) − n(P)."""
        return np.asarray(self.normals(windows, SPOT, lagged) - self.normals(windows, PERP, lagged))

    @lazy
    def _table(self) -> tuple[Ints, Floats]:
        """Everyday live case, one tick: all moves of the layout at once, [series, move], and normalised."""
        layout, base = self.layout, self.baseline
        ends = self.ring.at(layout.ends + (self.first - self.ring.base))
        moves = ends[:, : len(layout.rows)] - ends[:, len(layout.rows) :]
        times, sums = base.scales(layout.rows, (self.first - base.first_minute) // self.settings.sample_s)
        normals = moves * times
        normals /= sums
        return moves, normals if base.factor == 1.0 else base.factor * normals

    def _take(self, windows: tuple[int, ...], series: int, lagged: bool) -> Ints:
        column, base = self.ring.series[series], self.ring.base
        moves = np.empty((len(windows), self.last - self.first), np.int64)
        for row, window in zip(moves, windows, strict=True):
            lag = window if lagged else 0
            start = min(max(self.first, self.ring.first_tick + window + lag), self.last)
            row[: start - self.first] = 0
            if start < self.last:
                right, length = start - base - lag, self.last - start
                newer, older = column[right : right + length], column[right - window : right - window + length]
                np.subtract(newer, older, out=row[start - self.first :])
        return moves

    def _normalised(self, windows: tuple[int, ...], series: tuple[int, ...], lagged: bool) -> Floats:
        """[series, window, tick]: `Baseline.normalised`, minute by minute, so that baselines need not be spread over ticks."""
        base, step = self.baseline, self.settings.sample_s
        minute, lead = divmod(self.first - base.first_minute, step)
        minutes = (self.last - 1 - base.first_minute) // step + 1 - minute
        every, rows = np.array(series)[:, None], [base.row[window] for window in windows]
        times, sums = (each[rows, every, minute : minute + minutes] for each in (base.times, base.sums))
        shape = len(series), len(windows), minutes * step
        padded = np.empty(shape if minutes > 1 else (*shape[:2], self.last - self.first))
        if minutes == 1:
            lead = 0
        padded[..., :lead] = padded[..., lead + self.last - self.first :] = 0.0
        inside = padded[..., lead : lead + self.last - self.first]
        for column, each in zip(inside, series, strict=True):
            column[:] = self.moves(windows, each, lagged)
        by_minute = padded.reshape(len(series), len(windows), minutes, -1)
        by_minute *= times[..., None]
        by_minute /= sums[..., None]
        if base.factor != 1.0:
            by_minute *= base.factor
        return inside

    def known(self, window: int) -> Bools:
        """The baseline knows this window: [tick], or [1] where all ticks share a minute."""
        known = self.baseline.known[self.baseline.row[window]]
        return known if len(known) == 1 else np.asarray(known[self.minute])

    @lazy
    def coverage(self) -> Floats:
        """Mean coverage of each tick's setup window, or of the history where that is shorter; share of 1."""
        window, ring = self.settings.setup_window_s, self.ring
        column, at = ring.detail[COVERAGE], self.first - ring.detail_base
        if self.first - window >= ring.first_tick:
            until = self.last - ring.detail_base
            return np.asarray((column[at:until] - column[at - window : until - window]) / window / 1e6)
        windows = np.minimum(window, self.ticks - ring.first_tick)
        right = self.ticks - ring.detail_base
        return np.asarray((column[right] - column[right - windows]) / np.maximum(windows, 1) / 1e6)

    # --- single ticks

    def price_at(self, ticks: Ints) -> Ints:
        """Log price × 1e9."""
        return taken(self.ring.series[PRICE], ticks - self.ring.base)

    def flows_at(self, ticks: Ints, window: int | Ints) -> Ints:
        """[2, tick]: spot and perp Δ over `window` (one, or one per tick) seconds up to ticks of the block; 0 before there was
        that much history."""
        flows, right = self.ring.series[SPOT : PERP + 1], ticks - self.ring.base
        left = right - window
        least = self.ring.first_tick - self.ring.base
        if int(left[0]) >= least:  # ticks ascend, and so does what they look back to
            moves = np.empty((2, len(right)), np.int64)
            for row, flow in zip(moves, flows, strict=True):
                np.subtract(taken(flow, right), flow.take(left), out=row)
            return moves
        return np.where(left >= least, flows[:, right] - flows[:, np.maximum(left, 0)], 0)

    def minute_at(self, ticks: Ints) -> Ints:
        """Columns of the baseline for single ticks of the block."""
        return ticks if self.baseline.minutes == 1 else taken(self.minute, ticks - self.first)

    def gap_at(self, ticks: Ints, window: int) -> Floats:
        """n(S) − n(P) at single ticks of the block."""
        flows = slice(SPOT, PERP + 1)
        normal = self.baseline.normalised(self.flows_at(ticks, window), window, flows, self.minute_at(ticks))
        return np.asarray(normal[0] - normal[1])

    def price_move_at(self, ticks: Ints, window: int) -> Floats:
        """n(L, window) at single ticks of the block."""
        column, right = self.ring.series[PRICE], ticks - self.ring.base
        moves = np.where(
            ticks - window >= self.ring.first_tick, column[right] - column[np.maximum(right - window, 0)], 0
        )
        return self.baseline.normalised(moves, window, PRICE, self.minute_at(ticks))

    def swing_at(self, ticks: Ints, window: int) -> Floats:
        """The usual |ΔL| over `window` at single ticks of the block."""
        swing = self.baseline.swing(window, PRICE)
        return swing if len(swing) == 1 else swing.take(self.minute_at(ticks))

    def detail_at(self, ticks: Ints, row: int) -> Ints:
        """One column of the ring's `detail` at single ticks."""
        return np.asarray(self.ring.detail[row].take(ticks - self.ring.detail_base))

    def lowest(self, row: int, after: Ints, until: Ints) -> Ints:
        """Minimum of a column of `detail` over the ticks `(after, until]` of each pair, within what is kept."""
        return self._extreme(row, after, until, np.minimum)

    def highest(self, row: int, after: Ints, until: Ints) -> Ints:
        """Maximum of a column of `detail` over the ticks `(after, until]` of each pair, within what is kept."""
        return self._extreme(row, after, until, np.maximum)

    def _extreme(self, row: int, after: Ints, until: Ints, pick: np.ufunc) -> Ints:
        base = max(self.ring.detail_base, self.ring.first_tick)
        start = np.maximum(after + 1, base) - self.ring.detail_base
        return range_extreme(self.ring.detail[row], start, until + 1 - self.ring.detail_base, pick)


def taken(column: Column, at: Ints) -> Column:
    """`column[at]` for ascending places: a view where they are consecutive, as those of an open position are."""
    if len(at) and (first := int(at[0])) + len(at) == (last := int(at[-1]) + 1):
        return column[first:last]
    return column.take(at)


def range_extreme(column: Ints, start: Ints, stop: Ints, pick: np.ufunc) -> Ints:
    """`pick` (np.minimum or np.maximum) reduced over `column[start:stop]` of each pair; every range holds an element."""
    if len(start) <= FEW:
        ranges = zip(start.tolist(), stop.tolist(), strict=True)
        return np.array([pick.reduce(column[left:right]) for left, right in ranges], np.int64)
    origin = int(start.min())
    level, start = column[origin : int(stop.max())], start - origin
    length = stop - start - origin
    least, most = int(length.min()), int(length.max())
    if least == most:
        return _alike(level, start, most, pick)
    power = np.frexp(length.astype(np.float64))[1] - 1
    out = np.empty(len(start), np.int64)
    for exponent in range(int(power.max()) + 1):
        mine, half = (power == exponent).nonzero()[0], 1 << exponent
        if len(mine):
            left = start[mine]
            out[mine] = pick(level[left], level[left + length[mine] - half])
        if len(level) > half:
            level = pick(level[:-half], level[half:])
    return out


def _alike(level: Ints, start: Ints, length: int, pick: np.ufunc) -> Ints:
    """Ranges of one length: two of a power of two cover each."""
    half = 1
    while 2 * half <= length:
        level = pick(level[:-half], level[half:])
        half *= 2
    return np.asarray(pick(level[start], level[start + length - half]))


def distinct(ascending: Ints) -> tuple[Ints, Ints]:
    """The distinct values, and for each element the place of its value: np.unique for what is sorted already."""
    new = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return ascending[new], np.cumsum(new) - 1


class Held(NamedTuple):
    """What last held, up to each tick: element `place` of the events, whose first is what was remembered before the block."""

    place: Ints
    """[tick]: how many events of the block have been."""
    ticks: Ints
    """[1 + events]: when."""

    def at(self, at: Ints | slice) -> Ints:
        """When it last held, at these places of the block."""
        return np.asarray(self.ticks[self.place[at]])

    def within(self, first: int, span: int) -> Bools:
        """[tick] in a block that begins at `first`: it held in the last `span` seconds, this one included."""
        place = self.place
        if len(place) == 1:  # live
            return np.array([bool(place[0]) or int(self.ticks[0]) + span >= first])
        recent = np.empty(len(place), np.bool_)
        recent[: span + 1] = place[: span + 1] > 0
        np.not_equal(place[span + 1 :], place[: -span - 1], out=recent[span + 1 :])
        recent[: max(0, int(self.ticks[0]) + span - first + 1)] = True
        return recent


def remembering(remembered: float, values: Column) -> Column:
    """[1 + events]: what is remembered from before the block, and then what the block's events brought."""
    found = np.empty(1 + len(values), values.dtype)
    found[0], found[1:] = remembered, values
    return found


def held(events: Ints, length: int, first: int, remembered: int) -> Held:
    """`events`: places in a block of `length` ticks from `first` on, ascending; `remembered`: the tick of the last before it."""
    if length == 1:  # live
        return Held(np.array([len(events)]), np.array([remembered, first][: 1 + len(events)]))
    mask = np.zeros(length, np.int64)
    mask[events] = 1
    return Held(np.cumsum(mask, out=mask), remembering(remembered, first + events))
