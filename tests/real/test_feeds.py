"""Cuts of every kind over real loopback sockets: the daemon on simulated exchanges, at ten times the speed of life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from click.testing import CliRunner

import exchanges
from sqfd.cli import cli
from sqfd.config import load
from sqfd.daemon import Daemon
from sqfd.journal import JournalStore
from sqfd.sim.clock import ScaledClock
from sqfd.sim.faults import Fault, FaultKind
from sqfd.sim.history import World, world
from sqfd.sim.source import Synthetic
from sqfd.sim.venues import Venues
from tests.real.whole import whole_seconds_are_as_they_happened
from tests.waiting import eventually

SPEED = 10.0
IDS = ("BINANCE", "OKEX")
SILENCE_S = 20.0
"""Two seconds of a busy machine's own: it may stand still for less without any feed being taken for dead."""


class Running:
    """A daemon on venues, and what really happened there."""

    def __init__(
        self, folder: Path, truth: World, venues: Venues, clock: ScaledClock, flags: dict[str, object]
    ) -> None:
        self.folder, self.truth, self.venues, self.clock, self._flags = folder, truth, venues, clock, flags

    async def start(self) -> None:
        """A daemon, until every market is live."""
        config = load(environment={"HOME": str(self.folder)}, flags=self._flags).config
        self.daemon = daemon = Daemon(config, self.folder, clock=self.clock)
        self._task = asyncio.create_task(daemon.run())
        await eventually(
            lambda: daemon.ready.is_set() and daemon.status().live == daemon.status().markets, "all are live"
        )

    async def stop(self) -> None:
        """End the daemon as SIGTERM does."""
        self.daemon.stop()
        await self._task
        assert self.daemon.counts().conserved()

    async def sleep(self, seconds: float) -> None:
        """Simulated seconds."""
        await self.clock.sleep(seconds)

    def states(self, exchange_id: str) -> list[str]:
        feeds = [f for f in self.daemon._collector.intake.markets.values() if f.instrument.exchange == exchange_id]
        return [i.state for feed in feeds for i in feed.ledger.intervals if i.from_ms > 0]

    def noticed(self, exchange_id: str) -> bool:
        """No market is believed to have gone on: one that fell silent for less than its limit shows no sign of it afterwards."""
        feeds = [f for f in self.daemon._collector.intake.markets.values() if f.instrument.exchange == exchange_id]
        return all(any(i.from_ms > 0 for i in feed.ledger.intervals) for feed in feeds)

    def settled(self, exchange_id: str) -> bool:
        """Every market is live, and every gap came to its end."""
        states = self.states(exchange_id)
        return bool(states) and "gap" not in states


@asynccontextmanager
async def running(folder: Path, ids: tuple[str, ...] = IDS, **more: object) -> AsyncIterator[Running]:
    now = int(time.time())
    found = [exchanges.get(id) for id in ids]
    truth = world(found, ("BTC",), 3, now, history_s=3600, staged=False)
    clock = ScaledClock(now * 1e3, SPEED)
    venues = Venues(found, Synthetic(truth, now), clock, step_s=0.005)
    flags = {
        "symbols.symbols": ["BTC"],
        "symbols.exchanges": list(ids),
        "feed.addresses": await venues.start(),
        "feed.stagger_s": 0.0,
        "feed.silence_min_s": SILENCE_S,
        "http.enabled": False,
        **more,
    }
    it = Running(folder, truth, venues, clock, flags)
    try:
        await it.start()
        yield it
    finally:
        await it.stop()
        await venues.stop()


async def gaps_over_http(it: Running) -> list[dict[str, Any]]:
    """What `/health/detailed` tells of cuts."""
    async with aiohttp.ClientSession() as session, session.get(it.daemon.url + "health/detailed") as response:
        assert response.status in (200, 503), "a busy machine may be unhealthy"
        found: list[dict[str, Any]] = (await response.json())["gaps"]
        return found


def assert_truth(it: Running, unsure: Collection[int] = ()) -> int:
    """Every bar of a second that the journal calls whole is as it happened; returns how many there were."""
    store = JournalStore(it.folder, read_only=True)
    checked = whole_seconds_are_as_they_happened(store, it.truth, unsure=unsure)
    store.close()
    return checked


