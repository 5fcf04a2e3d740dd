"""The path-dependent part: entries, exits, cool-down and the limit over all symbols.

It jumps from event to event over the evaluated columns instead of looping over ticks. Within a tick symbols have their turn
in the configured order: a position closed by one frees its place for those after it in the same tick.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

LONG, SHORT, CLOSE = "LONG", "SHORT", "CLOSE"


class Opening(NamedTuple):
    """What an entry at a tick would be."""

    side: int
    """1 long, −1 short."""
    price: int
    """Log index price × 1e9."""
    level: int
    """Extreme (log × 1e9) whose loss ends the position."""
    score: float
    quality: str
    size: float
    leverage: int
    confidence: float
    context: float = 0.0
    """Context on the position's side, as it stands at the tick."""


class Position(msgspec.Struct, frozen=True):
    """The daemon's own view of an open position; it places no orders."""

    symbol: str
    side: int
    entry_tick: int
    price: int
    level: int
    score: float
    quality: str
    size: float
    leverage: int
    confidence: float
    context: float = 0.0
    """Context on its side at the entry."""


class Exit(NamedTuple):
    tick: int
    reasons: tuple[str, ...]


class Evaluation(Protocol):
    """One symbol's block of ticks, judged without knowing the book."""

    def first_entry(self, start: int) -> int | None:
        """The first tick of the block from `start` on at which every gate is open except those of the book."""

    def opening(self, tick: int) -> Opening:
        """The entry at a tick that `first_entry` gave."""

    def first_exit(self, position: Position, start: int) -> Exit | None:
        """The first tick of the block from `start` on at which the position must close."""


class Book(msgspec.Struct):
    """Open positions and last exits by symbol."""

    positions: dict[str, Position] = {}
    exits: dict[str, int] = {}


class Limits(NamedTuple):
    max_open_positions: int
    cooldown_s: dict[str, int]


class Decision(NamedTuple):
    tick: int
    symbol: str
    action: str
    position: Position
    reasons: tuple[str, ...] = ()


def decide(evaluations: dict[str, Evaluation], book: Book, limits: Limits, first_tick: int) -> list[Decision]:
    """Everything that happens to the book in a block that begins at `first_tick`; the book is updated.

    `evaluations` are of the same ticks, in the configured order of symbols.
    """
    decisions: list[Decision] = []
    ready = dict.fromkeys(evaluations, first_tick)
    pending = {symbol: _exit_of(evaluations[symbol], book, symbol, first_tick) for symbol in evaluations}
    while (event := _next_event(evaluations, book, limits, ready, pending)) is not None:
        tick, order, symbol = event
        if symbol in book.positions:
            found = pending.pop(symbol)
            assert found is not None  # an open position is an event only through its exit
            decisions.append(Decision(tick, symbol, CLOSE, book.positions.pop(symbol), found.reasons))
            book.exits[symbol] = tick
        else:
            position = _opened(evaluations[symbol], symbol, tick)
            book.positions[symbol] = position
            decisions.append(Decision(tick, symbol, LONG if position.side > 0 else SHORT, position))
            pending[symbol] = evaluations[symbol].first_exit(position, tick + 1)
        for place, other in enumerate(evaluations):
            ready[other] = max(ready[other], tick if place > order else tick + 1)
    return decisions


def _exit_of(evaluation: Evaluation, book: Book, symbol: str, start: int) -> Exit | None:
    position = book.positions.get(symbol)
    return evaluation.first_exit(position, start) if position else None


def _opened(evaluation: Evaluation, symbol: str, tick: int) -> Position:
    opening = evaluation.opening(tick)
    return Position(symbol, opening.side, tick, *opening[1:])


def _next_event(
    evaluations: dict[str, Evaluation],
    book: Book,
    limits: Limits,
    ready: dict[str, int],
    pending: dict[str, Exit | None],
) -> tuple[int, int, str] | None:
    """The earliest (tick, order) at which a position closes or, with a place free, one opens."""
    free = len(book.positions) < limits.max_open_positions
    events = []
    for order, (symbol, evaluation) in enumerate(evaluations.items()):
        if symbol in book.positions:
            found = pending[symbol]
            tick = found.tick if found else None
        else:
            tick = _next_entry(evaluation, ready[symbol], book, symbol, limits) if free else None
        if tick is not None:
            events.append((tick, order, symbol))
    return min(events, default=None)


def _next_entry(evaluation: Evaluation, ready: int, book: Book, symbol: str, limits: Limits) -> int | None:
    start = ready
    if symbol in book.exits:
        start = max(start, book.exits[symbol] + limits.cooldown_s[symbol])
    return evaluation.first_entry(start)
