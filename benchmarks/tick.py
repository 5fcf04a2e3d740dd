"""From the close of a second to the signal at a Redis subscriber: 112 markets, 10 symbols, 28 h of flow, a real Redis.

The daemon's own stages run in its order: close → flow → five phases of all symbols → journal and publisher → Redis. So that
every tick can be measured, a probe signal of the first symbol goes the whole way each second. Beside it, in the same run, the
floor: publishing the same line with nothing before it. The subscriber is another process.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvloop
from redis.asyncio import Redis

from benchmarks.harness import quantiles_ms, report
from exchanges.api import Instrument, Trade
from sqfd.bars.seconds import Seconds
from sqfd.clock import SystemClock
from sqfd.config import Config, SymbolsSettings
from sqfd.engine import Engine
from sqfd.heap import settle, share_one
from sqfd.journal import JournaledSignal
from sqfd.journal.journal import Journal
from sqfd.model import Market, market_of
from sqfd.signals.redis import RedisPublisher
from sqfd.signals.settings import RedisSettings
from sqfd.sim import market as simulated
from sqfd.wiring import engine_for
from tests.real.servers import RedisServer

SYMBOLS = tuple(f"S{number}" for number in range(10))
MARKETS = 112
ACTIVE = 45
"""Markets that trade in a second."""
TICKS = 300
FLOOR = 300
PAUSE_S = 0.02
"""Between two ticks, so that marks and housekeeping are done, as they are after a second."""
SUBSCRIBER = """
import redis, sys, time
listener = redis.Redis(port=int(sys.argv[1])).pubsub(ignore_subscribe_messages=True)
listener.subscribe("signals")
print("ready", flush=True)
for _ in listener.listen():
    print(time.monotonic_ns(), flush=True)
"""


def instruments() -> list[Instrument]:
    """Markets spread over the symbols, spot and perp in turn."""
    return [
        Instrument("X", f"m{number}", f"M{number}", "perp" if number % 2 else "spot", SYMBOLS[number % 10], "USDT", "x")
        for number in range(MARKETS)
    ]


class Receiver:
    """The subscriber process; `next` gives the time at which it had the next message."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", SUBSCRIBER, str(port)], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._lines.readline()

    async def next(self) -> int:
        return int(await asyncio.to_thread(self._lines.readline))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._lines.close()


def fill(seconds: Seconds, traded: Sequence[Instrument], second: int, rng: np.random.Generator) -> None:
    """One second's trades: ACTIVE markets with a few trades each."""
    for market in rng.choice(MARKETS, ACTIVE, replace=False).tolist():
        for _ in range(3):
            ts_ms = second * 1000 + int(rng.integers(1000))
            price = 100.0 * (1 + 1e-4 * float(rng.standard_normal()))
            trade = Trade(traded[market], ts_ms, price, float(rng.exponential(10.0)), bool(rng.integers(2)), ts_ms)
            seconds.builder.trade(market, trade)


def warmed(config: Config, markets: Sequence[Market], now: int) -> Engine:
    """An engine whose rings are full."""
    engine = engine_for(config, {s: [m.name for m in markets if m.base == s] for s in SYMBOLS})
    start = (now - engine.history_s) // 3600 * 3600
    for index, symbol in enumerate(SYMBOLS):
        engine.warm(simulated.Market(symbol, 7, start).flow(start, now, index))
    return engine


async def measure(folder: Path, port: int) -> tuple[list[float], list[float], list[float], float]:
    """(close → subscriber, close → handed over, floor) in seconds, and CPU seconds of all ticks."""
    config = Config(symbols=SymbolsSettings(symbols=SYMBOLS))
    traded = instruments()
    markets = [market_of(instrument) for instrument in traded]
    now = int(time.time()) // 3600 * 3600
    engine = warmed(config, markets, now)
    seconds = Seconds(SYMBOLS)
    seconds.add_markets(markets)
    seconds.builder.start(now)
    journal = await Journal.open(folder)
    await journal.register(markets, SYMBOLS)
    settings = RedisSettings(port=port)
    publisher = RedisPublisher(settings, journal, SystemClock())
    running = asyncio.create_task(publisher.run())
    receiver = Receiver(port)
    settle()
    rng = np.random.default_rng(1)
    whole = np.ones(MARKETS, np.bool_)
    to_subscriber, to_sinks, cpu = [], [], 0.0
    for number in range(TICKS):
        fill(seconds, traded, now + number, rng)
        cpu_before, begun = time.process_time(), time.monotonic_ns()
        closed = seconds.close(lambda _: whole)
        engine.tick(closed.tick, closed.flow)
        records = journal.number([_probe(closed.tick)])
        publisher.offer(records)
        journal.append(closed.tick, closed.second.bars, closed.flow, records, None, whole)
        to_sinks.append((time.monotonic_ns() - begun) / 1e9)
        cpu += time.process_time() - cpu_before
        to_subscriber.append((await receiver.next() - begun) / 1e9)
        await journal.flush()  # a second later it is done
        await asyncio.sleep(PAUSE_S)
    floor = await _floor(port, receiver)
    receiver.end()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await journal.close()
    return to_subscriber, to_sinks, floor, cpu


def _probe(tick: int) -> JournaledSignal:
    line = b'{"signal_id":"%d","reasoning":"%s"}' % (tick, b"x" * 1500)
    return JournaledSignal(str(tick), tick, tick - 1, 0, "S0USDT", tick + 10**9, line)


async def _floor(port: int, receiver: Receiver) -> list[float]:
    """PUBLISH of a line of the same length, alone."""
    client = Redis(port=port)
    line = _probe(1_700_000_000).line
    taken = []
    for _ in range(FLOOR):
        begun = time.monotonic_ns()
        await client.publish("signals", line)
        taken.append((await receiver.next() - begun) / 1e9)
        await asyncio.sleep(PAUSE_S)
    await client.aclose()
    return taken


def main() -> None:
    """Measure once and print."""
    share_one()
    with tempfile.TemporaryDirectory(prefix="sqfd-tick-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            to_subscriber, to_sinks, floor, cpu = uvloop.run(measure(Path(folder) / "state", server.port))
        finally:
            server.stop()
    ratio = float(np.median(to_subscriber) / np.median(floor))
    rows = [
        {"path": "close → message at the Redis subscriber", "ticks": TICKS, **quantiles_ms(to_subscriber)},
        {"path": "  of which close → handed to the sinks", "ticks": TICKS, **quantiles_ms(to_sinks)},
        {"path": "floor: PUBLISH → message at the subscriber", "ticks": FLOOR, **quantiles_ms(floor)},
    ]
    per_symbol = cpu / TICKS / len(SYMBOLS) * 1e3
    title = (
        f"tick: {MARKETS} markets, {len(SYMBOLS)} symbols with 28 h of flow; {ratio:.1f} × the floor (medians); "
        f"{per_symbol:.2f} ms CPU per symbol and tick"
    )
    report("tick", title, rows)


if __name__ == "__main__":
    main()
