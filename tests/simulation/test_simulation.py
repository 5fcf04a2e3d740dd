"""P2, P4, P5 and P6 in virtual time. More seeds: `make sim SEEDS=0:200`."""

from __future__ import annotations

import asyncio
from statistics import median

import pytest

from sqfd.feed.transport import Closed
from sqfd.model import market_of
from tests.simulation.loop import START_MS, Deadlock, VirtualClock, run
from tests.simulation.plan import simulate
from tests.simulation.venue import CUTS, Cut
from tests.simulation.world import World

CUT_S = 300.0


def test_time_passes_only_when_nothing_can_run() -> None:
    """An hour of sleeping takes no time, timers fire in their order, and a wait for nothing is an error."""

    async def main() -> list[str]:
        told: list[str] = []
        clock = VirtualClock()

        async def later(seconds: float, what: str) -> None:
            await clock.sleep(seconds)
            told.append(f"{what} {clock.now_ms() - START_MS:.0f}")

        await asyncio.gather(later(3600, "b"), later(1, "a"))
        return told

    assert run(main()) == ["a 1000", "b 3600000"]
    with pytest.raises(Deadlock):
        run(asyncio.Event().wait())


@pytest.mark.parametrize("seed", range(8))
def test_cuts_of_every_kind(seed: int) -> None:
    """Whatever is cut: each second that is called whole equals the truth, nothing is counted twice, no limit is broken."""
    world = simulate(seed, 5)
    assert len(world.struck) == 5
    assert all(world.venues[struck.exchange].struck[struck.kind] for struck in world.struck)


def test_the_same_seed_gives_the_same_run() -> None:
    """A failing seed can be repeated: the whole log is the same."""
    assert simulate(3, 3).log.entries == simulate(3, 3).log.entries


@pytest.mark.parametrize("kind", CUTS)
def test_each_kind_of_cut_strikes_and_heals(kind: Cut) -> None:
    """Each fault of the list really happens, and all markets are live again after it."""

    async def main() -> World:
        world = World(1, ["BINANCE", "OKEX"])
        refused = kind == "symbol refused"  # it is asked for again after five minutes
        await world.run(420.0 if refused else 240.0, [(30.0, "OKEX" if refused else "BINANCE", kind, 20.0)])
        world.check()
        return world

    world = run(main())
    assert sum(venue.struck[kind] for venue in world.venues.values())
    assert [feed.ledger.open for feed in world.intake.markets.values()] == [None] * len(world.instruments)


def test_a_refusal_that_was_acknowledged_is_told_by_silence() -> None:
    """Binance acknowledges a symbol that it does not serve: nobody is told, and its silent seconds are not called whole."""

    async def main() -> World:
        world = World(1, ["BINANCE"])
        world.rates = dict.fromkeys(world.rates, 0.2)
        await world.run(240.0, [(60.0, "BINANCE", "symbol refused", 20.0)])
        world.check()
        return world

    world = run(main())
    assert world.venues["BINANCE"].struck["symbol refused"]
    assert not [e for e in world.log.entries if e["event"] == "subscription rejected"]
    reasons = [interval.reason for feed in world.intake.markets.values() for interval in feed.ledger.intervals]
    assert any(reason.startswith("silent for") for reason in reasons)


async def one_cut(world: World, exchange_id: str) -> World:
    """Five minutes in which nothing can be had from one exchange, with ten minutes around them."""
    await world.run(780.0, [(120.0, exchange_id, "refused", CUT_S)])
    world.check()
    return world


@pytest.mark.parametrize("exchange_id", ["BINANCE", "BINANCE_FUTURES", "OKEX", "COINBASE"])
def test_after_recovery_bars_equal_those_without_the_cut(exchange_id: str) -> None:
    """A 5-minute cut of one exchange: afterwards every bar of it is there, exact, and its coverage is whole again."""
    world = run(one_cut(World(5, [exchange_id, "BYBIT"]), exchange_id))
    assert world.venues[exchange_id].struck["refused"]
    assert set(world.states(exchange_id)) == {"recovered"}
    assert world.intake.totals(exchange_id).recovered > 100
    middle = int(START_MS / 1e3 + 120 + CUT_S / 2)
    for market, instrument in enumerate(world.instruments):
        if instrument.exchange == exchange_id:
            assert world.intake.markets[market].ledger.whole(middle)
            assert any((market, middle + s) in world.bars for s in range(-60, 60))
    assert world.coverage[0, middle] == 1_000_000


def test_without_recovery_the_hole_stays_and_is_told() -> None:
    """The same cut where recovery is off: no bar is made up, and coverage says what is missing."""

    async def main() -> World:
        return await one_cut(World(5, ["BINANCE", "BYBIT"], recover=False), "BINANCE")

    world = run(main())
    middle = int(START_MS / 1e3 + 120 + CUT_S / 2)
    binance = [n for n, i in enumerate(world.instruments) if i.exchange == "BINANCE"]
    assert not any((market, middle) in world.bars for market in binance)
    assert not any(world.supervisor.whole(middle)[market] for market in binance)
    assert world.coverage[0, middle] < 1_000_000


