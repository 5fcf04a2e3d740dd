"""What was used of limits outlives the process."""

from __future__ import annotations

from pathlib import Path

import structlog
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Rate
from sqfd.feed.backoff import RateLimit
from sqfd.feed.limits import LimitsFile

LOG = structlog.get_logger()
NOW_MS = 1_800_000_000_000.0


def kept(path: Path, limit: RateLimit, now_ms: float) -> None:
    file = LimitsFile(path, {"X connects": limit}, LOG)
    data = file.dump(now_ms)
    assert data is not None
    file.write(data)


def restored(path: Path, now_ms: float, rate: Rate) -> RateLimit:
    limit = RateLimit(rate)
    LimitsFile(path, {"X connects": limit}, LOG).restore(now_ms)
    return limit


def test_a_restart_does_not_reset_a_limit(tmp_path: Path) -> None:
    """Five connects a minute are five, also when the process was restarted after the fifth."""
    rate, limit = Rate(5, 60), RateLimit(Rate(5, 60))
    for at in range(5):
        assert limit.take(NOW_MS + at * 1000)
    kept(tmp_path / "limits.json", limit, NOW_MS + 5000)
    again = restored(tmp_path / "limits.json", NOW_MS + 10_000, rate)
    assert not again.take(NOW_MS + 10_000)
    assert 49 < again.wait_s(NOW_MS + 10_000) < 51
    assert again.take(NOW_MS + 61_000)


def test_leave_me_alone_is_obeyed_after_a_restart(tmp_path: Path) -> None:
    """A Retry-After of an hour is kept over a restart, but nothing absurd is."""
    limit = RateLimit(Rate(5, 60))
    limit.close(NOW_MS + 3600e3)
    kept(tmp_path / "limits.json", limit, NOW_MS)
    assert 3500 < restored(tmp_path / "limits.json", NOW_MS + 60e3, Rate(5, 60)).wait_s(NOW_MS + 60e3) < 3600
    limit.close(NOW_MS + 1e15)
    kept(tmp_path / "limits.json", limit, NOW_MS)
    assert restored(tmp_path / "limits.json", NOW_MS, Rate(5, 60)).wait_s(NOW_MS) <= 24 * 3600


def test_a_broken_file_costs_nothing(tmp_path: Path) -> None:
    """What cannot be read is as if it were not there; nothing is raised."""
    (tmp_path / "limits.json").write_bytes(b'{"X connects": 7}')
    assert restored(tmp_path / "limits.json", NOW_MS, Rate(1, 60)).take(NOW_MS)
    assert restored(tmp_path / "none.json", NOW_MS, Rate(1, 60)).take(NOW_MS)


@given(st.lists(st.integers(0, 90_000), max_size=30), st.integers(0, 90_000))
def test_two_processes_together_keep_the_limit(times: list[int], restart_ms: int) -> None:
    """Wherever the restart falls, no window holds more than the limit."""
    rate, taken = Rate(3, 10), []
    limit = RateLimit(rate, slack_s=0.0)
    restarted = False
    for at in sorted(times):
        if at >= restart_ms and not restarted:
            used, closed = limit.used(NOW_MS + at)
            limit, restarted = RateLimit(rate, slack_s=0.0), True
            limit.restore(used, closed, NOW_MS + at)
        if limit.take(NOW_MS + at):
            taken.append(at)
    for first in taken:
        assert sum(first <= at < first + 10_000 for at in taken) <= 3
