"""Open interest: asked, priced, summed up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import structlog

import exchanges
from exchanges.api import Call, OpenInterest, Page, Trade
from sqfd.bars.builder import Builder
from sqfd.bars.watermark import Watermark
from sqfd.feed.intake import Intake
from sqfd.feed.interest import Interest, InterestBook, InterestPoller
from tests.feed.test_recovery import T0, Canned
from tests.simulation.loop import VirtualClock, run


async def polled(answer: OpenInterest | Exception) -> tuple[list[Interest], InterestPoller]:
    """One market of BYBIT's perpetuals at 100 dollars, asked once."""
    clock, bybit, told = VirtualClock(), exchanges.get("BYBIT"), []
    builder = Builder()
    builder.add_markets(1)
    intake = Intake(builder, Watermark())
    perp = bybit.assume("BTCUSDT", "perp")
    intake.add(0, perp, bybit.endpoint(perp.endpoint))
    trade = Trade(perp, T0, 100.0, 1.0, True, "a")
    intake.take(intake.source("BYBIT", perp.endpoint), [trade], T0)

    def read(call: Call[OpenInterest]) -> Page[OpenInterest]:
        if isinstance(answer, Exception):
            raise answer
        return Page([answer])

    def tell(found: Sequence[Interest]) -> None:
        told.extend(found)

    rest = Canned(bybit, clock, read)  # type: ignore[arg-type]  # answers about open interest rather than trades
    poller = InterestPoller(bybit, rest, intake, clock, structlog.get_logger(), 60.0, tell)
    await poller.ask()
    return told, poller


@pytest.mark.parametrize(("base", "usd"), [(5.0, None), (None, 500.0), (5.0, 500.0)])
def test_coins_and_dollars_from_either(base: float | None, usd: float | None) -> None:
    """What the exchange does not say follows from the last price."""
    perp = exchanges.get("BYBIT").assume("BTCUSDT", "perp")
    told, poller = run(polled(OpenInterest(perp, T0, base, usd)))
    assert told == [Interest(0, T0, 5.0, 500.0)]
    assert poller.answers == 1


def test_a_failure_is_counted_and_costs_nothing_else() -> None:
    """An exchange that refuses is asked again at the next interval; nothing is told."""
    from sqfd.feed.rest import RestFailed

    told, poller = run(polled(RestFailed("HTTP status 503", 503)))
    assert told == []
    assert poller.failures == 1


def test_sums_leave_out_what_is_old() -> None:
    """Markets of one exchange add up; one that was not confirmed for long leaves the sum."""
    book = InterestBook(keep_ms=600e3)
    book.put("BTC", "BYBIT", Interest(0, T0, 1.0, 100.0))
    book.put("BTC", "BYBIT", Interest(1, T0 + 500e3, 2.0, 200.0))
    book.put("BTC", "OKEX", Interest(2, T0 + 500e3, 3.0, 300.0))
    assert book.sums("BTC", T0 + 500e3) == {"BYBIT": (3.0, 300.0, None), "OKEX": (3.0, 300.0, None)}
    assert book.sums("BTC", T0 + 700e3) == {"BYBIT": (2.0, 200.0, None), "OKEX": (3.0, 300.0, None)}
    assert book.sums("ETH", T0) == {}


def test_funding_is_a_mean_by_open_interest_of_those_that_say_it() -> None:
    """One with three times the money counts three times; one that does not say is left out, and none at all gives None."""
    book = InterestBook(keep_ms=600e3)
    book.put("BTC", "BYBIT", Interest(0, T0, 1.0, 100.0, 0.0004))
    book.put("BTC", "BYBIT", Interest(1, T0, 3.0, 300.0, 0.0))
    book.put("BTC", "BYBIT", Interest(2, T0, 9.0, 900.0))
    book.put("BTC", "OKEX", Interest(3, T0, 1.0, 100.0))
    assert {exchange: one.funding for exchange, one in book.sums("BTC", T0).items()} == {"BYBIT": 0.0001, "OKEX": None}


def test_the_rate_of_an_answer_goes_on() -> None:
    """What the exchange said is told with the market's open interest."""
    perp = exchanges.get("BYBIT").assume("BTCUSDT", "perp")
    told, _ = run(polled(OpenInterest(perp, T0, 5.0, 500.0, -0.0001)))
    assert told == [Interest(0, T0, 5.0, 500.0, -0.0001)]
