"""How long to wait before trying again, and how often anything may be done at all. Pure: time and chance are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from exchanges.api import Rate

SLACK_S = 0.1
"""Added to every window: the exchange counts arrivals, whose spacing the network changes."""


RESTORED_MS = 24 * 3600e3
"""An earlier process's "leave me alone until" is obeyed for this long at most."""


class Backoff:
    """Exponential back-off with full jitter: uniform between nothing and a ceiling that doubles up to `maximum_s`.

    (Full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
    """

    def __init__(self, minimum_s: float, maximum_s: float, random: Callable[[], float]) -> None:
        """`random` gives numbers of [0, 1)."""
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s
        self._random = random
        self.failures = 0

    def next_s(self) -> float:
        """The wait after one more failure, in seconds."""
        ceiling_s = min(self._maximum_s, self._minimum_s * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return self._random() * ceiling_s

    def reset(self) -> None:
        """Called when data arrived: an accepted connection alone proves nothing."""
        self.failures = 0


class RateLimit:
    """A sliding window: never more than `rate.count` (of weight) in any `rate.seconds`."""

    def __init__(self, rate: Rate, slack_s: float = SLACK_S) -> None:
        # Less than one at a time is one in a longer time.
        stretch = max(1.0, 1.0 / rate.count)
        self._count = rate.count * stretch
        self._window_ms = (rate.seconds * stretch + slack_s) * 1e3
        self._taken: deque[tuple[float, float]] = deque()
        self._used = 0.0
        self._closed_until_ms = 0.0

    def wait_s(self, now_ms: float, weight: float = 1.0) -> float:
        """How long to wait until `weight` is free; 0 when it is."""
        self._expire(now_ms)
        wait_ms = max(0.0, self._closed_until_ms - now_ms)
        excess = self._used + min(weight, self._count) - self._count
        for taken_ms, taken in self._taken:
            if excess <= 1e-9:
                break
            excess -= taken
            wait_ms = max(wait_ms, taken_ms + self._window_ms - now_ms)
        return wait_ms / 1e3

    def take(self, now_ms: float, weight: float = 1.0) -> bool:
        """Use `weight` of it if it is free now. More than the whole rate counts as the whole."""
        if self.wait_s(now_ms, weight) > 0.0:
            return False
        self._taken.append((now_ms, min(weight, self._count)))
        self._used += min(weight, self._count)
        return True

    def close(self, until_ms: float) -> None:
        """The exchange said when it may be asked again (429, 418, Retry-After)."""
        self._closed_until_ms = max(self._closed_until_ms, until_ms)

    def used(self, now_ms: float) -> tuple[list[tuple[float, float]], float]:
        """What still counts, as (time in ms, weight), and until when it is closed."""
        self._expire(now_ms)
        return list(self._taken), self._closed_until_ms

    def restore(self, taken: Iterable[tuple[float, float]], closed_until_ms: float, now_ms: float) -> None:
        """Take up what an earlier process used. Times that are still to come (its clock was wrong) count as now."""
        known = sorted((min(at_ms, now_ms), min(weight, self._count)) for at_ms, weight in taken)
        self._taken = deque([*known, *self._taken])
        self._used += sum(weight for _, weight in known)
        self._closed_until_ms = max(self._closed_until_ms, min(closed_until_ms, now_ms + RESTORED_MS))
        self._expire(now_ms)

    def _expire(self, now_ms: float) -> None:
        # The same sum as in `wait_s`, so that rounding cannot leave a wait of nothing that never ends.
        while self._taken and self._taken[0][0] + self._window_ms - now_ms <= 0.0:
            self._used -= self._taken.popleft()[1]
        if not self._taken:
            self._used = 0.0
