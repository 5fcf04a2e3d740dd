"""The paper portfolio: exact accounts, fills after their latency, costs as set, no look-ahead."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exchanges
from sqfd.backtest.fees import LOWEST_TIER, fees_of
from sqfd.backtest.portfolio import Portfolio
from sqfd.backtest.prices import Prices
from sqfd.backtest.settings import BacktestSettings
from sqfd.signals.signal import Signal
from tests.backtest.paper import SYMBOLS, T0, part, round_trips, signal, twin, walk

TICKS = 160
TRIPS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(1, 60), st.booleans(), st.integers(1, 20)), max_size=10
)
TERMS = st.fixed_dictionaries(
    {
        "latency_s": st.integers(1, 5),
        "margin_share": st.floats(0.05, 0.9),
        "max_positions": st.integers(0, 1),
        "max_leverage": st.sampled_from([2.0, 125.0]),
        "order": st.sampled_from(["taker", "maker"]),
        "slippage_bps": st.floats(0, 20),
        "impact_bps": st.floats(0, 20),
        "funding_bps": st.floats(-20, 20),
        "stored_funding": st.booleans(),
        "maintenance_share": st.sampled_from([0.0, 0.005, 0.2]),
    }
)


def traded(prices: Prices, signals: list[Signal], terms: BacktestSettings, cuts: list[int]) -> tuple[Any, ...]:
    """(portfolio, cash, equity) of a run in blocks cut at `cuts`."""
    portfolio, parts = Portfolio(SYMBOLS, terms), []
    for start, stop in pairwise([0, *sorted({c for c in cuts if 0 < c < TICKS}), TICKS]):
        mine = [s for s in signals if T0 + start <= s.second + 1 < T0 + stop]
        parts.append(portfolio.advance(part(prices, start, stop), mine))
    return portfolio, np.concatenate([p.cash for p in parts]), np.concatenate([p.equity for p in parts])


def known(signals: list[Signal]) -> list[Signal]:
    """Those whose tick is in the range."""
    return [s for s in signals if T0 <= s.second + 1 < T0 + TICKS]


@settings(max_examples=100, deadline=None)
@given(
    trips=TRIPS,
    terms=TERMS,
    seed=st.integers(0, 999),
    cuts=st.lists(st.integers(1, TICKS - 1), max_size=4),
    step=st.sampled_from([0.001, 0.05]),
    holes=st.sampled_from([0.0, 0.3]),
)
def test_accounts_equal_the_slow_twins(
    trips: list[Any], terms: dict[str, Any], seed: int, cuts: list[int], step: float, holes: float
) -> None:
    """Cash and equity of every tick, nets of trades and times of fills, for any blocks, costs, holes and margin calls."""
    chosen = BacktestSettings(**terms)
    prices, signals = walk(seed, TICKS, step, holes), known(round_trips(trips, TICKS))
    portfolio, cash, equity = traded(prices, signals, chosen, cuts)
    fee = LOWEST_TIER["BINANCE_FUTURES"][chosen.order == "taker"] / 10_000
    slow = twin(prices, signals, chosen, fee)
    np.testing.assert_allclose(cash, slow.cash, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(equity, slow.equity, rtol=1e-9, atol=1e-6)
    assert [trade.net for trade in portfolio.trades] == pytest.approx(slow.nets, rel=1e-9, abs=1e-6)
    assert all(tick >= due for tick, due in slow.fills)
    for trade in portfolio.trades:
        assert trade.entry_tick >= trade.signal_second + 1 + chosen.latency_s
        if trade.exit_signal_second is not None:
            assert trade.exit_tick >= trade.exit_signal_second + 1 + chosen.latency_s


@settings(max_examples=25, deadline=None)
@given(trips=TRIPS, terms=TERMS, seed=st.integers(0, 999))
def test_money_is_conserved(trips: list[Any], terms: dict[str, Any], seed: int) -> None:
    """The last equity is the capital, the nets of all trades and of what is open; a net is gross less its three costs."""
    chosen = BacktestSettings(**terms)
    portfolio, _, equity = traded(walk(seed, TICKS), known(round_trips(trips, TICKS)), chosen, [])
    everything = [*portfolio.trades, *portfolio.still_open()]
    assert equity[-1] == pytest.approx(chosen.capital + sum(trade.net for trade in everything), rel=1e-9)
    for trade in everything:
        assert trade.net == pytest.approx(trade.gross - trade.slippage - trade.fees - trade.funding)
        assert trade.mae >= 0
        assert trade.mfe >= 0


@settings(max_examples=25, deadline=None)
@given(trips=TRIPS, terms=TERMS, seed=st.integers(0, 999), holes=st.sampled_from([0.0, 0.3]))
def test_cash_and_positions_are_the_equity(trips: list[Any], terms: dict[str, Any], seed: int, holes: float) -> None:
    """At every tick equity is cash and what the trades then open held, at that tick's price."""
    prices, signals = walk(seed, TICKS, 0.05, holes), known(round_trips(trips, TICKS))
    portfolio, cash, equity = traded(prices, signals, BacktestSettings(**terms), [])
    ticks, worth = T0 + np.arange(TICKS), cash.copy()
    for trade in [*portfolio.trades, *portfolio.still_open()]:
        held = (ticks >= trade.entry_tick) & ((ticks < trade.exit_tick) | (trade.exit_reasons == ("end_of_data",)))
        worth += np.where(held, trade.quantity * prices.price[SYMBOLS.index(trade.symbol)], 0.0)
    np.testing.assert_allclose(equity, worth, rtol=1e-9, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(trips=TRIPS, seed=st.integers(0, 999), cut=st.integers(2, TICKS - 2))
def test_later_prices_change_nothing_earlier(trips: list[Any], seed: int, cut: int) -> None:
    """No look-ahead: with other prices from a tick on, cash and equity before it are the same."""
    prices, other = walk(seed, TICKS), walk(seed + 1, TICKS)
    mixed = Prices(
        T0, *(np.concatenate([a[:, :cut], b[:, cut:]], axis=1) for a, b in zip(prices[1:], other[1:], strict=True))
    )
    signals = known(round_trips(trips, TICKS))
    _, cash, equity = traded(prices, signals, BacktestSettings(), [])
    _, cash_too, equity_too = traded(mixed, signals, BacktestSettings(), [])
    assert cash[:cut].tolist() == cash_too[:cut].tolist()
    assert equity[:cut].tolist() == equity_too[:cut].tolist()


def flat(price: float = 100.0, volume: float = 1e12, funding_ppb: int = 0) -> Prices:
    level = np.full((2, TICKS), price)
    log = np.rint(np.log(level) * 1e9).astype(np.int64)
    there, funding = np.ones((2, TICKS), bool), np.full((2, TICKS), funding_ppb)
    return Prices(T0, level, log, log, np.full((2, TICKS), volume), there, funding)


def test_fees_slippage_and_funding_are_as_specified() -> None:
    """A long of 3,000 $ through one funding: two taker fees of 5 bps, two slips of 1 bp, and 1 bp of funding."""
    signals = [signal("BTC", T0 + 10, "LONG", "LONG", 1), signal("BTC", T0 + 90, "CLOSE", "LONG", 1)]
    portfolio, _, _ = traded(flat(), signals, BacktestSettings(impact_bps=0.0), [])
    (trade,) = portfolio.trades
    assert trade.notional == pytest.approx(3_000)
    assert trade.entry_price == pytest.approx(100.01)
    assert trade.exit_price == pytest.approx(99.99)
    assert trade.fees == pytest.approx(3_000 * 0.0005 + 3_000 / 100.01 * 99.99 * 0.0005)
    assert trade.slippage == pytest.approx(3_000 / 100.01 * 0.02)
    assert trade.funding == pytest.approx(3_000 / 100.01 * 100 * 0.0001)
    assert trade.gross == 0


@pytest.mark.parametrize(("stored", "paid"), [(True, -0.00025), (False, 0.0001)])
def test_funding_is_what_was_collected_where_it_was(stored: bool, paid: float) -> None:
    """A rate in the journal is paid in the place of the assumed one, unless that is asked for; a negative one is received."""
    signals = [signal("BTC", T0 + 10, "LONG", "LONG", 1), signal("BTC", T0 + 90, "CLOSE", "LONG", 1)]
    terms = BacktestSettings(impact_bps=0.0, stored_funding=stored)
    portfolio, _, _ = traded(flat(funding_ppb=-250_000), signals, terms, [])
    (trade,) = portfolio.trades
    assert trade.funding == pytest.approx(3_000 / 100.01 * 100 * paid)


def test_a_large_order_pays_for_its_share_of_the_second() -> None:
    """An order twice as large as its second's volume slips by the spread and twice the impact."""
    signals = [signal("BTC", T0 + 10, "SHORT", "SHORT", 1)]
    portfolio, _, _ = traded(flat(volume=1_500.0), signals, BacktestSettings(slippage_bps=2.0, impact_bps=4.0), [])
    (trade,) = portfolio.still_open()
    assert trade.entry_price == pytest.approx(100 * (1 - 10e-4))


def test_the_fill_is_never_at_the_price_that_caused_the_signal() -> None:
    """The price jumps in the second after the signal: the fill is at the later price."""
    prices = flat()
    prices.price[:, 12:] = 110.0
    signals = [signal("BTC", T0 + 10, "LONG", "LONG", 1)]
    portfolio, _, _ = traded(prices, signals, BacktestSettings(slippage_bps=0.0, impact_bps=0.0), [])
    (trade,) = portfolio.still_open()
    assert (trade.entry_tick, trade.entry_price) == (T0 + 12, 110.0)


def test_an_order_waits_for_a_second_that_traded() -> None:
    """In a hole nothing fills; the first second with a row after it does, even in a later block."""
    prices = flat()
    prices.there[:, 11:100] = False
    signals = [signal("BTC", T0 + 10, "LONG", "LONG", 1)]
    portfolio, _, _ = traded(prices, signals, BacktestSettings(), [50])
    assert [trade.entry_tick for trade in portfolio.still_open()] == [T0 + 100]


def test_a_margin_call_closes_everything() -> None:
    """Nine tenths of equity at twenty times: a fall of 6 % ends it in that second, and the CLOSE that follows is refused."""
    prices = flat()
    prices.price[0, 80:] = 94.0
    signals = [signal("BTC", T0 + 10, "LONG", "LONG", 1, 20), signal("BTC", T0 + 120, "CLOSE", "LONG", 1)]
    portfolio, _, equity = traded(prices, signals, BacktestSettings(margin_share=0.9), [])
    (trade,) = portfolio.trades
    assert trade.exit_reasons == ("margin_call",)
    assert trade.exit_tick == T0 + 80
    assert dict(portfolio.refused) == {"nothing_to_close": 1}
    assert equity[-1] == pytest.approx(10_000 + trade.net)


@pytest.mark.parametrize(
    ("terms", "reason"), [({"max_positions": 1}, "max_positions"), ({"margin_share": 0.7}, "no_margin")]
)
def test_what_is_not_traded_is_counted_with_its_reason(terms: dict[str, Any], reason: str) -> None:
    """A second position beyond the limit, or beyond the free margin, is refused."""
    signals = [signal("BTC", T0 + 10, "LONG", "LONG", 1), signal("ETH", T0 + 20, "LONG", "LONG", 2)]
    portfolio, _, _ = traded(flat(), signals, BacktestSettings(**terms), [])
    assert dict(portfolio.refused) == {reason: 1}


def test_positions_that_a_restart_forgot_are_closed() -> None:
    """What the strategy no longer holds is closed at the next tick, named so."""
    portfolio = Portfolio(SYMBOLS, BacktestSettings())
    portfolio.advance(
        part(flat(), 0, 50), [signal("BTC", T0 + 10, "LONG", "LONG", 1), signal("ETH", T0 + 10, "LONG", "LONG", 2)]
    )
    portfolio.keep_only({"ETH"})
    portfolio.advance(part(flat(), 50, TICKS), [])
    assert [(trade.symbol, trade.exit_reasons) for trade in portfolio.trades] == [("BTC", ("restart",))]
    assert [trade.symbol for trade in portfolio.still_open()] == ["ETH"]


def test_fees_can_be_replaced_and_unknown_exchanges_are_named() -> None:
    """Own fees win; an exchange without known fees needs both."""
    assert fees_of(BacktestSettings(taker_fee_bps=3.0)) == (2.0, 3.0)
    assert fees_of(BacktestSettings(exchange="MINE", taker_fee_bps=3.0, maker_fee_bps=-1.0)) == (-1.0, 3.0)
    with pytest.raises(ValueError, match="'MINE'; known: ASTER"):
        fees_of(msgspec.structs.replace(BacktestSettings(), exchange="MINE"))


def test_every_exchange_has_fees() -> None:
    """Each id that can be collected can be traded on paper; the taker never pays less than the maker."""
    assert tuple(sorted(LOWEST_TIER)) == exchanges.IDS
    assert all(fees.maker <= fees.taker for fees in LOWEST_TIER.values())


@settings(max_examples=25, deadline=None)
@given(
    trips=TRIPS,
    seed=st.integers(0, 999),
    exchange=st.sampled_from(exchanges.IDS),
    order=st.sampled_from(["taker", "maker"]),
)
def test_fees_are_those_of_the_exchange(
    trips: list[Any], seed: int, exchange: str, order: Literal["taker", "maker"]
) -> None:
    """Every fill of every trade pays exactly its exchange's rate of what it bought or sold, nothing else."""
    chosen = BacktestSettings(exchange=exchange, order=order)
    portfolio, _, _ = traded(walk(seed, TICKS), known(round_trips(trips, TICKS)), chosen, [])
    rate = getattr(LOWEST_TIER[exchange], order) / 10_000
    for trade in portfolio.trades:
        quantity = trade.notional / trade.entry_price
        assert trade.fees == pytest.approx(rate * quantity * (trade.entry_price + trade.exit_price), rel=1e-9)
