"""P6: dedup, holes, recovery and bars together against a slow twin, whatever the order of events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exchanges.api import Endpoint, Ids, Instrument, Trade
from sqfd.bars.builder import Builder
from sqfd.bars.watermark import Watermark
from sqfd.feed.intake import Intake
from sqfd.model import Bars
from tests.simulation.world import assert_equals

START_S = 1_700_000_000
WHOLE = np.ones(1, np.bool_)


class Feed(RuleBasedStateMachine):
    """One market of an exchange: trades happen; they are delivered, missed, repeated, recovered; seconds close."""

    ids: Ids = "monotonic"
    gapless = False

    @initialize()
    def begin(self) -> None:
        instrument = Instrument("X", "btc", "BTC", "spot", "BTC", "USD", "e")
        self.builder = Builder(revisable_s=10_000)
        self.builder.add_markets(1)
        self.intake = Intake(self.builder, Watermark())
        self.feed = self.intake.add(0, instrument, Endpoint("e", "ws://x", 1, ids=self.ids, gapless=self.gapless))
        self.source = self.intake.source("X", "e")
        self.instrument = instrument
        self.now_ms = START_S * 1000
        self.number = 100
        self.truth: list[Trade] = []
        self.connected = True
        self.bars: dict[int, Bars] = {}
        self.happen(700, 1)
        self.feed.regain(START_S * 1000.0)
        self.happen(0, 1)

    def _trade(self) -> Trade:
        self.number += 1 if self.gapless else 1 + self.number % 3
        id: Any = {"monotonic": self.number, "unique": f"u{self.number}", "none": None}[self.ids]
        # Without ids, prices tell trades apart: two that look the same on both sides of an outage cannot be told.
        price = 100.0 + self.number / 1000.0
        return Trade(self.instrument, self.now_ms, price, 1.0, self.number % 2 == 0, id)

    @rule(pause_ms=st.sampled_from([0, 0, 1, 300, 900, 2500]), count=st.integers(1, 4), swapped=st.booleans())
    def happen(self, pause_ms: int, count: int, swapped: bool = False) -> None:
        """Trades of one millisecond, or after a pause."""
        made: list[Trade] = []
        for _ in range(count):
            made.append(self._trade())
            self.now_ms += 7 if swapped else 0
        self.truth += made
        self.now_ms += pause_ms
        if self.connected:
            self.deliver(made[::-1] if swapped else made)

    def deliver(self, trades: list[Trade]) -> None:
        for trade in trades:
            self.intake.take(self.source, [trade], float(trade.ts_ms + 50))

    @rule()
    def lose(self) -> None:
        """The connection ends."""
        if self.connected:
            self.connected = False
            self.feed.lose(float(self.feed.newest_ms), "lost")

    @rule(repeated=st.integers(0, 12), regained=st.booleans())
    def reconnect(self, repeated: int, regained: bool) -> None:
        """A new connection, which first repeats the newest trades as if they were live."""
        if not self.connected:
            self.connected = True
            self.source = self.intake.source("X", "e")
            self.deliver(self.truth[len(self.truth) - repeated :] if repeated else [])
            if regained:
                self.feed.regain(float(self.now_ms))

    @rule()
    def overlap(self) -> None:
        """A replacement opens and repeats what the old connection brought."""
        if self.connected:
            self.source = self.intake.source("X", "e")
            self.deliver(self.truth[-3:])

    @rule(reach=st.integers(0, 40))
    def answer(self, reach: int) -> None:
        """Recovery asks and gets the newest `reach` of what is missing; the hole stays."""
        for hole in list(self.feed.watch.holes):
            if hole.before is not None:
                gap = hole.gap(self.instrument, self.ids == "monotonic")
                hole.begin_anew()
                self.intake.merge(self.feed, hole, [t for t in self.truth if gap.covers(t)][-reach:] if reach else [])

    @rule()
    def close(self) -> None:
        """A second closes."""
        self._take(self.builder.close(WHOLE).bars)

    def _take(self, bars: Bars) -> None:
        for bar in bars:
            self.bars[int(bar["second"])] = bar

    @invariant()
    def conserved(self) -> None:
        """received = aggregated + duplicate + late + malformed, and never more trades than happened."""
        if hasattr(self, "intake"):
            counts = self.intake.totals()
            assert counts.conserved()
            assert counts.aggregated <= len(self.truth)
            assert counts.late == 0

    def teardown(self) -> None:
        """When all holes are filled, every bar is that of all trades."""
        if not hasattr(self, "intake"):
            return
        if not self.connected:
            self.reconnect(0, True)
        self.feed.regain(float(self.now_ms))
        self.now_ms += 5
        self.happen(0, 1)
        for hole in list(self.feed.watch.holes)[::-1]:
            gap = hole.gap(self.instrument, self.ids == "monotonic")
            hole.begin_anew()
            self.intake.merge(self.feed, hole, [t for t in self.truth if gap.covers(t)])
            self.feed.resolve(hole, "recovered")
        assert self.feed.seen == self.feed.dedup.seen
        while self.builder.unclosed:
            self._take(self.builder.close(WHOLE).bars)
        by_second: dict[int, list[Trade]] = {}
        for trade in self.truth:
            by_second.setdefault(trade.ts_ms // 1000, []).append(trade)
        assert self.bars.keys() == by_second.keys()
        for second, trades in by_second.items():
            self.compare(self.bars[second], trades)

    def compare(self, bar: Bars, trades: list[Trade]) -> None:
        """Sums and extremes are exact; open and close too, but for what shares a millisecond with them."""
        assert bar["cbuy"] + bar["csell"] == len(trades)
        firsts = [t.price for t in trades if t.ts_ms == trades[0].ts_ms]
        lasts = [t.price for t in trades if t.ts_ms == trades[-1].ts_ms]
        assert any(abs(bar["open"] - price) < 1e-9 for price in firsts)
        assert any(abs(bar["close"] - price) < 1e-9 for price in lasts)
        same = bar.copy()
        same["open"], same["close"] = trades[0].price, trades[-1].price
        assert_equals(same, trades, f"second {bar['second']}")


class Gapless(Feed):
    gapless = True


class Unique(Feed):
    ids: Ids = "unique"


class Nameless(Feed):
    ids: Ids = "none"


@pytest.mark.parametrize("machine", [Feed, Gapless, Unique, Nameless])
def test_every_trade_counts_once(machine: type[Feed]) -> None:
    """Whatever is lost, repeated, swapped, overlapped and recovered in part: in the end each trade is in its bar once."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
