"""SqueezeFlow: the five phases together, as a strategy."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, FlowRing
from sqfd.strategy import explain
from sqfd.strategy.api import Report
from sqfd.strategy.baseline import Baseline, Bools, Floats, Ints
from sqfd.strategy.context import Context, context
from sqfd.strategy.divergence import Divergence, Setup, divergence
from sqfd.strategy.exits import REASONS, Held, exits
from sqfd.strategy.features import Features
from sqfd.strategy.position import Exit, Opening, Position
from sqfd.strategy.reset import Reset, ResetMemory, ResetState, reset
from sqfd.strategy.scoring import Score, score
from sqfd.strategy.settings import StrategySettings, Tier

EXIT_CHUNK = 512
"""Ticks of an open position that are judged at once."""
NONE: Ints = np.zeros(0, np.int64)


class State(msgspec.Struct, frozen=True):
    """A symbol's memory as it is written to disk."""

    setup: Setup
    reset: ResetState


class Memory(NamedTuple):
    """What a symbol's later ticks need of earlier ones."""

    setup: Setup
    reset: ResetMemory


class Unjudged:
    """A block before the symbol is warm: nothing is decided."""

    entries = NONE

    def opening(self, tick: int) -> Opening:
        raise LookupError(f"no entry at tick {tick}: the symbol is warming up")

    def first_exit(self, position: Position, start: int) -> Exit | None:
        return None

    def report(self, tick: int, position: Position | None) -> Report | None:
        return None

    def mind(self, tick: int) -> dict[str, float]:
        return {}


class Evaluated:
    """A judged block of ticks `[features.first, features.last)`."""

    def __init__(self, features: Features, memory: Memory) -> None:
        self.features, self.settings = features, features.settings
        self.context: Context = context(features)
        self.reset: Reset = reset(features, memory.reset)
        self.divergence: Divergence = divergence(features, memory.setup, self.reset.live)
        self.score: Score = score(features, self.context, self.reset, self.divergence.armed)
        self.coverage: Floats = features.coverage
        self.memory = Memory(self.divergence.after, self.reset.after)
        self.entries = self._entries()

    def _entries(self) -> Ints:
        """Ticks where a setup is armed, a reset lives, score and coverage suffice, and no exit would hold already."""
        settings, armed = self.settings, self.divergence.armed
        good = (armed != 0) & (self.score.total >= settings.min_entry_score) & (self.coverage >= settings.min_coverage)
        if settings.require_reset:
            good &= np.where(armed > 0, self.reset.live[0], self.reset.live[1])
        ticks = self.features.ticks[good]
        if not len(ticks):
            return NONE
        keep = np.ones(len(ticks), np.bool_)
        armed = armed[good]
        for side in (1, -1):
            mine = np.flatnonzero(armed == side)
            if len(mine):
                keep[mine] = ~self.standing_exits(side, ticks[mine]).any(axis=0)
        return np.asarray(ticks[keep])

    def standing_exits(self, side: int, ticks: Ints) -> Bools:
        """[reason, tick]: what would close a position that is opened at the tick itself."""
        entered = Held(ticks, self.levels(side, ticks), side * self.context.value[ticks - self.features.first])
        return exits(self.features, self.context, side, ticks, entered)

    def levels(self, side: int, ticks: Ints) -> Ints:
        """Low (long) or high (short) of the live reset, of the last seconds where there is none."""
        at, place = ticks - self.features.first, 0 if side > 0 else 1
        row, find = (LOW, self.features.lowest) if side > 0 else (HIGH, self.features.highest)
        fixed = (self.reset.low if side > 0 else self.reset.high)[place, at]
        recent = np.flatnonzero(~self.reset.live[place, at])
        if len(recent):
            fixed[recent] = find(row, ticks[recent] - self.settings.reset_extreme_s, ticks[recent])
        return np.asarray(fixed)

    def opening(self, tick: int) -> Opening:
        at = tick - self.features.first
        ticks, side = np.array([tick]), int(self.divergence.armed[at])
        total = float(self.score.total[at])
        quality, tier = tier_of(self.settings, total)
        price, level = int(self.features.price_at(ticks)[0]), int(self.levels(side, ticks)[0])
        context = side * float(self.context.value[at])
        return Opening(side, price, level, total, quality, tier.size, tier.leverage, tier.confidence, context)

    def first_exit(self, position: Position, start: int) -> Exit | None:
        for first in range(max(start, self.features.first), self.features.last, EXIT_CHUNK):
            ticks = np.arange(first, min(first + EXIT_CHUNK, self.features.last))
            held = self.held_exits(position, ticks)
            closing = np.flatnonzero(held.any(axis=0))
            if len(closing):
                at = int(closing[0])
                reasons = tuple(name for name, holds in zip(REASONS, held[:, at].tolist(), strict=True) if holds)
                return Exit(first + at, reasons)
        return None

    def held_exits(self, position: Position, ticks: Ints) -> Bools:
        """[reason, tick] for an open position."""
        known = (position.entry_tick, position.level, position.context)
        entered = Held(*(np.full(len(ticks), value) for value in known))
        return exits(self.features, self.context, position.side, ticks, entered)

    def report(self, tick: int, position: Position | None) -> Report | None:
        if not self.features.first <= tick < self.features.last:
            return None
        return explain.report(self, tick, position)

    def mind(self, tick: int) -> dict[str, float]:
        return explain.mind(self, tick) if self.features.first <= tick < self.features.last else {}


