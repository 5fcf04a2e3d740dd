"""What a strategy is: an object that says how much history it reads and judges one symbol's block of ticks.

The engine owns rings, the book and signals; a strategy owns nothing but a small memory per symbol.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from sqfd.bars.ring import FlowRing
from sqfd.strategy.position import Evaluation, Position

DIGITS = 6
"""Decimals of numbers in reports."""


class Report(NamedTuple):
    """What a strategy says about one tick of one symbol; goes into signals, `explain` and `strategy_1s`."""

    price: int
    """Log index price × 1e9."""
    score: float
    parts: dict[str, float]
    phases: dict[str, Any]
    """Verdict and compared numbers of each phase, ready for JSON."""
    coverage: float
    spot_cvd: float
    """Net spot and perp taker flow over the strategy's window, quote units."""
    futures_cvd: float
    words: str
    """The state of the phases in one sentence."""
    gates: tuple[Gate, ...]
    """In their order, without those of the book."""


class Gate(NamedTuple):
    """One condition of an entry: passes when `value` has reached `needed`."""

    name: str
    passed: bool
    value: float
    needed: float
    words: str
    """What is, whether it passed or not."""

    @property
    def missing(self) -> float:
        """By how much it missed, 0 when it passed."""
        return 0.0 if self.passed else abs(self.needed - self.value)


class Judged(Evaluation, Protocol):
    """An evaluated block that can also explain itself."""

    def report(self, tick: int, position: Position | None) -> Report | None:
        """One tick of the block; None where the symbol was not judged (no history)."""

    def mind(self, tick: int) -> dict[str, float]:
        """Flat numbers of one tick to chart once a second; empty where the symbol was not judged. Cheap."""


class Watch(Protocol):
    """One symbol under a strategy. Ticks are evaluated once and in order; the watch remembers what later ones need."""

    def evaluate(self, first: int, last: int) -> Judged:
        """Judge the ticks `[first, last)`; the ring holds them."""

    def revised(self, tick: int) -> None:
        """The ring changed from `tick` on: forget what was derived from it (not what was judged)."""

    def memory(self) -> bytes:
        """What later ticks need of earlier ones, as JSON."""

    def recall(self, memory: bytes) -> None:
        """Take over a memory. Raises msgspec.ValidationError for one of another form."""


class Strategy(Protocol):
    """A strategy, chosen by the name of its entry point."""

    name: str
    history_s: int
    """Seconds of log price and CVDs that it reads."""
    detail_s: int
    """Seconds of the other columns."""
    memory_s: int
    """How many ticks before the first one rebuild its memory."""

    def watch(self, symbol: str, ring: FlowRing) -> Watch:
        """Begin to judge a symbol."""
