"""Politeness over 24 simulated hours, in virtual steps."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Rate
from sqfd.feed.backoff import Backoff, RateLimit

DAY_S = 24 * 3600.0


def test_a_day_of_refusals_stays_within_every_limit() -> None:
    """Ten connections that are refused for 24 hours never exceed the exchange's rate, and never wait over 60 s."""
    chance = random.Random(7)
    limit = RateLimit(Rate(20, 60))
    connections: list[list[Any]] = [[0.0, Backoff(1, 60, chance.random)] for _ in range(10)]
    attempts: list[float] = []
    now_s = 0.0
    while now_s < DAY_S:
        due = min(connections, key=lambda connection: connection[0])
        now_s = max(now_s, due[0])
        wait_s = limit.wait_s(now_s * 1e3)
        if wait_s:
            due[0] = now_s + wait_s
            continue
        assert limit.take(now_s * 1e3)
        attempts.append(now_s)
        pause_s = due[1].next_s()
        assert 0 <= pause_s <= 60
        due[0] = now_s + pause_s
    assert len(attempts) > 10 * DAY_S / 60
    assert all(later - earlier > 60 for earlier, later in zip(attempts, attempts[20:], strict=False))


def test_the_ceiling_doubles_and_is_reset() -> None:
    """With the worst luck waits are 1, 2, 4 … 60, and 1 again after data."""
    backoff = Backoff(1, 60, lambda: 1.0)
    assert [backoff.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.next_s() == 1


@given(
    st.floats(0.2, 10),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 3)), max_size=100),
)
def test_no_window_holds_more_than_the_rate(count: float, seconds: float, asks: list[tuple[float, float]]) -> None:
    """Whatever is asked when: in any window the weight taken stays within the rate; a wait that is obeyed succeeds."""
    limit = RateLimit(Rate(count, seconds), slack_s=0.0)
    whole = max(count, 1.0)
    window_s = seconds * max(1.0, 1.0 / count)
    now_ms, taken = 0.0, []
    for pause_s, weight in asks:
        now_ms += pause_s * 1e3
        if not limit.take(now_ms, weight):
            now_ms += limit.wait_s(now_ms, weight) * 1e3 + 1e-6
            assert limit.take(now_ms, weight)
        taken.append((now_ms, min(weight, whole)))
    for start_ms, _ in taken:
        inside = sum(weight for at, weight in taken if start_ms <= at < start_ms + window_s * 1e3 * (1 - 1e-9))
        assert inside <= whole + 1e-6


def test_an_exchange_that_asks_to_stay_away_is_obeyed() -> None:
    """Until then nothing is taken."""
    limit = RateLimit(Rate(5, 1))
    limit.close(30_000)
    assert limit.wait_s(0) == pytest.approx(30)
    assert not limit.take(29_999)
    assert limit.take(30_000)
