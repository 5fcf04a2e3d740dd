"""Strategies by name: installed packages offer them as entry points of the group `sqfd.strategies`.

An entry point names a callable that takes `StrategySettings` and the symbols, and gives a `Strategy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sqfd.strategy.api import Strategy
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import SqueezeFlow

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "sqfd.strategies"

Factory = Callable[[StrategySettings, tuple[str, ...]], Strategy]


def entry_points(group: str) -> Iterable[EntryPoint]:
    """What installed packages offer. The library is imported here: it takes a twentieth of a second, and few ask."""
    from importlib import metadata

    return metadata.entry_points(group=group)


class UnknownStrategy(LookupError):
    """No strategy of that name is installed. The text names those that are."""


def names() -> list[str]:
    """Strategies that can be chosen."""
    return sorted({SqueezeFlow.name, *(point.name for point in entry_points(group=GROUP))})


def strategy_for(settings: StrategySettings, symbols: Sequence[str] = ()) -> Strategy:
    """The strategy that `[strategy] name` chooses. Raises UnknownStrategy."""
    if settings.name == SqueezeFlow.name:
        return SqueezeFlow(settings, tuple(symbols))
    found = [point for point in entry_points(group=GROUP) if point.name == settings.name]
    if not found:
        raise UnknownStrategy(f"strategy.name: no strategy {settings.name!r}; known: {', '.join(names())}")
    make: Factory = found[0].load()
    return make(settings, tuple(symbols))
