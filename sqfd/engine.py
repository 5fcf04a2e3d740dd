"""The engine: flow rows in, signals out. Live runs and backtests use the same one, without clock, disk or network.

A live daemon calls `tick` once a second; a backtest calls `block` with hours of rows. Both give the same signals, byte for
byte: columns of ticks are judged by elementwise operations, and the book jumps from event to event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson

from sqfd.bars.ring import DETAIL_S, HEADROOM_S, FlowRing, Rows
from sqfd.model import Flow, FlowTable
from sqfd.signals.signal import (
    SCHEMA_VERSION,
    SERVICE,
    Signal,
    iso_time,
    market_symbol,
    price_of,
    signal_id,
)
from sqfd.strategy.api import DIGITS, Gate, Judged, Report, Strategy
from sqfd.strategy.baseline import Bools, Ints
from sqfd.strategy.position import CLOSE, LONG, SHORT, Book, Decision, Evaluation, Limits, Position, decide
from sqfd.strategy.settings import StrategySettings

WARM_BLOCK = 600
"""Ticks that are judged at once while warming: less memory than all at once, for the same result."""


class Explanation(msgspec.Struct, frozen=True):
    """Why something happened, or did not, at one tick of one symbol."""

    symbol: str
    second: int
    words: str
    stopped_by: dict[str, Any] | None
    """The first gate that stopped an entry, and by how much it missed."""
    gates: list[dict[str, Any]]
    position: dict[str, Any] | None
    score: float
    score_breakdown: dict[str, float]
    phases: dict[str, Any]
    coverage: float


class State(msgspec.Struct):
    """What survives a restart."""

    strategy: str
    tick: int
    book: Book
    memory: dict[str, msgspec.Raw] = {}


Observer = Callable[[int, int, Mapping[str, Judged]], None]
"""Takes the first tick, the one past the last, and what was judged by symbol."""


class Part(NamedTuple):
    """One symbol's rows of a span: of the seconds that its ticks closed, and of earlier ones, known at its first tick."""

    rows: Rows
    revisions: Rows


class Span(NamedTuple):
    """Ticks `[first, last)` that are judged at once: revisions became known at the first one."""

    first: int
    last: int
    parts: tuple[Part, ...]
    """By symbol."""


