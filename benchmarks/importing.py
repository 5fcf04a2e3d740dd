"""`sqfd import` of one day of two markets, as a process: its time, its processor time and its largest memory.

Binance's archives of a spot market (`trades`, zipped) and of a perpetual (`aggTrades` with its header, zipped), half a million
trades together, as a user would name them. Each round imports both into a new journal, then the first once more (which must change
nothing), and then kills an import of the second midway and repeats it: bars and flow must equal those of the first round.

    python -m benchmarks.importing [--rounds 3] [--trades 260000]
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import report
from sqfd.journal import JournalStore
from tests.history.archives import DAY_S as FIRST_S
from tests.history.archives import perp_aggregates, rows, spot_trades, zipped

DAY_S = 86_400
SPOT, PERP = "BINANCE:btcusdt", "BINANCE_FUTURES:btcusdt"
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


def archives(folder: Path, trades: int) -> dict[str, Path]:
    """The same by a process of its own: Linux counts what a parent held at the fork as its child's peak."""
    writer = multiprocessing.get_context("spawn").Process(target=write_archives, args=(folder, trades))
    writer.start()
    writer.join()
    return {market: folder / name for market, name in FILES.items()}


def command(market: str, archive: Path, state: Path) -> list[str]:
    """As a user types it."""
    return [sys.executable, "-m", "sqfd", "import", "binance", str(archive), "--market", market, "--state", str(state)]


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
    options = parser.parse_args()
    both, repeated = list[Cost](), list[Cost]()
    with tempfile.TemporaryDirectory(prefix="sqfd-import-") as name:
        files = archives(Path(name), options.trades)
        for nth in range(options.rounds):
            first, second, _ = one_round(Path(name) / str(nth), files)
            both.append(first)
            repeated.append(second)
    table = [
        {
            "what": what,
            "s": round(statistics.median(c.wall_s for c in costs), 2),
            "CPU s": round(statistics.median(c.cpu_s for c in costs), 2),
            "CPU least": round(min(c.cpu_s for c in costs), 2),
            "CPU most": round(max(c.cpu_s for c in costs), 2),
            "peak MB": round(max(c.peak_mb for c in costs), 1),
        }
        for what, costs in ((f"2 × {options.trades:,} trades of a day", both), ("one of them again", repeated))
    ]
    report("importing", "import: one day of two markets; repeated and killed midway with the same result", table)


if __name__ == "__main__":
    main()
