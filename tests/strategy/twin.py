"""The five phases once more, slow and obvious: plain Python numbers, one tick at a time, every window walked anew."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from sqfd.model import Flow
from sqfd.strategy.settings import StrategySettings


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


class Twin:
    """All phases of one symbol at single ticks, from its rows. `L S P` by tick."""

    def __init__(self, rows: Flow, settings: StrategySettings) -> None:
        self.settings = settings
        self.first = int(rows["second"][0]) + 1
        self.L, self.S, self.P, self.V, self.C = {}, {}, {}, {}, {}
        self.high, self.low = {}, {}
        spot = perp = volume = coverage = 0
        for row in rows:
            tick = int(row["second"]) + 1
            spot, perp = spot + int(row["spot_delta"]), perp + int(row["perp_delta"])
            volume += int(row["spot_volume"]) + int(row["perp_volume"])
            coverage += int(row["coverage_ppm"])
            self.L[tick], self.S[tick], self.P[tick] = int(row["price"]), spot, perp
            self.V[tick], self.C[tick] = volume, coverage
            self.high[tick], self.low[tick] = int(row["high"]), int(row["low"])
        self.swings: dict[tuple[int, int, int], float] = {}
        self.setup: dict[str, Any] | None = None
        self.diverged: dict[int, int] = {}
        self.resets: dict[int, dict[Any, Any]] = {1: {}, -1: {}}

    def samples(self, window: int, tick: int) -> list[int]:
        step = self.settings.sample_s
        minute = tick // step * step
        span = range(minute, minute - self.settings.baseline_s // step * step, -step)
        return [at for at in span if at - window >= self.first]

    def delta(self, X: dict[int, int], window: int, tick: int) -> int:
        return X[tick] - X[tick - window] if tick - window >= self.first else 0

    def swing(self, X: dict[int, int], window: int, tick: int) -> float:
        key = (id(X), window, tick // self.settings.sample_s)
        if key not in self.swings:
            moves = [abs(self.delta(X, window, at)) for at in self.samples(window, tick)]
            self.swings[key] = sum(moves) / len(moves) if moves else 0.0
        return self.swings[key]

    def n(self, X: dict[int, int], window: int, tick: int, move: int | None = None) -> float:
        usual = self.swing(X, window, tick)
        moved = self.delta(X, window, tick) if move is None else move
        return self.settings.sensitivity * moved / usual if usual else 0.0

    @staticmethod
    def rank(values: list[float], share: float) -> float:
        return sorted(values)[min(len(values) - 1, math.floor(share * len(values)))] if values else 0.0

    def context(self, tick: int) -> tuple[float, int]:
        settings, total, weights = self.settings, 0.0, 0.0
        for window, weight in zip(settings.context_windows_s, settings.context_weights, strict=True):
            if not self.samples(window, tick):
                continue
            r, f = self.n(self.L, window, tick), self.n(self.S, window, tick) - self.n(self.P, window, tick)
            c = min(r, f, 1) if r > 0 and f > 0 else -min(-r, -f, 1) if r < 0 and f < 0 else 0.0
            total, weights = total + weight * c, weights + weight
        value = total / weights if weights else 0.0
        return value, (value >= settings.context_threshold) - (value <= -settings.context_threshold)

    def gaps(self, window: int, tick: int) -> list[float]:
        swings = self.swing(self.S, window, tick), self.swing(self.P, window, tick)
        out = []
        for at in self.samples(window, tick):
            parts = [
                self.settings.sensitivity * self.delta(X, window, at) / usual if usual else 0.0
                for X, usual in zip((self.S, self.P), swings, strict=True)
            ]
            out.append(abs(parts[0] - parts[1]))
        return out

    def diverges(self, window: int, tick: int) -> tuple[int, float]:
        settings = self.settings
        gap = self.n(self.S, window, tick) - self.n(self.P, window, tick)
        spot, perp = self.delta(self.S, window, tick), self.delta(self.P, window, tick)
        if self.coverage(tick) < settings.min_coverage:
            return 0, abs(gap)
        if sign(spot) * sign(perp) >= 0 or abs(gap) < settings.divergence_gap_min:
            return 0, abs(gap)
        if abs(gap) < self.rank(self.gaps(window, tick), settings.divergence_gap_rank):
            return 0, abs(gap)
        at = self.samples(window, tick)
        for X, move in ((self.S, spot), (self.P, perp)):
            if abs(move) < self.rank([abs(self.delta(X, window, t)) for t in at], settings.divergence_leg_rank):
                return 0, abs(gap)
        worst = self.rank([abs(self.delta(self.L, window, t)) for t in at], settings.divergence_price_rank)
        side = sign(spot)
        return (side if side * self.delta(self.L, window, tick) > -worst else 0), abs(gap)

    def coverage(self, tick: int) -> float:
        window = min(self.settings.setup_window_s, tick - self.first)
        return (self.C[tick] - self.C[tick - window]) / max(window, 1) / 1e6

    def extreme(self, side: int, window: int, tick: int) -> int:
        span = range(max(self.first, tick - window + 1), tick + 1)
        return min(self.low[t] for t in span) if side > 0 else max(self.high[t] for t in span)

    def divergence(self, tick: int) -> tuple[int, int, float]:
        """(holds, armed, strength); ticks must be asked in order."""
        settings = self.settings
        found = [self.diverges(window, tick) for window in settings.divergence_windows_s]
        sides = {side for side, _ in found if side}
        for side in sides:
            self.diverged[side] = tick
        for side in (1, -1):
            live, _, _ = self.reset(side, tick)
            if live and tick - self.diverged.get(side, -math.inf) <= settings.armed_s:
                sides.discard(-side)
        holds = sides.pop() if len(sides) == 1 else 0
        if holds:
            strength = min(1.0, max(gap for side, gap in found if side == holds) / settings.divergence_full_gap)
            swing = self.swing(self.L, settings.setup_window_s, tick)
            level = self.extreme(holds, settings.setup_window_s, tick) - holds * settings.disarm_swings * swing
            self.setup = {"side": holds, "tick": tick, "level": level, "strength": strength}
        elif self.setup and self.setup["side"] * (self.L[tick] - self.setup["level"]) < 0:
            self.setup = None
        if self.setup is None or tick - self.setup["tick"] > settings.armed_s:
            return holds, 0, 0.0
        return holds, self.setup["side"], self.setup["strength"]

    def exhausted(self, window: int, tick: int) -> tuple[int, float]:
        settings, half = self.settings, window // 2
        older = 0.0
        if tick - window >= self.first:
            older = self.n(self.S, half, tick, self.S[tick - half] - self.S[tick - window])
            older -= self.n(self.P, half, tick, self.P[tick - half] - self.P[tick - window])
        newer = self.n(self.S, half, tick) - self.n(self.P, half, tick)
        if (
            self.coverage(tick) < settings.min_coverage
            or abs(older) < settings.reset_gap_min
            or sign(older) * sign(newer) != -1
        ):
            return 0, 0.0
        if abs(older + newer) > settings.reset_remainder_max * abs(older):
            return 0, 0.0
        if abs(self.n(self.L, half, tick)) > settings.reset_stall_max:
            return 0, 0.0
        return sign(older), 1 - abs(older + newer) / abs(older)

    def reset(self, side: int, tick: int) -> tuple[bool, float, float]:
        """(live, alignment, convergence) for a side; ticks must be asked in order."""
        settings, memory = self.settings, self.resets[side]
        for window in settings.reset_windows_s:
            found, convergence = self.exhausted(window, tick)
            if found == side:
                memory[window] = (tick, convergence)
                memory["last"] = tick
                memory["low"] = self.extreme(1, settings.reset_extreme_s, tick)
                memory["high"] = self.extreme(-1, settings.reset_extreme_s, tick)
        last = memory.get("last", -math.inf)
        if tick - last <= settings.confirm_s:
            window = settings.confirm_window_s
            moves = side * self.delta(self.S, window, tick) > 0 and side * self.delta(self.P, window, tick) > 0
            if moves and side * self.n(self.L, window, tick) >= settings.confirm_move_min:
                memory["confirmed"] = tick
        confirmed = memory.get("confirmed", -math.inf)
        prolonged = tick - confirmed <= settings.reset_hold_s
        alignment = converged = 0.0
        for window, weight in zip(settings.reset_windows_s, settings.reset_weights, strict=True):
            at, value = memory.get(window, (-math.inf, 0.0))
            in_force = tick - at <= settings.reset_hold_s
            if in_force or (prolonged and 0 <= confirmed - at <= settings.confirm_s):
                alignment, converged = alignment + weight, converged + weight * value
        total = sum(settings.reset_weights)
        return tick - last <= settings.reset_hold_s or prolonged, alignment / total, converged / total

    def candle(self, side: int, end: int, width: int) -> dict[str, int]:
        start = end - width
        span = range(start + 1, end + 1)
        highs, lows = [self.high[t] for t in span], [self.low[t] for t in span]
        high, low = (max(highs), min(lows)) if side > 0 else (-min(lows), -max(highs))
        return {
            "open": side * self.L[start],
            "close": side * self.L[end],
            "high": high,
            "low": low,
            "flow": side * (self.S[end] + self.P[end] - self.S[start] - self.P[start]),
            "volume": self.V[end] - self.V[start],
        }

    def candles(self, side: int, tick: int, width: int, count: int) -> list[dict[str, int]]:
        end = tick // width * width
        if end - count * width < self.first:
            return []
        return [self.candle(side, end - back * width, width) for back in range(count - 1, -1, -1)]

    def score(self, side: int, tick: int) -> list[float]:
        live, alignment, convergence = self.reset(side, tick)
        context, _ = self.context(tick)
        settings = self.settings
        turned = settings.alignment_points * alignment + settings.convergence_points * convergence
        agreed = max(-1.0, min(1.0, side * context / settings.context_full))
        return [
            self.score_reset(side, tick, turned if live else 0.0),
            self.score_absorption(side, tick, live),
            self.score_breakdown(side, tick),
            self.score_bias(side, tick) + settings.context_points * agreed,
        ]

    def score_reset(self, side: int, tick: int, points: float) -> float:
        settings = self.settings
        window, limit = settings.speed_window_s, settings.deceleration_ratio
        if tick - window * settings.speed_spans >= self.first:
            speeds = [
                abs(self.delta(self.S, window, tick - k * window)) + abs(self.delta(self.P, window, tick - k * window))
                for k in range(settings.speed_spans)
            ]
            if max(speeds) > 0:
                points += settings.deceleration_points * max(0.0, (limit - speeds[0] / max(speeds)) / limit)
        recent = settings.breakdown_candles
        bars = self.candles(side, tick, settings.breakdown_candle_s, recent + settings.range_candles)[-recent:]
        if bars:
            older, newer = bars[: recent // 2], bars[recent // 2 :]
            first, second = (min(part, key=lambda bar: bar["low"]) for part in (older, newer))
            span = max(bar["high"] for bar in bars) - min(bar["low"] for bar in bars)
            sold = [max(-bar["flow"], 0) for bar in (first, second)]
            close = abs(first["low"] - second["low"]) <= settings.second_test_tolerance * span
            if close and sold[0] > 0 and sold[1] < settings.second_test_ratio * sold[0]:
                points += settings.second_test_points
        return points

    def score_absorption(self, side: int, tick: int, live: bool) -> float:
        settings = self.settings
        bars = self.candles(side, tick, settings.candle_s, 15)
        if not bars:
            return 0.0
        last = bars[-3:]
        bar = min(reversed(last), key=lambda each: each["low"])
        floor = 0
        if live:
            floor = self.resets[side]["low"] if side > 0 else -self.resets[side]["high"]
        points = settings.unbroken_points * (live and all(each["close"] >= floor for each in last))
        points += settings.green_points * (bar["close"] > bar["open"])
        span = max(bar["high"], bar["open"]) - bar["low"]
        wick = span > 0 and min(bar["open"], bar["close"]) - bar["low"] >= settings.wick_share * span
        points += settings.wick_points * (live and wick and bar["close"] >= floor)
        usual = sum(each["volume"] for each in bars[:12])
        points += settings.volume_points * (usual > 0 and bar["volume"] * 12 >= settings.volume_ratio * usual)
        return points

    def score_breakdown(self, side: int, tick: int) -> float:
        settings, recent = self.settings, self.settings.breakdown_candles
        bars = self.candles(side, tick, settings.breakdown_candle_s, recent + settings.range_candles)
        if not bars:
            return 0.0
        floor = min(bar["low"] for bar in bars[:-recent])
        failed = [abs(bar["flow"]) for bar in bars[-recent:] if bar["low"] < floor <= bar["close"]]
        points = (0.0, *settings.breakdown_points)[min(len(failed), len(settings.breakdown_points))]
        fading = len(failed) >= 2 and all(a > b for a, b in pairwise(failed))
        return points + settings.fading_points * fading

    def score_bias(self, side: int, tick: int) -> float:
        settings, window = self.settings, self.settings.bias_window_s
        spot, price, perp = (
            max(0.0, min(1.0, side * self.n(X, window, tick) / settings.bias_full)) for X in (self.S, self.L, self.P)
        )
        lagging = side * self.n(self.P, settings.divergence_windows_s[0], tick)
        turned = max(0.0, min(1.0, 0.5 + 0.5 * lagging / settings.lagging_full))
        points = settings.bias_spot_points * spot + settings.bias_price_points * price
        return points + settings.bias_perp_points * perp + settings.lagging_points * turned

    def exits(self, side: int, tick: int, entry: int, level: int, context: float = 0.0) -> list[bool]:
        settings, window = self.settings, self.settings.exit_lookback_s
        since = max(entry, tick - window)
        spot, perp = (side * self.n(X, window, tick, X[tick] - X[since]) for X in (self.S, self.P))
        edge = max(since, tick - settings.new_extreme_s)
        best = {t: (self.high[t] if side > 0 else -self.low[t]) for t in range(since + 1, tick + 1)}
        before = max([side * self.L[since], *(best[t] for t in range(since + 1, edge + 1))])
        new_extreme = any(best[t] > before for t in range(edge + 1, tick + 1))
        swing = self.swing(self.L, settings.swing_window_s, tick)
        structure = self.extreme(side, settings.structure_s, tick - 1)
        price = self.L[tick]
        return [
            spot <= -settings.reversal_spot and perp >= settings.reversal_perp and tick > entry and not new_extreme,
            side * (price - level) < -settings.range_break_swings * swing,
            side * self.context(tick)[0] <= min(context, 0.0) - settings.context_threshold,
            max(spot, perp) <= -settings.exit_flow,
            side * (price - structure) < -settings.structure_swings * swing,
        ]
