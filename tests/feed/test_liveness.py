"""Silence limits follow the market's own rate."""

from __future__ import annotations

import random

import pytest

from sqfd.feed.liveness import Pace, connection_limit_s, market_limit_s


def watch(rate_hz: float, seconds: int) -> Pace:
    pace, count, chance = Pace(), 0, random.Random(1)
    for second in range(seconds):
        count += sum(chance.random() < rate_hz / 100 for _ in range(100))
        pace.update(count, second * 1e3)
    return pace


@pytest.mark.parametrize(("rate_hz", "low", "high"), [(50, 5, 5), (2, 8, 40), (0.1, 100, 300), (0.001, 300, 300)])
def test_busy_markets_are_noticed_soon(rate_hz: float, low: float, high: float) -> None:
    """5 s for the busiest, minutes for the quietest, and in between about twenty expected trades."""
    assert low <= market_limit_s(watch(rate_hz, 1200), 5, 300) <= high


def test_an_unknown_rate_gets_the_longest_time() -> None:
    """Nothing is concluded from nothing."""
    assert market_limit_s(Pace(), 5, 300) == 300
    assert connection_limit_s([], 5, 300) == 300


def test_an_outage_does_not_change_the_rate() -> None:
    """What passes while the feed is down says nothing about the market."""
    pace = watch(2, 600)
    rate_hz, pause_s = pace.rate_hz, pace.longest_pause_s
    pace.pause()
    pace.update(5000, 86_400_000)
    assert (pace.rate_hz, pace.longest_pause_s) == (rate_hz, pause_s)


def test_many_quiet_markets_make_a_busy_connection() -> None:
    """A connection's limit is that of its markets together."""
    paces = [watch(0.5, 600) for _ in range(20)]
    assert connection_limit_s(paces, 5, 300) < market_limit_s(paces[0], 5, 300)


def test_silence_that_others_do_not_share_ends_sooner() -> None:
    """Where the asset trades on three other exchanges meanwhile, fewer missing trades prove that the feed is broken."""
    pace = watch(0.2, 1200)
    alone, two, three = (market_limit_s(pace, 5, 300, others) for others in (0, 2, 3))
    assert alone == two
    assert 20 < three < 80 < alone
    assert market_limit_s(Pace(), 5, 300, 9) == 300
    assert market_limit_s(watch(50, 1200), 5, 300, 9) == 5
