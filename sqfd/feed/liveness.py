"""When silence means that a feed is dead. Pure.

An open socket, an acknowledgement and an answered ping prove nothing; only data does. How long data may be missing follows
from how often it usually comes: trades that arrived at random (Poisson) at rate r would pause longer than K / r once in
e^K pauses; real ones cluster, so that the longest recent pause counts too.
"""

from __future__ import annotations

import math

EXPECTED = 20.0
"""Trades that would have been expected in a silence that is called dead (e^-20: once in 5e8 pauses)."""
PAUSES = 3.0
"""Times the longest recent pause."""
OTHERS = 3
"""Other exchanges on which the same asset trades: the market as a whole is not quiet, so that this feed is broken."""
EXPECTED_ALONE = 8.0
"""Trades that would have been expected in a silence that others do not share (e^-8: once in 3000 pauses); its own pauses
do not count then, because they are mostly everybody's."""
MEMORY_S = 300.0
"""Time constant of the remembered rate and pause."""


class Pace:
    """How often a market trades, learned while it is live. It outlives connections."""

    __slots__ = ("_count", "_seen_ms", "longest_pause_s", "rate_hz", "updated_ms")

    def __init__(self) -> None:
        self.rate_hz: float | None = None
        """Trades per second; None until it was watched for a while."""
        self.longest_pause_s = 0.0
        self.updated_ms: float | None = None
        self._count = 0
        self._seen_ms = 0.0

    def pause(self) -> None:
        """The feed is down: what passes until `update` is called again says nothing about the market."""
        self.updated_ms = None

    def update(self, count: int, now_ms: float) -> None:
        """`count`: trades so far. Called about once a second while the market's feed is believed to be live."""
        if self.updated_ms is None:
            self.updated_ms, self._count, self._seen_ms = now_ms, count, now_ms
            return
        elapsed_s = (now_ms - self.updated_ms) / 1e3
        if elapsed_s <= 0.0:
            return
        new = count - self._count
        if new:
            pause_s = (now_ms - self._seen_ms) / 1e3
            self.longest_pause_s = max(self.longest_pause_s * math.exp(-pause_s / MEMORY_S), pause_s)
            self._seen_ms = now_ms
        self._learn(new / elapsed_s, elapsed_s)
        self.updated_ms, self._count = now_ms, count

    def _learn(self, rate_hz: float, elapsed_s: float) -> None:
        if self.rate_hz is None:
            self.rate_hz = rate_hz or None
            return
        self.rate_hz += (rate_hz - self.rate_hz) * -math.expm1(-elapsed_s / MEMORY_S)


def silence_limit_s(rate_hz: float | None, longest_pause_s: float, minimum_s: float, maximum_s: float) -> float:
    """How long a feed of this rate may be silent. An unknown rate gets the maximum."""
    if not rate_hz:
        return maximum_s
    return min(maximum_s, max(minimum_s, EXPECTED / rate_hz, PAUSES * longest_pause_s))


def market_limit_s(pace: Pace, minimum_s: float, maximum_s: float, others: int = 0) -> float:
    """The limit of one market; `others`: exchanges on which the same asset traded since it fell silent."""
    limit_s = silence_limit_s(pace.rate_hz, pace.longest_pause_s, minimum_s, maximum_s)
    if others < OTHERS or not pace.rate_hz:
        return limit_s
    return min(limit_s, max(minimum_s, EXPECTED_ALONE / pace.rate_hz))


def connection_limit_s(paces: list[Pace], minimum_s: float, maximum_s: float) -> float:
    """The limit of a connection that carries these markets: together they trade more often than each.

    Their pauses seldom coincide, so that the shortest of their longest pauses bounds the connection's.
    """
    known = [pace for pace in paces if pace.rate_hz]
    rate_hz = sum(pace.rate_hz or 0.0 for pace in known)
    pause_s = min((pace.longest_pause_s for pace in known), default=0.0)
    return silence_limit_s(rate_hz, pause_s, minimum_s, maximum_s)