class Engine:
    """Rings, watches and the book of all symbols. `symbols` are bases (`BTC`), in the order in which they get places."""

    def __init__(
        self,
        symbols: Sequence[str],
        strategy: Strategy,
        settings: StrategySettings,
        instance: str,
        markets: Mapping[str, Sequence[str]],
        headroom_s: int = HEADROOM_S,
        rings: Mapping[str, FlowRing] | None = None,
        bar_s: int = 1,
    ) -> None:
        """`rings`: those of another engine, which fills them, see `beside`. `bar_s`: seconds of a row; ticks count rows, signals speak
        of seconds."""
        self.symbols = tuple(symbols)
        self.settings, self.instance = settings, instance
        self.headroom_s, self.bar_s = headroom_s, bar_s
        self._markets = {symbol: tuple(markets.get(symbol, ())) for symbol in self.symbols}
        self._tick = 0
        self._book = Book()
        self._evaluated: dict[str, Judged] = {}
        self.brief = False
        """Signals go without what explains them, a third of a sweep's time: reasoning, phases, parts, CVDs; the score is the entry's."""
        self.observer: Observer | None = None
        """Told of every span that was judged: charts of a backtest."""
        self._history_s = strategy.history_s + strategy.memory_s
        self._detail_s = max(DETAIL_S, strategy.detail_s + strategy.memory_s)
        lengths = self._history_s, self._detail_s, headroom_s, bar_s
        self.rings = rings or {symbol: FlowRing(*lengths) for symbol in self.symbols}
        self.everyone: list[Engine] = [self]
        """This engine and those `beside` it."""
        self._employ(strategy, settings)

    def _employ(self, strategy: Strategy, settings: StrategySettings) -> None:
        self.strategy, self.settings = strategy, settings
        self._watches = {symbol: strategy.watch(symbol, ring) for symbol, ring in self.rings.items()}
        cooldown = {symbol: settings.for_symbol(symbol).cooldown_s for symbol in self.symbols}
        self._limits = Limits(settings.max_open_positions, cooldown)

    def beside(self, strategy: Strategy, settings: StrategySettings) -> Engine:
        """Another engine that reads the same rings and runs in step with this one, see `run_all`: for sweeps.

        Raises ValueError where it reads another history.
        """
        other = Engine(
            self.symbols, strategy, settings, self.instance, self._markets, self.headroom_s, self.rings, self.bar_s
        )
        if reach_of(strategy) != reach_of(self.strategy):
            raise ValueError(f"{strategy.name} reads another history than the engine beside which it is to run")
        self.everyone.append(other)
        return other

    @property
    def memory_s(self) -> int:
        """Seconds before the present that are judged again when warming: older ones are only remembered."""
        return self.strategy.memory_s

    @property
    def history_s(self) -> int:
        """Seconds of history that `warm` should be given so that a restart changes nothing."""
        return self._history_s

    def use(self, strategy: Strategy, settings: StrategySettings) -> None:
        """Change the strategy or its settings from the next tick on; positions stay.

        Raises ValueError when it reads more history than the rings keep; then nothing has changed.
        """
        if (
            strategy.history_s + strategy.memory_s > self._history_s
            or strategy.detail_s + strategy.memory_s > self._detail_s
        ):
            raise ValueError(f"{strategy.name} reads more history than is kept: restart to apply")
        self._employ(strategy, settings)
        self._remember()

    def fill(self, symbol: str, ticks: Ints, rows: Flow) -> None:
        """History from before the last `memory_s`, into the symbol's ring: row `i` became known at `ticks[i]`, ascending.

        May be called with one stretch after the other, and then `warm` with the rest. Raises KeyError for a symbol that is
        not configured.
        """
        if not len(rows):
            return
        fresh = rows["second"] == ticks - 1
        self.rings[symbol].append(rows[fresh])
        changed = self.rings[symbol].amend(rows[~fresh])  # revisions leave no other trace
        if changed is not None:
            self._revised(symbol, changed)
        for engine in self.everyone:
            engine._tick = max(engine._tick, int(ticks[-1]))

    def warm(self, flow: Flow, known: Ints | None = None) -> None:
        """Fill the rings with history, by symbol; within one as it became known: revisions stand before their tick's row.

        `known`: the tick of each row. None: of the next row that is new, where the first row of each symbol is one.

        The last ticks are judged as they were live, revisions at their time, but nothing is decided: later ticks need what
        is remembered of them.
        """
        if not len(flow):
            return
        ticks = _known_at(flow) if known is None else known
        recent = ticks >= int(ticks.max()) + 1 - self.strategy.memory_s
        for order, symbol in enumerate(self.symbols):
            mine = ~recent & (flow["symbol"] == order)
            self.fill(symbol, ticks[mine], flow[mine])
        in_time = np.argsort(ticks[recent], kind="stable")
        tables = self._tables(ticks[recent][in_time], flow[recent][in_time])
        for span in spans_of(tables, min(WARM_BLOCK, self.headroom_s)):
            self._judge(span)

    def _remember(self) -> None:
        """Judge the last ticks again, without deciding, for what later ticks need of them."""
        for symbol, ring in self.rings.items():
            if not ring.empty:
                ring.extend_to(self._tick)
                first = max(ring.end_tick - self.strategy.memory_s, ring.first_tick)
                self._evaluated[symbol] = self._watches[symbol].evaluate(first, ring.end_tick)

    def tick(self, tick: int, flow: Flow) -> list[Signal]:
        """One second live: the rows of second `tick - 1` and revisions of earlier ones.

        Raises ValueError for a tick that is not later than the last one.
        """
        return self._advance(Span(tick, tick + 1, self._parts(tick, flow)))[0]

    def _parts(self, tick: int, flow: Flow) -> tuple[Part, ...]:
        late, symbol, none = (flow["second"] != tick - 1).nonzero()[0], flow["symbol"], flow[:0]
        if not len(late) and symbol.tolist() == list(range(len(self.symbols))):
            return tuple(Part(flow[order : order + 1], none) for order in range(len(self.symbols)))
        current = np.ones(len(flow), np.bool_)
        current[late] = False
        mine = [symbol == order for order in range(len(self.symbols))]
        return tuple(Part(flow[one & current], flow[one & ~current]) for one in mine)

    def block(self, ticks: Ints, flow: Flow) -> list[Signal]:
        """Many ticks at once: row `i` became known at `ticks[i]`, by (tick, second). Equal to calling `tick` for each."""
        return self.run(self._tables(ticks, flow))

    def _tables(self, ticks: Ints, flow: Flow) -> list[FlowTable]:
        mine = [flow["symbol"] == order for order in range(len(self.symbols))]
        return [FlowTable.of(ticks[one], flow[one]) for one in mine]

    def run(self, tables: Sequence[FlowTable]) -> list[Signal]:
        """The same for the rows of each symbol, in their order."""
        return self.run_all(tables)[0]

    def run_all(self, tables: Sequence[FlowTable]) -> list[list[Signal]]:
        """The signals of this engine and of each one `beside` it."""
        signals: list[list[Signal]] = [[] for _ in self.everyone]
        for span in spans_of(tables, self.headroom_s):
            for mine, found in zip(signals, self._advance(span), strict=True):
                mine += found
        return signals

    def _advance(self, span: Span) -> list[list[Signal]]:
        if span.first <= self._tick:
            raise ValueError(f"tick {span.first} is not after {self._tick}")
        self._judge(span)
        return [engine._decide(span) for engine in self.everyone]

    def _decide(self, span: Span) -> list[Signal]:
        judged = self._evaluated
        if self.observer is not None:
            self.observer(span.first, span.last, judged)
        evaluations: dict[str, Evaluation] = dict(judged.items())
        left = [self._leave(symbol, span.first) for symbol in sorted(self._book.positions.keys() - self.rings.keys())]
        decisions = decide(evaluations, self._book, self._limits, span.first)
        return [*left, *(self._signal(decision, self._report(decision, judged)) for decision in decisions)]

    def _leave(self, symbol: str, tick: int) -> Signal:
        """Close the position of a symbol that is configured no more: its price is not known, its entry's stands for it."""
        position = self._book.positions.pop(symbol)
        report = _unexplained(position, 0.0, "not configured any more")
        return self._signal(Decision(tick, symbol, CLOSE, position, ("not_configured",)), report)

    def _report(self, decision: Decision, judged: Mapping[str, Judged]) -> Report:
        if self.brief:
            return _unexplained(decision.position, round(decision.position.score, DIGITS), "")
        report = judged[decision.symbol].report(decision.tick, decision.position if decision.action == CLOSE else None)
        assert report is not None  # decisions are made at judged ticks only
        return report

    def _judge(self, span: Span) -> None:
        if self._tick and span.first > self._tick + 1:
            for engine in self.everyone:
                engine._pass_over(span.first)
        for symbol, part in zip(self.symbols, span.parts, strict=True):
            self._take(symbol, part, span)
        for engine in self.everyone:
            engine._evaluated = {}  # so that two blocks' columns are never held at once
        for engine in self.everyone:
            engine._tick = span.last - 1
            watches = engine._watches.items()
            engine._evaluated = {symbol: watch.evaluate(span.first, span.last) for symbol, watch in watches}

    def _pass_over(self, tick: int) -> None:
        """Nobody lived through the seconds before `tick`: they are carried forward and judged, and nothing is decided.

        So an engine that was away and one that is warmed with what is known of that time remember the same.
        """
        first = max(self._tick + 1, tick - self.strategy.memory_s)
        for symbol, ring in self.rings.items():
            if not ring.empty:
                ring.extend_to(tick - 1)
                self._watches[symbol].evaluate(first, tick)

    def _take(self, symbol: str, part: Part, span: Span) -> None:
        ring = self.rings[symbol]
        if len(part.revisions):
            ring.extend_to(span.first - 1)  # after a restart they may speak of seconds that nobody closed
            changed = ring.amend(part.revisions)
            if changed is not None:
                self._revised(symbol, changed)
        ring.append(part.rows)
        ring.extend_to(span.last - 1)

    def _revised(self, symbol: str, tick: int) -> None:
        for engine in self.everyone:
            engine._watches[symbol].revised(tick)

    def _signal(self, decision: Decision, report: Report) -> Signal:
        position = decision.position
        symbol, tick, name = market_symbol(decision.symbol), decision.tick * self.bar_s, self.strategy.name
        second = tick - 1
        side = LONG if position.side > 0 else SHORT
        ttl = self.settings.for_symbol(decision.symbol).ttl_s
        return Signal(
            signal_id=signal_id(name, symbol, second, decision.action),
            timestamp=iso_time(tick),
            symbol=symbol,
            base_symbol=decision.symbol,
            action=decision.action,
            side=side,
            score=report.score,
            position_size_factor=position.size,
            leverage=position.leverage,
            entry_price=price_of(position.price),
            price=price_of(report.price),
            ttl=ttl,
            confidence=position.confidence,
            reasoning=_reasoning(decision, report, self.bar_s),
            strategy=name,
            service=SERVICE,
            schema_version=SCHEMA_VERSION,
            valid_until=iso_time(tick + ttl),
            second=second,
            quality=position.quality,
            score_breakdown=report.parts,
            phases=report.phases,
            coverage=report.coverage,
            position_id=signal_id(name, symbol, position.entry_tick * self.bar_s - 1, side),
            exit_reasons=decision.reasons,
            spot_cvd=report.spot_cvd,
            futures_cvd=report.futures_cvd,
            cvd_divergence=round(report.spot_cvd - report.futures_cvd, 2),
            markets=self._markets.get(decision.symbol, ()),
            instance=self.instance,
        )

    def explain(self, symbol: str) -> Explanation:
        """The last tick of a symbol. Raises KeyError for one that is not configured."""
        ring, position = self.rings[symbol], self._book.positions.get(symbol)
        evaluated = self._evaluated.get(symbol)
        report = evaluated.report(self._tick, position) if evaluated else None
        if report is None:
            return _warming(symbol, self._tick - 1, ring, self.settings.for_symbol(symbol).warmup_s)
        gates = (*report.gates, *self._book_gates(symbol))
        stopped = next((gate for gate in gates if not gate.passed), None)
        held = msgspec.to_builtins(position) if position else None
        verdict = f"No entry because {stopped.words}" if stopped and not position else "Every gate is open"
        if position:
            verdict = f"A {'long' if position.side > 0 else 'short'} is open since {iso_time(position.entry_tick)[:19].replace('T', ' ')}"
        return Explanation(
            symbol,
            self._tick - 1,
            f"{verdict}; {report.words}.",
            _gate(stopped) if stopped else None,
            [_gate(gate) for gate in gates],
            held,
            report.score,
            report.parts,
            report.phases,
            report.coverage,
        )

    def _book_gates(self, symbol: str) -> tuple[Gate, ...]:
        held, most = len(self._book.positions), self._limits.max_open_positions
        mine = symbol in self._book.positions
        pause = self._limits.cooldown_s[symbol]
        since = self._tick - self._book.exits[symbol] if symbol in self._book.exits else pause
        waited = f"no exit in the last {pause} s" if since >= pause else f"the last exit was {since} of {pause} s ago"
        return (
            Gate("flat", not mine, float(mine), 0.0, f"the symbol has {'an' if mine else 'no'} open position"),
            Gate("places", held < most, float(held), float(most), f"{held} of {most} positions are open"),
            Gate("cooldown", since >= pause, float(since), float(pause), waited),
        )

    def mind(self, symbol: str) -> dict[str, float]:
        """Flat numbers of the last tick for `strategy_1s` and the status line; empty while the symbol is warming."""
        evaluated = self._evaluated.get(symbol)
        return evaluated.mind(self._tick) if evaluated else {}

    def book(self) -> dict[str, Position]:
        """Open positions by symbol."""
        return dict(self._book.positions)

    def positions(self) -> bytes:
        """What survives a restart, as JSON: the book and the watches' memory."""
        memory = {symbol: msgspec.Raw(watch.memory()) for symbol, watch in self._watches.items()}
        return msgspec.json.encode(State(self.strategy.name, self._tick, self._book, memory))

    def restore(self, state: bytes) -> None:
        """Take over what `positions` gave, after `warm`. Positions of symbols that are not configured are closed at the next tick.

        The saved memory is used only when no later tick was judged while warming. Raises msgspec.DecodeError for anything
        that `positions` did not write.
        """
        saved = msgspec.json.decode(state, type=State)
        self._book = saved.book
        if saved.strategy == self.strategy.name and saved.tick >= self._tick:
            for symbol in self.rings.keys() & saved.memory.keys():
                self._watches[symbol].recall(bytes(saved.memory[symbol]))


