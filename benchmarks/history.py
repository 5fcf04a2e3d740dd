"""An hour of 1-second bars of one market through `/historical`, from the journal and from InfluxDB: request to last byte.

A whole daemon answers, on simulated exchanges, with 112 markets of which one is asked for; its journal has the hour, a real
influxd the same hour of the day before. Requests to both alternate on one connection each, from this process. Beside them
what the same bars take as a bare query of InfluxDB, and as a `SELECT` of SQLite: the floors. The system that sqfd replaces took 50 ms.

    python -m benchmarks.history [--requests 60]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np

import exchanges
from benchmarks.harness import quantiles_ms, report
from sqfd.influx.client import Client
from sqfd.influx.lines import bar_lines, blocks, series
from sqfd.influx.schema import BARS_RP, compare, create, inspect, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.journal import JournalStore
from sqfd.journal.schema import FILE_NAME
from sqfd.model import BAR, FLOW, Bars, market_of
from sqfd.settings import toml_value
from sqfd.sim.listing import listed
from sqfd.sim.process import Ready, SimulatedExchanges
from tests.ports import free_port
from tests.real.daemons import DaemonProcess
from tests.real.servers import Influx

SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE")
MARKETS = 112
HOUR_S, DAY_S = 3_600, 86_400
DATABASE = "bench"
LIMIT_MS = 50.0


def hour_of_bars(first_s: int, markets: int) -> Bars:
    """Every market's busy hour: nine seconds of ten have a bar on the first, four of ten on the others."""
    rng = np.random.default_rng(1)
    traded = rng.random((HOUR_S, markets)) < np.where(np.arange(markets) == 0, 0.9, 0.4)
    second, market = np.nonzero(traded)
    bars = np.zeros(len(second), BAR)
    bars["second"], bars["market"] = first_s + second, market
    for name in ("open", "high", "low", "close"):
        bars[name] = np.round(60_000 + rng.random(len(bars)), 1)
    for name in ("vbuy", "vsell"):
        bars[name] = np.round(rng.exponential(5e4, len(bars)), 3)
    bars["cbuy"] = bars["csell"] = 2
    return bars


async def fill_influx(port: int, bars: Bars, names: list[str]) -> None:
    """The bars as the shipper writes them."""
    settings = InfluxSettings(port=port, database=DATABASE)
    async with Client(settings) as client:
        await create(client, compare(wanted(settings), await inspect(client, DATABASE)))
        for block in blocks(bar_lines(bars, [series(name) for name in names]), 5_000, 1_000_000):
            assert (await client.write(block, BARS_RP)).status == 204


def write_config(folder: Path, served: Ready, chosen: list[str], page: int, influx: int) -> Path:
    """Two exchanges, HTTP and InfluxDB."""
    lines = ["[symbols]", f"symbols = {toml_value(SYMBOLS)}", f"exchanges = {toml_value(chosen)}"]
    lines += ["[http]", f"port = {page}", "[influx]", f"port = {influx}", f"database = {toml_value(DATABASE)}"]
    for exchange, addresses in served.addresses.items():
        lines += [f"[feed.addresses.{exchange}]", *(f"{name} = {toml_value(url)}" for name, url in addresses.items())]
    path = folder / "sqfd.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Asker:
    """One connection that is kept."""

    def __init__(self, port: int, path: str) -> None:
        self._connection, self._path = http.client.HTTPConnection("127.0.0.1", port, timeout=60), path
        self.bytes = 0

    def __call__(self) -> None:
        """Ask and read to the end. Raises RuntimeError for anything but 200."""
        self._connection.request("GET", self._path)
        answer = self._connection.getresponse()
        self.bytes = len(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} for {self._path}")


def historical(port: int, market: str, first_s: int) -> Asker:
    """The hour from `first_s` on in 1-second bars."""
    span = f"{first_s * 1000}/{(first_s + HOUR_S) * 1000}/1000"
    return Asker(port, f"/historical/{span}/{quote(market, safe='')}")


def measured(ways: dict[str, Callable[[], object]], requests: int) -> dict[str, list[float]]:
    """Seconds of each request, all ways in turn; the first round warms up."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for nth in range(requests + 1):
        for name, ask in ways.items():
            began = time.perf_counter()
            ask()
            if nth:
                took[name].append(time.perf_counter() - began)
    return took


def from_sqlite(state: Path, market: int, first_s: int) -> Callable[[], object]:
    """The hour's rows by the plainest query that finds them, on a connection of its own."""
    db = sqlite3.connect(f"{(state / FILE_NAME).as_uri()}?mode=ro", uri=True)
    query = "SELECT * FROM bar WHERE tick > ? AND tick <= ? AND market = ?"
    return lambda: [*db.execute(query, (first_s, first_s + HOUR_S, market))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=60)
    requests = parser.parse_args().requests
    chosen = ["BINANCE", "BINANCE_FUTURES"]
    listings = [one for id in exchanges.IDS for one in listed(exchanges.get(id), SYMBOLS)]
    markets = sorted((market_of(one) for one in listings), key=lambda one: one.exchange != "BINANCE")[:MARKETS]
    now = int(time.time())
    recent, old = now - HOUR_S - 300, now - DAY_S
    with tempfile.TemporaryDirectory(prefix="sqfd-history-") as name:
        folder = Path(name)
        state = folder / "state"
        influxd = Influx(folder)
        influxd.start()
        store = JournalStore(state, bulk=True)
        store.register(markets, SYMBOLS)
        store.load(hour_of_bars(recent, len(markets)), np.zeros(0, FLOW))
        store.move("influx", now)
        store.close()
        asyncio.run(fill_influx(influxd.port, hour_of_bars(old, len(markets)), [one.name for one in markets]))
        with SimulatedExchanges(chosen, SYMBOLS, now=now) as served:
            page, market = free_port(), markets[0].name
            daemon = DaemonProcess(write_config(folder, served, chosen, page, influxd.port), state, served)
            try:
                daemon.start()
                where = f"WHERE market='{market}' AND time >= {old}s AND time < {old + HOUR_S}s"
                query = quote(f'SELECT * FROM "{BARS_RP}"."trades_1s" {where}')
                ways: dict[str, Callable[[], object]] = {
                    "/historical, journal": historical(page, market, recent),
                    "/historical, InfluxDB": historical(page, market, old),
                    "bare query of InfluxDB": Asker(influxd.port, f"/query?db={DATABASE}&epoch=s&q={query}"),
                    "bare SELECT of SQLite": from_sqlite(state, 0, recent),
                }
                took = measured(ways, requests)
            finally:
                daemon.end()
                influxd.stop()
    rows = [{"what": what, **quantiles_ms(seconds)} for what, seconds in took.items()]
    report("history", f"history: an hour of 1-second bars of one market of {MARKETS}; limit {LIMIT_MS:.0f} ms", rows)


if __name__ == "__main__":
    main()
