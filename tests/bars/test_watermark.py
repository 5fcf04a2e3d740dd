"""A second closes when it is over for the exchanges, whatever the host's clock says."""

from __future__ import annotations

from sqfd.bars.watermark import Watermark

T = 1_700_000_000_000.0


def test_closes_grace_after_the_second_at_the_exchange() -> None:
    """With a delay of 80 ms, second s is over 1.33 s after it began."""
    mark = Watermark(grace_s=0.25)
    mark.observe("X", 80.0)
    assert mark.newest_over(T + 1329.0) == 1_699_999_999
    assert mark.newest_over(T + 1330.0) == 1_700_000_000
    assert mark.due_ms(1_700_000_000) == T + 1330.0


def test_host_clock_behind_the_exchange_closes_no_second_early() -> None:
    """A host 1.27 s behind closes second s when the exchange, not the host, is past it."""
    mark = Watermark(grace_s=0.25)
    mark.observe("X", -1270.0)
    assert mark.newest_over(T + 1250.0 - 1270.0) == 1_700_000_000
    assert mark.newest_over(T + 1249.0 - 1270.0) == 1_699_999_999


def test_single_absurd_trade_time_changes_nothing() -> None:
    """One trade an hour in the future does not close the hour."""
    mark = Watermark()
    mark.observe("X", 50.0)
    mark.observe("X", -3_600_000.0)
    assert mark.offsets() == {"X": 50.0}


def test_a_clock_that_stepped_is_believed_after_ten_trades() -> None:
    """A lasting change is a change of clocks."""
    mark = Watermark()
    mark.observe("X", 50.0)
    for _ in range(Watermark.STRANGE_COUNT):
        mark.observe("X", -3_600_000.0)
    assert mark.offsets() == {"X": -3_600_000.0}


def test_a_trade_that_comes_in_time_is_believed_at_once() -> None:
    """First trades that were repeated, or came late, taught a delay that was too high: the first prompt one corrects it."""
    mark = Watermark()
    mark.observe("X", 40_000.0)
    mark.observe("X", 930.0)
    assert mark.offsets() == {"X": 930.0}


def test_an_exchange_ahead_of_the_host_is_believed_as_before_after_it_was_late() -> None:
    """What lies in the future by the host's clock, and not by the exchange's own, is no wrong trade time."""
    mark = Watermark()
    mark.observe("X", -10_000.0)
    for window in range(1, 4):
        mark.newest_over(T + window * Watermark.WINDOW_MS)
        mark.observe("X", 60_000.0)
    assert mark.offset_ms() == 60_000.0
    mark.observe("X", -10_000.0)
    assert mark.offset_ms() == -10_000.0


def test_trades_that_come_late_do_not_stop_the_exchanges_clock() -> None:
    """Closing waits for an exchange that is late; its clock goes on for half an hour, after which it has another one."""
    mark = Watermark()
    mark.observe("X", 50.0)
    for window in range(1, 3 * Watermark.LONG_WINDOWS):
        mark.newest_over(T + window * Watermark.WINDOW_MS)
        mark.observe("X", 100_000.0)
        if window == Watermark.LONG_WINDOWS:
            assert (mark.offset_ms(), mark.clock_ms()) == (100_000.0, 50.0)
            assert mark.host_error_ms() == 50.0
    assert mark.clock_ms() == 100_000.0


def test_a_silent_exchange_keeps_its_clock() -> None:
    """Hours without a trade teach nothing."""
    mark = Watermark()
    mark.observe("X", 50.0)
    for window in range(1, 4 * Watermark.LONG_WINDOWS):
        mark.newest_over(T + window * Watermark.WINDOW_MS)
    assert (mark.offset_ms(), mark.clock_ms()) == (50.0, 50.0)


def test_slowest_exchange_is_waited_for_but_not_an_outlier() -> None:
    """An exchange minutes late does not hold up the others."""
    mark = Watermark()
    for name, delay in (("A", 10.0), ("B", 30.0), ("C", 400.0)):
        mark.observe(name, delay)
    assert mark.offset_ms() == 400.0
    mark.observe("D", 120_000.0)
    assert mark.offset_ms() == 30.0 + Watermark.SPREAD_MS
    two = Watermark()
    two.observe("A", 30.0)
    two.observe("D", 120_000.0)
    assert two.offset_ms() == 30.0 + Watermark.SPREAD_MS


def test_an_exchange_that_joins_is_waited_for_once_it_is_known() -> None:
    """It may begin by repeating what is past as new: that holds up nobody's seconds. Alone, there is nothing better."""
    mark = Watermark()
    mark.observe("old", 80.0)
    assert mark.offset_ms() == 80.0
    mark.newest_over(T)
    mark.newest_over(T + Watermark.WINDOW_MS)
    mark.observe("old", 80.0)
    mark.observe("joins", 1370.0)
    assert (mark.offset_ms(), mark.clock_ms()) == (80.0, 80.0)
    mark.observe("joins", 900.0)
    mark.newest_over(T + 2 * Watermark.WINDOW_MS)
    assert mark.offset_ms() == 900.0


def test_offsets_grow_again_within_two_windows() -> None:
    """The lowest delay is forgotten when it is no longer reached; a silent exchange keeps its own."""
    mark = Watermark()
    mark.observe("A", 10.0)
    mark.observe("B", 10.0)
    for window in range(1, 4):
        mark.newest_over(T + window * Watermark.WINDOW_MS)
        mark.observe("A", 90.0)
    assert mark.offsets() == {"A": 90.0, "B": 10.0}


def test_the_hosts_error_is_the_exchanges_median() -> None:
    """One exchange with a wrong clock does not put the blame on the host; most of them do."""
    watermark = Watermark()
    assert watermark.host_error_ms() is None
    for exchange, delay_ms in (("A", 60.0), ("B", 40.0), ("C", -5000.0)):
        for jitter in range(200):
            watermark.observe(exchange, delay_ms + jitter % 10)
    assert watermark.host_error_ms() == 40.0
    assert 2 < watermark.spreads()["A"] < 8


def test_what_may_have_waited_lowers_an_offset_and_never_raises_it() -> None:
    """The delay of a trade that lay unread is less than what is seen: it says how much the offset is at most."""
    mark = Watermark()
    mark.observe_waited("X", 400.0)
    assert mark.offsets() == {}
    mark.observe("X", 100.0)
    for window in range(4):
        mark.newest_over(T + window * Watermark.WINDOW_MS)
        mark.observe_waited("X", 300.0)
        assert mark.offsets() == {"X": 100.0}
    mark.observe_waited("X", 80.0)
    assert mark.offsets() == {"X": 80.0}


def test_when_the_next_second_is_over() -> None:
    """Its end by the exchange's clock and the grace, from any moment."""
    mark = Watermark(0.25)
    mark.observe("X", 100.0)
    assert [round(mark.over_in_s(T + ms), 3) for ms in (0, 349, 350, 351, 900)] == [0.35, 0.001, 0.0, 0.999, 0.45]
