"""kill -9 at any instant: a restarted run goes on with the sequence of signals that an undisturbed twin gives."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest

import exchanges
from sqfd.config import Config, SymbolsSettings
from sqfd.journal import Batch, JournalStore
from sqfd.model import BAR, FLOW, Flow, market_of
from sqfd.sim.history import world
from sqfd.wiring import engine_for, journaled
from tests.waiting import PATIENCE_S

FORK = multiprocessing.get_context("fork")
SYMBOLS = ("BTC", "ETH")
CONFIG = Config(symbols=SymbolsSettings(symbols=SYMBOLS))
NOW = 1_723_075_200 + 40 * 3_600 + 1_234
TICKS = 400
NO_BARS = np.zeros(0, BAR)


@pytest.fixture(scope="module")
def simulated():
    """(markets, a day of flow before NOW, the flow of the ticks after it) with squeezes that run in them."""
    made = world([exchanges.get("BINANCE"), exchanges.get("BINANCE_FUTURES")], SYMBOLS, 1, NOW)
    history = made.history(NOW)
    parts = [tape.market.flow(NOW, NOW + TICKS, index) for index, tape in enumerate(made.tapes)]
    return [market_of(one) for one in history.markets], history.flow, np.concatenate(parts)


def run(folder: Path, live: Flow, progress) -> None:
    """A daemon without its feeds: take up where the journal ends, then tick, journaling each tick as the daemon does."""
    store = JournalStore(folder, bulk=True)
    store.register(store.markets(), SYMBOLS)
    engine = engine_for(CONFIG, {symbol: [] for symbol in SYMBOLS})
    last = store.last_tick()
    for index, symbol in enumerate(SYMBOLS):
        engine.warm(store.flow(symbol, last - engine.history_s, last + 1, index=index).rows)
    if (positions := store.positions()) is not None:
        engine.restore(positions)
    seq = store.last_seq()
    for tick in range(last + 1, NOW + TICKS + 1):
        rows = live[live["second"] == tick - 1]
        signals = engine.tick(tick, rows)
        records = [journaled(signal, seq + n) for n, signal in enumerate(signals, 1)]
        seq += len(signals)
        store.append(Batch(tick, NO_BARS, rows, records, engine.positions() if signals else None))
        progress.value = tick
    store.close()


def started(folder: Path, live: Flow):
    progress = FORK.Value("q", 0, lock=False)
    process = FORK.Process(target=run, args=(folder, live, progress))
    process.start()
    return process, progress


def prepared(folder: Path, markets, history: Flow) -> Path:
    store = JournalStore(folder, bulk=True)
    store.register(markets, SYMBOLS)
    store.load(NO_BARS, history)
    store.close()
    return folder


def told(folder: Path) -> list[tuple[int, bytes]]:
    store = JournalStore(folder, read_only=True)
    found = [(signal.seq, signal.line) for signal in store.signals()]
    store.close()
    return found


def test_the_signals_go_on_as_if_nothing_had_been(tmp_path, simulated):
    """Killed at five random instants: signals, numbers and bytes equal those of the twin, none twice, none missing."""
    markets, history, live = simulated
    twin, killed = (prepared(tmp_path / name, markets, history) for name in ("twin", "killed"))
    process, _ = started(twin, live)
    process.join()
    assert process.exitcode == 0
    rng = random.Random(1)
    kills = 0
    deadline = time.monotonic() + PATIENCE_S
    while True:
        process, progress = started(killed, live)
        target = rng.randrange(TICKS) + NOW
        while process.is_alive() and (kills >= 5 or progress.value < target):
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        if not process.is_alive():
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert kills >= 3
    expected = told(twin)
    assert len(expected) >= 2, "the squeezes gave no signals"
    assert told(killed) == expected
    assert FLOW.names is not None
    for symbol in SYMBOLS:
        stores = [JournalStore(folder, read_only=True) for folder in (twin, killed)]
        first, second = (store.flow(symbol, 0, 2**40) for store in stores)
        assert first.rows.tolist() == second.rows.tolist()
        for store in stores:
            store.close()
