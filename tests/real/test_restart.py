"""The whole daemon, killed with -9 and started again on one market: its signals go on as those of an undisturbed twin."""

from __future__ import annotations

import json
import os
import random
import shutil
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


@pytest.mark.skipif("SQFD_SOAK" not in os.environ, reason="takes a minute or two: `make soak`")
def test_signals_are_those_of_an_undisturbed_daemon(tmp_path: Path) -> None:
    """Two daemons on one market, one killed three times: the same entries and exits in the same order, save while it was down."""
    states = tmp_path / "killed", tmp_path / "twin"
    with SimulatedExchanges(EXCHANGES, SYMBOLS, seed=3, speed=5.0, journal=states[0]) as served:
        shutil.copytree(states[0], states[1])
        path = configured(tmp_path, served, "[strategy]\nmin_coverage = 0.5\n")
        killed, twin = (DaemonProcess(path, state, served) for state in states)
        began, rng = killed.last_tick() + 1, random.Random(7)
        try:
            twin.start()
            for _ in range(3):
                killed.start()
                killed.until(killed.last_tick() + rng.randint(60, 240))
                killed.kill()
            killed.start()
            killed.until(began + 1_500)
            assert (killed.stop(), twin.stop()) == (0, 0)
        finally:
            killed.end()
            twin.end()
    stores = [JournalStore(state, read_only=True) for state in states]
    pauses = stores[0].pauses(began)
    lived, whole = (
        [
            (one["symbol"], one["action"])
            for one in map(json.loads, (line for _, line in told(store)))
            if not _within(one["second"], pauses)
        ]
        for store in stores
    )
    assert lived == whole
    assert ("BTCUSDT", "CLOSE") in lived, "the positions did not end"


def _within(second: int, pauses: list[tuple[int, int]]) -> bool:
    return any(first <= second < last for first, last in pauses)
