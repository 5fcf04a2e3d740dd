"""What several watches of one ring share in a block: a sweep's strategies make each thing once for all whose settings agree.

A thing is shared by the settings that it was made from and by what was remembered before the block, so sharing changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from itertools import count
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet, WeakValueDictionary

from sqfd.bars.ring import FlowRing
from sqfd.strategy.baseline import Samples
from sqfd.strategy.settings import StrategySettings

Thing = TypeVar("Thing")

BOOK = frozenset(
    {
        "name",
        "min_entry_score",
        "premium",
        "high",
        "medium",
        "max_open_positions",
        "cooldown_s",
        "ttl_s",
        "reversal_spot",
        "reversal_perp",
        "new_extreme_s",
        "range_break_swings",
        "exit_flow",
        "structure_s",
        "structure_swings",
        "per_symbol",
    }
)
"""Settings that only decisions read: whatever else differs may change a score."""
SCORED = ("points", "ratio", "candle", "speed_", "second_test_", "wick_", "volume_", "range_", "bias_full", "lagging_")
"""Parts of the names that only scores read, and `CONTEXT`, `SETUP`, `RESET` those of the other phases."""
CONTEXT = ("context_weights", "context_threshold", "context_high", "context_medium", "context_full")
EVIDENCE = ("use_", "open_interest_", "funding_", "liquidation_", "require_reset")
SETUP = ("divergence_gap", "divergence_leg", "divergence_price", "divergence_full", "armed_s", "disarm_")
RESET = ("reset_weights", "reset_gap", "reset_remainder", "reset_stall", "reset_hold", "reset_extreme", "confirm_s")
RESET_TOO = ("confirm_move", "min_coverage")


class Read(NamedTuple):
    """The settings that each phase reads, by name. One that nobody named counts as read by all."""

    columns: Hashable
    reset: Hashable
    divergence: Hashable
    context: Hashable
    score: Hashable


def read_of(settings: StrategySettings) -> Read:
    """What each phase reads of these settings."""
    return Read(
        columns=_all_but(settings, (*SCORED, *CONTEXT, *EVIDENCE, *SETUP, *RESET, *RESET_TOO)),
        reset=_all_but(settings, (*SCORED, *CONTEXT, *EVIDENCE, *SETUP)),
        divergence=_all_but(settings, (*SCORED, *CONTEXT, *EVIDENCE)),
        context=_all_but(settings, (*SCORED, *EVIDENCE, *SETUP, *RESET, *RESET_TOO)),
        score=_all_but(settings, ()),
    )


class Keys(NamedTuple):
    """Stands for `Read`, by numbers that are equal where settings are: dozens of them take longer to hash than a look-up may."""

    columns: int
    reset: int
    divergence: int
    context: int
    score: int


def keys_of(settings: StrategySettings) -> Keys:
    """The numbers of what each phase reads."""
    return Keys(*map(_number, read_of(settings)))


_numbers = count()


@cache  # an entry for each phase's settings that this process ever used
def _number(read: Hashable) -> int:
    return next(_numbers)


def _all_but(settings: StrategySettings, parts: tuple[str, ...]) -> Hashable:
    return tuple((name, getattr(settings, name)) for name in _names_but(parts))


@cache  # one entry for each phase
def _names_but(parts: tuple[str, ...]) -> tuple[str, ...]:
    names = [name for name in StrategySettings.__struct_fields__ if name not in BOOK]
    return tuple(name for name in names if not any(part in name for part in parts))


class Shared:
    """Of one ring."""

    def __init__(self) -> None:
        self._block = (0, 0)
        self._found: dict[Hashable, tuple[Any, Any]] = {}
        self._samples: WeakValueDictionary[Hashable, Samples] = WeakValueDictionary()
        self.watches: WeakSet[Any] = WeakSet()

    @classmethod
    def of(cls, ring: FlowRing) -> Shared:
        """The one of a ring."""
        found = ring.shared.setdefault("squeezeflow", cls())
        assert isinstance(found, cls)
        return found

    def samples(self, ring: FlowRing, settings: StrategySettings) -> Samples:
        """Of the settings' windows."""
        step = settings.sample_s
        key = settings.windows_s, settings.divergence_windows_s, step, settings.baseline_s // step
        found = self._samples.get(key)
        if found is None:
            found = self._samples[key] = Samples(ring, *key)
        return found

    def begin(self, first: int, last: int) -> None:
        """Of the ticks `[first, last)` from now on: what was found in other blocks is forgotten."""
        if (first, last) != self._block:
            self._block = first, last
            self._found.clear()

    def find(self, name: str, key: Hashable, memory: object, make: Callable[[], Thing]) -> Thing:
        """What `make` gave for the same name, key and memory; else it is made now."""
        known = self._found.get((name, key))
        if known is None or known[0] != memory:
            known = self._found[name, key] = memory, make()
        thing: Thing = known[1]
        return thing

    @property
    def many(self) -> bool:
        """More than one watch reads this ring."""
        return len(self.watches) > 1
