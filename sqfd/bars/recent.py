"""The bars of the last closed seconds, as they are known now: one small array a second. Pure.

Most markets trade in few seconds: what is kept is what there was. Measured with 112 markets of which 45 trade in a second, 8 MB for
half an hour where dense tables took 30.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sqfd.model import BAR, Bars

Times = NDArray[np.int64]
"""Per bar the times of its first and last trade, in milliseconds."""
NONE: Bars = np.zeros(0, BAR)
NO_TIMES: Times = np.zeros((0, 2), np.int64)


class Recent:
    """Bars of seconds that were closed less than `revisable_s` before the newest."""

    def __init__(self, revisable_s: int) -> None:
        self.revisable_s = revisable_s
        self._second = [-1] * revisable_s
        self._bars: list[Bars] = [NONE] * revisable_s
        self._times: list[Times] = [NO_TIMES] * revisable_s

    def put(self, second: int, bars: Bars, times: Times = NO_TIMES) -> None:
        """A second is closed, with these bars by market. The arrays are kept, and never written to."""
        slot = second % self.revisable_s
        self._second[slot], self._bars[slot], self._times[slot] = second, bars, times

    def share(self, other: Recent, seconds: Iterable[int]) -> None:
        """Keep the other's arrays of these seconds, which say the same, instead of equal ones of its own."""
        for second in seconds:
            slot = second % self.revisable_s
            if self._second[slot] == second == other._second[slot]:
                self._bars[slot] = other._bars[slot]

    def forget(self, seconds: Sequence[int]) -> None:
        """Nothing is known of these seconds."""
        for second in seconds:
            self.put(second, NONE)

    def of(self, second: int) -> Bars:
        """The bars of a second, by market; empty where none is known."""
        slot = second % self.revisable_s
        return self._bars[slot] if self._second[slot] == second else NONE

    def find(self, second: int, market: int) -> tuple[Bars, Times]:
        """A market's bar of a second and its times, one or none; times are empty where `put` was given none."""
        bars = self.of(second)
        at = int(np.searchsorted(bars["market"], market))
        if at == len(bars) or bars["market"][at] != market:
            return NONE, NO_TIMES
        return bars[at : at + 1], self._times[second % self.revisable_s][at : at + 1]

    def amend(self, bar: np.void, times: Times = NO_TIMES) -> None:
        """The bar of a closed second is another one now, or one more. `times`: its row, where `put` was given times.

        It may be a second that nobody closed. One that is longer ago than is kept is left as it is.
        """
        second, market = int(bar["second"]), int(bar["market"])
        slot = second % self.revisable_s
        if self._second[slot] > second:
            return
        if self._second[slot] < second:
            self.put(second, NONE)
        bars, known = self._bars[slot], self._times[slot]
        at = int(np.searchsorted(bars["market"], market))
        after = at + int(at < len(bars) and bars["market"][at] == market)
        row = np.array([bar], BAR)
        self._bars[slot] = np.concatenate([bars[:at], row, bars[after:]])
        self._times[slot] = np.concatenate([known[:at], times, known[after:]]) if len(times) else known

    def between(self, first: int, last: int) -> Bars:
        """All bars of `first <= second <= last`, by (second, market)."""
        found = [bars for second in range(first, last + 1) if len(bars := self.of(second))]
        return np.concatenate(found) if found else NONE
