"""Duplicates against slow, obvious twins that remember everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Trade
from exchanges.binance import Binance
from sqfd.feed.dedup import BEFORE, Content, Dedup, Gapless, Monotonic, Unique, dedup_for, identity

INSTRUMENT = Binance().assume("BTCUSDT")
WINDOW = 16


def trade(id: int | str | None, ts_ms: int = 1_700_000_000_000, price: float = 1.0) -> Trade:
    return Trade(INSTRUMENT, ts_ms, price, 1.0, True, id)


@st.composite
def shuffled(draw: st.DrawFn, distance: int = WINDOW // 2) -> list[int]:
    """Growing ids with steps and repetitions, none further out of place than `distance`."""
    steps = draw(st.lists(st.integers(1, 4), min_size=1, max_size=200))
    ids = [sum(steps[: n + 1]) for n in range(len(steps))]
    ids = [id for id in ids for _ in range(draw(st.integers(1, 2)))]
    keys = [n + draw(st.integers(0, distance)) for n in range(len(ids))]
    return [id for _, id in sorted(zip(keys, ids, strict=True), key=lambda pair: pair[0])]


@given(shuffled())
def test_monotonic_equals_a_memory_of_everything(ids: list[int]) -> None:
    """Within the window no id is lost or counted twice, in whatever order ids come."""
    dedup, everything = Monotonic(WINDOW), set[int]()
    for id in ids:
        assert dedup.seen(trade(id), 0, 0) == (id in everything)
        everything.add(id)


@given(shuffled(distance=40))
def test_gapless_equals_a_memory_of_everything(ids: list[int]) -> None:
    """No id is lost or counted twice, of those before the first that came too; the holes are exactly what is missing."""
    dedup, everything = Gapless(holes=1000), set[int]()
    for id in ids:
        assert dedup.seen(trade(id), 0, 1_700_000_000_000) == (id in everything)
        everything.add(id)
    missing = {id for first, last in dedup.holes for id in range(first, last + 1)}
    assert missing == set(range(max(everything) + 1)) - everything


def test_gapless_ids_before_the_first_trade_are_new_once() -> None:
    """A new process' first trade may be a later one: what recovery or the exchange brings of before it counts, once."""
    dedup = Gapless()
    assert [dedup.seen(trade(id), 1, 1_700_000_000_000) for id in (1002, 1001, 1001, 1003)] == [
        False,
        False,
        True,
        False,
    ]
    dedup.learn([trade(1000)])
    assert dedup.seen(trade(1000), 1, 1_700_000_000_000)
    assert not dedup.seen(trade(999), 1, 1_700_000_000_000)
    assert dedup.seen(trade(1002 - BEFORE - 1), 1, 1_700_000_000_000)
    assert not dedup.found
    assert dedup.missed == 0


@given(st.lists(st.text("abc", max_size=3)))
def test_unique_equals_a_memory_of_everything(ids: list[str]) -> None:
    """Ids in no order are recognised within the window."""
    dedup, everything = Unique(1000), set[str]()
    for id in ids:
        assert dedup.seen(trade(id), 0, 0) == (id in everything)
        everything.add(id)


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 5))))
def test_content_counts_the_most_that_one_connection_brought(rows: list[tuple[int, int]]) -> None:
    """Two connections that overlap: each content counts as often as the one that brought it most often."""
    dedup, accepted = Content(), Counter[int]()
    brought = {1: Counter[int](), 2: Counter[int]()}
    for connection, price in rows:
        accepted[price] += not dedup.seen(trade(None, price=price), connection, 0)
        brought[connection][price] += 1
    assert accepted == brought[1] | brought[2]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, WINDOW), st.integers(1, 9)), min_size=1, max_size=8))
def test_connections_that_take_over_repeat_what_the_last_one_brought(turns: list[tuple[int, int, int]]) -> None:
    """One connection after the other: each first repeats some of the last trades, which count once, and goes on alone."""
    dedup, sent = Content(WINDOW), list[Trade]()
    for connection, (more, repeated, together) in enumerate(turns):
        again = sent[max(0, len(sent) - repeated) :]
        assert all(dedup.seen(one, connection, 0) for one in again)
        fresh = [trade(None, price=len(sent) + n + 1.0) for n in range(more)]
        for start in range(0, more, together):
            some = fresh[start : start + together]
            assert dedup.follow(some, connection) or not any(dedup.seen(one, connection, 0) for one in some)
        sent += fresh


