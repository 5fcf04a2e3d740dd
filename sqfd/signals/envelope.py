"""What a publication adds to a signal's line."""

from __future__ import annotations

from datetime import UTC, datetime

from sqfd.journal.records import JournaledSignal
from sqfd.signals.signal import published


def with_envelope(signal: JournaledSignal, wall_ms: float, now_ms: float) -> bytes:
    """The line as subscribers get it: the deterministic JSON and, as its last members, what this publication adds.

    `latency_ms` counts from the close of the signal's second, which is its tick.
    """
    at = datetime.fromtimestamp(wall_ms / 1e3, UTC).isoformat(timespec="milliseconds")
    return published(signal.line, signal.seq, at, round(now_ms - signal.tick * 1e3, 1))
