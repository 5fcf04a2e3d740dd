"""When is a second over? Event time of many exchanges, read off the delays of their trades.

For each exchange the lowest recent (receive time − trade time) is its *offset*: the host's clock error plus the least
network delay. On a steady host clock, second `s` is over for an exchange when `now − offset ≥ s + 1 + grace`; it closes
when it is over for all. A host clock that is wrong, by seconds or hours, is in the offset and therefore without effect.

A trade can come late, but never before it happened: a lower delay corrects an offset at once, unless the trade lies in the
future by every clock that is known (then its time is wrong, or a clock stepped, which many trades in a row prove). A higher
one takes a minute in which nothing came sooner. What an exchange is behind of its own least delay, of half an hour to an hour,
is no clock but age.
"""

from __future__ import annotations

from statistics import median, median_low

_SILENT = float("inf")
MEAN_WEIGHT = 0.01
"""Of one frame in an exchange's mean delay."""


class _Offset:
    """The lowest delay of the last one to two windows, and of the last one to two long ones."""

    __slots__ = ("_long_ms", "_previous_long_ms", "current_ms", "mean_ms", "new", "previous_ms", "strange")

    def __init__(self, delay_ms: float) -> None:
        self.current_ms = delay_ms
        self.previous_ms = delay_ms
        self._long_ms = delay_ms
        """Of the long window's windows that are over; `_SILENT`: there was no trade in it."""
        self._previous_long_ms = delay_ms
        self.mean_ms = delay_ms
        self.new = True
        """No window in which it traded is over."""
        self.strange = 0

    @property
    def ms(self) -> float:
        return min(self.current_ms, self.previous_ms)

    @property
    def least_ms(self) -> float:
        return min(self.ms, self._long_ms, self._previous_long_ms)

    def step(self, delay_ms: float) -> None:
        """A clock stepped: what was known is of another time."""
        self.current_ms = self.previous_ms = self._long_ms = self._previous_long_ms = delay_ms
        self.strange = 0

    def roll(self, long: bool) -> None:
        """A window is over, and with `long` a long one too. An exchange that was silent keeps what it had."""
        if self.current_ms != _SILENT:
            self._long_ms = min(self._long_ms, self.current_ms)
            self.previous_ms, self.current_ms, self.new = self.current_ms, _SILENT, False
        if long and self._long_ms != _SILENT:
            self._previous_long_ms, self._long_ms = self._long_ms, _SILENT


class Watermark:
    """The offsets of all exchanges, and which second may close."""

    WINDOW_MS = 30_000.0
    LONG_WINDOWS = 60
    """So many windows are a long one: a steady clock drifts by less than two seconds in it (500 ppm is the most that NTP slews)."""
    STRANGE_MS = 2_000.0
    """A trade this far in the future, by the host's clock and by its exchange's, has a wrong time, or a clock stepped;"""
    STRANGE_COUNT = 10
    """…after this many in a row it is a clock that stepped."""
    SPREAD_MS = 1_500.0
    """An exchange slower than the median by more than this does not hold up the others: its trades come late. Of two exchanges
    the faster one is the median: late trades make a delay longer, nothing makes it shorter."""

    def __init__(self, grace_s: float = 0.25) -> None:
        self.grace_s = grace_s
        self._offsets: dict[str, _Offset] = {}
        self._slowest_ms: float | None = None
        """What `offset_ms` says, until an offset changes."""
        self._window_end_ms: float | None = None
        self._windows = 0

    def observe(self, exchange: str, delay_ms: float) -> None:
        """Learn from one trade's delay (steady receive time − trade time)."""
        offset = self._offsets.get(exchange)
        if offset is None:
            self._offsets[exchange] = _Offset(delay_ms)
            self._slowest_ms = None
            return
        offset.mean_ms += (delay_ms - offset.mean_ms) * MEAN_WEIGHT
        if delay_ms >= offset.current_ms:
            offset.strange = 0
        elif delay_ms > min(0.0, offset.least_ms) - self.STRANGE_MS:
            offset.current_ms = delay_ms
            offset.strange = 0
            self._slowest_ms = None
        else:
            offset.strange += 1
            if offset.strange >= self.STRANGE_COUNT:
                offset.step(delay_ms)
                self._slowest_ms = None

    def observe_waited(self, exchange: str, delay_ms: float) -> None:
        """Learn from a trade that may have lain unread: its delay is at most so long, which is news where it is less than known."""
        offset = self._offsets.get(exchange)
        if offset is not None and delay_ms < offset.ms:
            self.observe(exchange, delay_ms)

    def offsets(self) -> dict[str, float]:
        """Offset of each exchange seen, in milliseconds; positive: its trades arrive after they happened."""
        return {exchange: offset.ms for exchange, offset in self._offsets.items()}

    def spreads(self) -> dict[str, float]:
        """How much later than the least a trade of each exchange usually arrives, in milliseconds."""
        return {exchange: max(0.0, offset.mean_ms - offset.ms) for exchange, offset in self._offsets.items()}

    def host_error_ms(self) -> float | None:
        """How far the host's clock is off, by the median of exchanges: positive when it is ahead; None before any trade.

        The network's least delay is in it, some tens to hundreds of milliseconds; what is late now is not.
        """
        values = [offset.least_ms for offset in self._known()]
        return median(values) if values else None

    def offset_ms(self) -> float:
        """The offset that closing waits for: the slowest exchange's, save for outliers; 0 before any trade."""
        if self._slowest_ms is None:
            self._slowest_ms = self._slowest([offset.ms for offset in self._known()])
        return self._slowest_ms

    def clock_ms(self) -> float:
        """By how much the exchanges' clocks are behind steady time: the same of their least delays, without what is late now.

        An exchange that has been late ever since this began cannot be told from a host's clock that is ahead.
        """
        return self._slowest([offset.least_ms for offset in self._known()])

    def _known(self) -> list[_Offset]:
        """Those that closing goes by. One that joins others may begin by repeating what is past: at first they do not wait for it."""
        offsets = list(self._offsets.values())
        return [offset for offset in offsets if not offset.new] or offsets

    def _slowest(self, values: list[float]) -> float:
        if not values:
            return 0.0
        return min(max(values), median_low(values) + self.SPREAD_MS)

    def newest_over(self, now_ms: float) -> int:
        """The newest second that is over at steady time `now_ms`."""
        self._roll(now_ms)
        return int((now_ms - self.offset_ms()) / 1000.0 - 1.0 - self.grace_s)

    def due_ms(self, second: int) -> float:
        """The steady time at which `second` is over, by what is known now."""
        return (second + 1 + self.grace_s) * 1000.0 + self.offset_ms()

    def over_in_s(self, now_ms: float) -> float:
        """How long from steady time `now_ms` until the next second is over: 0 to 1."""
        return (self.due_ms(0) - now_ms) % 1000.0 / 1000.0

    def _roll(self, now_ms: float) -> None:
        """Forget delays of the window before the last, so that offsets can grow again."""
        if self._window_end_ms is None:
            self._window_end_ms = now_ms + self.WINDOW_MS
        if now_ms < self._window_end_ms:
            return
        self._window_end_ms = now_ms + self.WINDOW_MS
        self._windows += 1
        self._slowest_ms = None
        for offset in self._offsets.values():
            offset.roll(self._windows % self.LONG_WINDOWS == 0)