@given(
    shuffled(), st.lists(st.integers(1, 9), min_size=1), st.sampled_from(["monotonic", "gapless", "unique", "content"])
)
def test_what_follows_at_a_glance_is_what_seen_tells_one_by_one(ids: list[int], sizes: list[int], kind: str) -> None:
    """Trades that come together are taken for new exactly where each of them is; the same is remembered of them."""
    makers: dict[str, Callable[[], Dedup]] = {
        "monotonic": lambda: Monotonic(WINDOW),
        "gapless": lambda: Gapless(holes=1000),
        "unique": lambda: Unique(1000),
        "content": Content,
    }
    together, one_by_one, start, number = makers[kind](), makers[kind](), 0, 0
    while start < len(ids):
        size = sizes[number % len(sizes)]
        some = [trade(None if id % 29 == 0 else id) for id in ids[start : start + size]]
        start, number = start + size, number + 1
        told = [one_by_one.seen(one, 0, 1_700_000_000_000) for one in some]
        if together.follow(some, 0):
            assert not any(told)
        else:
            assert [together.seen(one, 0, 1_700_000_000_000) for one in some] == told


def test_everything_is_bounded() -> None:
    """Memories do not grow with the number of trades."""
    monotonic, gapless, unique, content = Monotonic(WINDOW), Gapless(8), Unique(WINDOW), Content(WINDOW)
    quick, texts = Monotonic(WINDOW), Unique(WINDOW)
    for n in range(2000):
        monotonic.seen(trade(3 * n), 0, 0)
        gapless.seen(trade(3 * n), 0, 0)
        unique.seen(trade(str(n)), 0, 0)
        content.seen(trade(None, price=n + 1.0), n, 0)
        assert quick.follow([trade(n) for n in range(7 * n, 7 * n + 7)], 0)
        assert texts.follow([trade(str(n)) for n in range(7 * n, 7 * n + 7)], 0)
    assert len(monotonic._recent) <= 2 * WINDOW
    assert len(gapless.holes) == 8
    assert len(unique._young | unique._old) <= 2 * WINDOW
    assert len(quick._recent) <= 2 * WINDOW
    assert len(texts._young | texts._old) <= 2 * (WINDOW + 7)
    assert len(content._counted) <= WINDOW
    assert len(content._by_connection) <= 2


def test_ids_that_begin_anew_do_not_silence_a_market() -> None:
    """When an exchange numbers from the start again, its trades are new."""
    for dedup in (Monotonic(WINDOW), Gapless()):
        for n in range(100):
            assert not dedup.seen(trade(1000 + n), 0, 1_700_000_000_000)
        assert dedup.seen(trade(1), 0, 1_700_000_000_000)
        later = 1_700_000_005_000
        assert not dedup.seen(trade(1, later), 0, 1_700_000_000_000)
        assert [dedup.seen(trade(id, later), 0, later) for id in (1, 2, 2)] == [True, False, True]


def test_a_wild_id_costs_nothing_but_itself() -> None:
    """One absurdly large id neither hides the trades that follow nor lets them count twice."""
    for dedup in (Monotonic(WINDOW), Gapless()):
        ids = [1, 2, 2**62, *range(3, 100)]
        assert not any(dedup.seen(trade(id), 0, 1_700_000_000_000) for id in ids)
        assert all(dedup.seen(trade(id), 0, 1_700_000_000_000) for id in ids[-WINDOW:])


def test_missing_ids_fall_back_to_content() -> None:
    """A row without the id that was promised is told apart by content."""
    for dedup in (Monotonic(), Gapless()):
        assert not dedup.seen(trade(1), 1, 0)
        assert not dedup.seen(trade(None), 1, 0)
        assert dedup.seen(trade(None), 2, 0)


def test_the_rule_follows_the_endpoint() -> None:
    """Binance's ids count up by one."""
    assert isinstance(dedup_for(Binance().endpoint("spot")), Gapless)


@given(st.lists(st.integers(0, 30)))
def test_rows_without_the_promised_id_are_told_by_their_content(times: list[int]) -> None:
    """Where ids are unique but a row has none, equal rows of one connection are different trades; others repeat them."""
    dedup = Unique(1000)
    made = [trade(None, 1_700_000_000_000 + at) for at in times]
    assert not any(dedup.seen(one, 1, 0) for one in made)
    assert all(dedup.seen(one, 2, 0) for one in made)
    assert not dedup.seen(trade("a", 1_700_000_000_000), 1, 0)
    assert dedup.memory().keys() >= {identity(one) for one in made} | {"a"}


def test_a_history_without_ids_does_not_hide_what_follows() -> None:
    """Rows that recovery brought without ids are known afterwards, and only those."""
    dedup = Unique()
    dedup.learn([trade(None, 5), trade("a", 6)])
    assert [dedup.seen(one, 1, 0) for one in (trade(None, 5), trade(None, 7), trade("a", 6))] == [True, False, True]
