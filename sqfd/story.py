"""Gaps in words that an operator understands. Pure; used by `sqfd gaps` and by health."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqfd.feed.coverage import Interval
from sqfd.journal import GapRecord

TOGETHER_MS = 30_000
"""Gaps of one exchange that began and ended within this time of each other are told as one."""
NAMED = 3
"""Markets that are named; of more, their number is told."""


class Told(NamedTuple):
    """One gap of one market, or the same one of several."""

    markets: tuple[str, ...]
    gaps: tuple[GapRecord, ...]

    @property
    def from_ms(self) -> int:
        return min(gap.from_ms for gap in self.gaps)

    @property
    def until_ms(self) -> int | None:
        ends = [gap.until_ms for gap in self.gaps]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def recovered(self) -> int:
        return sum(gap.recovered for gap in self.gaps)

    @property
    def missed(self) -> int | None:
        counts = [gap.missed for gap in self.gaps if gap.missed is not None]
        return sum(counts) if counts else None


def gap_records(market: int, interval: Interval) -> list[GapRecord]:
    """A gap of the market with this index as the journal keeps it; none for the time before its first trade."""
    if not math.isfinite(interval.from_ms):
        return []
    until_ms = None if interval.until_ms is None else math.ceil(interval.until_ms)
    told = (interval.state, interval.reason, interval.missed, interval.recovered, interval.note)
    return [GapRecord(market, int(interval.from_ms), until_ms, *told)]


def together(gaps: Iterable[GapRecord], names: Sequence[str]) -> list[Told]:
    """Gaps (by their beginning) with their markets, those that are one event put together."""
    groups: list[tuple[tuple[str, ...], list[GapRecord]]] = []
    for gap in gaps:
        key = (names[gap.market].partition(":")[0], gap.state, gap.reason, gap.note)
        for known, members in reversed(groups):
            if known == key and _near(members[0], gap) and all(gap.market != one.market for one in members):
                members.append(gap)
                break
        else:
            groups.append((key, [gap]))
    return [Told(tuple(names[gap.market] for gap in members), tuple(members)) for _, members in groups]


def _near(one: GapRecord, other: GapRecord) -> bool:
    if (one.until_ms is None) != (other.until_ms is None):
        return False
    apart = abs(one.from_ms - other.from_ms)
    if one.until_ms is not None and other.until_ms is not None:
        apart = max(apart, abs(one.until_ms - other.until_ms))
    return apart <= TOGETHER_MS


def sentence(told: Told, now_ms: float) -> str:
    """`2026-11-22 14:03:10, 5 min 2 s, BINANCE:btcusdt: connection lost. Recovered: 12,331 trades filled in, …`"""
    first = told.gaps[0]
    until_ms = told.until_ms
    long = duration((now_ms if until_ms is None else until_ms) - told.from_ms)
    since = f"{at(told.from_ms)}, {'for ' if until_ms is None else ''}{long}"
    return f"{since}, {named(told.markets)}: {first.reason}. {_fate(told)}"


def _fate(told: Told) -> str:
    """What became of it."""
    first, filled = told.gaps[0], counted(told.recovered)
    why = f": {first.note}" if first.note else ""
    missing = f"; {counted(told.missed)} still missing" if told.missed else ""
    if told.until_ms is None:
        return "Still going on."
    match first.state:
        case "recovered":
            return f"Recovered: {filled} filled in, nothing is missing." if told.recovered else "Nothing was missed."
        case "partial":
            return f"Partly recovered: {filled} filled in{missing}{why}."
        case "lost":
            return f"Lost{missing}{why}."
        case _:
            return "Over; being recovered."


def at(ms: float) -> str:
    """UTC to the second."""
    return datetime.fromtimestamp(ms / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(ms: float) -> str:
    """`0.4 s`, `12 s`, `5 min 2 s`, `3 h 10 min`, `2 d 4 h`."""
    seconds = max(0.0, ms / 1e3)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{int(seconds)} s"
    unit, part, name, part_name = next(scale[1:] for scale in _SCALES if seconds < scale[0])
    whole, rest = divmod(int(seconds), unit)
    return f"{whole} {name}" + (f" {rest // part} {part_name}" if rest // part else "")


_SCALES = ((3600, 60, 1, "min", "s"), (86_400, 3600, 60, "h", "min"), (float("inf"), 86_400, 3600, "d", "h"))


def counted(trades: int | None) -> str:
    return "1 trade" if trades == 1 else f"{trades or 0:,} trades"


def named(markets: Sequence[str]) -> str:
    """Names, or how many there are of which exchange."""
    if len(markets) <= NAMED:
        return " ".join(markets)
    return f"{len(markets)} markets of {markets[0].partition(':')[0]}"


def as_json(told: Told, now_ms: float) -> dict[str, Any]:
    """The same for programs: times in epoch milliseconds."""
    first = told.gaps[0]
    return {
        "markets": list(told.markets),
        "from_ms": told.from_ms,
        "until_ms": told.until_ms,
        "seconds": round(((told.until_ms or now_ms) - told.from_ms) / 1e3, 3),
        "state": first.state,
        "reason": first.reason,
        "recovered": told.recovered,
        "missed": told.missed,
        "note": first.note,
        "text": sentence(told, now_ms),
    }
