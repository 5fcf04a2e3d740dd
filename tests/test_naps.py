"""When the daemon looks at the clock between two seconds."""

from __future__ import annotations

from sqfd.daemon import LOOK_S, REST_S, nap_s


def test_the_next_second_is_met_with_few_looks() -> None:
    """A second that is due in 1 s is met within LOOK_S after at most seven looks; none of them sleeps beyond it."""
    left_s, looks = 1.0, 0
    while left_s > 0:
        nap = nap_s(left_s)
        assert nap <= max(left_s, 0.001)
        left_s, looks = left_s - nap, looks + 1
    assert looks <= 7
    assert -left_s <= LOOK_S


def test_no_nap_is_long() -> None:
    """However far off the next second seems to be (a clock that steps), it is looked at again soon; one that is over, at once."""
    assert nap_s(3600.0) == REST_S
    assert nap_s(-5.0) == 0.001
