"""The steady clock goes on where the exchanges' does."""

from __future__ import annotations

import time

import pytest

from sqfd.clock import SystemClock


@pytest.mark.skipif(
    not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has a clock that goes on while it is suspended"
)
def test_it_goes_on_while_the_host_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour with a closed lid it shows an hour more, though the monotonic clock stood still and the wall clock stepped."""
    clocks = {time.CLOCK_BOOTTIME: 5_000.0, time.CLOCK_MONOTONIC: 1_000.0}
    monkeypatch.setattr(time, "clock_gettime", lambda which: clocks[which])
    monkeypatch.setattr(time, "monotonic", lambda: clocks[time.CLOCK_MONOTONIC])
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    clock = SystemClock()
    assert clock.now_ms() == 1_700_000_000_000.0
    clocks[time.CLOCK_BOOTTIME] += 3_600.0
    monkeypatch.setattr(time, "time", lambda: 1_600_000_000.0)
    assert clock.now_ms() == 1_700_003_600_000.0
