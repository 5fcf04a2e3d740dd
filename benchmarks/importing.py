"""`sqfd import` of one day of two markets, as a process: its time, its processor time and its largest memory.

Binance's archives of a spot market (`trades`, zipped) and of a perpetual (`aggTrades` with its header, zipped), half a million
trades together, as a user would name them. Each round imports both into a new journal, then the first once more (which must change
nothing), and then kills an import of the second midway and repeats it: bars and flow must equal those of the first round.
And from nothing to a report: a busy day of both markets as Tardis has them (3.85 million trades, gzipped) imported, and backtested to HTML.

    python -m benchmarks.importing [--rounds 3] [--trades 260000] [--tardis 3850000]
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness import report
from sqfd.journal import JournalStore
from tests.history.archives import DAY_S as FIRST_S
from tests.history.archives import perp_aggregates, rows, spot_trades, zipped

DAY_S = 86_400
SPOT, PERP = "BINANCE:btcusdt", "BINANCE_FUTURES:btcusdt"
TARDIS = {SPOT: "binance_trades_2024-08-08_BTCUSDT.csv.gz", PERP: "binance-futures_trades_2024-08-08_BTCUSDT.csv.gz"}
SHARES = {SPOT: 0.35, PERP: 0.65}
"""Of the trades of a busy day."""
FILES = {SPOT: "BTCUSDT-trades-2024-08-08.zip", PERP: "BTCUSDT-aggTrades-2024-08-08.zip"}


class Cost(NamedTuple):
    """Of one process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def write_archives(folder: Path, trades: int) -> None:
    """A day of each market."""
    spot, perp = (rows(seed, seconds=DAY_S, per_s=trades / DAY_S) for seed in (1, 2))
    zipped(folder / FILES[SPOT], spot_trades(spot))
    zipped(folder / FILES[PERP], perp_aggregates(perp))


