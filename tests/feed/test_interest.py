"""Open interest and funding: asked, priced, summed up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import structlog

import exchanges
from exchanges.api import Call, Funding, OpenInterest, Page, Trade
from sqfd.bars.builder import Builder
from sqfd.bars.watermark import Watermark
from sqfd.feed.intake import Intake
from sqfd.feed.interest import Funded, Interest, InterestBook, Poller, funding_poller, interest_poller, total
from tests.feed.test_recovery import T0, Canned
from tests.simulation.loop import VirtualClock, run


async def polled(answer: OpenInterest | Exception) -> tuple[list[Interest], Poller[OpenInterest]]:
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
    poller = interest_poller(bybit, rest, intake, clock, structlog.get_logger(), 60.0, tell)
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
    assert book.sums("BTC", T0 + 500e3) == {"BYBIT": (3.0, 300.0, None, None), "OKEX": (3.0, 300.0, None, None)}
    assert book.sums("BTC", T0 + 700e3) == {"BYBIT": (2.0, 200.0, None, None), "OKEX": (3.0, 300.0, None, None)}
    assert book.sums("ETH", T0) == {}


def test_funding_is_a_mean_by_open_interest_of_those_that_say_it() -> None:
    """One with three times the money counts three times; one that does not say is left out, and none at all gives None."""
    book = InterestBook(keep_ms=600e3)
    book.put("BTC", "BYBIT", Interest(0, T0, 1.0, 100.0, 0.0004))
    book.put("BTC", "BYBIT", Interest(1, T0, 3.0, 300.0, 0.0))
    book.put("BTC", "BYBIT", Interest(2, T0, 9.0, 900.0))
    book.put("BTC", "OKEX", Interest(3, T0, 1.0, 100.0))
    assert {exchange: one.funding for exchange, one in book.sums("BTC", T0).items()} == {"BYBIT": 0.0001, "OKEX": None}


@pytest.mark.parametrize(("span_s", "per_8h"), [(None, -0.0001), (14_400.0, -0.0002), (3_600.0, -0.0008)])
def test_the_rate_of_an_answer_goes_on(span_s: float | None, per_8h: float) -> None:
    """What the exchange said is told with the market's open interest, and what it costs in 8 hours."""
    perp = exchanges.get("BYBIT").assume("BTCUSDT", "perp")
    told, _ = run(polled(OpenInterest(perp, T0, 5.0, 500.0, -0.0001, span_s)))
    assert told == [Interest(0, T0, 5.0, 500.0, -0.0001, per_8h)]


def test_funding_that_is_asked_for_by_itself_joins_the_open_interest() -> None:
    """It counts once the market's open interest is known, not beside a rate that came with that, and not when it is old."""
    book = InterestBook(keep_ms=60e3, keep_funding_ms=600e3)
    book.put_funding(Funded(0, T0, 0.0001, 0.0002))
    assert book.sums("BTC", T0) == {}
    book.put("BTC", "OKEX", Interest(0, T0, 1.0, 100.0))
    assert book.sums("BTC", T0) == {"OKEX": (1.0, 100.0, 0.0001, 0.0002)}
    book.put("BTC", "OKEX", Interest(0, T0, 1.0, 100.0, 0.0003, 0.0003))
    assert book.sums("BTC", T0) == {"OKEX": (1.0, 100.0, 0.0003, 0.0003)}
    book.put("BTC", "OKEX", Interest(0, T0 + 601e3, 1.0, 100.0))
    assert book.sums("BTC", T0 + 601e3) == {"OKEX": (1.0, 100.0, None, None)}


def test_all_exchanges_together_have_funding_of_8_hours_only() -> None:
    """Intervals differ, 8 hours are the same everywhere; exchanges count by their open interest."""
    book = InterestBook(keep_ms=600e3)
    book.put("BTC", "BYBIT", Interest(0, T0, 1.0, 100.0, 0.0004, 0.0004))
    book.put("BTC", "KRAKEN", Interest(1, T0, 3.0, 300.0, 0.0001, 0.0008))
    book.put("BTC", "OKEX", Interest(2, T0, 9.0, 900.0))
    assert total(book.sums("BTC", T0)) == (13.0, 1300.0, None, pytest.approx(0.0007))


def test_funding_is_asked_for_by_itself_and_survives_a_refusal() -> None:
    """Each exchange's usual interval where its answer says none; a refusal is counted, and the next question is asked."""
    from sqfd.feed.rest import RestFailed

    async def asked() -> tuple[list[Funded], Poller[Funding]]:
        clock, okx, told = VirtualClock(), exchanges.get("OKEX"), list[Funded]()
        builder = Builder()
        builder.add_markets(1)
        intake = Intake(builder, Watermark())
        swap = okx.assume("BTC-USDT-SWAP")
        intake.add(0, swap, okx.endpoint(swap.endpoint))
        intake.take(intake.source("OKEX", swap.endpoint), [Trade(swap, T0, 100.0, 1.0, True, 1)], T0)
        answers: list[list[Funding] | None] = [None, [Funding(swap, 0.0001)], [Funding(swap, 0.0001, 14_400.0)]]

        def read(call: Call[Funding]) -> Page[Funding]:
            items = answers.pop(0)
            if items is None:
                raise RestFailed("HTTP status 503", 503)
            return Page(items)

        rest = Canned(okx, clock, read)  # type: ignore[arg-type]  # answers about funding rather than trades
        poller = funding_poller(okx, rest, intake, clock, structlog.get_logger(), 60.0, told.extend)
        for _ in range(3):
            await poller.ask()
        return told, poller

    told, poller = run(asked())
    assert [(one.funding, one.funding_8h) for one in told] == [(0.0001, 0.0001), (0.0001, 0.0002)]
    assert (poller.failures, poller.answers) == (0, 2)