def tier_of(settings: StrategySettings, total: float) -> tuple[str, Tier]:
    """Name and terms of the tier that a score reaches."""
    if total >= settings.premium.score:
        return "premium", settings.premium
    if total >= settings.high.score:
        return "high", settings.high
    return "medium", settings.medium


class SymbolWatch:
    """One symbol under SqueezeFlow: its memory and the baseline of the current minute."""

    def __init__(self, settings: StrategySettings, ring: FlowRing) -> None:
        self._settings, self._ring = settings, ring
        self._memory = Memory(Setup(), ResetMemory.empty(len(settings.reset_windows_s)))
        self._baseline: Baseline | None = None

    def evaluate(self, first: int, last: int) -> Evaluated | Unjudged:
        if self._ring.empty:
            return Unjudged()
        first = max(first, self._ring.first_tick + self._settings.warmup_s)
        if first >= last:
            return Unjudged()
        features = Features(self._ring, self._usual(first, last), self._settings, first, last)
        evaluated = Evaluated(features, self._memory)
        self._memory = evaluated.memory
        return evaluated

    def _usual(self, first: int, last: int) -> Baseline:
        step = self._settings.sample_s
        held = self._baseline
        if held and held.minutes == 1 and held.first_minute == first // step * step == (last - 1) // step * step:
            return held
        self._baseline = Baseline(self._ring, self._settings, first, last - 1)
        return self._baseline

    def revised(self, tick: int) -> None:
        held = self._baseline
        if held and tick <= held.first_minute + (held.minutes - 1) * self._settings.sample_s:
            self._baseline = None

    def memory(self) -> bytes:
        return msgspec.json.encode(State(self._memory.setup, self._memory.reset.state()))

    def recall(self, memory: bytes) -> None:
        known = msgspec.json.decode(memory, type=State)
        reset = ResetMemory.of(known.reset, len(self._settings.reset_windows_s))
        if reset is not None:
            self._memory = Memory(known.setup, reset)


class SqueezeFlow:
    """The strategy object; settings may differ by symbol."""

    name = "squeezeflow"

    def __init__(self, settings: StrategySettings, symbols: tuple[str, ...] = ()) -> None:
        self.settings = settings
        own = [settings.for_symbol(symbol) for symbol in symbols] or [settings]
        self.history_s = max(each.history_s for each in own)
        self.detail_s = max(each.detail_s for each in own)
        self.memory_s = max(each.memory_s for each in own)

    def watch(self, symbol: str, ring: FlowRing) -> SymbolWatch:
        return SymbolWatch(self.settings.for_symbol(symbol), ring)
