"""Trades in, closed seconds and flow out: builder, watermark and flow builder as one stage. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqfd.bars.builder import Builder
from sqfd.bars.flow import FlowBuilder
from sqfd.bars.watermark import Watermark
from sqfd.model import Bars, ClosedSecond, Flow, Market


class Closed(NamedTuple):
    """One tick's bars and the flow that they mean."""

    second: ClosedSecond
    flow: Flow

    @property
    def tick(self) -> int:
        return self.second.tick


class Seconds:
    """The stage between feeds and everything that happens once a second."""

    def __init__(self, symbols: Sequence[str], grace_s: float = 0.25, revisable_s: int = 1800) -> None:
        self.builder = Builder(revisable_s)
        self.watermark = Watermark(grace_s)
        self.flow = FlowBuilder(symbols, revisable_s)
        self.markets: list[Market] = []

    def add_markets(self, markets: Sequence[Market]) -> range:
        """Add markets and return their indices."""
        self.flow.add_markets(markets)
        self.markets += markets
        return self.builder.add_markets(len(markets))

    def resume(self, second: int, flow: Flow, bars: Bars | None = None) -> None:
        """Go on after a run that closed everything before `second` (0: there was none).

        See `FlowBuilder.resume`, and for `bars` of that run `Builder.resume`.
        """
        if second:
            self.builder.resume(second, bars)
        self.flow.resume(flow, second or None)

    def cover(self, market: int, from_s: int, until_s: int, whole: Callable[[int], bool]) -> None:
        """What is known of a market's feed changed for the seconds `from_s <= second < until_s`.

        Those that are closed and remembered are revised with the next closing, as by late trades.
        """
        next_s = self.builder.next_second
        if next_s is None:
            return
        seconds = np.arange(max(from_s, next_s - self.flow.revisable_s), min(until_s, next_s), dtype=np.int64)
        if len(seconds):
            self.flow.cover(market, seconds, np.array([whole(second) for second in seconds.tolist()], np.bool_))

    def due(self, now_ms: float, whole: Callable[[int], NDArray[np.bool_]]) -> Iterator[Closed]:
        """Close, oldest first, every second that is over at steady time `now_ms`.

        `whole(second)` tells per market whether its feed missed nothing. Nothing closes before the first trade.
        """
        newest = self.watermark.newest_over(now_ms)
        while self.builder.next_second is not None and self.builder.next_second <= newest:
            yield self.close(whole)

    def close(self, whole: Callable[[int], NDArray[np.bool_]]) -> Closed:
        """Close the oldest open second now."""
        assert self.builder.next_second is not None
        second = self.builder.close(whole(self.builder.next_second))
        flow = self.flow.close(second)
        if len(second.bars) and second.bars["second"][0] < second.second:  # both amended: one copy is enough
            self.flow.recent.share(self.builder.closed, {second.second, *second.bars["second"].tolist()})
        return Closed(second, flow)

    def next_due_ms(self) -> float | None:
        """The steady time at which the next second is over; None before the first trade."""
        if self.builder.next_second is None:
            return None
        return self.watermark.due_ms(self.builder.next_second)
