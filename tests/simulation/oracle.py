"""What must hold whatever happens. Each method raises AssertionError with what is wrong, the market and the second.

`Seen` follows one process: which trades reached it, and what it appended to its journal. `Oracle` follows the world: what the
journal, InfluxDB and Redis hold in the end, against all that was appended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from exchanges.api import Trade
from sqfd.bars.builder import SEAM_S
from sqfd.feed.intake import Counts
from sqfd.journal import GapRecord, JournaledSignal, JournalStore
from sqfd.model import BAR_FIELDS, Bars
from tests.simulation.influx import FakeInflux
from tests.simulation.redis import FakeRedis

Key = tuple[str, int]
"""(market, second)."""
PUNCTUAL_S = 2.0
"""Signals leave this soon after their second ended by the slowest exchange's clock, unless a fault excuses them."""
EXCUSED_S: Mapping[str, float] = {
    "redis": 10.0,  # whom it is told; asked again every 5 s at most
    "disk": 10.0,  # signals wait half a second for it, and the queue is written first
    "host: stalls": 60.0,  # frames that wait are read, and seconds caught up with
    "host: is suspended": 60.0,
    "host: kill 9": 60.0,  # a new process closes what passed meanwhile, and learns the exchanges' delays
    "host: kill 9 twice": 60.0,
    "host: kill 9 with a signal": 60.0,
    "host: killed while it stops": 60.0,
    "host: power cut": 60.0,
    "host: sigterm": 60.0,
    # Its delay is waited for until a trade comes in time: the last of the late ones are on their way for two minutes, and hold up
    # what the connection brings behind them; then the quietest exchange has to trade.
    "exchange: late": 140.0,
    "exchange: shuffles": 20.0,
}
"""Faults that excuse a late signal, by name or by part, until so long after they ended. No other does: neither InfluxDB,
nor a wall clock that steps, nor any other fault of an exchange."""
LEARNT = ("exchange: late", "exchange: shuffles")
"""Their delay is learnt, and unlearnt by the first trade that comes in time: they excuse until each exchange
has had one, however long none comes."""
EXCUSED_LONGEST_S = max(EXCUSED_S.values())
WRITTEN_S = 1.0
"""A tick that was appended this long before a crash is in the journal, if the disk took anything in that time."""


class Appended(NamedTuple):
    """One tick as a process handed it to its journal."""

    tick: int
    at_s: float
    bars: dict[Key, tuple[Any, ...]]
    signals: Sequence[JournaledSignal]
    whole: Sequence[str]
    """Markets whose feed was whole in that second."""
    gaps: Sequence[tuple[str, int, int]]
    """(market, first second, second after the last) of the gaps that it told of."""


