"""Archives in the formats that exchanges and collectors write, from one list of trades, and the bars that they mean."""

from __future__ import annotations

import gzip
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from exchanges.api import Instrument, Trade
from sqfd.bars.builder import Builder

DAY_S = 1_723_075_200  # 2024-08-08


class Row(NamedTuple):
    ts_ms: int
    price: float
    size: float
    buy: bool
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which nobody asks for


def rows(seed: int, first_s: int = DAY_S, seconds: int = 4_000, per_s: float = 1.0) -> list[Row]:
    """Trades in the order of ids: now and then one is a little behind in time."""
    rng = random.Random(seed)
    found = []
    for _ in range(int(seconds * per_s)):
        at = rng.uniform(0, seconds)
        price = round(60_000 + 50 * rng.random(), 2)
        found.append(Row(int((first_s + at) * 1000), price, round(rng.uniform(0.001, 2), 3), rng.random() < 0.5))
    found.sort(key=lambda row: row.ts_ms + (rng.uniform(0, 2_000) if rng.random() < 0.05 else 0))
    return found


def spot_trades(found: list[Row], unit: int = 1) -> str:
    """Binance spot `trades`; `unit` 1000: in microseconds."""
    lines = [
        f"{n},{r.price:.8f},{r.size:.8f},{r.price * r.size:.8f},{r.ts_ms * unit},{not r.buy},True"
        for n, r in enumerate(found)
    ]
    return "\n".join(lines) + "\n"


def perp_aggregates(found: list[Row]) -> str:
    """Binance USD-M `aggTrades` with its header; each row stands for `count` matches."""
    head = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
    lines = [
        f"{n},{r.price},{r.size},{n * 10},{n * 10 + r.count - 1},{r.ts_ms},{str(not r.buy).lower()}"
        for n, r in enumerate(found)
    ]
    return "\n".join([head, *lines]) + "\n"


def tardis(found: list[Row], symbol: str = "BTCUSDT") -> str:
    head = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
    lines = [
        f"binance,{symbol},{r.ts_ms}123,{r.ts_ms + 50}000,{n},{'buy' if r.buy else 'sell'},{r.price},{r.size}"
        for n, r in enumerate(found)
    ]
    return "\n".join([head, *lines]) + "\n"


def aggr(found: list[Row]) -> str:
    return "".join(f"{r.ts_ms} {r.price} {r.size} {int(r.buy)}\n" for r in found)


def zipped(path: Path, text: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.stem + ".csv", text)
    return path


def gzipped(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def built(found: list[Row], instrument: Instrument) -> Iterator[np.void]:
    """The bars that live trading would have made of these rows."""
    builder = Builder(revisable_s=1800)
    builder.add_markets(1)
    builder.start(min(row.ts_ms for row in found) // 1000)
    for row in found:
        trade = Trade(instrument, row.ts_ms, row.price, row.size, row.buy, None, row.count)
        assert builder.trade(0, trade) or builder.next_second is not None
        while (builder.next_second or 0) < row.ts_ms // 1000 - 50:
            yield from builder.close(np.ones(1, bool)).bars
    while builder.unclosed:
        yield from builder.close(np.ones(1, bool)).bars
