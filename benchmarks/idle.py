"""What the daemon costs where little happens: 112 markets on 25 exchanges, 1,000 trades a second in all, plain loopback.

The load is a process that speaks all exchanges' wire formats; trades come one by one, a few in every 5 ms. The *daemon* runs as it
is: 5 symbols with 28 h of flow, journal, HTTP that nobody asks. The *floor* reads the same load by picows, the exchanges' decoders
(msgspec) and one slotted bar a market and second, and does nothing else: no closing, no strategy, no journal, no timers. Both are
processes that alternate; CPU time is the process's own (getrusage), after a warm-up, beside what they counted.

    python -m benchmarks.idle [--seconds 30] [--runs 1] [--rate 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

import exchanges
from benchmarks.harness import report
from benchmarks.wires import SlottedBar
from exchanges.api import BadMessage, Instrument, Trade
from sqfd.journal import JournalStore
from sqfd.model import market_of
from sqfd.sim import market as simulated
from sqfd.sim.listing import listed
from sqfd.sim.source import Burst, Recent, gather
from sqfd.sim.venues import Venues

SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE")
MARKETS = 112
WARM_S = 12.0
STEP_S = 0.005
LIMIT_PERCENT = 3.0


def chosen() -> list[Instrument]:
    """MARKETS of all that the exchanges usually list."""
    every = [one for name in exchanges.IDS for one in listed(exchanges.get(name), SYMBOLS)]
    return sorted(random.Random(1).sample(every, min(MARKETS, len(every))), key=lambda one: one.market)


# --- the load ----------------------------------------------------------------------------------------------------------


class Steady:
    """Trades of all markets at a rate that does not change; the first markets have most of them."""

    patient = False
    finished = False

    def __init__(self, instruments: Sequence[Instrument], rate_hz: float) -> None:
        self.instruments = instruments
        self._rate_hz, self._random = rate_hz, random.Random(1)
        self._shares = list(accumulate((1 + rank) ** -0.8 for rank in range(len(instruments))))
        self._ids = {one.market: 1_000 for one in instruments}
        self._recent = Recent(instruments)
        self._sent_ms = time.time() * 1e3

    def due(self, now_ms: float) -> list[Burst]:
        """What has become due."""
        count = int((now_ms - self._sent_ms) * self._rate_hz / 1e3)
        self._sent_ms += count * 1e3 / self._rate_hz
        drawn = self._random.choices(self.instruments, cum_weights=self._shares, k=count)
        return gather([self._trade(one, int(now_ms)) for one in drawn], [])

    def _trade(self, instrument: Instrument, ts_ms: int) -> Trade:
        self._ids[instrument.market] = number = self._ids[instrument.market] + 1
        price = round(100 + self._random.gauss(0.0, 0.1), 2)
        trade = Trade(instrument, ts_ms, price, round(self._random.expovariate(1.0) + 0.01, 3), number % 2 == 0, number)
        self._recent.add(trade)
        return trade

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        """For REST."""
        return self._recent.between(instrument, from_ms, to_ms)


class SystemTime:
    """The wall's time: what is stamped here is read by processes of this machine."""

    def now_ms(self) -> float:
        return time.time() * 1e3

    def wall_ms(self) -> float:
        return time.time() * 1e3

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def load(rate_hz: float) -> None:
    """Print the addresses and serve until killed."""
    instruments = chosen()
    used = sorted({one.exchange for one in instruments})
    venues = Venues([exchanges.get(name) for name in used], Steady(instruments, rate_hz), SystemTime(), step_s=STEP_S)
    print(orjson.dumps(await venues.start()).decode(), flush=True)
    await venues.failed()


# --- what is measured ------------------------------------------------------------------------------------------------


class Reader(WSListener):
    """One connection of the floor."""

    def __init__(self, floor: Floor, decoder: Any) -> None:
        super().__init__()
        self._floor, self._decoder = floor, decoder

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return
        try:
            events = self._decoder.decode(frame.get_payload_as_memoryview(), 0)
        except BadMessage:
            return
        for event in events:
            if type(event) is Trade:
                self._floor.add(event)


