"""SqueezeFlow: the five phases together, as a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from sqfd.bars.ring import HIGH, LOW, FlowRing
from sqfd.lazy import lazy
from sqfd.strategy import explain
from sqfd.strategy.api import Report
from sqfd.strategy.baseline import Baseline, Bools, Floats, Ints
from sqfd.strategy.context import Context
from sqfd.strategy.divergence import Divergence, Setup, divergence
from sqfd.strategy.exits import Held, exits, reasons_of
from sqfd.strategy.features import Columns, Features, Layout
from sqfd.strategy.position import Exit, Opening, Position
from sqfd.strategy.reset import Reset, ResetState, reset
from sqfd.strategy.scoring import Patterns, score, total
from sqfd.strategy.settings import StrategySettings, Tier
from sqfd.strategy.shared import Keys, Shared, keys_of

EXIT_CHUNK = 2_400
"""Ticks of an open position that are judged at once."""
FIRST_CHUNK, ENTRY_CHUNK = 480, 2_400
"""Ticks that may be entries that are scored at once: at first, as most entries come early, and then."""
NONE: Ints = np.zeros(0, np.int64)


class Memory(msgspec.Struct, frozen=True):
    """What a symbol's later ticks need of earlier ones, as it is written to disk."""

    setup: Setup
    reset: ResetState