def reach_of(strategy: Strategy) -> tuple[int, int, int]:
    """How far back it reads: engines may share rings where this is equal."""
    return strategy.history_s, strategy.detail_s, strategy.memory_s


def _known_at(flow: Flow) -> Ints:
    """The tick of each row: of the next row that is new, as revisions stand before it."""
    second, symbol = flow["second"], flow["symbol"]
    ticks = np.empty(len(flow), np.int64)
    for order in np.unique(symbol).tolist():
        mine = np.flatnonzero(symbol == order)
        newest = np.maximum.accumulate(second[mine])
        fresh = np.append(0, np.flatnonzero(np.diff(newest) > 0) + 1)
        known = np.append(newest[fresh], newest[-1]) + 1
        ticks[mine] = known[np.searchsorted(fresh, np.arange(len(mine)))]
    return ticks


def spans_of(tables: Sequence[FlowTable], most: int) -> Iterator[Span]:
    """Split rows at gaps, at ticks that bring revisions, and after `most` ticks."""
    known = [table for table in tables if len(table)]
    if not known:
        return
    first = min(int(table["tick"][0]) for table in known)
    last = max(int(table["tick"][-1]) for table in known) + 1
    if all(_dense(table, first, last) for table in tables):
        for start in range(first, last, most):
            stop = min(start + most, last)
            yield Span(start, stop, tuple(Part(table[start - first : stop - first], table[:0]) for table in tables))
        return
    edges = _edges(known, most)
    cuts = [np.searchsorted(table["tick"], edges[:, 0]).tolist() for table in tables]
    ends = [np.searchsorted(table["tick"], edges[:, 1]).tolist() for table in tables]
    late = [np.concatenate([[0], np.cumsum(_late(table))]).tolist() for table in tables]
    for number, (start, stop) in enumerate(edges.tolist()):
        parts = []
        for table, left, right, revisions in zip(tables, cuts, ends, late, strict=True):
            at, end = left[number], right[number]
            middle = at + revisions[end] - revisions[at]  # they are all of the first tick, and before its own second
            parts.append(Part(table[middle:end], table[at:middle]))
        yield Span(start, stop, tuple(parts))


