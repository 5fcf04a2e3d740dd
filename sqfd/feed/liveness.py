"""When silence means that a feed is dead. Pure.

An open socket, an acknowledgement and an answered ping prove nothing; only data does. How long data may be missing follows
from how often it usually comes. A market that trades at random lets each second pass without a trade with chance q, and
k seconds with q^k: silence proves a dead feed once k · −ln q, the *expected* silence broken, is large. Trades cluster within
a second (one order, many matches), which is why quiet seconds are counted rather than trades. q is taken at its upper
confidence bound, so that a market that was seen to trade a few times is not taken for a busy one.

Markets that are quieter still are asked for again without being called dead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

EXPECTED = 20.0
"""−ln of the chance that a silence which is called dead happens to a living market (e^-20: once in 5e8 pauses)."""
PAUSES = 3.0
"""Times the longest recent pause."""
OTHERS = 3
"""Other exchanges on which the same asset trades: the market as a whole is not quiet, so that this feed is broken."""
ALARMS_PER_DAY = 0.05
"""False alarms that a market may give, by the same reckoning, where others trade on."""
PAUSES_ALONE = 1.5
"""Times the longest recent pause, in a silence that others do not share; and of a whole connection."""
DAY_S = 86_400.0
RECENT_S, LONG_S = 300.0, 1800.0
"""Time constants of what is remembered. The rate is the lesser of both: an hour that was busy does not condemn a lull."""
DEVIATIONS = 2.0
"""Of the confidence bound."""
LEAST_S = 300
"""An earlier run says something about a market that it watched for so long."""


class _Quiet:
    """The share of seconds without a trade, among the last ones."""

    __slots__ = ("_memory_s", "quiet", "seconds")

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self.quiet = self.seconds = 0.0

    def assume(self, quiet_share: float, seconds: float) -> None:
        """Begin with what was seen elsewhere."""
        self.seconds = min(seconds, self._memory_s)
        self.quiet = self.seconds * quiet_share

    def learn(self, quiet: int, elapsed_s: float) -> None:
        """So many quiet seconds, and then one with trades."""
        keep = math.exp(-elapsed_s / self._memory_s)
        self.seconds = self.seconds * keep + quiet + 1.0
        self.quiet = self.quiet * keep + quiet

    def least_hz(self) -> float:
        """Seconds with trades, per second, as many as are sure: Wilson's upper bound of the quiet share."""
        n, z = self.seconds, DEVIATIONS
        if n == 0.0:
            return 0.0
        q = self.quiet / n
        spread = z * math.sqrt(q * (1.0 - q) / n + z * z / (4.0 * n * n))
        return -math.log(min(1.0, (q + z * z / (2.0 * n) + spread) / (1.0 + z * z / n)))

    def mean_hz(self) -> float:
        """The same without the caution."""
        return -math.log(self.quiet / self.seconds) if self.quiet else math.inf


class Pace:
    """How often a market trades, learned while it is live. It outlives connections."""

    __slots__ = ("_count", "_long", "_pending", "_recent", "_seen_ms", "_trades", "longest_pause_s", "updated_ms")

    LOOK_S = 0.5
    """Looks that follow each other faster than this (two connections carry the market) are left out."""

    def __init__(self) -> None:
        self.longest_pause_s = 0.0
        self.updated_ms: float | None = None
        self._recent, self._long = _Quiet(RECENT_S), _Quiet(LONG_S)
        self._trades = 0.0
        self._count = self._pending = 0
        self._seen_ms = 0.0

    @property
    def rate_hz(self) -> float | None:
        """Trades per second lately; None until it was watched."""
        return self._trades / self._recent.seconds if self._recent.seconds else None

    @property
    def sure_hz(self) -> float:
        """Seconds with trades that can be expected per second, cautiously; 0 where nothing is known."""
        sure_hz = self._long.least_hz()
        return min(sure_hz, self._recent.mean_hz()) if self._recent.seconds else sure_hz

    def assume(self, traded: int, seconds: int) -> None:
        """An earlier run saw trades in `traded` of `seconds`: half of that is expected again until more is known.

        So a feed that is dead from the start is noticed by its own rate. Nothing is assumed beside what was watched already.
        """
        if seconds < LEAST_S or not traded or self._long.seconds:
            return
        quiet_share = math.sqrt((seconds - traded + 0.5) / (seconds + 1.0))
        self._long.assume(quiet_share, seconds)
        self.longest_pause_s = math.log(max(math.e, traded)) / -math.log(quiet_share)

    def pause(self) -> None:
        """The feed is down: what passed since its last trade, and until `update` is called again, says nothing."""
        self.updated_ms = None
        self._pending = 0

    def update(self, count: int, now_ms: float) -> None:
        """`count`: trades so far. Called about once a second while the market's feed is believed to be live."""
        if self.updated_ms is None:
            self.updated_ms, self._count, self._seen_ms = now_ms, count, now_ms
            return
        elapsed_s = (now_ms - self.updated_ms) / 1e3
        if elapsed_s <= self.LOOK_S:
            return
        new, self.updated_ms, self._count = count - self._count, now_ms, count
        if not new:
            self._pending += 1  # learned when it ended well: a silence must not lengthen its own limit
            return
        pause_s = (now_ms - self._seen_ms) / 1e3
        self.longest_pause_s = max(self.longest_pause_s * math.exp(-pause_s / RECENT_S), pause_s)
        self._trades = self._trades * math.exp(-pause_s / RECENT_S) + new
        self._recent.learn(self._pending, pause_s)
        self._long.learn(self._pending, pause_s)
        self._seen_ms, self._pending = now_ms, 0


def market_proof_s(pace: Pace, minimum_s: float, maximum_s: float = math.inf, others: int = 0) -> float:
    """How long a silence must be that is called a dead feed; inf where no rate is known.

    `others`: exchanges on which the same asset traded since it fell silent. A silence longer than `maximum_s` needs to be
    no more improbable than one false alarm a day.
    """
    sure_hz = pace.sure_hz
    if sure_hz <= 0.0:
        return math.inf
    proof_s = max(minimum_s, EXPECTED / sure_hz, PAUSES * pace.longest_pause_s)
    for least_s, alarms, enough in ((minimum_s, ALARMS_PER_DAY, others >= OTHERS), (maximum_s, 1.0, True)):
        if enough:
            expected = max(1.0, math.log(DAY_S * sure_hz / alarms))
            proof_s = min(proof_s, max(least_s, expected / sure_hz, PAUSES_ALONE * pace.longest_pause_s))
    return proof_s


def connection_proof_s(paces: Sequence[Pace], minimum_s: float) -> float:
    """The same for a connection that carries these markets: together they trade more often than each.

    Their pauses seldom coincide, so that the shortest of their longest pauses bounds the connection's.
    """
    known = [(sure_hz, pace) for pace in paces if (sure_hz := pace.sure_hz) > 0.0]
    if len(known) < 2:
        return market_proof_s(known[0][1], minimum_s) if known else math.inf
    pause_s = min(pace.longest_pause_s for _, pace in known)
    return max(minimum_s, EXPECTED / sum(sure_hz for sure_hz, _ in known), PAUSES_ALONE * pause_s)