class Unjudged:
    """A block before the symbol is warm: nothing is decided."""

    def first_entry(self, start: int) -> int | None:
        return None

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

    def __init__(self, features: Features, memory: Memory, shared: Shared, keys: Keys) -> None:
        self.features, self.settings = features, features.settings
        self._shared, self._keys, self._before = shared, keys, memory
        found: Reset = shared.find("reset", keys.reset, memory.reset, lambda: reset(features, memory.reset))
        self.context = shared.find("context", keys.context, None, lambda: Context(features))
        self.reset: Reset = found
        self.divergence: Divergence = shared.find(
            "divergence", keys.divergence, memory, lambda: divergence(features, memory.setup, found)
        )
        self._patterns = shared.find("patterns", keys.score, None, lambda: Patterns(features))
        self.memory = Memory(self.divergence.after, self.reset.after)
        self._asked: tuple[int, int | None] | None = None
        self._scored: dict[int, Floats] = {}
        """Parts by tick: of entries that were found, and of ticks that were asked for."""
        self._standing: dict[tuple[int, int], tuple[str, ...]] = {}
        """By side and tick: what would close a position that is opened there. Nothing does at an entry that was found."""
        self._closing: dict[tuple[Position, int], tuple[str, ...]] = {}
        """By position and tick: the exits that were found."""
        self._told: list[int] = []
        """Ticks that were given as entries and exits: those of which reports will be asked."""

    @lazy
    def parts(self) -> Floats:
        """[part, tick]: the score's parts, of every tick."""
        return self.parts_at(np.arange(self.features.last - self.features.first))

    def parts_at(self, at: Ints) -> Floats:
        """The same at some places of the block."""
        return score(self.features, self._patterns, self.context, self.reset, self.divergence.armed, at)

    def parts_of(self, tick: int) -> Floats:
        """[part] of one tick."""
        self._score((tick,))
        return self._scored[tick]

    def _score(self, ticks: Sequence[int]) -> None:
        """Have the parts of these ticks."""
        missing = [tick for tick in ticks if tick not in self._scored]
        if missing:
            parts = self.parts_at(np.array(missing) - self.features.first)
            self._scored.update(zip(missing, parts.T, strict=True))

    @lazy
    def _open(self) -> Ints:
        """Places where a setup is armed, a reset of its side lives and the feeds were whole: those that are worth a score."""
        armed = self.divergence.armed
        at = armed.nonzero()[0]
        if self.settings.require_reset and len(at):
            at = at[self.reset.live[np.where(armed[at] > 0, 0, 1), at]]
        return at[self.features.coverage[at] >= self.settings.min_coverage] if len(at) else NONE

    def first_entry(self, start: int) -> int | None:
        """The first tick from `start` on where the score suffices as well, and no exit would hold already."""
        if self._asked is not None:
            asked, found = self._asked
            if asked <= start and (found is None or start <= found):
                return found
        found = self._first_entry(start)
        self._asked = start, found
        if found is not None:
            self._told.append(found)
        return found

    def _first_entry(self, start: int) -> int | None:
        first = int(np.searchsorted(self._open, start - self.features.first)) if len(self._open) else 0
        if first == len(self._open):
            return None
        edges = [first, *range(first + FIRST_CHUNK, len(self._open), ENTRY_CHUNK), len(self._open)]
        for left, right in pairwise(edges):
            good, parts = self._entries(slice(left, right))
            if len(good):
                tick = self.features.first + int(good[0])
                self._scored[tick] = parts[:, 0].copy()
                self._standing[int(self.divergence.armed[good[0]]), tick] = ()
                return tick
        return None

    def _entries(self, some: slice) -> tuple[Ints, Floats]:
        """Of some of the places of `_open` those that are entries, and the parts of their scores."""
        at = self._open[some]
        if self._shared.many:
            parts = self._shared.find("parts", self._keys.score, self._before, lambda: self.parts_at(self._open))[
                :, some
            ]
        else:
            parts = self.parts_at(at)
        enough = (total(parts) >= self.settings.min_entry_score).nonzero()[0]
        at, parts = at[enough], parts[:, enough]
        if not len(at):
            return at, parts
        keep = np.ones(len(at), np.bool_)
        armed = self.divergence.armed[at]
        for side in (1, -1):
            mine = (armed == side).nonzero()[0]
            if len(mine):
                keep[mine] = ~self.standing_exits(side, self.features.ticks[at[mine]]).any(axis=0)
        return at[keep], parts[:, keep]

    @property
    def entries(self) -> Ints:
        """All ticks of the block that are entries, whatever the book holds."""
        return np.asarray(self.features.ticks[self._entries(slice(None))[0]]) if len(self._open) else NONE

    def standing_exits(self, side: int, ticks: Ints) -> Bools:
        """[reason, tick]: what would close a position that is opened at the tick itself."""
        entered = Held(ticks, self.levels(side, ticks), side * self.context.at(ticks - self.features.first))
        return exits(self.features, self.context, side, ticks, entered)

    def standing_at(self, side: int, tick: int) -> tuple[str, ...]:
        """The same at one tick, by name."""
        if (side, tick) not in self._standing:
            self._standing[side, tick] = reasons_of(self.standing_exits(side, np.array([tick])), 0)
        return self._standing[side, tick]

    def levels(self, side: int, ticks: Ints) -> Ints:
        """Low (long) or high (short) of the live reset, of the last seconds where there is none."""
        at, place = ticks - self.features.first, 0 if side > 0 else 1
        row, find = (LOW, self.features.lowest) if side > 0 else (HIGH, self.features.highest)
        fixed = self.reset.extreme(place, at)
        recent = np.flatnonzero(~self.reset.live[place, at])
        if len(recent):
            fixed[recent] = find(row, ticks[recent] - self.settings.reset_extreme_s, ticks[recent])
        return np.asarray(fixed)

    def opening(self, tick: int) -> Opening:
        at = tick - self.features.first
        ticks, side = np.array([tick]), int(self.divergence.armed[at])
        points = float(total(self.parts_of(tick)))
        quality, tier = tier_of(self.settings, points)
        price, level = int(self.features.price[at]), int(self.levels(side, ticks)[0])
        context = side * self.context.one(at)
        return Opening(side, price, level, points, quality, tier.size, tier.leverage, tier.confidence, context)

    def first_exit(self, position: Position, start: int) -> Exit | None:
        for first in range(max(start, self.features.first), self.features.last, EXIT_CHUNK):
            ticks = np.arange(first, min(first + EXIT_CHUNK, self.features.last))
            held = self.held_exits(position, ticks)
            closing = np.flatnonzero(held.any(axis=0))
            if len(closing):
                at = int(closing[0])
                found = Exit(first + at, reasons_of(held, at))
                self._closing[position, found.tick] = found.reasons
                self._told.append(found.tick)
                return found
        return None

    def held_exits(self, position: Position, ticks: Ints) -> Bools:
        """[reason, tick] for an open position."""
        entered = Held(position.entry_tick, position.level, position.context)
        return exits(self.features, self.context, position.side, ticks, entered)

    def closing_at(self, position: Position, tick: int) -> tuple[str, ...]:
        """The exits that hold at one tick, by name."""
        if (position, tick) not in self._closing:
            self._closing[position, tick] = reasons_of(self.held_exits(position, np.array([tick])), 0)
        return self._closing[position, tick]

    def report(self, tick: int, position: Position | None) -> Report | None:
        if not self.features.first <= tick < self.features.last:
            return None
        if len(self._told) > 1:
            self._prepare()
        return explain.report(self, tick, position)

    def _prepare(self) -> None:
        """All of a block's events are found before the first is reported: what their reports look up is made at once."""
        ticks = sorted(set(self._told))
        self._told.clear()
        explain.prepare(self, np.array(ticks))
        self._score(ticks)

    def mind(self, tick: int) -> dict[str, float]:
        """The whole block is scored: who asks of one tick asks of many."""
        return explain.mind(self, tick) if self.features.first <= tick < self.features.last else {}


