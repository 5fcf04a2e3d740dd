"""Holes that are asked for: which first, how often, what becomes of them. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import structlog

import exchanges
from exchanges.api import Call, Page, Request, Trade
from sqfd.bars.builder import Builder
from sqfd.bars.watermark import Watermark
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.feed.recovery import SHARE, TRIES, Recovery, look_for_holes, ordered
from sqfd.feed.rest import Rest, RestFailed
from sqfd.feed.settings import FeedSettings
from tests.simulation.loop import START_MS, VirtualClock, run

T0 = int(START_MS)


class Canned(Rest):
    """Answers `recover` calls with what `answer` says."""

    def __init__(self, exchange: Any, clock: VirtualClock, answer: Callable[[Call[Trade]], Page[Trade]]) -> None:
        super().__init__(exchange, FeedSettings(), clock)
        self.asked: list[tuple[float, str]] = []
        self._answer = answer

    async def call(self, call: Call[Any]) -> Page[Any]:
        self.asked.append((self._clock.now_ms(), call.request.url))
        return self._answer(call)


class Stage:
    """One market of BINANCE (ids count up) or BYBIT (text ids), with a recovery whose answers are given."""

    def __init__(self, exchange_id: str, answer: Callable[[Call[Trade]], Page[Trade]], revisable_s: int = 1800) -> None:
        self.clock = VirtualClock()
        self.exchange = exchanges.get(exchange_id)
        self.instrument = self.exchange.assume("BTCUSDT", "spot")
        self.builder = Builder(revisable_s)
        self.builder.add_markets(1)
        self.intake = Intake(self.builder, Watermark())
        endpoint = self.exchange.endpoint(self.instrument.endpoint)
        self.feed: MarketFeed = self.intake.add(0, self.instrument, endpoint)
        self.source = self.intake.source(exchange_id, self.instrument.endpoint)
        self.rest = Canned(self.exchange, self.clock, answer)
        self.log = structlog.testing.LogCapture()
        logger = structlog.wrap_logger(None, processors=[self.log])
        self.recovery = Recovery(self.exchange, self.rest, self.intake, self.clock, logger)

    def trade(self, at_ms: int, number: int, price: float = 100.0) -> Trade:
        id = number if self.exchange.id == "BINANCE" else f"id{number}"
        return Trade(self.instrument, T0 + at_ms, price, 1.0, True, id)

    def live(self, at_ms: int, number: int) -> None:
        self.intake.take(self.source, [self.trade(at_ms, number)], float(T0 + at_ms))

    def cut(self, from_ms: int, until_ms: int) -> None:
        self.feed.lose(float(T0 + from_ms), "lost")
        self.feed.regain(float(T0 + until_ms))

    async def serve(self, seconds: float) -> None:
        tasks = [asyncio.create_task(self.recovery.run()), asyncio.create_task(self.look())]
        await self.clock.sleep(seconds)
        for task in tasks:
            task.cancel()

    async def look(self) -> None:
        await look_for_holes({self.exchange.id: self.recovery}, self.intake, self.clock)

    @property
    def story(self) -> list[tuple[str, int, int | None, str]]:
        return [(i.state, i.recovered, i.missed, i.note) for i in self.feed.ledger.intervals if i.from_ms > 0]


def begun(stage: Stage) -> Stage:
    stage.live(0, 1)
    stage.feed.regain(T0)
    stage.live(100, 2)
    return stage


def test_adjacent_ids_need_no_question() -> None:
    """Where ids show that nothing happened in the gap, it is recovered without asking."""

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([])))
        stage.cut(200, 9000)
        stage.live(9100, 3)
        await stage.serve(5)
        return stage

    stage = run(main())
    assert stage.story == [("recovered", 0, 0, "")]
    assert stage.rest.asked == []


def test_missing_trades_are_put_in_and_what_stays_missing_is_told() -> None:
    """Ids say exactly what is still missing after the exchange gave all it has: partial, after a few polite tries."""

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([stage.trade(3000, 4)])))
        stage.cut(200, 9000)
        stage.live(9100, 6)
        await stage.serve(1000)
        return stage

    stage = run(main())
    assert stage.story == [("partial", 1, 2, "BINANCE does not have 2 of the missing trades")]
    assert len(stage.rest.asked) == TRIES + 1
    assert stage.intake.totals().recovered == 1


def test_failures_are_given_up_with_their_reason() -> None:
    """An exchange that never answers is asked a few times, ever later; then the gap is lost and says why."""

    def refuse(call: Call[Trade]) -> Page[Trade]:
        raise RestFailed("HTTP status 503", 503)

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", refuse))
        stage.cut(200, 9000)
        stage.live(9100, 6)
        await stage.serve(1500)
        return stage

    stage = run(main())
    assert stage.story == [("lost", 0, 3, "HTTP status 503")]
    assert len(stage.rest.asked) == TRIES + 1


def test_the_newest_gap_is_asked_first() -> None:
    """Traders look at now: of two holes the younger one is filled before the older."""

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([])))
        stage.cut(200, 1000)
        stage.live(1100, 10)
        stage.cut(5000, 9000)
        stage.live(9100, 20)
        await stage.serve(4)
        return stage

    asked = [url for _, url in run(main()).rest.asked]
    assert ["fromId=11" in asked[0], "fromId=3" in asked[1]] == [True, True]


def test_without_proof_of_reach_a_gap_is_partial() -> None:
    """Bybit gives its newest trades only: unless the one before the gap is among them, something may be missing."""

    async def fill(answer: list[int]) -> Stage:
        stage = Stage("BYBIT", lambda call: Page([stage.trade(100 * n, n) for n in answer]))
        stage.live(0, 0)
        stage.feed.regain(T0)
        stage.live(100, 1)
        stage.cut(200, 900)
        stage.live(1000, 10)
        await stage.serve(60)
        return stage

    assert run(fill([1, 4, 5])).story == [("recovered", 2, 0, "")]
    assert run(fill([4, 5])).story == [("partial", 2, None, "BYBIT reaches back no further")]


def test_what_cannot_be_revised_any_more_is_lost() -> None:
    """Of a gap that reaches back beyond the bars in memory, the older part is lost and the younger is recovered."""

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([stage.trade(150_000, n) for n in range(3, 9)]), 100))
        stage.cut(200, 180_000)
        stage.live(180_100, 9)
        for _ in range(180):
            stage.builder.close(np.ones(1, np.bool_))
        await stage.serve(60)
        return stage

    stage = run(main())
    intervals = list(stage.feed.ledger.intervals)[1:]
    states = [(i.state, round(i.from_ms - T0), round((i.until_ms or 0) - T0)) for i in intervals]
    assert states == [("lost", 200, 81_000), ("recovered", 81_000, 180_000)]
    assert not stage.feed.ledger.whole((T0 + 50_000) // 1000)
    assert stage.feed.ledger.whole((T0 + 150_000) // 1000)


def test_a_hole_in_the_ids_is_found_without_an_outage() -> None:
    """Trades that a live stream passes over are noticed by their ids, and filled."""

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([stage.trade(400, 3), stage.trade(500, 4)])))
        stage.live(600, 5)
        stage.live(9000, 6)
        await stage.serve(10)
        return stage

    stage = run(main())
    assert stage.story == [("recovered", 2, 0, "")]
    assert stage.feed.ledger.intervals[1].reason == "trades missing in the stream"


def test_pages_keep_to_a_share_of_the_limit() -> None:
    """A long recovery leaves the rest of the exchange's limit to others, at any time."""

    async def main() -> Stage:
        pages = iter(range(700))

        def more(call: Call[Trade]) -> Page[Trade]:
            number = next(pages, None)
            again: Call[Trade] = Call(Request("http://x", weight=40), lambda body: Page([]))
            return Page([], again if number is not None else None)

        stage = begun(Stage("BINANCE", more))
        stage.cut(200, 9000)
        stage.live(9100, 6)
        await stage.serve(400)
        return stage

    stage = run(main())
    limit = stage.exchange.limits.rest
    times = [at for at, _ in stage.rest.asked]
    assert len(times) > 150
    for first in times:
        assert sum(first <= at < first + limit.seconds * 1e3 for at in times) * 40 <= limit.count * SHARE + 40


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("exchange_id", "times", "cuts"),
    [
        ("BYBIT", [1, 1, 2, 2, 2, 3, 4, 4], [2, 5]),
        ("BYBIT", [1, 1, 1, 2, 4], [2]),
        ("BYBIT", [1, 1, 1, 1, 1, 2], [2, 4]),
        ("BYBIT", [1, 2, 2, 2], [2]),
        ("BINANCE", [1, 1, 1, 1], [2]),
    ],
)
def test_pages_become_one_list(backwards: bool, exchange_id: str, times: list[int], cuts: list[int]) -> None:
    """Pages of either direction give trades oldest first, in the exchange's own order within a millisecond, wherever they end.

    A cut over sockets had a page end between trades of the hole's first millisecond: its second closed at a wrong price.
    """
    stage = Stage(exchange_id, lambda call: Page([]))
    trades = [stage.trade(at, n) for n, at in enumerate(times)]
    pages = [trades[first:last] for first, last in pairwise([0, *cuts, len(trades)])]
    assert ordered(pages[::-1] if backwards else pages) == trades