def _dense(table: FlowTable, first: int, last: int) -> bool:
    """One row for each tick, each of the second that it closed."""
    whole = len(table) == last - first and int(table["tick"][0]) == first
    return whole and bool((table["second"] + 1 == table["tick"]).all() and (np.diff(table["tick"]) == 1).all())


def _late(table: FlowTable) -> Bools:
    return np.asarray(table["second"] < table["tick"] - 1)


def _edges(tables: Sequence[FlowTable], most: int) -> Ints:
    """[span, 2]: first tick and the one past the last."""
    distinct = np.unique(np.concatenate([table["tick"] for table in tables]))
    breaks = np.isin(distinct, np.concatenate([table["tick"][_late(table)] for table in tables]), assume_unique=False)
    breaks[1:] |= np.diff(distinct) != 1
    breaks[0] = True
    edges = np.append(np.flatnonzero(breaks), len(distinct)).tolist()
    found = []
    for left, right in pairwise(edges):
        for start in range(left, right, most):
            stop = min(start + most, right)
            found.append((distinct[start], distinct[stop - 1] + 1))
    return np.array(found)


def _unexplained(position: Position, score: float, words: str) -> Report:
    return Report(position.price, score, {}, {}, 0.0, 0.0, 0.0, words, ())


def _reasoning(decision: Decision, report: Report, bar_s: int) -> str:
    if decision.action != CLOSE:
        return f"{decision.action}: {report.words}"
    position = decision.position
    reasons = ", ".join(reason.replace("_", " ") for reason in decision.reasons)
    side = "long" if position.side > 0 else "short"
    return f"CLOSE of the {side} of {(decision.tick - position.entry_tick) * bar_s} s: {reasons}"


def _gate(gate: Gate) -> dict[str, Any]:
    return {**gate._asdict(), "missing": gate.missing}


def _warming(symbol: str, second: int, ring: FlowRing, warmup_s: int) -> Explanation:
    history = 0 if ring.empty else ring.end_tick - 1 - ring.first_tick
    words = f"the symbol is warming up: {history} of {warmup_s} s of history"
    gate = _gate(Gate("history", False, float(history), float(warmup_s), words))
    return Explanation(symbol, second, f"No entry because {words}.", gate, [gate], None, 0.0, {}, {}, 0.0)


def to_json(explanation: Explanation) -> bytes:
    """One line of JSON."""
    return orjson.dumps(msgspec.structs.asdict(explanation))