def write_tardis(folder: Path, trades: int) -> None:
    """A day of each market, prices on one random walk, bursts as on a busy day."""
    rng = np.random.default_rng(3)
    walk = 60_000 * np.exp(np.cumsum(rng.normal(0, 4e-5, DAY_S)))
    for market, name in TARDIS.items():
        count = int(trades * SHARES[market])
        us = np.sort(rng.choice(DAY_S, count, p=_busy(rng)) * 1_000_000 + rng.integers(0, 1_000_000, count))
        prices = np.round(walk[us // 1_000_000] + rng.normal(0, 2, count), 1).tolist()
        amounts = np.round(rng.lognormal(-4, 1.5, count) + 0.001, 3).tolist()
        columns = zip(
            (us + FIRST_S * 1_000_000).tolist(), (rng.random(count) < 0.5).tolist(), prices, amounts, strict=True
        )
        exchange = name.partition("_")[0]
        with gzip.open(folder / name, "wt", compresslevel=1) as file:
            file.write("exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n")
            file.writelines(
                f"{exchange},BTCUSDT,{at},{at + 4_321},{n},{'buy' if buy else 'sell'},{price},{amount}\n"
                for n, (at, buy, price, amount) in enumerate(columns)
            )


def _busy(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How likely a trade is in each second."""
    weights = rng.lognormal(0, 1, DAY_S)
    return np.asarray(weights / weights.sum())


def archives(folder: Path, trades: int, write: Callable[[Path, int], None], names: dict[str, str]) -> dict[str, Path]:
    """Written by a process of its own: Linux counts what a parent held at the fork as its child's peak."""
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(folder, trades))
    writer.start()
    writer.join()
    return {market: folder / name for market, name in names.items()}


def command(market: str, archive: Path, state: Path, form: str = "binance") -> list[str]:
    """As a user types it."""
    return [sys.executable, "-m", "sqfd", "import", form, str(archive), "--market", market, "--state", str(state)]


def to_report(folder: Path, files: dict[str, Path]) -> Cost:
    """From nothing to HTML. Raises RuntimeError where the report holds no figure."""
    state, page = folder / "tardis", folder / "report.html"
    costs = [run(command(market, archive, state, "tardis")) for market, archive in files.items()]
    backtest = ["backtest", "--state", str(state), "--symbol", "BTC", "--html", str(page)]
    costs.append(run([sys.executable, "-m", "sqfd", *backtest]))
    if "BTC: price, flow and score" not in page.read_text(encoding="utf-8"):
        raise RuntimeError("the report has no figure of BTC")
    return Cost(sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs), max(c.peak_mb for c in costs))


def run(arguments: Sequence[str]) -> Cost:
    """Run to its end. Raises CalledProcessError."""
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def killed(arguments: Sequence[str], state: Path) -> None:
    """Run it and kill it with -9 when a part is written. Raises RuntimeError where it ended before."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            store = JournalStore(state, read_only=True)
            written = store.bar_counts(FIRST_S, FIRST_S + DAY_S).get(PERP, 0)
            store.close()
            if written > 1_000:
                process.kill()
                return
            time.sleep(0.02)
    raise RuntimeError("the import ended before it could be killed")


def content(state: Path) -> str:
    """A digest of all bars and of the flow."""
    store = JournalStore(state, read_only=True)
    told = hashlib.sha256()
    for hour in range(FIRST_S - 3_600, FIRST_S + DAY_S + 3_600, 3_600):
        told.update(store.bars([SPOT, PERP], hour, hour + 3_600).tobytes())
        for symbol in store.symbol_names():
            told.update(store.flow(symbol, hour, hour + 3_600).rows.tobytes())
    store.close()
    return told.hexdigest()


def one_round(folder: Path, files: dict[str, Path]) -> tuple[Cost, Cost, str]:
    """(cost of both markets, cost of the repetition, digest); raises AssertionError where a repetition changes anything."""
    state, again = folder / "once", folder / "killed"
    costs = [run(command(market, archive, state)) for market, archive in files.items()]
    both = Cost(sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs), max(c.peak_mb for c in costs))
    found = content(state)
    repeated = run([*command(SPOT, files[SPOT], state), "--again"])
    assert content(state) == found, "importing it twice changed something"
    run(command(SPOT, files[SPOT], again))
    killed(command(PERP, files[PERP], again), again)
    run(command(PERP, files[PERP], again))
    assert content(again) == found, "killed and repeated, it is not the same"
    return both, repeated, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trades", type=int, default=260_000, help="Of each market.")
    parser.add_argument("--tardis", type=int, default=3_850_000, help="Of both markets; 0: leave that out.")
    options = parser.parse_args()
    both, repeated, reported = list[Cost](), list[Cost](), list[Cost]()
    with tempfile.TemporaryDirectory(prefix="sqfd-import-") as name:
        files = archives(Path(name), options.trades, write_archives, FILES)
        for nth in range(options.rounds):
            first, second, _ = one_round(Path(name) / str(nth), files)
            both.append(first)
            repeated.append(second)
        if options.tardis:
            days = archives(Path(name), options.tardis, write_tardis, TARDIS)
            for nth in range(options.rounds):
                folder = Path(name) / f"tardis-{nth}"
                folder.mkdir()
                reported.append(to_report(folder, days))
    table = [
        {
            "what": what,
            "s": round(statistics.median(c.wall_s for c in costs), 2),
            "CPU s": round(statistics.median(c.cpu_s for c in costs), 2),
            "CPU least": round(min(c.cpu_s for c in costs), 2),
            "CPU most": round(max(c.cpu_s for c in costs), 2),
            "peak MB": round(max(c.peak_mb for c in costs), 1),
        }
        for what, costs in (
            (f"2 × {options.trades:,} trades of a day", both),
            ("one of them again", repeated),
            (f"{options.tardis:,} trades of Tardis to HTML", reported),
        )
        if costs
    ]
    report(
        "importing",
        "import: one day of two markets; repeated and killed midway with the same result; Tardis files to the HTML report",
        table,
    )


if __name__ == "__main__":
    main()
