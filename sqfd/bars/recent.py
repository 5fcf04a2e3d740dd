"""The bars of the last closed seconds, as they are known now: one small array a second. Pure.

Most markets trade in few seconds: what is kept is what there was. Measured with 112 markets of which 45 trade in a second, 8 MB for
half an hour where dense tables took 30.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sqfd.model import BAR, Bars

Times = NDArray[np.int64]
"""Per bar the times of its first and last trade, in milliseconds."""
NONE: Bars = np.zeros(0, BAR)
NO_TIMES: Times = np.zeros((0, 2), np.int64)


def by_second(bars: Bars) -> Iterator[slice]:
    """Where each second of these bars lies, which are ordered by second."""
    edges = np.flatnonzero(np.diff(bars["second"])) + 1
    if len(bars):
        for first, end in pairwise([0, *edges.tolist(), len(bars)]):
            yield slice(first, end)


def joined(parts: Sequence[Bars]) -> Bars:
    """These rows, at least one part, one after the other.

    As np.concatenate, which compares the fields of each part with those of the next in Python: 10 ms for 360 seconds, 0.5 ms here.
    """
    plain = np.dtype((np.void, parts[0].dtype.itemsize))
    return np.concatenate([part.view(plain) for part in parts]).view(parts[0].dtype)


def places(known: Bars, market: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where these markets' bars stand among `known`, which are ordered by market, and whether they do."""
    at = known["market"].searchsorted(market)
    there = at < len(known)
    there[there] = known["market"][at[there]] == market[there]
    return at, there


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

    def amend(self, bars: Bars, times: Times = NO_TIMES) -> None:
        """These bars of one closed second, by market, are others now, or more. `times`: their rows, where `put` was given times.

        It may be a second that nobody closed. One that is longer ago than is kept is left as it is.
        """
        second = int(bars["second"][0])
        slot = second % self.revisable_s
        if self._second[slot] > second:
            return
        if self._second[slot] < second:
            self.put(second, NONE)
        known, known_times = self._bars[slot], self._times[slot]
        at, there = places(known, bars["market"])
        stays = np.ones(len(known), np.bool_)
        stays[at[there]] = False
        order = np.concatenate([known["market"][stays], bars["market"]]).argsort()
        self._bars[slot] = joined((known[stays], bars))[order]
        if len(times):
            self._times[slot] = np.concatenate([known_times[stays], times])[order]

    def between(self, first: int, last: int) -> Bars:
        """All bars of `first <= second <= last`, by (second, market)."""
        found = [bars for second in range(first, last + 1) if len(bars := self.of(second))]
        return joined(found) if found else NONE
