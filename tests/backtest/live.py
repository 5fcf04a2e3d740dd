"""A live run without sockets: trades that come late and out of order through bars, flow, engine and journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from exchanges.api import Instrument, Trade
from sqfd.bars.seconds import Seconds
from sqfd.config import Config, SymbolsSettings
from sqfd.engine import Engine
from sqfd.journal import Batch, JournalStore
from sqfd.model import Flow, Market
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import SqueezeFlow
from sqfd.wiring import engine_for, engine_note, journaled
from tests.flows import START, noise
from tests.test_engine import SHORT_WINDOWS

SECONDS = 1_800
"""Of the shared live run."""
SYMBOLS = ("BTC", "ETH")
MARKETS = tuple(
    Market(exchange, f"{symbol.lower()}usdt", kind, symbol, "USDT")
    for symbol in SYMBOLS
    for exchange, kind in (("BINANCE", "spot"), ("BINANCE_FUTURES", "perp"))
)


def config(strategy: StrategySettings = SHORT_WINDOWS, symbols: Sequence[str] = SYMBOLS) -> Config:
    """Two symbols, quick windows, one place in the book."""
    return Config(instance="live-1", symbols=SymbolsSettings(symbols=tuple(symbols)), strategy=strategy)


INSTRUMENT = Instrument("BINANCE", "btcusdt", "BTCUSDT", "spot", "BTC", "USDT", "trades")
"""Of every made trade: bars are told apart by the market's index."""


def markets_of(symbols: Sequence[str]) -> dict[str, list[str]]:
    return {symbol: [m.name for m in MARKETS if m.base == symbol] for symbol in symbols}


class Live:
    """The daemon's stages, told of trades by hand."""

    def __init__(self, folder: Path, chosen: Config) -> None:
        self.store = JournalStore(folder, bulk=True)
        self.config = chosen
        self.symbols = chosen.symbols.symbols
        self.seconds = Seconds(self.symbols, revisable_s=chosen.bars.revisable_s)
        self.seconds.add_markets(MARKETS)
        self.store.register(MARKETS, self.symbols)
        self.lines: list[bytes] = []
        self.engine = self._start()

    def _start(self) -> Engine:
        """As the daemon starts: warm from the journal, with its positions."""
        engine, state = engine_for(self.config, markets_of(self.symbols)), self.store.positions()
        last = self.store.last_tick()
        named = list(enumerate(self.symbols))
        flows = [self.store.flow(name, last - engine.history_s, last + 1, index=index).rows for index, name in named]
        engine.warm(np.concatenate(flows))
        if state is not None:
            engine.restore(state)
        self.store.note_engine(last + 1, engine_note(self.config, markets_of(self.symbols), state))
        return engine

    def restart(self) -> None:
        """Stop and start again."""
        self.engine = self._start()

    def reload(self, strategy: StrategySettings) -> None:
        """Other settings while it runs."""
        self.config = msgspec.structs.replace(self.config, strategy=strategy)
        self.engine.use(SqueezeFlow(strategy, self.symbols), strategy)
        note = engine_note(self.config, markets_of(self.symbols), self.engine.positions())
        self.store.note_engine(self.store.last_tick() + 1, note)

    def trade(self, market: int, ts_ms: int, price: float, notional: float, buy: bool) -> None:
        trade = Trade(INSTRUMENT, ts_ms, price, notional / price, buy)
        self.seconds.builder.trade(market, trade)

    def close(self, whole: Sequence[bool] = (True,) * len(MARKETS)) -> None:
        """One second is over."""
        closed = self.seconds.close(lambda second: np.array(whole))
        self.judge(closed.tick, closed.second.bars, closed.flow, closed.second.whole)

    def judge(self, tick: int, bars: np.ndarray, flow: Flow, whole: np.ndarray | None) -> None:
        """What the daemon does with a closed second."""
        signals = self.engine.tick(tick, flow)
        records = [journaled(signal, len(self.lines) + number + 1) for number, signal in enumerate(signals)]
        self.lines += [record.line for record in records]
        positions = self.engine.positions() if signals else None
        self.store.append(Batch(tick, bars, flow, records, positions, whole))


def trades_of(seconds: int, seed: int, late: float = 0.01) -> list[list[tuple[int, int, float, float, bool]]]:
    """By second of arrival: (market, ts_ms, price, notional, buy) of noise, some of which arrive up to 400 s late."""
    rng = np.random.default_rng(seed)
    arriving: list[list[tuple[int, int, float, float, bool]]] = [[] for _ in range(seconds)]
    for symbol in range(len(SYMBOLS)):
        for at, row in enumerate(noise(seconds, seed * 10 + symbol)):
            price = float(np.exp(row["price"] / 1e9))
            for place, name in enumerate(("spot_delta", "perp_delta")):
                cents = int(row[name])
                ts_ms = (START + at) * 1000 + int(rng.integers(0, 1000))
                made = (symbol * 2 + place, ts_ms, price, abs(cents) / 100 + 0.01, cents > 0)
                delay = int(rng.integers(1, 400)) if rng.random() < late else 0
                if at + delay < seconds:
                    arriving[at + delay].append(made)
    for trades in arriving:
        rng.shuffle(trades)  # type: ignore[arg-type]  # shuffles any list in place
    return arriving


def lived(
    folder: Path,
    chosen: Config,
    seconds: int,
    seed: int,
    restarts: Sequence[int] = (),
    down_s: int = 0,
    reloads: Mapping[int, StrategySettings] | None = None,
    late: float = 0.01,
) -> Live:
    """A live run of `seconds`, restarted at each of `restarts` after `down_s` without a closed second, with other settings
    from each of `reloads` on."""
    live = Live(folder, chosen)
    rng = np.random.default_rng(seed)
    pause = {at + offset for at in restarts for offset in range(down_s)}
    for at, trades in enumerate(trades_of(seconds, seed, late)):
        if at in restarts:
            live.restart()
        if at in pause:
            if at + 1 not in pause:
                live.seconds.builder.start(START + at + 1)
            continue
        if reloads and at in reloads:
            live.reload(reloads[at])
        for trade in trades:
            live.trade(*trade)
        live.close([bool(whole) for whole in rng.random(len(MARKETS)) > 0.0005])
    return live
