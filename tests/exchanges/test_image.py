"""Images are told from live trades by being first, whatever the order of answers and pushes."""

from __future__ import annotations

from exchanges import get
from exchanges.api import Alive, Past, Trade
from exchanges.image import EXPECTED_MAX, FirstPush, past


def test_only_the_first_push_after_asking_is_an_image() -> None:
    """Once taken, the next push of the topic is live, also when the acknowledgement comes after the image."""
    first = FirstPush()
    first.asked(["a", "b"])
    assert first.take("a")
    first.acked("a")
    assert not first.take("a")
    first.acked("b")
    assert first.take("b")
    assert not first.take("b")


def test_acknowledgements_alone_announce_an_image() -> None:
    """In a recording only the answers are seen: each announces one, also after a second subscription."""
    first = FirstPush()
    assert not first.take("a")
    for _ in range(2):
        first.acked("a")
        assert first.take("a")
        assert not first.take("a")


def test_what_was_refused_is_not_expected() -> None:
    """A refused topic has no image; asking again expects one again."""
    first = FirstPush()
    first.asked(["a"])
    first.refused(["a"])
    assert not first.take("a")
    first.asked(["a"])
    assert first.take("a")


def test_acknowledgements_cannot_fill_memory() -> None:
    """Answers to what nobody asked for are remembered up to a bound, and not at all when absurdly long."""
    first = FirstPush()
    for n in range(EXPECTED_MAX + 10):
        first.acked(f"t{n}")
    first.acked("x" * 1000)
    assert sum(first.take(f"t{n}") for n in range(EXPECTED_MAX + 10)) == EXPECTED_MAX
    assert not first.take("x" * 1000)


def test_past_keeps_what_is_no_trade() -> None:
    """Trades are gathered in order; other events stay events."""
    trades = [Trade(get("BINANCE").assume("BTCUSDT"), n, 1.0, 1.0, True) for n in (1, 2)]
    assert past([trades[0], Alive(), trades[1]]) == [Past(trades), Alive()]