@pytest.mark.parametrize("exchange_id", ["BINANCE", "COINBASE"])
def test_what_happened_while_sqfd_was_down_is_recovered(exchange_id: str) -> None:
    """Four minutes without a daemon: from the last second of the run before on, every bar is there, exact, and whole."""

    async def main() -> World:
        world = World(7, [exchange_id, "BYBIT"])
        world.down_s = 240.0
        await world.run(300.0, [])
        world.check()
        return world

    world = run(main())
    assert set(world.states(exchange_id)) == {"recovered"}
    ended = world.resumed_s
    assert ended is not None
    for market, instrument in enumerate(world.instruments):
        if instrument.exchange == exchange_id:
            feed = world.intake.markets[market]
            assert [i.reason for i in feed.ledger.intervals] == ["sqfd was down"]
            assert all(feed.ledger.whole(second) for second in range(ended, ended + 240))
            assert min(second for of, second in world.bars if of == market) >= ended
            assert feed.recovered > 20 * world.rates[instrument.market]
    assert world.coverage[0, ended + 120] > 0


def test_after_a_long_time_down_only_what_can_be_revised_is_recovered() -> None:
    """Down for an hour: the bars of the last half hour come back, what is older is lost, and the ledger says why."""

    async def main() -> World:
        world = World(7, ["BINANCE"], base_hz=0.5)
        world.down_s = 3600.0
        await world.run(300.0, [])
        world.check()
        return world

    world = run(main())
    for feed in world.intake.markets.values():
        told = [(i.state, i.note) for i in feed.ledger.intervals]
        assert told == [("lost", "too old to be revised"), ("recovered", "")]
        assert 1500e3 < (feed.ledger.intervals[1].until_ms or 0) - feed.ledger.intervals[1].from_ms <= 1850e3


def test_an_exchange_that_reaches_back_only_a_little() -> None:
    """Bybit has the newest trades only: what it cannot give stays partial, and the reason is in the ledger."""

    async def main() -> World:
        return await one_cut(World(2, ["BYBIT"], base_hz=8.0), "BYBIT")

    world = run(main())
    assert "partial" in world.states("BYBIT")
    notes = [i.note for feed in world.intake.markets.values() for i in feed.ledger.intervals]
    assert "BYBIT reaches back no further" in notes


def test_half_open_connections_are_noticed_within_ten_seconds() -> None:
    """A busy connection whose peer vanished without a word is left within 10 s, and trades again."""

    async def main() -> World:
        world = World(9, ["BINANCE"], base_hz=6.0)
        await world.run(300.0, [(60.0 + 40.0 * n, "BINANCE", "half open", 1.0) for n in range(5)])
        return world

    waits = run(main()).dead_s()
    assert len(waits) == 5
    assert max(waits) <= 10.0


