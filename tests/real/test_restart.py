"""The whole daemon, killed with -9 and started again on one market: its signals are those of an engine in one piece."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sqfd.backtest.run import told_by
from sqfd.config import Config, load
from sqfd.journal import JournalStore
from sqfd.sim.process import Ready, SimulatedExchanges
from sqfd.wiring import engine_for, journaled
from tests.real.daemons import DaemonProcess

QUICK = """
[strategy]
min_entry_score = 1.0
cooldown_s = 2
exit_lookback_s = 20
reversal_spot = 0.0
reversal_perp = 0.0
new_extreme_s = 5
structure_s = 20
min_coverage = 0.0
"""
"""The usual windows, with positions that end after half a minute and begin anew: many signals in little time."""
EXCHANGES = ("BINANCE", "BINANCE_FUTURES")
SYMBOLS = ("BTC", "ETH")


def configured(folder: Path, served: Ready, strategy: str) -> Path:
    """A configuration on the loopback exchanges, without servers behind it."""
    text = f"[symbols]\nsymbols = {json.dumps(SYMBOLS)}\nexchanges = {json.dumps(EXCHANGES)}\n[http]\nenabled = false\n{strategy}"
    for exchange, addresses in served.addresses.items():
        text += f"\n[feed.addresses.{exchange}]\n" + "".join(f'{k} = "{v}"\n' for k, v in addresses.items())
    path = folder / "sqfd.toml"
    path.write_text(text)
    return path


def seconds_of(line: bytes) -> int:
    return int(json.loads(line)["second"])


def told(store: JournalStore) -> list[tuple[int, bytes]]:
    return [(signal.seq, signal.line) for signal in store.signals(limit=100_000)]


def signalled_since(state: Path, second: int) -> int:
    """How many signals the journal has from `second` on."""
    store = JournalStore(state, read_only=True)
    try:
        return sum(seconds_of(line) >= second for _, line in told(store))
    finally:
        store.close()


def in_one_piece(store: JournalStore, config: Config, history_end: int) -> list[tuple[int, bytes]]:
    """The signals of an engine that was never restarted, on the seconds that the journal has."""
    engine = engine_for(config, told_by(store)[0].markets)
    flows = [store.flow(symbol, 0, 1 << 40, index=index) for index, symbol in enumerate(SYMBOLS)]
    ticks, rows = (np.concatenate(parts) for parts in zip(*flows, strict=True))
    engine.warm(rows[ticks < history_end])
    signals = []
    for tick in np.unique(ticks[ticks >= history_end]).tolist():
        signals += engine.tick(tick, rows[ticks == tick])
    return [(seq, journaled(signal).line) for seq, signal in enumerate(signals, 1)]


@pytest.fixture
def market(tmp_path: Path) -> Iterator[tuple[Ready, Path]]:
    """Simulated exchanges at ten times real time, and a journal with the day before."""
    state = tmp_path / "killed"
    with SimulatedExchanges(EXCHANGES, SYMBOLS, seed=3, speed=10.0, journal=state) as served:
        yield served, state


def test_signals_go_on_after_kill_9(market: tuple[Ready, Path], tmp_path: Path) -> None:
    """Killed twice at any instant: what it signalled equals, byte by byte, an engine in one piece on its journal."""
    served, state = market
    path = configured(tmp_path, served, QUICK)
    daemon, rng = DaemonProcess(path, state, served), random.Random(5)
    began, lives = daemon.last_tick() + 1, list[tuple[int, int]]()
    try:
        for _ in range(2):
            daemon.start()
            first = daemon.last_tick()
            daemon.until(first + 25)
            time.sleep(rng.random())
            daemon.kill()
            lives.append((first, daemon.last_tick()))
        daemon.start()
        for _ in range(
            24
        ):  # what signals there are depends on which seconds it was down: on a busy machine on other ones
            daemon.until(daemon.last_tick() + 25)
            if signalled_since(state, lives[1][0]) >= 2:
                break
        assert daemon.stop() == 0
    finally:
        daemon.end()
    store = JournalStore(state, read_only=True)
    config = load(path, environment={"HOME": str(tmp_path)}).config
    signals, expected = told(store), in_one_piece(store, config, began)
    pauses = store.pauses(began)
    store.close()
    assert signals == expected
    assert len(pauses) == 3, "the day before, and twice a life that was cut off"
    assert sum(seconds_of(line) >= lives[1][0] for _, line in signals) >= 2, "too few signals after a restart to tell"
