"""Bytes per day for 112 markets: in the journal, in InfluxDB as sqfd writes it, and as it would be without leaving fields out.

Half an hour of seconds in which some 45 of the markets trade (busy ones nearly always, quiet ones now and then) is written to
a real influxd, which is made to write its files and compact them; what lies on the disk then is multiplied up to a day. The
system that sqfd replaces kept about 600 MB a day for the same markets.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import report
from sqfd.influx.client import Client
from sqfd.influx.lines import bar_lines, blocks, series
from sqfd.influx.schema import BARS_RP, compare, create, inspect, wanted
from sqfd.influx.settings import InfluxSettings
from sqfd.journal import Batch, JournalStore
from sqfd.model import BAR, BAR_FIELDS, FLOW, Bars, Market
from tests.real.servers import Influx

MARKETS = [Market("BENCH", f"m{number:03}usdt", "spot", "BTC", "USDT") for number in range(112)]
SYMBOLS = tuple(f"S{number}" for number in range(5))
SECONDS = 1_800
DAY_S = 86_400
FIRST_S = int(time.time()) // DAY_S * DAY_S - DAY_S
SMALL_FILES = 'cache-snapshot-write-cold-duration = "1s"\n  compact-full-write-cold-duration = "1s"'
"""So that a test's worth of data ends in files, compacted as a day's would be."""


def make_bars() -> Bars:
    """Bars by (second, market): prices walk in ticks, amounts have the digits that exchanges give."""
    rng = np.random.default_rng(1)
    busy = np.linspace(0.98, 0.02, len(MARKETS)) ** 1.3
    traded = rng.random((SECONDS, len(MARKETS))) < busy
    second, market = np.nonzero(traded)
    bars = np.zeros(len(second), BAR)
    bars["second"], bars["market"] = FIRST_S + second, market
    walk = np.cumsum(rng.integers(-3, 4, (SECONDS, len(MARKETS))), axis=0)[second, market]
    close = np.round(60_000 + 0.1 * walk, 1)
    bars["close"], bars["open"] = close, np.round(close + 0.1 * rng.integers(-2, 3, len(bars)), 1)
    bars["high"] = np.maximum(bars["open"], bars["close"])
    bars["low"] = np.minimum(bars["open"], bars["close"])
    for name in ("vbuy", "vsell"):
        bars[name] = np.round(rng.exponential(0.5, len(bars)), 3) * close
    bars["cbuy"], bars["csell"] = rng.integers(0, 9, len(bars)), rng.integers(1, 9, len(bars))
    forced = rng.random(len(bars)) < 0.002
    bars["lbuy"][forced] = np.round(rng.exponential(0.5, np.count_nonzero(forced)), 3) * close[forced]
    return bars


def full_lines(bars: Bars) -> list[str]:
    """A line with all ten fields for every market and second, as writers do that leave nothing out."""
    heads = [series(market.name) for market in MARKETS]
    rows: NDArray[np.float64] = np.zeros((SECONDS, len(MARKETS), len(BAR_FIELDS)))
    for index, name in enumerate(BAR_FIELDS):
        rows[bars["second"] - FIRST_S, bars["market"], index] = bars[name]
    lines = []
    for second in range(SECONDS):
        for head, values in zip(heads, rows[second].tolist(), strict=True):
            fields = ",".join(f"{name}={value}" for name, value in zip(BAR_FIELDS, values, strict=True))
            lines.append(f"{head} {fields} {FIRST_S + second}")
    return lines


def size(folder: Path) -> int:
    """Bytes of InfluxDB's data files below. (Its series files are 32 MB from the first line on, whatever is in them.)"""
    return sum(path.stat().st_size for path in folder.rglob("*.tsm"))


async def written(server: Influx, database: str, lines: list[str]) -> None:
    """Write the lines as the shipper would."""
    settings = InfluxSettings(port=server.port, database=database)
    async with Client(settings) as client:
        await create(client, compare(wanted(settings), await inspect(client, database)))
        for block in blocks(lines, 5_000, 1_000_000):
            answer = await client.write(block, BARS_RP)
            assert answer.status == 204, answer


def settled(folder: Path) -> int:
    """Bytes of the shards' files once they stop changing."""
    before, same = -1, 0
    for _ in range(120):
        time.sleep(0.5)
        now = size(folder)
        same = same + 1 if now == before and now > 0 else 0
        if same >= 8:
            return now
        before = now
    return before


def influx_bytes(lines: list[str], database: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = Influx(Path(folder), data=SMALL_FILES)
        server.start()
        try:
            asyncio.run(written(server, database, lines))
            return settled(Path(folder) / "data" / database)
        finally:
            server.stop()


def journal_bytes(bars: Bars) -> tuple[int, int]:
    """(bytes of bars, bytes of flow of five symbols)."""
    rng = np.random.default_rng(2)
    used = []
    for with_flow in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            store = JournalStore(Path(folder), bulk=True)
            store.register(MARKETS, SYMBOLS)
            for second in range(FIRST_S, FIRST_S + SECONDS):
                flow = np.zeros(len(SYMBOLS) if with_flow else 0, FLOW)
                flow["symbol"], flow["second"] = np.arange(len(flow)), second
                for name in FLOW.names[2:] if FLOW.names else ():
                    flow[name] = rng.integers(0, 10**7, len(flow))
                cut = np.searchsorted(bars["second"], [second, second + 1])
                store.append(Batch(second + 1, bars[cut[0] : cut[1]], flow, whole=np.ones(len(MARKETS), bool)))
            used.append(store.used_bytes())
            store.close()
    return used[0], used[1] - used[0]


def main() -> None:
    bars = make_bars()
    heads = [series(market.name) for market in MARKETS]
    short, long = bar_lines(bars, heads), full_lines(bars)
    as_written, as_full = influx_bytes(short, "short"), influx_bytes(long, "long")
    journal, flow = journal_bytes(bars)
    rows = [
        ("InfluxDB, as sqfd writes it", len(short), as_written),
        ("InfluxDB, every field of every market each second", len(long), as_full),
        ("journal, bars", len(bars), journal),
        ("journal, flow of 5 symbols, before its hours are packed", SECONDS * len(SYMBOLS), flow),
    ]
    table = [
        {
            "where": where,
            "rows": f"{count:,}",
            "bytes per row": round(used / count, 1),
            "MB per day": round(used * DAY_S / SECONDS / 1e6, 1),
        }
        for where, count, used in rows
    ]
    title = f"Storage of {len(MARKETS)} markets, {len(bars) / SECONDS:.0f} of them trading in a second"
    report("storage", title, table)


if __name__ == "__main__":
    main()