def test_feeds_trade_again_within_fifteen_seconds() -> None:
    """After the exchange answers again, whatever it did before, trades come within 15 s at the median."""

    async def main() -> World:
        world, kinds = World(10, ["BINANCE", "OKEX"]), ("refused", "told to wait", "close", "abort")
        await world.run(420.0, [(30.0 + 45.0 * n, ("BINANCE", "OKEX")[n // 4], kinds[n % 4], 20.0) for n in range(8)])
        world.check()
        return world

    waits = run(main()).back_s()
    assert len(waits) == 8
    assert median(waits) <= 15.0


def test_recovery_is_polite_and_gives_up() -> None:
    """Where REST refuses too, it is asked a few times only, within its limits, and the gap ends as lost with the reason."""

    async def main() -> World:
        world = World(4, ["BINANCE"])
        world.venues["BINANCE"].rest_status = 429
        await world.run(800.0, [(60.0, "BINANCE", "refused", 30.0)])
        world.check()
        return world

    world = run(main())
    assert set(world.states("BINANCE")) == {"lost"}
    assert 4 <= len(world.venues["BINANCE"].asked) <= 20
    assert any("429" in i.note for feed in world.intake.markets.values() for i in feed.ledger.intervals)


def test_a_day_of_refusal_breaks_no_limit_and_ends_in_trades() -> None:
    """Refused for 24 hours: attempts stay within limits, at most a minute apart, and the feed is back soon after."""

    async def main() -> World:
        world = World(6, ["COINBASE"], base_hz=0.0, recover=False)
        venue = world.venues["COINBASE"]
        venue.refuse_status = 503
        world.supervisor.add(
            world.instruments, world.seconds.add_markets([market_of(one) for one in world.instruments])
        )
        feeds = asyncio.create_task(world.supervisor.run())
        await asyncio.sleep(24 * 3600)
        venue.refuse_status = None
        await asyncio.sleep(61)
        assert venue.wires
        await world.supervisor.stop()
        await feeds
        return world

    venue = run(main()).venues["COINBASE"]
    pauses = [(b - a) / 1e3 for a, b in zip(venue.connects_ms, venue.connects_ms[1:], strict=False)]
    assert max(pauses) <= 62
    assert 1500 < len(pauses) < 6000


def test_a_stepping_wall_clock_changes_nothing() -> None:
    """Steps of a second and of an hour re-open and repeat no second: the run is the same as without them."""

    async def main(step_ms: float) -> World:
        world = World(8, ["BINANCE"])

        async def step() -> None:
            await asyncio.sleep(30)
            world.clock.step_ms = step_ms

        stepping = asyncio.create_task(step())
        await world.run(90.0, [])
        await stepping
        world.check()
        return world

    still, stepped = run(main(0.0)), run(main(-3600e3))
    assert still.bars.keys() == stepped.bars.keys()


def test_closing_codes_are_told() -> None:
    """Why a connection ended is in the ledger, in the exchange's words."""

    async def main() -> World:
        world = World(8, ["BINANCE"])

        async def close() -> None:
            await asyncio.sleep(30)
            for wire in list(world.venues["BINANCE"].wires):
                wire.end(Closed("1012 service restart", 1012))

        closing = asyncio.create_task(close())
        await world.run(60.0, [])
        await closing
        return world

    intervals = run(main()).intake.markets[0].ledger.intervals
    assert [interval.reason for interval in intervals][1:] == ["1012 service restart"]


def test_a_market_that_is_silent_alone_is_noticed_sooner() -> None:
    """One market goes silent while its asset trades on three other exchanges: it is asked for again, and the reason told."""

    async def main(others: list[str]) -> World:
        world = World(11, ["OKEX", *others])
        world.rates = {market: 0.5 if market.startswith("OKEX:BTC-USDT-") else 4.0 for market in world.rates}
        venue = world.venues["OKEX"]

        async def mute() -> None:
            await asyncio.sleep(300)
            venue.mute = next(i for i in venue.past if i.kind == "perp")
            await asyncio.sleep(60)
            venue.mute = None

        muting = asyncio.create_task(mute())
        await world.run(420.0, [])
        await muting
        return world

    together = run(main(["BINANCE", "BYBIT", "COINBASE"]))
    alone = run(main([]))
    told = [e for e in together.log.entries if e["event"] == "market is silent, asking again"]
    assert told[0]["market"] == "OKEX:BTC-USDT-SWAP"
    assert told[0]["other_exchanges_trading"] == 3
    assert told[0]["silent_s"] < 45
    assert all(e["silent_s"] > 45 for e in alone.log.entries if e["event"] == "market is silent, asking again")
    assert any("3 others" in i.reason for feed in together.intake.markets.values() for i in feed.ledger.intervals)


def test_a_market_that_leaves_the_listing_is_delisted_without_a_storm() -> None:
    """It is told as delisted, is not asked for again and again, and is live again when it trades again; others go on."""

    async def main() -> World:
        world = World(13, ["OKEX"])
        world.rates = dict.fromkeys(world.rates, 2.0)
        gone = next(i for i in world.venues["OKEX"].past if i.kind == "perp")
        others = [i for i in world.instruments if i is not gone]

        async def delist() -> None:
            await asyncio.sleep(100)
            world.supervisor.relisted("OKEX", others)
            assert not world.market(gone).refused, "it trades: the listing was cut short"
            world.rates[gone.market] = 0.0
            await asyncio.sleep(70)
            world.supervisor.relisted("OKEX", others)
            sent = len(world.venues["OKEX"].every_wire[0].sent_ms)
            await asyncio.sleep(1800)
            states = {market.market: market.state for market in world.supervisor.status().markets}
            assert states == {gone.market: "delisted", others[0].market: "live"}
            world.asked = len(world.venues["OKEX"].every_wire[0].sent_ms) - sent
            world.rates[gone.market] = 2.0

        delisting = asyncio.create_task(delist())
        await world.run(2200.0, [])
        await delisting
        world.check()
        return world

    world = run(main())
    venue = world.venues["OKEX"]
    assert len(venue.connects_ms) == 1
    assert world.asked <= 1800 / 20 + 2, "pings only"
    assert {market.state for market in world.status.markets} == {"live"}
    told = [i.reason for feed in world.intake.markets.values() for i in feed.ledger.intervals]
    assert told.count("no longer listed by the exchange") == 1


def test_a_refused_market_is_delisted_without_a_storm() -> None:
    """A market that the exchange refuses stays out, is asked for again hours apart only, and the others trade."""

    async def main() -> World:
        world = World(12, ["OKEX"])
        venue = world.venues["OKEX"]
        gone = next(i for i in venue.past if i.kind == "perp")
        venue.simulated.instruments = {k: i for k, i in venue.simulated.instruments.items() if i is not gone}
        world.rates[gone.market] = 0.0
        await world.run(1000.0, [])
        states = {market.market: market.state for market in world.status.markets}
        assert states == {gone.market: "delisted", "OKEX:BTC-USDT": "live"}
        return world

    world = run(main())
    venue = world.venues["OKEX"]
    assert len(venue.connects_ms) == 1
    assert len(venue.every_wire[0].sent_ms) < 60
    assert len([e for e in world.log.entries if e["event"] == "subscription rejected"]) <= 3
