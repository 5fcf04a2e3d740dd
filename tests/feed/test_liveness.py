"""Silence limits follow the market's own rate."""

from __future__ import annotations

import math
import random

import pytest

from sqfd.feed.liveness import OTHERS, Pace, connection_proof_s, market_proof_s

DAY_S = 86_400


def watch(rate_hz: float, seconds: int, seed: int = 1) -> Pace:
    """A market whose trades come at random, looked at once a second."""
    pace, count, chance = Pace(), 0, random.Random(seed)
    quiet = math.exp(-rate_hz)
    for second in range(seconds):
        count += chance.random() >= quiet
        pace.update(count, second * 1e3)
    return pace


def false_alarms(rate_hz: float, days: float, others: int, seed: int) -> int:
    """How often a healthy market is taken for a dead one, from its first trade on."""
    pace, count, chance, quiet = Pace(), 0, random.Random(seed), math.exp(-rate_hz)
    alarms = seen = 0
    for second in range(int(days * DAY_S)):
        if chance.random() >= quiet:
            count, seen = count + 1, second
        elif second - seen > 5 and count and second - seen > market_proof_s(pace, 5.0, 300.0, others):
            alarms, seen = alarms + 1, second
            pace.pause()  # as the ledger's gap does
        pace.update(count, second * 1e3)
    return alarms


@pytest.mark.parametrize("others", [0, OTHERS])
@pytest.mark.parametrize("rate_hz", [0.002, 0.02, 0.04, 0.1, 0.5, 2.0, 8.0])
def test_healthy_markets_are_left_in_peace(rate_hz: float, others: int) -> None:
    """Trades that come at random, from two a second hour to eight a second: at most one false alarm in a market-day."""
    assert false_alarms(rate_hz, 1.0, others, seed=int(rate_hz * 1e3) + others) <= 1


@pytest.mark.parametrize(
    ("rate_hz", "low", "high"), [(50, 5, 5), (6, 5, 6), (2, 10, 20), (0.5, 40, 60), (0.1, 200, 330)]
)
def test_busy_markets_are_noticed_soon(rate_hz: float, low: float, high: float) -> None:
    """5 s for the busiest, minutes for quiet ones: about twenty seconds with trades that did not come."""
    assert low <= market_proof_s(watch(rate_hz, 3600), 5) <= high


def test_a_minute_is_enough_to_know_a_busy_market() -> None:
    """A connection that dies right after its start is noticed within seconds, too."""
    assert market_proof_s(watch(50, 60), 5) < 8


def test_one_trade_makes_no_busy_market() -> None:
    """A market that traded once since the start is not expected to trade again soon, whatever others do."""
    pace = Pace()
    for second, count in enumerate([0, 0, 1, 1]):
        pace.update(count, second * 1e3)
    assert market_proof_s(pace, 5, 300, OTHERS) > 60


def test_nothing_is_concluded_from_nothing() -> None:
    """Where no rate is known, no silence proves anything."""
    assert market_proof_s(Pace(), 5) == math.inf
    assert market_proof_s(Pace(), 5, 300, OTHERS) == math.inf
    assert connection_proof_s([], 5) == math.inf


def test_an_earlier_run_tells_how_busy_a_market_is() -> None:
    """Dead from its first second, a market that traded all the time is noticed within 10 s, a quiet one by what it did."""
    for traded, low, high in ((3600, 5, 10), (1800, 40, 80), (60, 1200, math.inf)):
        pace = Pace()
        pace.assume(traded, 3600)
        assert low <= market_proof_s(pace, 5) <= high
        assert pace.rate_hz is None, "it was not watched yet"


@pytest.mark.parametrize("rate_hz", [0.05, 0.5, 2.0])
def test_what_an_earlier_run_saw_condemns_no_slower_market(rate_hz: float) -> None:
    """Trading half as often as in the hour before the restart: no false alarm in the first hour of eight starts."""
    for seed in range(8):
        pace, count, chance = Pace(), 0, random.Random(seed)
        pace.assume(round(3600 * (1 - math.exp(-rate_hz))), 3600)
        seen, quiet = 0, math.exp(-rate_hz / 2)
        for second in range(3600):
            if chance.random() >= quiet:
                count, seen = count + 1, second
            assert second - seen <= market_proof_s(pace, 5.0, 300.0, OTHERS)
            pace.update(count, second * 1e3)


def test_little_is_concluded_from_little() -> None:
    """A run of minutes, a market that never traded, and one that is watched already: nothing is assumed."""
    for traded, seconds in ((200, 200), (0, 3600)):
        pace = Pace()
        pace.assume(traded, seconds)
        assert market_proof_s(pace, 5) == math.inf
    pace = watch(0.1, 3600)
    known = pace.sure_hz
    pace.assume(3600, 3600)
    assert pace.sure_hz == known


def test_an_outage_does_not_change_the_rate() -> None:
    """What passes while the feed is down says nothing about the market."""
    pace = watch(2, 600)
    known = pace.rate_hz, pace.sure_hz, pace.longest_pause_s
    pace.pause()
    pace.update(5000, 86_400_000)
    assert (pace.rate_hz, pace.sure_hz, pace.longest_pause_s) == known


def test_a_busy_hour_does_not_condemn_a_lull() -> None:
    """Ten minutes after trading slowed down tenfold, the silence that is waited for has grown with it."""
    pace, count, chance = watch(5, 3600), 10_000, random.Random(2)
    before_s = market_proof_s(pace, 5, 300, OTHERS)
    pace.pause()
    for second in range(600):
        count += chance.random() < 0.4
        pace.update(count, 4e6 + second * 1e3)
    assert market_proof_s(pace, 5, 300, OTHERS) > 3 * before_s


def test_many_quiet_markets_make_a_busy_connection() -> None:
    """A connection's limit is that of its markets together."""
    paces = [watch(0.5, 600) for _ in range(20)]
    assert connection_proof_s(paces, 5) < market_proof_s(paces[0], 5) / 2


def test_silence_that_others_do_not_share_ends_sooner() -> None:
    """Where the asset trades on three other exchanges meanwhile, fewer missing trades prove that the feed is broken."""
    pace = watch(0.2, 3600)
    alone, two, three = (market_proof_s(pace, 5, 300, others) for others in (0, 2, 3))
    assert alone == two
    assert 30 < three < 0.8 * alone
    assert market_proof_s(watch(50, 1200), 5, 300, 9) == 5