async def test_a_five_minute_cut_over_sockets(tmp_path: Path) -> None:
    """One exchange is away for five minutes: afterwards its bars and coverage are as if it had not been, and it is told."""
    flags: dict[str, Any] = {"http.enabled": True, "http.port": 0}
    async with running(tmp_path, **flags) as it:
        await it.sleep(15)
        faults = it.venues.faults
        refused = faults.add(Fault(FaultKind.REFUSE_CONNECT, "BINANCE"))
        closed = faults.add(Fault(FaultKind.CLOSE, "BINANCE"))
        await it.sleep(300)
        (told,) = [gap for gap in await gaps_over_http(it) if gap["text"].endswith("Still going on.")]
        assert {market.partition(":")[0] for market in told["markets"]} == {"BINANCE"}
        for fault in (refused, closed):
            faults.remove(fault)
        await eventually(lambda: it.settled("BINANCE"))
        await it.sleep(12)
        told = max(await gaps_over_http(it), key=lambda gap: gap["recovered"])
        assert told["recovered"] > 300
        assert "Recovered:" in told["text"], told
        assert told["text"].endswith("nothing is missing."), told
        assert closed.fired
        assert refused.fired
        await eventually(lambda: set(it.states("BINANCE")) == {"recovered"})
        assert it.daemon.counts().recovered > 300
    assert assert_truth(it) > 300
    store = JournalStore(tmp_path, read_only=True)
    long = [gap for gap in store.gaps() if (gap.until_ms or 0) - gap.from_ms > 250_000]
    assert {store.market_names()[gap.market].partition(":")[0] for gap in long} == {"BINANCE"}
    middle = long[0].from_ms // 1000 + 100
    assert store.coverage([store.market_names()[long[0].market]], middle, middle + 100).all()
    answer = CliRunner().invoke(cli, ["gaps", "--state", str(tmp_path), "--market", "BINANCE"])
    assert answer.exit_code == 0, answer.output
    assert "Recovered:" in answer.output
    assert "nothing is missing" in answer.output


async def test_what_was_missed_while_the_daemon_was_down(tmp_path: Path) -> None:
    """Stopped for two minutes and started again: the gap is asked for from the last journalled second on, and told."""
    async with running(tmp_path) as it:
        await it.sleep(30)
        await it.stop()
        ended = JournalStore(tmp_path, read_only=True).last_tick()
        await it.sleep(120)
        await it.start()
        await eventually(lambda: it.settled("BINANCE") and it.settled("OKEX"))
        await it.sleep(12)
        await eventually(lambda: set(it.states("BINANCE")) == set(it.states("OKEX")) == {"recovered"})
        assert it.daemon.counts().recovered > 200
    # What had not been read when it was stopped was in no second that it knew of: on a busy machine those are a few.
    assert assert_truth(it, range(ended - 20, ended + 1)) > 280
    store = JournalStore(tmp_path, read_only=True)
    names = store.market_names()
    assert store.coverage(names, ended, ended + 120).all()
    flow = store.flow("BTC", ended, 1 << 40).rows
    down = flow[(flow["second"] >= ended) & (flow["second"] < ended + 110)]
    assert len(np.unique(down["second"])) == 110, "every second of the pause has a row"
    assert np.count_nonzero(down["spot_volume"]) > 50
    answer = CliRunner().invoke(cli, ["gaps", "--state", str(tmp_path)])
    assert "sqfd was down. Recovered:" in answer.output, answer.output
    assert "did not run" not in answer.output


@pytest.mark.parametrize("exchange_id", IDS)
@pytest.mark.parametrize("kind", [FaultKind.CLOSE, FaultKind.ABORT, FaultKind.HALF_OPEN, FaultKind.SILENT])
async def test_cuts_over_sockets(tmp_path: Path, exchange_id: str, kind: FaultKind) -> None:
    """Whatever breaks: it is noticed, mended and filled, and no bar of a second that is called whole is wrong."""
    async with running(tmp_path) as it:
        await it.sleep(10)
        fault = it.venues.faults.add(Fault(kind, exchange_id))
        await eventually(lambda: fault.fired and (it.noticed(exchange_id) or kind is FaultKind.HALF_OPEN))
        it.venues.faults.remove(fault)
        await eventually(lambda: it.settled(exchange_id))
        await it.sleep(10)
        await eventually(lambda: set(it.states(exchange_id)) == {"recovered"})
    assert assert_truth(it) > 30


@pytest.mark.parametrize(("kind", "seconds"), [(FaultKind.DUPLICATE, 20.0), (FaultKind.DELAY, 8.0)])
async def test_repeated_and_late_trades_over_sockets(tmp_path: Path, kind: FaultKind, seconds: float) -> None:
    """Trades that come again on reconnecting, or seconds late, are in their bars exactly once."""
    async with running(tmp_path) as it:
        await it.sleep(10)
        fault = it.venues.faults.add(Fault(kind, "BINANCE", seconds=seconds))
        cut = it.venues.faults.add(Fault(FaultKind.CLOSE, "BINANCE", times=1))
        await eventually(lambda: fault.fired and cut.fired)
        await it.sleep(15)
        it.venues.faults.remove(fault)
        await eventually(lambda: it.settled("BINANCE"))
        await it.sleep(20)
    assert assert_truth(it) > 30


async def test_a_refused_symbol_does_not_stop_the_rest(tmp_path: Path) -> None:
    """One market that the exchange refuses stays without coverage; the others of that connection trade."""
    async with running(tmp_path, ("OKEX",)) as it:
        symbol = it.truth.instruments[0].symbol
        fault = it.venues.faults.add(Fault(FaultKind.REFUSE_SYMBOL, "OKEX", symbol=symbol))
        cut = it.venues.faults.add(Fault(FaultKind.CLOSE, "OKEX", times=1))
        await eventually(lambda: fault.fired and cut.fired)
        await eventually(lambda: it.daemon.status().live == it.daemon.status().markets - 1)
        await it.sleep(30)
        assert it.daemon.status().live == it.daemon.status().markets - 1
        assert it.venues.counts["connects"] < 6
