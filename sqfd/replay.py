"""Recorded frames through the daemon's own stages, on a virtual clock: decode → bars → flow → strategy → journal.

Time is the recorded receive time: seconds close exactly when they would have closed live. Markets are those that the frames
speak of; symbols are those that are configured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import exchanges
from exchanges.api import BadMessage, Event, Excluded, Instrument, Liquidation, Malformed, Past, Trade, Unknown
from sqfd.bars.seconds import Closed, Seconds
from sqfd.config import Config
from sqfd.engine import Engine
from sqfd.feed.intake import Counts, Intake, Source
from sqfd.feed.recorded import Decoders, Recorded
from sqfd.journal import Batch, JournalStore
from sqfd.model import market_of
from sqfd.signals.signal import Signal
from sqfd.wiring import engine_for, engine_note, journaled, symbols_of

DATA = (Trade, Liquidation, Past, Malformed, Excluded, Unknown)
"""Events that the intake takes; the others concern the connection, which is not replayed."""
TICKS_AT_ONCE = 600
"""Ticks in one transaction: a replay can be repeated, so that it need not be durable each second."""


class Summary(NamedTuple):
    """What came of a replay."""

    frames: int
    unreadable: int
    """Frames that no decoder could read."""
    counts: Counts
    excluded: Mapping[str, int]
    ticks: int
    bars: int
    """Bars stored, revisions included."""
    revisions: int
    signals: int
    markets: Sequence[str]


class _Met(dict[tuple[str, str], Mapping[str, Instrument]]):
    """Instruments per (exchange, endpoint), announced to `meet` when a frame first speaks of them."""

    def __init__(self, known: Sequence[Instrument] | None, meet: Callable[[Instrument], None]) -> None:
        super().__init__()
        self._known = known
        self._meet = meet

    def __missing__(self, key: tuple[str, str]) -> Mapping[str, Instrument]:
        known = None
        if self._known is not None:
            known = {i.symbol: i for i in self._known if (i.exchange, i.endpoint) == key}
        symbols = self[key] = _Symbols(key, known, self._meet)
        return symbols


class _Symbols(dict[str, Instrument]):
    def __init__(
        self, key: tuple[str, str], known: Mapping[str, Instrument] | None, meet: Callable[[Instrument], None]
    ) -> None:
        super().__init__()
        self._exchange = exchanges.get(key[0])
        self._known = known
        self._meet = meet

    def get(self, symbol: str, default: object = None) -> Instrument | None:  # type: ignore[override]  # never default
        if symbol not in self:
            made = self._exchange.assume(symbol) if self._known is None else self._known.get(symbol)
            if made is None:
                return None
            self[symbol] = made
            self._meet(made)
        return self[symbol]


class Replay:
    """The stages, wired to recorded frames."""

    def __init__(self, config: Config, store: JournalStore, instruments: Sequence[Instrument] | None = None) -> None:
        """`instruments`: what was listed when the frames were recorded; None: as the exchanges' names say."""
        symbols = symbols_of(config)
        self._store = store
        self._seconds = Seconds(symbols, config.feed.grace_s, config.bars.revisable_s)
        self._intake = Intake(self._seconds.builder, self._seconds.watermark)
        self._engine: Engine = engine_for(config, {symbol: [] for symbol in symbols})
        self._note: bytes | None = engine_note(config, {}, None)
        self._symbols = symbols
        self._decoders = Decoders(_Met(instruments, self._meet))
        self._sources: dict[tuple[str, str, tuple[str, int]], Source] = {}
        self._first_seq = store.last_seq() + 1
        self._batches: list[Batch] = []
        self._met: list[Instrument] = []
        self._count: Counter[str] = Counter()
        self.signals: list[Signal] = []

    def _meet(self, instrument: Instrument) -> None:
        market = market_of(instrument)
        (index,) = self._seconds.add_markets([market])
        endpoint = exchanges.get(instrument.exchange).endpoint(instrument.endpoint)
        self._intake.add(index, instrument, endpoint)
        self._met.append(instrument)

    def run(self, frames: Iterable[Recorded], progress: Callable[[int], None] = lambda frames: None) -> Summary:
        """Replay all frames and close every second that they touch. `progress` is told the frames so far."""
        for recorded in frames:
            self._count["frames"] += 1
            for closed in self._seconds.due(recorded.recv_ms, self._whole):
                self._tick(closed)
            self._frame(recorded)
            if self._count["frames"] % 1000 == 0:
                progress(self._count["frames"])
        while self._seconds.builder.unclosed:
            self._tick(self._seconds.close(self._whole))
        self._write()
        return self._summary()

    def _frame(self, recorded: Recorded) -> None:
        endpoint, decoder = self._decoders.of(recorded)
        try:
            events = decoder.decode(recorded.frame, int(recorded.recv_ms))
        except BadMessage as error:
            self._count["unreadable"] += 1
            events = [Malformed(str(error))]
        by_endpoint: dict[str, list[Event]] = {}
        for event in events:
            if isinstance(event, DATA):
                place = event.instrument.endpoint if isinstance(event, Trade | Liquidation) else endpoint
                by_endpoint.setdefault(place, []).append(event)
        for place, data in by_endpoint.items():
            self._intake.take(self._source(recorded, place), data, recorded.recv_ms)

    def _source(self, recorded: Recorded, endpoint: str) -> Source:
        key = (recorded.exchange, endpoint, recorded.connection)
        if key not in self._sources:
            self._sources[key] = self._intake.source(recorded.exchange, endpoint)
        return self._sources[key]

    def _whole(self, second: int) -> NDArray[np.bool_]:
        """A recording does not say what was missing: everything counts as whole."""
        return np.ones(len(self._seconds.markets), np.bool_)

    def _tick(self, closed: Closed) -> None:
        if self._note is not None:
            self._store.note_engine(closed.tick, self._note)
            self._note = None
        signals = self._engine.tick(closed.tick, closed.flow)
        self.signals += signals
        records = [journaled(signal, self._first_seq + number) for number, signal in enumerate(signals)]
        self._first_seq += len(signals)
        positions = self._engine.positions() if signals else None
        self._batches.append(
            Batch(closed.tick, closed.second.bars, closed.flow, records, positions, closed.second.whole)
        )
        self._count["ticks"] += 1
        self._count["bars"] += len(closed.second.bars)
        self._count["revisions"] += int(np.count_nonzero(closed.second.bars["second"] != closed.second.second))
        if len(self._batches) >= TICKS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        if self._met:
            self._store.register(self._seconds.markets, self._symbols)
            self._met.clear()
        self._store.append_all(self._batches)
        self._batches.clear()

    def _summary(self) -> Summary:
        return Summary(
            self._count["frames"],
            self._count["unreadable"],
            self._intake.totals(),
            self._intake.excluded(),
            self._count["ticks"],
            self._count["bars"],
            self._count["revisions"],
            len(self.signals),
            [market.name for market in self._seconds.markets],
        )
