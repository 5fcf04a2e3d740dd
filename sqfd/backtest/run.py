"""A backtest: stored flow through the live engine, block by block, and its signals through a paper portfolio.

Read in tick order the journal gives byte-equal signals to the live run that wrote it: the engine is the same, it sees the same
rows at the same ticks, and it is told what the live engine was told (instance, markets). Memory does not grow with the
range but for signals, trades and one sample a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sqfd.backtest.coarse import MINUTE_S, TIMEFRAMES, Coarse, config_in_bars, in_seconds
from sqfd.backtest.coverage import Coverage
from sqfd.backtest.equity import EquityCurve
from sqfd.backtest.portfolio import Portfolio
from sqfd.backtest.prices import Prices, PriceTrack
from sqfd.backtest.settings import BacktestSettings
from sqfd.backtest.source import AsSeen, Block, NoData, Revised, Source, blocks, by_symbol, cuts_of, moment, span_of
from sqfd.backtest.statistics import statistics
from sqfd.backtest.trades import Trade
from sqfd.config import Config
from sqfd.engine import Engine, Observer, State
from sqfd.journal import JournalStore
from sqfd.journal.flows import HOUR_S
from sqfd.signals.signal import Signal
from sqfd.strategy.position import Book
from sqfd.strategy.settings import StrategySettings
from sqfd.wiring import EngineNote, engine_for, strategy_of, symbols_of

Progress = Callable[[int, int], None]
"""Told (ticks done, ticks in all)."""
Watcher = Callable[[Block, Prices], None]
"""Shown each block after it was judged: charts."""


LEAST_BLOCK_S, LEAST_COARSE_BLOCK_S = 7_200, 86_400
"""Several symbols share a block's seconds, so that memory does not grow with them, but each has so many."""
LEADS = 2
"""Spans of the strategy's memory that are judged, without deciding, before a range that begins in the midst of a run."""
EMPTY = msgspec.json.encode(State("", 0, Book()))
"""A state without positions and without memory: restoring it leaves an engine's memory as it is."""


class Told(NamedTuple):
    """What a live engine was told at its start, as the journal noted it: it ran from `tick` on."""

    tick: int
    instance: str
    symbols: tuple[str, ...]
    markets: Mapping[str, Sequence[str]]
    strategy: StrategySettings | None
    """None where this version does not know these settings any more."""
    state: bytes | None
    """What it was restored from."""


def told_by(store: JournalStore) -> list[Told]:
    """The journal's notes of live runs, by tick."""
    found = []
    for tick, record in store.engine_notes():
        note = msgspec.json.decode(record, type=EngineNote)
        try:
            strategy = msgspec.json.decode(note.strategy, type=StrategySettings)
        except msgspec.ValidationError:
            strategy = None
        state = bytes(note.state)
        found.append(
            Told(tick, note.instance, note.symbols, note.markets, strategy, None if state == b"null" else state)
        )
    return found


class Plan(NamedTuple):
    """What to run: ticks `[first, last)` of symbols."""

    symbols: tuple[str, ...]
    first: int
    last: int
    revised: bool = False
    """The newest revision of each second instead of what was known at its tick."""
    lived: bool = True
    """A daemon or a replay wrote this journal, it was not only imported."""
    bar_s: int = 1
    """Seconds of a bar: what the strategy sees at once. Where it is more than one, `first` and `last` are ends of bars."""

    @property
    def ticks(self) -> tuple[int, int]:
        """The first tick and the one past the last as the engine counts them: in bars."""
        return (self.first - 1) // self.bar_s + 1, (self.last - 1) // self.bar_s + 1

    @property
    def data(self) -> str:
        """Which data that is, in words."""
        bars = f"bars of {named(self.bar_s)}, " if self.bar_s > 1 else ""
        if self.revised:
            return f"{bars}newest revisions (better data than live had)"
        return "as live saw it" if self.lived else "as imported (nothing of it was seen live)"


class Result(NamedTuple):
    """What came of it."""

    plan: Plan
    signals: list[Signal]
    trades: list[Trade]
    still_open: list[Trade]
    refused: Mapping[str, int]
    curve: EquityCurve
    coverage: Coverage
    ticks: int
    """Ticks × symbols that were run."""
    elapsed_s: float
    """Reading, judging and trading, without warming up."""

    @property
    def ticks_per_second(self) -> float:
        return self.ticks / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def stats(self) -> dict[str, Any]:
        """See `statistics`."""
        return statistics(self.curve, self.trades, self.still_open)