def test_an_image_from_beyond_the_hole_counts_nothing_twice() -> None:
    """An image that was sent while the hole's end was unknown: what then came live after that end is not put in again."""

    async def main() -> Stage:
        stage = begun(Stage("BYBIT", lambda call: Page([stage.trade(100, 2), stage.trade(3000, 4)])))
        stage.cut(200, 9000)
        (hole,) = stage.feed.watch.holes
        hole.show([stage.trade(9300, 8)])
        for at_ms, number in ((9100, 6), (9200, 7), (9300, 8)):
            stage.live(at_ms, number)
        await stage.serve(30)
        return stage

    stage = run(main())
    assert stage.story == [("recovered", 1, 0, "")]
    assert stage.intake.totals().aggregated == 6


def test_an_image_waits_for_the_answer_that_failed_at_first() -> None:
    """Of two trades of one millisecond the answer has the first and an image only the second: they keep their order.

    A simulated feed (seed 80) had them change places: the image was put in at once, the answer's when asked again.
    """

    async def main() -> Stage:
        answers: list[list[Trade]] = []

        def later(call: Call[Trade]) -> Page[Trade]:
            if not answers:
                answers.append([stage.trade(100, 2), stage.trade(3000, 4, 150.0), stage.trade(3000, 5, 200.0)])
                raise RestFailed("HTTP status 503", 503)
            return Page(answers[0])

        stage = begun(Stage("BYBIT", later))
        stage.cut(200, 9000)
        (hole,) = stage.feed.watch.holes
        hole.show([stage.trade(3000, 5, 200.0)])
        stage.live(9100, 6)
        await stage.serve(60)
        return stage

    stage = run(main())
    assert stage.story == [("recovered", 2, 0, "")]
    bar = stage.builder.bar(0, T0 // 1000 + 3)
    assert bar is not None
    assert (bar.open, bar.close) == (150.0, 200.0)


def test_gaps_in_one_minute_are_all_told() -> None:
    """The second and third cut of a minute have their ends in one line, when the log lets that line through again."""

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([])))
        for number in range(3):
            stage.cut(200 + number * 20_000, 9_000 + number * 20_000)
            stage.live(9_100 + number * 20_000, 3 + number)
            tasks = [asyncio.create_task(stage.recovery._fill_all()), asyncio.create_task(stage.look())]
            await stage.clock.sleep(20 if number < 2 else 60)
            for task in tasks:
                task.cancel()
        return stage

    lines = [line for line in run(main()).log.entries if line["event"] == "gap closed"]
    assert [line["recovered"] for line in lines] == [1, 2]


