"""What becomes of events: conservation, order, reasons."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Event, Excluded, Liquidation, Malformed, Past, Trade, Unknown
from exchanges.binance import Binance
from sqfd.feed.intake import OTHER, REASONS, Intake, Source
from tests.feed.doubles import Offsets, Sink

BINANCE = Binance()
MARKETS = [BINANCE.assume(symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
ELSEWHERE = BINANCE.assume("SOLUSDT")
T0 = 1_700_000_000_000


def made() -> tuple[Intake, Sink, Offsets, Source]:
    sink, offsets = Sink(), Offsets()
    intake = Intake(sink, offsets)
    for market, instrument in enumerate(MARKETS):
        intake.add(market, instrument, BINANCE.endpoint("spot"))
    return intake, sink, offsets, intake.source("BINANCE", "spot")


# An exchange's ids grow with time: an old id with a much newer time would be one that counts anew (test_dedup).
trades = st.builds(
    lambda instrument, id, buy: Trade(instrument, T0 + 75 * id, 1.0, 1.0, buy, id),
    st.sampled_from([*MARKETS, ELSEWHERE]),
    st.integers(0, 40),
    st.booleans(),
)
others = st.one_of(
    st.builds(Malformed, st.text(max_size=3), st.sampled_from(["BTCUSDT", "", "X"])),
    st.builds(Excluded, st.text(max_size=3)),
    st.builds(Unknown, st.text(max_size=3)),
    st.builds(Past, st.lists(trades, max_size=2)),
    st.builds(
        Liquidation, st.sampled_from(MARKETS), st.integers(T0, T0 + 5), st.just(1.0), st.just(1.0), st.booleans()
    ),
)


@given(st.lists(trades | others, max_size=60), st.integers(1, 20), st.booleans())
def test_events_that_come_together_do_what_they_do_one_by_one(events: list[Event], size: int, sort: bool) -> None:
    """Counts, bars and the newest trade are the same, whether a market's trades go to its bars together or each alone."""
    if sort:  # mostly new ones then
        events = sorted(events, key=lambda event: event.ts_ms if type(event) is Trade else 0)
    alone, together = made(), made()
    for intake, sink, _, source in (alone, together):
        sink.refuse_before_ms = T0 + 500
        at_once = 1 if intake is alone[0] else size
        for start in range(0, len(events), at_once):
            intake.take(source, events[start : start + at_once], T0 + 4000.0)
    assert alone[0].totals() == together[0].totals()
    assert alone[0].excluded() == together[0].excluded()
    for market in (0, 1):
        mine, other = alone[0].markets[market], together[0].markets[market]
        assert (mine.counts(), mine.newest_ms) == (other.counts(), other.newest_ms)
        assert [t for m, t in alone[1].trades if m == market] == [t for m, t in together[1].trades if m == market]


@given(st.lists(st.lists(trades | others, max_size=4), max_size=60))
def test_every_received_trade_ends_in_one_place(frames: list[list[Event]]) -> None:
    """received = aggregated + duplicate + late + malformed after every frame, and the sink got each id once."""
    intake, sink, _, source = made()
    sink.refuse_before_ms = T0 + 500
    received = 0
    for frame in frames:
        intake.take(source, frame, T0 + 4000.0)
        totals = intake.totals()
        received += sum(type(e) is Malformed or (type(e) is Trade and e.instrument is not ELSEWHERE) for e in frame)
        assert totals.conserved()
        assert totals.received == received
        assert totals.aggregated == len(sink.trades)
    keys = [(market, trade.id) for market, trade in sink.trades]
    assert len(keys) == len(set(keys))


def test_reasons_are_counted_and_bounded() -> None:
    """Reasons that differ only in their numbers are one; more than the limit are counted together."""
    intake, _, _, source = made()
    for n in range(1000):
        intake.take(source, [Malformed(f"price={n}"), Excluded("x" * n)], 0.0)
    counts = intake.exchanges["BINANCE"]
    assert counts.malformed_by == {"price=#": 1000}
    assert len(counts.excluded) == REASONS + 1
    assert sum(counts.excluded.values()) == 1000
    assert counts.excluded[OTHER] > 0


def test_the_clock_is_observed_once_per_frame() -> None:
    """A batch gives one sample, of its last new trade; repeated trades give none."""
    intake, _, offsets, source = made()
    batch: Sequence[Event] = [Trade(MARKETS[0], T0 + n, 1.0, 1.0, True, n) for n in range(3)]
    intake.take(source, batch, T0 + 102.0)
    intake.take(source, batch, T0 + 900.0)
    assert offsets.delays == [("BINANCE", 100.0)]


def test_a_market_is_collected_once() -> None:
    """The same instrument or index twice is an error of ours."""
    intake, _, _, _ = made()
    with pytest.raises(ValueError, match="BINANCE:btcusdt"):
        intake.add(7, MARKETS[0], BINANCE.endpoint("spot"))
    with pytest.raises(ValueError, match="index 1"):
        intake.add(1, ELSEWHERE, BINANCE.endpoint("spot"))


def test_an_image_of_several_markets_serves_each_with_its_own() -> None:
    """One message of past trades of two products: a trade never gets into the hole, and so the bars, of another market."""
    intake, _, _, source = made()
    for instrument in MARKETS:
        intake.take(source, [Trade(instrument, T0, 1.0, 1.0, True, 1)], float(T0))
    feeds = [source.feeds[instrument.symbol] for instrument in MARKETS]
    for feed in feeds:
        feed.regain(float(T0))
        feed.lose(float(T0 + 10), "lost")
        feed.regain(float(T0 + 9000))
    mixed = [Trade(instrument, T0 + 500 + n, 1.0, 1.0, True, 2 + n) for n in range(3) for instrument in MARKETS]
    intake.take(source, [Past([*mixed, Trade(ELSEWHERE, T0 + 500, 1.0, 1.0, True, 2)])], T0 + 9000.0)
    for feed, instrument in zip(feeds, MARKETS, strict=True):
        assert [trade.instrument for trade in feed.watch.holes[-1].image] == [instrument] * 3
