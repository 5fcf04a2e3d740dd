"""Bars out of the journal, as CSV or Parquet, an hour at a time."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqfd.journal import JournalStore
from sqfd.model import BAR_FIELDS, Bars

HOUR_S = 3_600
COLUMNS = ("market", "second", *BAR_FIELDS)


class ExportFailed(Exception):
    """Nothing was written, or not all; the text says why."""


def hours(
    store: JournalStore, markets: Sequence[str], from_s: int | None, to_s: int | None
) -> Iterator[tuple[list[str], Bars]]:
    """(names, bars of an hour) of these markets, or all; `market` is an index into the names."""
    known = store.market_names()
    if unknown := [market for market in markets if market not in known]:
        raise ExportFailed(f"no market {', '.join(unknown)} in this journal: `sqfd coverage` lists them")
    names = list(markets) or known
    extent = [one for one in store.extent() if one.market in names]
    first = max(min((one.first_second for one in extent), default=0), from_s or 0)
    last = max((one.last_second for one in extent), default=-1) + 1
    end = last if to_s is None else min(last, to_s)
    for hour in range(first, end, HOUR_S):
        yield names, store.bars(names, hour, min(hour + HOUR_S, end))


def export_bars(
    store: JournalStore, file: Path, markets: Sequence[str] = (), from_s: int | None = None, to_s: int | None = None
) -> int:
    """Write bars to `file`, whose ending says how; gives how many. Raises ExportFailed."""
    parts = hours(store, markets, from_s, to_s)
    if file.name.endswith(".parquet"):
        return _parquet(parts, file)
    if not file.name.endswith((".csv", ".csv.gz")):
        raise ExportFailed(f"{file}: name it .csv, .csv.gz or .parquet")
    try:
        return _csv(parts, file)
    except OSError as error:
        raise ExportFailed(f"{file}: {error.strerror or error}") from error


def _csv(parts: Iterator[tuple[list[str], Bars]], file: Path) -> int:
    rows = 0
    opener: Any = gzip.open if file.suffix == ".gz" else open
    with opener(file, "wt", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for names, bars in parts:
            writer.writerows([names[row[0]], row[1], *map(_blank, row[2:])] for row in bars.tolist())
            rows += len(bars)
    return rows


def _blank(value: float) -> float | str:
    """Prices of a second without a trade are empty."""
    return "" if math.isnan(value) else value


def _parquet(parts: Iterator[tuple[list[str], Bars]], file: Path) -> int:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ExportFailed('Parquet needs pyarrow: pip install "sqfd[parquet]", or write .csv') from error
    kinds = {"market": arrow.string(), "second": arrow.int64(), "cbuy": arrow.int64(), "csell": arrow.int64()}
    schema = arrow.schema([(name, kinds.get(name, arrow.float64())) for name in COLUMNS])
    rows = 0
    try:
        with parquet.ParquetWriter(file, schema) as writer:
            for names, bars in parts:
                columns = {name: arrow.array(bars[name], from_pandas=True) for name in COLUMNS[1:]}
                columns["market"] = arrow.array([names[index] for index in bars["market"].tolist()], arrow.string())
                writer.write_table(arrow.table([columns[name] for name in COLUMNS], schema=schema))
                rows += len(bars)
    except OSError as error:
        raise ExportFailed(f"{file}: {error}") from error
    return rows