def tier_of(settings: StrategySettings, points: float) -> tuple[str, Tier]:
    """Name and terms of the tier that a score reaches."""
    if points >= settings.premium.score:
        return "premium", settings.premium
    if points >= settings.high.score:
        return "high", settings.high
    return "medium", settings.medium


class SymbolWatch:
    """One symbol under SqueezeFlow: its memory, its samples and the baseline of the current minute."""

    def __init__(self, settings: StrategySettings, ring: FlowRing) -> None:
        self._settings, self._ring, self._layout = settings, ring, Layout(settings)
        self._memory = Memory(Setup(), ResetState.empty(len(settings.reset_windows_s)))
        self._keys, self._shared = keys_of(settings), Shared.of(ring)
        self._shared.watches.add(self)
        self._samples = self._shared.samples(ring, settings)
        self._baseline: Baseline | None = None

    def evaluate(self, first: int, last: int) -> Evaluated | Unjudged:
        if self._ring.empty:
            return Unjudged()
        first = max(first, self._ring.first_tick + self._settings.warmup_s)
        if first >= last:
            return Unjudged()
        self._shared.begin(first, last)
        usual, columns = self._usual(first, last), self._shared.find("columns", self._keys.columns, None, Columns)
        features = Features(self._ring, usual, self._settings, self._layout, first, last, columns)
        evaluated = Evaluated(features, self._memory, self._shared, self._keys)
        self._memory = evaluated.memory
        return evaluated

    def _usual(self, first: int, last: int) -> Baseline:
        step = self._settings.sample_s
        held = self._baseline
        if held and held.minutes == 1 and held.first_minute == first // step * step == (last - 1) // step * step:
            return held
        self._baseline = self._shared.find(
            "baseline", self._keys.columns, None, lambda: Baseline(self._samples, self._settings, first, last - 1)
        )
        return self._baseline

    def revised(self, tick: int) -> None:
        self._samples.revised(tick)
        held = self._baseline
        if held and tick <= held.first_minute + (held.minutes - 1) * self._settings.sample_s:
            self._baseline = None

    def memory(self) -> bytes:
        return msgspec.json.encode(self._memory)

    def recall(self, memory: bytes) -> None:
        known = msgspec.json.decode(memory, type=Memory)
        windows = len(self._settings.reset_windows_s)
        ticks, convergence = known.reset.window_tick, known.reset.convergence
        if all(len(one) == len(two) == windows for one, two in zip(ticks, convergence, strict=True)):
            self._memory = known


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