class Floor:
    """All connections and their bars."""

    def __init__(self) -> None:
        self.trades = 0
        self._bars: dict[tuple[Instrument | str, int], SlottedBar] = {}
        self._readers: list[tuple[WSTransport, Reader]] = []

    async def connect(self, addresses: dict[str, dict[str, str]]) -> None:
        """One connection for each endpoint, all its topics on it."""
        by_endpoint: dict[tuple[str, str], list[Instrument]] = {}
        for one in chosen():
            by_endpoint.setdefault((one.exchange, one.endpoint), []).append(one)
        for (name, endpoint), instruments in by_endpoint.items():
            exchange = type(exchanges.get(name))(addresses[name])
            decoder = exchange.decoder(endpoint, {one.symbol: one for one in instruments})
            reader = Reader(self, decoder)
            url = exchange.connect(endpoint, int(time.time() * 1e3))
            url = addresses[name][endpoint] if not isinstance(url, str) else url
            transport, _ = await ws_connect(lambda reader=reader: reader, url, websocket_handshake_timeout=30)  # type: ignore[misc]
            topics = list(dict.fromkeys(stream.topic for one in instruments for stream in exchange.streams(one, False)))
            for frame in decoder.subscribe(topics, int(time.time() * 1e3)):
                kind = WSMsgType.TEXT if isinstance(frame, str) else WSMsgType.BINARY
                transport.send(kind, frame.encode() if isinstance(frame, str) else frame)
            self._readers.append((transport, reader))

    def add(self, trade: Trade) -> None:
        """The least that is done with a trade."""
        self.trades += 1
        price, value = trade.price, trade.price * trade.size
        key = (trade.instrument.market, trade.ts_ms // 1000)
        bar = self._bars.get(key)
        if bar is None:
            if len(self._bars) > 2_000:
                self._bars.clear()
            bar = self._bars[key] = SlottedBar(price)
        if trade.buy:
            bar.vbuy += value
            bar.cbuy += 1
        else:
            bar.vsell += value
            bar.csell += 1
        bar.high, bar.low, bar.close = max(price, bar.high), min(price, bar.low), price


async def floor(addresses: dict[str, dict[str, str]], seconds: float) -> dict[str, float]:
    """CPU seconds and trades over `seconds`."""
    reading = Floor()
    await reading.connect(addresses)
    await asyncio.sleep(WARM_S / 2)
    before, cpu = reading.trades, time.process_time()
    await asyncio.sleep(seconds)
    return {"cpu_s": time.process_time() - cpu, "trades": reading.trades - before, "live": len(reading._readers)}


async def daemon(addresses: dict[str, dict[str, str]], seconds: float, folder: Path) -> dict[str, float]:
    """The same of the daemon, as `sqfd run` has it."""
    from sqfd import log
    from sqfd.config import Config, SymbolsSettings
    from sqfd.daemon import Daemon
    from sqfd.feed.settings import FeedSettings
    from sqfd.heap import settle, share_one
    from sqfd.http.settings import HttpSettings
    from tests.ports import free_port

    share_one()
    log.configure("error", "logfmt")
    config = Config(
        symbols=SymbolsSettings(symbols=SYMBOLS, markets=tuple(one.market for one in chosen())),
        feed=FeedSettings(addresses=addresses),
        http=HttpSettings(port=free_port()),
    )
    running = Daemon(config, folder)
    task = asyncio.get_running_loop().create_task(running.run())
    await running.ready.wait()
    settle()
    await asyncio.sleep(WARM_S)
    before, cpu = running.counts().aggregated, time.process_time()
    await asyncio.sleep(seconds)
    assert not task.done(), task
    found = {"cpu_s": time.process_time() - cpu, "trades": running.counts().aggregated - before}
    found["live"] = running.status().live
    running.stop()
    await task
    return found


def write_past(folder: Path) -> None:
    """28 h of flow, so that every window is full."""
    store, now = JournalStore(folder, bulk=True), int(time.time())
    store.register([market_of(one) for one in chosen()], SYMBOLS)
    start = (now - 28 * 3600) // 3600 * 3600
    for index, symbol in enumerate(SYMBOLS):
        store.load_flow(simulated.Market(symbol, 7, start).flow(start, now - 60, index))
    store.close()


# --- runs ------------------------------------------------------------------------------------------------------------


def run(role: str, addresses: str, seconds: float) -> dict[str, float]:
    """One measurement in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="sqfd-idle-") as folder:
        if role == "daemon":
            write_past(Path(folder))
        command = [sys.executable, "-m", "benchmarks.idle", "--role", role, "--seconds", str(seconds)]
        done = subprocess.run(
            [*command, "--folder", folder, "--addresses", addresses], stdout=subprocess.PIPE, check=True
        )
    return dict(orjson.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--role", choices=("load", "floor", "daemon"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--addresses")
    options = parser.parse_args()
    if options.role == "load":
        uvloop.run(load(options.rate))
        return
    if options.role:
        addresses = orjson.loads(options.addresses)
        if options.role == "floor":
            measured = floor(addresses, options.seconds)
        else:
            measured = daemon(addresses, options.seconds, options.folder)
        print(orjson.dumps(uvloop.run(measured)).decode(), flush=True)
        return
    command = [sys.executable, "-m", "benchmarks.idle", "--role", "load", "--rate", str(options.rate)]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    found: dict[str, list[dict[str, float]]] = {"floor": [], "daemon": []}
    try:
        line = serving.stdout.readline().strip()
        for _ in range(options.runs):
            for role, results in found.items():
                results.append(run(role, line, options.seconds))
    finally:
        serving.kill()
        serving.wait()
    rows = []
    for role, results in found.items():
        share = [100 * one["cpu_s"] / options.seconds for one in results]
        rows.append(
            {
                "what": role,
                "CPU %": round(float(np.median(share)), 2),
                "least": round(min(share), 2),
                "most": round(max(share), 2),
                "trades/s": round(float(np.median([one["trades"] for one in results])) / options.seconds),
                "live markets (floor: connections)": int(results[-1]["live"]),
            }
        )
    used = len({one.exchange for one in chosen()})
    title = f"idle: {MARKETS} markets on {used} exchanges, {options.rate:.0f} trades/s in all; limit {LIMIT_PERCENT} %"
    report("idle", title, rows)


if __name__ == "__main__":
    main()
