"""Candles, epoch-aligned and complete ones only, for the two patterns that need them. All as seen from one side:
for a short, prices and flows are negated, so that its pattern is the mirror of a long's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sqfd.bars.ring import HIGH, LOW, PERP, PERP_VOLUME, PRICE, SPOT, SPOT_VOLUME, FlowRing
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.settings import StrategySettings


class Candles(NamedTuple):
    """[end, candle] int64, oldest first: log prices × 1e9, `flow` (spot + perp delta) and `volume` in cents."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    flow: Ints
    volume: Ints


def candles(ring: FlowRing, side: int, ends: Ints, width: int, count: int) -> Candles:
    """The `count` candles of `width` seconds before each of `ends` (ticks, multiples of `width`, ascending, with history)."""
    first = int(ends[0]) - count * width
    last = int(ends[-1]) + 1
    edges = ring.series[:, first - ring.base : last - ring.base : width]
    traded = ring.detail[:, first - ring.detail_base : last - ring.detail_base : width]
    price, flow = edges[PRICE], edges[SPOT] + edges[PERP]
    volume = traded[SPOT_VOLUME] + traded[PERP_VOLUME]
    left, right = first + 1 - ring.detail_base, int(ends[-1]) + 1 - ring.detail_base
    high = ring.detail[HIGH, left:right].reshape(-1, width).max(axis=1)
    low = ring.detail[LOW, left:right].reshape(-1, width).min(axis=1)
    if side < 0:
        price, flow, high, low = -price, -flow, -low, -high
    columns = (price[:-1], high, low, price[1:], flow[1:] - flow[:-1], volume[1:] - volume[:-1])
    at = (ends - int(ends[0])) // width
    return Candles(*(_stretches(column, at, count) for column in columns))


def _stretches(column: Ints, at: Ints, count: int) -> Ints:
    """[end, count]: the stretch of `count` elements that begins at each of `at`."""
    column = np.ascontiguousarray(column)
    overlapping = np.ndarray((len(column) - count + 1, count), np.int64, column, 0, column.strides * 2)
    return overlapping if len(at) == len(overlapping) else np.asarray(overlapping[at])


class Absorption(NamedTuple):
    """Per candle end: the lowest close of the last three, and the candle that reached lowest (the newest of equals)."""

    lowest_close: Ints
    close: Ints
    green: Bools
    wick: Bools
    volume: Bools


RECENT, EARLIER = 3, 12
"""Candles in which absorption is looked for, and those before them that say what volume is usual."""


def absorption(ring: FlowRing, settings: StrategySettings, side: int, ends: Ints) -> Absorption:
    """What the last three candles show of buyers (for a long) who took what was sold into the low."""
    c = candles(ring, side, ends, settings.candle_s, RECENT + EARLIER)
    rows = np.arange(len(ends))
    pick = RECENT + EARLIER - 1 - c.low[:, : -RECENT - 1 : -1].argmin(axis=1)
    opened, close, low = c.open[rows, pick], c.close[rows, pick], c.low[rows, pick]
    span = np.maximum(c.high[rows, pick], opened) - low
    wick = (np.minimum(opened, close) - low >= settings.wick_share * span) & (span > 0)
    usual = c.volume[:, :EARLIER].sum(axis=1)
    volume = (c.volume[rows, pick] * EARLIER >= settings.volume_ratio * usual) & (usual > 0)
    return Absorption(c.close[:, -RECENT:].min(axis=1), close, close > opened, wick, volume)


class Breakdowns(NamedTuple):
    """Per candle end: `failed` breakdowns of the range, whether they are `fading`, whether the `second_test` was weaker."""

    failed: Ints
    fading: Bools
    second_test: Bools


def breakdowns(ring: FlowRing, settings: StrategySettings, side: int, ends: Ints) -> Breakdowns:
    """Candles that broke the low of the range before them and closed back inside."""
    recent = settings.breakdown_candles
    c = candles(ring, side, ends, settings.breakdown_candle_s, recent + settings.range_candles)
    floor = c.low[:, :-recent].min(axis=1)[:, None]
    low, close, flow = c.low[:, -recent:], c.close[:, -recent:], np.abs(c.flow[:, -recent:])
    attempt = (low < floor) & (close >= floor)
    failed = attempt.sum(axis=1)
    fading = failed >= 2
    at = fading.nonzero()[0]
    if len(at):
        fading[at] = _descending(attempt[at], flow[at])
    return Breakdowns(failed, fading, _weaker_test(settings, c))


def _descending(attempt: Bools, flow: Ints) -> Bools:
    """Whether the flow of each attempt is less than that of the attempt before."""
    row, _ = attempt.nonzero()
    moved = flow[attempt]
    not_less = (row[1:] == row[:-1]) & (moved[1:] >= moved[:-1])
    descending = np.ones(len(attempt), np.bool_)
    descending[row[1:][not_less]] = False
    return descending


def _weaker_test(settings: StrategySettings, c: Candles) -> Bools:
    """The lows of the older and the newer part of the recent candles lie close together, and the second took less selling."""
    recent = settings.breakdown_candles
    low, flow = c.low[:, -recent:], c.flow[:, -recent:]
    rows, half = np.arange(len(low)), recent // 2
    first, second = low[:, :half].argmin(axis=1), half + low[:, half:].argmin(axis=1)
    span: Floats = (c.high[:, -recent:].max(axis=1) - low.min(axis=1)).astype(np.float64)
    close = np.abs(low[rows, second] - low[rows, first]) <= settings.second_test_tolerance * span
    sold_first, sold_second = (np.maximum(-flow[rows, at], 0) for at in (first, second))
    return np.asarray(close & (sold_first > 0) & (sold_second < settings.second_test_ratio * sold_first))