def planned(
    store: JournalStore,
    config: Config,
    symbols: Sequence[str],
    from_s: int | None,
    to_s: int | None,
    revised: bool = False,
    bar_s: int = 1,
) -> Plan:
    """The wanted range cut to what the journal holds. Without `symbols`: the configured ones that it has flow of.

    With bars of more than a second: cut to whole ones, of the newest revisions. Raises NoData, whose text names what there is.
    """
    source = AsSeen(store)
    chosen = tuple(symbols) or tuple(s for s in symbols_of(config) if source.extent(s)) or symbols_of(config)
    unknown = [symbol for symbol in chosen if source.extent(symbol) is None]
    if unknown:
        chosen_of = (*unknown, *(name for name in store.symbol_names() if name not in unknown))
        span_of(source, chosen_of, from_s, to_s)  # raises, and names every symbol that there is
    first, last = span_of(source, chosen, from_s, to_s)
    lived = any(told.tick < last for told in told_by(store))
    if bar_s == 1:
        return Plan(chosen, first, last, revised, lived)
    start, stop = -(-(first - 1) // bar_s) * bar_s, (last - 1) // bar_s * bar_s
    if start >= stop:
        raise NoData(f"there is no whole bar of {named(bar_s)} from {moment(first - 1)} to {moment(last - 1)}")
    return Plan(chosen, start + 1, stop + 1, True, lived, bar_s)


class Paper:
    """One way of trading the signals: a portfolio and its curve."""

    def __init__(self, symbols: Sequence[str], settings: BacktestSettings) -> None:
        self.portfolio = Portfolio(symbols, settings)
        self.curve = EquityCurve(settings.capital, len(symbols))


def _distinct(configs: Sequence[Config]) -> list[Config]:
    """The first of each strategy."""
    found: list[Config] = []
    for config in configs:
        if all(known.strategy != config.strategy for known in found):
            found.append(config)
    return found


def _block_of(settings: BacktestSettings, symbols: int, bar_s: int) -> int:
    """Rows of each symbol that are read and judged at once."""
    if bar_s < MINUTE_S:
        share = settings.block_s // symbols
        return min(settings.block_s, max(LEAST_BLOCK_S, share - share % HOUR_S))  # hours are stored whole
    return min(settings.coarse_block_s, max(LEAST_COARSE_BLOCK_S, settings.coarse_block_s // symbols)) // bar_s


def named(bar_s: int) -> str:
    """`1h`"""
    return next(name for name, seconds in TIMEFRAMES.items() if seconds == bar_s)


def alike(told: Told, plan: Plan, strategy: StrategySettings | None) -> bool:
    """Whether that live run is the one that is asked for: the same symbols under the same settings.

    Where it is not, a backtest is another run, which knows nothing of the live one's starts and positions.
    """
    return told.symbols == plan.symbols and told.strategy is not None and told.strategy == strategy


class Backtest:
    """One run over a journal. Make it and call `run` once.

    Where a live run with the same symbols and settings began, the engine is started anew as the daemon's was: warmed from the
    journal, restored to the same state.
    """

    def __init__(
        self,
        store: JournalStore,
        config: Config,
        plan: Plan,
        *,
        watcher: Watcher | None = None,
        observer: Observer | None = None,
        as_told: bool = False,
        also: Sequence[Config] = (),
        brief: bool = False,
    ) -> None:
        """`also`: further configurations over the same flow, see `run_all`: they may differ in `[backtest]`, and in `[strategy]`
        as long as it reads the same history; what they share is made once. `as_told`: with the strategy's settings of each
        live run instead of the configuration's. `brief`: signals and trades without what explains them, for who reads only statistics.

        Raises ValueError where `config.backtest` contradicts itself.
        """
        if plan.bar_s > 1:
            config, also = config_in_bars(config, plan.bar_s), [config_in_bars(one, plan.bar_s) for one in also]
        self._store, self._config, self._plan = store, config, plan
        self._watcher, self._observer, self._as_told, self._brief = watcher, observer, as_told, brief
        source: Source = AsSeen(store)
        self._source: Source = Revised(source, config.bars.revisable_s) if plan.revised else source
        if plan.bar_s > 1:
            self._source = Coarse(self._source, plan.bar_s)
        self._told = [told for told in told_by(store) if plan.bar_s == 1 and self._alike(told)]
        self._others = _distinct([config, *also])[1:]
        strategies = [config.strategy, *(other.strategy for other in self._others)]
        self._papers = [(strategies.index(one.strategy), Paper(plan.symbols, one.backtest)) for one in (config, *also)]
        """Each with the place of the strategy whose signals it trades."""
        self._block = _block_of(config.backtest, len(plan.symbols), plan.bar_s)
        self._ticks = 0
        self._coverage = Coverage(plan.symbols, plan.bar_s)
        self._track = PriceTrack(len(plan.symbols))
        self.engine: Engine | None = None
        """The engine as a run left it."""

    def _alike(self, told: Told) -> bool:
        return alike(told, self._plan, told.strategy if self._as_told else self._config.strategy)

    def run(self, progress: Progress = lambda done, total: None) -> Result:
        """Warm up, run every block, and sum up."""
        return self.run_all(progress)[0]

    def run_all(self, progress: Progress = lambda done, total: None) -> list[Result]:
        """The same for every configuration: the first, then those of `also`."""
        plan, (first, last) = self._plan, self._plan.ticks
        signals: list[list[Signal]] = [[] for _ in range(1 + len(self._others))]
        starts = [told.tick for told in self._told if first < told.tick < last]
        engine = self._start(first)
        began = time.perf_counter()
        cuts = cuts_of(first, last, self._block, starts)
        for block in blocks(self._source, plan.symbols, cuts):
            if starts and starts[0] <= block.first:
                engine = self._start(starts[0])
                starts = [tick for tick in starts if tick > block.first]
                for _, paper in self._papers:
                    paper.portfolio.keep_only(engine.book())
            for mine, found in zip(signals, self._judge(engine, block), strict=True):
                mine += found
            progress(block.last - first, last - first)
        elapsed_s, self.engine = time.perf_counter() - began, engine
        self._coverage.add_markets(self._store, plan.first - 1, plan.last - 1)
        return [self._result(paper, signals[place], elapsed_s) for place, paper in self._papers]

    def _start(self, tick: int) -> Engine:
        """An engine as the daemon starts one before `tick`."""
        config, symbols = self._config, self._plan.symbols
        told = next((told for told in reversed(self._told) if told.tick <= tick), None)
        if told is not None and told.strategy is not None:
            config = msgspec.structs.replace(config, instance=told.instance, strategy=told.strategy)
        markets = self._registered() if told is None else told.markets
        engine = engine_for(config, markets, symbols, self._block, self._plan.bar_s)
        for other in self._others:
            engine.beside(strategy_of(other, symbols), other.strategy)
        for each in engine.everyone:
            each.brief = self._brief
        engine.observer = self._observer
        if told is not None and told.tick == tick:
            engine.warm(by_symbol(self._source, symbols, tick - 1 - engine.history_s, tick))
            if told.state is not None:
                engine.restore(told.state)
        else:
            self._lead_in(engine, tick)
        return engine

    def _lead_in(self, engine: Engine, tick: int) -> None:
        """Begin in the midst of a live run: what it remembered at `tick` is what it saw before, revisions at their time.

        Which positions it held is not known: the book begins empty.
        """
        first = tick - LEADS * engine.strategy.memory_s
        engine.warm(by_symbol(self._source, self._plan.symbols, first - 1 - engine.history_s, first))
        engine.observer = None
        engine.run([self._source.flow(symbol, first, tick) for symbol in self._plan.symbols])
        for each in engine.everyone:
            each.restore(EMPTY)
        engine.observer = self._observer

    def _registered(self) -> dict[str, list[str]]:
        """Markets by symbol, for journals that were imported: no live engine was told of them."""
        names: dict[str, list[str]] = {symbol: [] for symbol in self._plan.symbols}
        for market in self._store.markets():
            if market.base in names:
                names[market.base].append(market.name)
        return names

    def _judge(self, engine: Engine, block: Block) -> list[list[Signal]]:
        signals = engine.run_all(block.tables)
        self._ticks += block.ticks[1] - block.ticks[0]
        if block.empty and not self._track.began:
            return signals
        block = in_seconds(block, self._plan.bar_s)
        prices = self._track.of(block)
        for place, paper in self._papers:
            paper.curve.add(paper.portfolio.advance(prices, signals[place]), prices)
        self._coverage.add(block)
        if self._watcher is not None:
            self._watcher(block, prices)
        return signals

    def _result(self, paper: Paper, signals: list[Signal], elapsed_s: float) -> Result:
        portfolio = paper.portfolio
        if portfolio.waiting:
            portfolio.refused["range_ended"] += portfolio.waiting
        return Result(
            self._plan,
            signals,
            portfolio.trades,
            portfolio.still_open(),
            portfolio.refused,
            paper.curve,
            self._coverage,
            self._ticks * len(self._plan.symbols),
            elapsed_s,
        )