class Seen:
    """One process, from its start to its end."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.ended_s: float | None = None
        self.killed = False
        self.appended: list[Appended] = []
        self.reached: defaultdict[Key, dict[Any, Trade]] = defaultdict(dict)
        """Trades that came by websocket."""
        self.maybe: defaultdict[Key, dict[Any, Trade]] = defaultdict(dict)
        """Trades that REST or an image told of: those that were missing are taken."""
        self.heard_s: float | None = None
        """When its first trade reached it. What happened before it catches up with then: nothing closes without any trade."""
        self.prompts_s: defaultdict[str, list[float]] = defaultdict(list)
        """When trades of each exchange reached it that were in time. A process that has only seen late ones takes that for a host's clock that is
        ahead: nothing tells the two apart."""
        self.first = 0
        """The first second that is this process' to close; an earlier one closed those before."""
        self.touched: set[Key] = set()
        """Seconds of trades that reached it and are in no tick yet: the next must have their bars."""
        self.untold: set[Key] = set()
        """The same, with those that a recovery told of as well (and may have dropped): with a crash they are gone."""

    def deliver(self, trades: Sequence[Trade], now_s: float, late_s: float) -> None:
        """These reach the process now, in frames, so long after the newest of them happened."""
        if trades and self.heard_s is None:
            self.heard_s = now_s
        if trades and late_s <= PUNCTUAL_S:
            self.prompts_s[trades[0].instrument.exchange].append(now_s)
        for trade in trades:
            key = (trade.instrument.market, trade.ts_ms // 1000)
            if trade.id not in self.reached[key]:
                self.reached[key][trade.id] = trade
                self.untold.add(key)
                if trade.id not in self.maybe.get(key, ()):  # else it may have been filled in before
                    self.touched.add(key)

    def offer(self, trades: Sequence[Trade]) -> None:
        """These may reach it."""
        for trade in trades:
            self.maybe[trade.instrument.market, trade.ts_ms // 1000][trade.id] = trade

    def append(
        self,
        tick: int,
        at_s: float,
        names: Sequence[str],
        bars: Bars,
        signals: Sequence[JournaledSignal],
        whole: Any,
        gaps: Sequence[GapRecord],
    ) -> None:
        """It closed a second: the bars are those of what reached it, and each trade that reached it is in one."""
        if self.appended:
            assert tick == self.appended[-1].tick + 1, f"tick {tick} after {self.appended[-1].tick}"
        rows = {(names[row[0]], row[1]): row[2:] for row in bars.tolist()}
        for key, row in rows.items():
            self._check(key, row)
        late = {key for key in self.touched if key[1] < tick}
        missing = [key for key in late if key not in rows and key[1] >= self.first]
        assert not missing, f"tick {tick}: trades reached it, but there is no bar: {missing[:3]}"
        self.touched -= late
        self.untold = {key for key in self.untold if key[1] >= tick}
        for signal in signals:
            assert (signal.second, signal.tick) == (tick - 1, tick), f"{signal.signal_id} is of another second"
        covered = [name for name, yes in zip(names, whole, strict=True) if yes]
        told = [(names[gap.market], gap.from_ms // 1000, -(-(gap.until_ms or tick * 1000) // 1000)) for gap in gaps]
        self.appended.append(Appended(tick, at_s, rows, signals, covered, told))

    def _check(self, key: Key, row: tuple[Any, ...]) -> None:
        assert key[1] >= self.first - SEAM_S, f"{key} was closed by an earlier process"
        reached, maybe = self.reached.get(key, {}), self.maybe.get(key, {})
        count = row[6] + row[7]
        every = reached if not maybe else {**maybe, **reached}
        assert len(reached) <= count <= len(every), (
            f"{key}: {count} trades in the bar, {len(reached)} to {len(every)} came"
        )
        if count == len(every):
            assert_equal(key, row, list(every.values()))
        elif count == len(reached):
            assert_equal(key, row, list(reached.values()))


def slow(trades: Sequence[Trade]) -> tuple[float, ...]:
    """The bar of some trades, the obvious way."""
    trades = sorted(trades, key=lambda t: (t.ts_ms, int(t.id)))  # type: ignore[arg-type]  # simulated ids are numbers
    prices = [t.price for t in trades]
    volume = {side: sum(t.price * t.size for t in trades if t.buy is side) for side in (True, False)}
    count = {side: sum(t.buy is side for t in trades) for side in (True, False)}
    shape = (prices[0], max(prices), min(prices), prices[-1])
    return (*shape, volume[True], volume[False], count[True], count[False], 0.0, 0.0)


def assert_equal(key: Key, row: tuple[Any, ...], trades: Sequence[Trade]) -> None:
    """A bar against the slow one."""
    for name, value, wanted in zip(BAR_FIELDS, row, slow(trades), strict=True):
        assert abs(value - wanted) <= 1e-9 * max(1.0, abs(wanted)), f"{key}: {name} is {value}, not {wanted}: {trades}"


def conserved(counts: Counts) -> None:
    """P2, at any moment."""
    assert counts.conserved(), counts


class Oracle:
    """All processes of one host, one after the other."""

    def __init__(
        self, disk_refused: Callable[[float, float], bool], excused: Callable[[float], bool], behind_s: float
    ) -> None:
        """`disk_refused(from, until)`: at every moment between. `excused(at)`: a fault makes signals late.

        `behind_s`: so much is the slowest exchange's clock behind ours.
        """
        self.lives: list[Seen] = []
        self.lost: set[Key] = set()
        """Seconds of which a crash took something that was not written yet, as it may."""
        self._disk_refused, self._excused, self._behind_s = disk_refused, excused, behind_s
        self.punctual = 0
        """Signals that nothing excused, and that were in time."""

    # --- the journal

    def _kept(self, ticks: set[int]) -> dict[int, Appended]:
        """Who wrote the ticks that the journal has: the last that closed them, since one that finds them there goes on behind."""
        return {one.tick: one for life in self.lives for one in life.appended if one.tick in ticks}

    def _unproven(self, life: Seen) -> None:
        """What the end of a process takes with it: trades that were in no tick yet, and silences that it had not noticed."""
        if not life.appended:
            return
        end_s = life.appended[-1].tick
        self.lost |= life.untold if life.killed else set()
        newest: dict[str, int] = {}
        for market, second in life.reached:
            newest[market] = max(newest.get(market, 0), second)
        for market, second in newest.items():
            self.lost |= {(market, later) for later in range(second, end_s)}

    def check_journal(self, store: JournalStore) -> dict[Key, tuple[Any, ...]]:
        """Every tick is there that had the time to be written; nothing else is there. Gives the newest bars."""
        names = [market.name for market in store.markets()]
        ticks = {int(row[0]) for row in store.connection.execute("SELECT DISTINCT tick FROM flow")}
        blocks = store.flow("BTC", 0, 1 << 40).ticks
        ticks |= set(np.unique(blocks).tolist())
        kept = self._kept(ticks)
        for life in self.lives:
            self._unproven(life)
            for one in life.appended:
                if kept.get(one.tick) is not one:
                    self.lost |= one.bars.keys()
                    # Where it alone said that earlier seconds were not whole, nobody knows it any more.
                    self.lost |= {(name, second) for name, first, end in one.gaps for second in range(first, end)}
                    assert self._may_be_lost(life, one), f"tick {one.tick}, of {one.at_s:.1f} s, is not in the journal"
        wanted: dict[Key, tuple[Any, ...]] = {}
        for _, one in sorted(kept.items()):
            wanted |= one.bars
        found = store.bars(None, 0, 1 << 40)
        rows = {(names[row[0]], row[1]): row[2:] for row in found.tolist()}
        for key in wanted.keys() | rows.keys():
            assert rows.get(key) == wanted.get(key), f"journal {key}: {rows.get(key)}, not {wanted.get(key)}"
        return wanted

    def _may_be_lost(self, life: Seen, one: Appended) -> bool:
        if life.ended_s is None:
            return False
        just_before = life.killed and life.ended_s - one.at_s <= WRITTEN_S
        return just_before or self._disk_refused(one.at_s, life.ended_s)

    # --- InfluxDB

    def check_influx(self, influx: FakeInflux, wanted: Mapping[Key, tuple[Any, ...]]) -> None:
        """Each bar once, equal, and nothing else."""
        found = {series: point for series, point in influx.points.items() if series[1].startswith("trades_1s,")}
        for (market, second), row in wanted.items():
            series = ("aggr_1s", f"trades_1s,market={market}", second)
            if series in influx.refused:
                found.pop(series, None)
                continue
            point = found.pop(series, None)
            assert point is not None, f"{market} {second} is in the journal, not in InfluxDB"
            expected = {n: v for n, v in zip(BAR_FIELDS, row, strict=True) if n not in ("lbuy", "lsell")}
            assert point == expected, f"InfluxDB {market} {second}: {point}, not {expected}"
        assert not found, f"InfluxDB has what no journal has: {list(found)[:3]}"
        assert not influx.counts["statements not understood"]

    # --- Redis

    def check_signals(self, redis: FakeRedis, store: JournalStore) -> None:
        """P13: each id once and in order, none that no closed second gave, punctual while nothing is broken."""
        given = {
            signal.signal_id: (signal, one, life)
            for life in self.lives
            for one in life.appended
            for signal in one.signals
        }
        ids = [entry.signal_id for entry in redis.every]
        twice = {id for id in ids if ids.count(id) > 1} if len(set(ids)) != len(ids) else set()
        assert not twice or redis.counts["entries forgotten"], f"twice in the stream: {twice}"
        for channel, lines in redis.published.items():
            told = [msgspec.json.decode(line)["signal_id"] for line in lines]
            # What Redis forgot with its last second is announced again, where the journal lost the note of it as well.
            assert len(told) == len(set(told)) or redis.counts["entries forgotten"], f"twice on {channel}"
            assert set(told) <= set(ids), f"on {channel} but not in the stream"
        for entry in redis.every:
            assert entry.signal_id in given, f"{entry.signal_id} is of no closed second"
            signal, one, life = given[entry.signal_id]
            at_s = entry.at_ms / 1e3
            late_s = at_s - signal.tick
            if any(at_s >= times[0] for times in life.prompts_s.values()):
                late = f"{entry.signal_id} came {late_s:.1f} s after its tick"
                assert at_s <= signal.valid_until_s + self._behind_s + PUNCTUAL_S, late
            if not self._excused(one.at_s) and life.heard_s is not None and signal.tick > life.heard_s:
                late_s -= self._behind_s
                assert late_s <= PUNCTUAL_S, f"{entry.signal_id} came {late_s:.2f} s after its second"
                self.punctual += 1
        self._check_order(redis)
        self._check_pairs([msgspec.json.decode(signal.line) for signal in store.signals(limit=1_000_000)], "journal")
        kept = {signal.signal_id for signal in store.signals(limit=1_000_000)}
        for entry in redis.every:
            if entry.signal_id not in kept:
                signal, one, life = given[entry.signal_id]
                assert self._disk_refused(one.at_s, life.ended_s or one.at_s), (
                    f"{entry.signal_id} was told, and no journal has it"
                )

    def _check_order(self, redis: FakeRedis) -> None:
        ticks = [entry.id for entry in redis.every]
        if not redis.counts["entries forgotten"]:
            assert ticks == sorted(ticks), "the stream is out of order"

    def _check_pairs(self, signals: Sequence[Mapping[str, Any]], where: str) -> None:
        """Every CLOSE closes what is open, and nothing is opened twice."""
        open_: dict[str, str] = {}
        for signal in signals:
            symbol, position = signal["symbol"], signal["position_id"]
            if signal["action"] == "CLOSE":
                assert open_.pop(symbol, None) == position, f"{where}: {signal['signal_id']} closes what is not open"
            else:
                assert symbol not in open_, f"{where}: {signal['signal_id']} opens what is open"
                open_[symbol] = position

    # --- coverage

    def check_coverage(
        self,
        store: JournalStore,
        happened: Mapping[str, Mapping[int, int]],
        unnoticed: set[Key],
        rows: Mapping[Key, tuple[Any, ...]],
    ) -> tuple[int, int]:
        """A second that is called whole has all trades that happened. Gives (whole, all) seconds of markets.

        `unnoticed`: seconds in which nothing could have told that something is missing.
        """
        names = [market.name for market in store.markets()]
        first, last = self.lives[0].appended[0].tick, self.lives[-1].appended[-1].tick - 1
        covered = store.coverage(names, first, last)
        wrong = []
        for place, name in enumerate(names):
            counts = happened.get(name, {})
            for second in (np.flatnonzero(covered[place]) + first).tolist():
                row = rows.get((name, second))
                count = 0 if row is None else row[6] + row[7]
                if count != counts.get(second, 0) and (name, second) not in unnoticed:
                    wrong.append((name, second, count, counts.get(second, 0)))
        assert not wrong, (
            f"called whole, but (market, second, trades in the bar, trades that happened): {wrong[:5]} of {len(wrong)}"
        )
        return int(covered.sum()), int(covered.size)


def gaps_told(gaps: Sequence[GapRecord]) -> int:
    """How many stretches were told to the journal."""
    return len(gaps)