@pytest.mark.parametrize("count", [1, 5])
def test_what_ends_together_is_told_in_one_line(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a cut of several markets: one line with their number and what became of them; of a single one its name."""
    monkeypatch.setattr(
        random, "random", lambda: 0.5
    )  # else when a hole is asked for again decides which lines there are

    async def main() -> Stage:
        stage = begun(Stage("BINANCE", lambda call: Page([])))
        stage.cut(200, 9000)
        stage.live(9100, 3)
        endpoint = stage.exchange.endpoint(stage.instrument.endpoint)
        for number, name in enumerate(["ETHUSDT", "XRPUSDT", "ADAUSDT", "SOLUSDT"][: count - 1], 1):
            stage.builder.add_markets(1)
            instrument = stage.exchange.assume(name, "spot")
            feed = stage.intake.add(number, instrument, endpoint)
            feed.regain(float(T0))
            missing = 7 if number == 1 else 2
            stage.intake.take(stage.source, [Trade(instrument, T0, 1.0, 1.0, True, 1)], float(T0))
            feed.lose(float(T0 + 200), "lost")
            feed.regain(float(T0 + 9000))
            stage.intake.take(stage.source, [Trade(instrument, T0 + 9100, 1.0, 1.0, True, missing)], float(T0 + 9100))
        await stage.serve(1500)
        return stage

    stage = run(main())
    lines = [line for line in stage.log.entries if line["event"] == "gap closed"]
    if count == 1:
        (line,) = lines
        assert (line["market"], line["recovered"], line["log_level"]) == ("BINANCE:btcusdt", 1, "info")
        return
    first, last = lines
    assert (first["markets"], first["recovered"], first["log_level"]) == (4, 4, "info")
    assert (last["market"], last["lost"], last["log_level"]) == ("BINANCE:ethusdt", 1, "warning")
    assert last["reason"] == "BINANCE does not have 5 of the missing trades"
