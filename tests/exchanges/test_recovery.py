"""Recovery by REST gives exactly the trades of a hole, over as many pages as it takes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exchanges
from exchanges.api import Gap, Instrument, Trade
from tests.exchanges.support import (
    ANONYMOUS,
    LONG_PAGES,
    NOW_MS,
    WHOLE_SECONDS,
    Rest,
    endpoints,
    identity,
    same,
    simulated,
)

START_MS = NOW_MS - 600_000


def history(instrument: Instrument, times: list[int]) -> list[Trade]:
    """Trades at those times after START_MS, with ids that count up."""
    return [
        Trade(
            instrument,
            START_MS + at,
            100.0 + n % 50,
            1.0 + n,
            n % 3 == 0,
            identity(instrument.exchange, 1000 + n, instrument.endpoint),
        )
        for n, at in enumerate(sorted(times))
    ]


def recovered(gap: Gap, past: list[Trade]) -> tuple[list[Trade], Rest]:
    server = simulated(gap.instrument.exchange)
    rest = Rest(server, past)
    call = server.exchange.recover(gap)
    assert call is not None
    return sorted(rest.ask(call), key=lambda t: (t.ts_ms, int(t.id or 0), t.size)), rest


def assert_same(found: list[Trade], wanted: list[Trade]) -> None:
    """Equal and in this order; times as far as history tells them."""
    if wanted and wanted[0].instrument.exchange in WHOLE_SECONDS:
        wanted = [msgspec.structs.replace(t, ts_ms=t.ts_ms - t.ts_ms % 1000) for t in wanted]
    assert [t.id for t in found] == [t.id for t in wanted]
    assert all(same(one, other) for one, other in zip(found, wanted, strict=True))


def between(before: Trade, after: Trade) -> Gap:
    """The hole between two trades that were received."""
    return Gap(before.instrument, before.ts_ms, after.ts_ms, before.id, after.id, after.count)


def assert_filled(found: list[Trade], gap: Gap, past: list[Trade], inside: list[Trade]) -> None:
    """What was found is of the past, within the hole and in order, and lacks nothing of what was inside.

    Sizes tell the trades apart: of the edge milliseconds more than what is inside may come where ids have no order.
    """
    numbers = {round(t.size) for t in found}
    assert_same(found, [t for t in past if round(t.size) in numbers])
    assert all(map(gap.covers, found))
    assert {round(t.size) for t in inside} <= numbers


RECOVERED = [(x, e) for x, e in endpoints() if exchanges.get(x).recovery != "none" and f"{x} {e}" not in ANONYMOUS]


@pytest.mark.parametrize(("exchange_id", "endpoint"), RECOVERED)
@settings(max_examples=25)
@given(data=st.data())
def test_a_hole_between_two_trades_is_filled_exactly(exchange_id: str, endpoint: str, data: st.DataObject) -> None:
    """All trades between the two known ones come, once, and neither of the two, also where many share a millisecond."""
    instrument = next(iter(simulated(exchange_id).listed(endpoint)))
    past = history(instrument, data.draw(st.lists(st.integers(0, 30), min_size=2, max_size=50)))
    first = data.draw(st.integers(0, len(past) - 2))
    last = data.draw(st.integers(first + 1, len(past) - 1))
    gap = between(past[first], past[last])
    found, _ = recovered(gap, past)
    inside = past[first + 1 : last]
    if isinstance(past[0].id, int):
        assert_same(found, inside)
    else:
        assert_filled(found, gap, past, inside)


@pytest.mark.parametrize(("exchange_id", "endpoint"), RECOVERED)
def test_a_hole_known_by_times_only_is_filled(exchange_id: str, endpoint: str) -> None:
    """Without ids, everything from edge to edge comes, edges included."""
    instrument = next(iter(simulated(exchange_id).listed(endpoint)))
    step = 7000 if exchange_id in WHOLE_SECONDS else 7
    past = history(instrument, [n * step for n in range(50)])
    found, _ = recovered(Gap(instrument, past[10].ts_ms, past[39].ts_ms), past)
    assert_same(found, past[10:40])


SHALLOW = {("COINBASE", "perp"), ("MEXC", "futures")}
"""Endpoints with only the newest trades, of exchanges that keep more elsewhere."""


def deep(exchange_id: str, endpoint: str) -> bool:
    """Whether `recover` reaches back page by page on this endpoint."""
    return exchanges.get(exchange_id).recovery == "exact" and (exchange_id, endpoint) not in SHALLOW


@pytest.mark.parametrize(("exchange_id", "endpoint"), [e for e in endpoints() if deep(*e)])
@pytest.mark.parametrize("known", [True, False], ids=["by id", "by time"])
def test_a_long_hole_takes_several_pages(exchange_id: str, endpoint: str, known: bool) -> None:
    """A hole of more than a page is filled exactly, without repeating a row or asking more often than needed."""
    instrument = next(iter(simulated(exchange_id).listed(endpoint)))
    past = history(instrument, [n // 3 for n in range(3000)])
    gap = between(past[100], past[2600])
    if not known:
        gap = Gap(instrument, gap.after_ms, gap.before_ms)
    found, rest = recovered(gap, past)
    assert_filled(found, gap, past, past[101:2600])
    assert exchange_id in LONG_PAGES or len(rest.asked) > 1
    assert len(rest.asked) <= 2500 / 100 + 10
    assert len(set(rest.asked)) == len(rest.asked)


@pytest.mark.parametrize(("exchange_id", "endpoint"), [e for e in endpoints() if deep(*e)])
def test_quiet_hours_do_not_end_the_search(exchange_id: str, endpoint: str) -> None:
    """A hole that begins with hours of silence is still filled to its end."""
    instrument = next(iter(simulated(exchange_id).listed(endpoint)))
    past = history(instrument, [0, 1, 2])
    gap = Gap(instrument, START_MS - 5 * 3_600_000, NOW_MS)
    found, _ = recovered(gap, past)
    assert_same(found, past)


def test_okx_leaves_out_the_matches_of_the_aggregate_after_the_hole() -> None:
    """History has single matches: those that the next received aggregate stands for are not missing."""
    instrument = simulated("OKEX").listed("public")[0]
    past = history(instrument, list(range(20)))
    seen = Trade(instrument, past[15].ts_ms, 100.0, 3.0, True, past[15].id, count=3)
    found, _ = recovered(between(past[10], seen), past)
    assert_same(found, past[11:13])


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_what_is_promised_of_recovery_is_there(exchange_id: str) -> None:
    """An exchange offers recovery calls exactly where it says that it has any, and says how far they reach."""
    server = simulated(exchange_id)
    instrument = next(iter(server.instruments.values()))
    call = server.exchange.recover(Gap(instrument, START_MS, NOW_MS))
    assert (call is not None) == (server.exchange.recovery != "none")
    assert bool(server.exchange.recovery_note) == (call is not None)


@pytest.mark.parametrize(
    ("gap", "covered"),
    [
        (lambda i: Gap(i, 10, 20), [10, 11, 12, 15, 19, 20]),
        (lambda i: Gap(i, 10, 20, 111, 119), [112 - 100, 115 - 100]),
        (lambda i: Gap(i, 10, 20, "111", "119"), [10, 11, 12, 15, 19, 20]),
    ],
    ids=["times", "numbers", "text"],
)
def test_what_a_hole_covers(gap: Callable[[Instrument], Gap], covered: list[int]) -> None:
    """Numbers decide alone, exclusively; else times do, inclusively."""
    instrument = exchanges.get("BINANCE").assume("BTCUSDT")
    trades = [Trade(instrument, at, 1.0, 1.0, True, 100 + at) for at in (9, 10, 11, 12, 15, 19, 20, 21)]
    assert [t.ts_ms for t in trades if gap(instrument).covers(t)] == covered
