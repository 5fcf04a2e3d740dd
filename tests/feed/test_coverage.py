"""The ledger of one market."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqfd.feed.coverage import Ledger


def test_the_story_of_a_cut() -> None:
    """Not live, live, cut, live again: the seconds that the cut touches are not whole, the others are."""
    ledger = Ledger()
    assert ledger.state_at(9) == "gap"
    ledger.close_gap(10_500)
    assert [ledger.whole(second) for second in (9, 10, 11)] == [False, False, True]
    ledger.open_gap(15_200, "lost")
    ledger.open_gap(16_000, "still lost")
    assert ledger.open is not None
    assert [ledger.whole(second) for second in (14, 15, 99)] == [True, False, False]
    ledger.close_gap(18_000)
    assert [ledger.whole(second) for second in (14, 15, 17, 18)] == [True, False, False, True]
    ledger.resolve(ledger.intervals[1], "recovered")
    assert ledger.state_at(16) == "recovered"
    assert ledger.whole(16)


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), max_size=40))
def test_the_ledger_equals_a_list_of_cuts(cuts: list[tuple[int, int]]) -> None:
    """A second is whole iff no cut touches it."""
    ledger, now, gaps = Ledger(), 1000, [(float("-inf"), 1000)]
    ledger.close_gap(now)
    for live_ms, cut_ms in cuts:
        ledger.open_gap(now + live_ms, "cut")
        now += live_ms + cut_ms
        ledger.close_gap(now)
        gaps.append((now - cut_ms, now))
    for second in range(now // 1000 + 2):
        touched = any(start < second * 1000 + 1000 and end > second * 1000 for start, end in gaps)
        assert ledger.whole(second) == (not touched)


def test_a_loss_right_after_the_first_trade_is_told() -> None:
    """Found by the nemesis: seconds were taken for whole meanwhile, so the gap needs a beginning to revise them from."""
    ledger = Ledger()
    ledger.close_gap(350_900)
    ledger.open_gap(350_500, "lost")
    gap = ledger.open
    assert gap is not None
    assert (gap.from_ms, ledger.changed[-1]) == (350_900, gap)
    assert gap.seconds(360_000) == (350, 360)
    assert [ledger.whole(second) for second in (350, 351, 359)] == [False, False, False]


def test_forgotten_time_is_not_whole() -> None:
    """The ledger is bounded; what it forgot it does not vouch for."""
    ledger = Ledger(limit=4)
    ledger.close_gap(0)
    for n in range(10):
        ledger.open_gap(n * 10_000 + 5000, "cut")
        ledger.close_gap(n * 10_000 + 6000)
    assert len(ledger.intervals) == 4
    assert ledger.state_at(7) == "lost"
    assert ledger.whole(97)


def test_gaps_that_are_found_late_take_their_place() -> None:
    """A gap that is noticed after others began goes between them, without overlap; within a known one it is that one."""
    ledger = Ledger()
    ledger.close_gap(0)
    for start in (10_000, 30_000):
        ledger.open_gap(start, "cut")
        ledger.close_gap(start + 5000)
    made = ledger.add(14_000, 32_000, "trades missing")
    assert (made.from_ms, made.until_ms) == (15_000, 30_000)
    assert ledger.add(11_000, 12_000, "trades missing") is ledger.intervals[1]
    bounds = [(i.from_ms, i.until_ms) for i in ledger.intervals][1:]
    assert bounds == [(10_000, 15_000), (15_000, 30_000), (30_000, 35_000)]
    assert not ledger.whole(20)


def test_a_gap_can_end_in_two_ways() -> None:
    """Cut in two, its parts have fates of their own."""
    ledger = Ledger()
    ledger.close_gap(0)
    ledger.open_gap(10_000, "cut")
    ledger.close_gap(20_000)
    later = ledger.split(ledger.intervals[1], 15_000)
    ledger.resolve(ledger.intervals[1], "lost")
    ledger.resolve(later, "recovered", 5)
    assert [ledger.state_at(second) for second in (12, 17, 25)] == ["lost", "recovered", "live"]


def test_every_change_is_told_once() -> None:
    """Whoever keeps the story hears of the beginning, the end and the fate of each gap."""
    ledger = Ledger()
    ledger.close_gap(0)
    ledger.open_gap(10_000, "cut")
    ledger.explain("refused")
    ledger.close_gap(20_000)
    ledger.resolve(ledger.intervals[1], "recovered")
    assert [interval.reason for interval in ledger.changed] == ["not live yet", *["refused"] * 4]
