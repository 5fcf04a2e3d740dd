"""Phase 4: how good is the moment, 0 to 10, only where a setup is armed. For a short everything is mirrored.

The dearest phase, so it judges only the ticks that it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sqfd.bars.ring import FUNDING, LIQ_BUY, LIQ_SELL, OPEN_INTEREST, PERP, PERP_VOLUME, PRICE, SPOT, FlowRing
from sqfd.strategy.baseline import Bools, Floats, Ints
from sqfd.strategy.candles import EARLIER, RECENT, absorption, breakdowns
from sqfd.strategy.context import Context
from sqfd.strategy.features import Features
from sqfd.strategy.reset import SIDES, Reset
from sqfd.strategy.settings import StrategySettings

PARTS = ("cvd_reset", "absorption", "failed_breakdown", "directional_bias", "evidence")
MAX_SCORE = 10.0
PPB_PER_BPS = 100_000
LEAST = np.iinfo(np.int64).min
Find = Callable[[FlowRing, StrategySettings, int, Ints], tuple[Ints | Bools, ...]]
"""What candles before each of some ends show, from one side."""


class Patterns:
    """What the candles of a block show, by side: found once for each candle, however often its ticks are scored."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._found: dict[tuple[Find, int], Ints] = {}

    def breakdowns(self, side: int, ticks: Ints) -> Ints:
        """[failed, fading, second test; tick]: of each tick's last complete candle, 0 where history is too short."""
        settings = self._features.settings
        width, count = settings.breakdown_candle_s, settings.breakdown_candles + settings.range_candles
        return self._of(breakdowns, side, ticks, width, count, (0, 0, 0))

    def absorption(self, side: int, ticks: Ints) -> Ints:
        """[lowest close, close, green, wick, volume; tick]: the same; no close lies above what is missing."""
        width = self._features.settings.candle_s
        return self._of(absorption, side, ticks, width, RECENT + EARLIER, (LEAST, LEAST, 0, 0, 0))

    def _of(self, find: Find, side: int, ticks: Ints, width: int, count: int, missing: tuple[int, ...]) -> Ints:
        origin = self._features.first // width
        if (find, side) not in self._found:
            self._found[find, side] = self._table(find, side, width, count, missing)
        return self._found[find, side].take(ticks // width - origin, axis=1)

    def _table(self, find: Find, side: int, width: int, count: int, missing: tuple[int, ...]) -> Ints:
        """[value, candle]: `count` candles are looked back at."""
        features = self._features
        origin, stop = features.first // width, (features.last - 1) // width + 1
        known = min(max(origin, -(-features.ring.first_tick // width) + count), stop)
        table = np.empty((len(missing), stop - origin), np.int64)
        table[:, : known - origin] = np.array(missing)[:, None]
        if known < stop:
            found = find(features.ring, features.settings, side, width * np.arange(known, stop))
            for row, values in zip(table, found, strict=True):
                row[known - origin :] = values
        return table


def score(features: Features, patterns: Patterns, context: Context, reset: Reset, armed: Ints, at: Ints) -> Floats:
    """[part, place] in the order of PARTS at the places `at` of the block, for the side that is armed there; 0 where none is."""
    armed = armed[at]
    parts = np.zeros((len(PARTS), len(at)))
    for place, side in enumerate(SIDES):
        mine = (armed == side).nonzero()[0]
        if len(mine) == len(at) > 0:
            return _one_side(features, patterns, context, reset, place, at)
        if len(mine):
            parts[:, mine] = _one_side(features, patterns, context, reset, place, at[mine])
    return parts


def total(parts: Floats) -> Floats:
    """The score that parts make, within 0 and 10."""
    return np.asarray(np.minimum(np.maximum(parts[0] + parts[1] + parts[2] + parts[3] + parts[4], 0.0), MAX_SCORE))


def _one_side(features: Features, patterns: Patterns, context: Context, reset: Reset, place: int, at: Ints) -> Floats:
    settings, side, ticks = features.settings, SIDES[place], features.ticks[at]
    failed, fading, second_test = patterns.breakdowns(side, ticks)
    live = reset.live[place, at]
    alignment, convergence = reset.aligned(place, at)
    turned = settings.alignment_points * alignment + settings.convergence_points * convergence
    decelerated = np.where(live, turned, 0.0)
    decelerated += settings.deceleration_points * _deceleration(features, at)
    decelerated += settings.second_test_points * second_test
    attempts = np.array((0.0, *settings.breakdown_points))[np.minimum(failed, len(settings.breakdown_points))]
    broken = attempts + settings.fading_points * fading
    absorbed = _absorbed(settings, patterns.absorption(side, ticks), live, side * reset.extreme(place, at))
    bias = _bias(features, side, at)
    bias += settings.context_points * np.minimum(np.maximum(side * context.at(at) / settings.context_full, -1.0), 1.0)
    return np.stack([decelerated, absorbed, broken, bias, _evidence(features, side, ticks)])


def _deceleration(features: Features, at: Ints) -> Floats:
    """How far the flow has slowed: 1 when it rests, 0 when it is as fast as ever or history is short."""
    settings, ring = features.settings, features.ring
    window, spans, limit = settings.speed_window_s, settings.speed_spans, settings.deceleration_ratio
    slowed = np.zeros(len(at))
    first = max(int(at[0]), ring.first_tick + window * spans - features.first)
    length = int(at[-1]) + 1 - first
    if length <= 0:
        return slowed
    start = features.first + first - ring.base
    flows = ring.series[SPOT : PERP + 1, start - window * spans : start + length]
    moved = np.abs(flows[:, window:] - flows[:, :-window])
    speeds = moved[0] + moved[1]
    now, fastest = speeds[-length:], speeds[:length]
    for span in range(1, spans):
        fastest = np.maximum(fastest, speeds[span * window : span * window + length])
    enough = np.searchsorted(at, first)
    inside = at[enough:] - first
    now, fastest = now[inside], fastest[inside]
    ratio = np.where(fastest > 0, now / np.maximum(fastest, 1), 1.0)
    slowed[enough:] = np.maximum(0.0, (limit - ratio) / limit)
    return slowed


def _absorbed(settings: StrategySettings, found: Ints, live: Bools, floor: Ints) -> Floats:
    """The parts that name the reset's extreme (`floor`) need a live reset."""
    lowest_close, close, green, wick, volume = found
    points = settings.unbroken_points * (live & (lowest_close >= floor))
    points += settings.green_points * green
    points += settings.wick_points * (live & (wick > 0) & (close >= floor))
    points += settings.volume_points * volume
    return np.asarray(points)


def _share(values: Floats) -> Floats:
    """Cut to 0 … 1."""
    return np.minimum(np.maximum(values, 0.0), 1.0)


def _bias(features: Features, side: int, at: Ints) -> Floats:
    """Where price and the flows are going by now, in proportion up to a full move; and whether the lagging perps turned."""
    settings, window = features.settings, (features.settings.bias_window_s,)
    spot, price, perp = (
        _share(side * features.normals(window, series)[0].take(at) / settings.bias_full)
        for series in (SPOT, PRICE, PERP)
    )
    points = settings.bias_spot_points * spot
    points += settings.bias_price_points * price
    points += settings.bias_perp_points * perp
    lagging = side * features.normals(settings.divergence_windows_s, PERP)[0].take(at)
    points += settings.lagging_points * _share(0.5 + 0.5 * lagging / settings.lagging_full)
    return np.asarray(points)


def _evidence(features: Features, side: int, ticks: Ints) -> Floats:
    """Bounded bonus over the setup window: open interest that rose, funding and liquidations of the squeezed side."""
    settings = features.settings
    points = np.zeros(len(ticks))
    before = np.maximum(ticks - settings.setup_window_s, features.ring.first_tick)
    if settings.use_open_interest:
        now, then = (features.detail_at(at, OPEN_INTEREST) for at in (ticks, before))
        rise = np.where((then > 0) & (now > then), (now - then) / np.maximum(then, 1), 0.0)
        points += settings.open_interest_points * np.minimum(1.0, rise / settings.open_interest_full)
    if settings.use_funding:
        paid_bps = -side * features.detail_at(ticks, FUNDING) / PPB_PER_BPS
        points += settings.funding_points * np.clip(paid_bps / settings.funding_full_bps, 0.0, 1.0)
    if settings.use_liquidations:
        row = LIQ_BUY if side > 0 else LIQ_SELL
        forced, volume = (
            features.detail_at(ticks, column) - features.detail_at(before, column) for column in (row, PERP_VOLUME)
        )
        share = np.where(volume > 0, forced / np.maximum(volume, 1), 0.0)
        points += settings.liquidation_points * np.minimum(1.0, share / settings.liquidation_full)
    return points
