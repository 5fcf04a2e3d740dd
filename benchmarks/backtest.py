"""Backtests from a journal on disk to statistics: ticks a second on one core, memory, beside the slow twin of the phases.

`python -m benchmarks.backtest [--days 30] [--keep FOLDER] [--long-sweeps]` makes journals of synthetic flow, runs each case in a process of
its own, and sweeps of 32 trials with one worker and with two, in turn; prints one table and a line of JSON, and writes
`results/backtest.json`. Ticks a second are symbol-ticks per second of CPU time, so that a busy machine matters less; wall time is beside it.
The full phases run, with the 24 h baseline.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import installed, report
from sqfd.backtest.run import Backtest, planned
from sqfd.backtest.settings import BacktestSettings
from sqfd.config import Config
from sqfd.heap import keep_freed
from sqfd.journal import Batch, JournalStore
from sqfd.model import BAR, Flow
from sqfd.sim.market import Market
from sqfd.sim.plan import plan
from sqfd.strategy.settings import StrategySettings

START = 1_722_470_400
PIECE_S = 6 * 3_600
DAY_S = 86_400
SYMBOLS = ("BTC", "ETH", "SOL")
MADE_DAYS = 6
"""Days that are made; making one takes as long as ten of them take to be judged."""
TWIN_TICKS = 20
RUNS = 5
"""Of the case that is held against a target."""
SWEPT_DAYS, SWEPT_WINDOWS = 2, 3
REVISED_SHARE = 0.01
"""Share of seconds in which a late trade revises an earlier one, in the case that has any."""


def make_journal(folder: Path, symbols: tuple[str, ...], days: float) -> None:
    """Synthetic flow with planted squeezes, whole and in time. After `MADE_DAYS` it comes again, prices going on from where they were."""
    store, end = JournalStore(folder, bulk=True), START + int(days * DAY_S)
    store.register([], symbols)
    made = min(end, START + MADE_DAYS * DAY_S)
    for index, symbol in enumerate(symbols):
        rows = Market(symbol, 7, START, plan(7, symbol, START + PIECE_S, made, per_day=12.0)).flow(START, made, index)
        gained = int(rows["price"][-1] - rows["price"][0])
        for first in range(START, end, made - START):
            again = rows[: end - first].copy()
            again["second"] += first - START
            for name in ("price", "high", "low"):
                again[name] += gained * ((first - START) // (made - START))
            for piece in range(0, len(again), PIECE_S):
                store.load(np.zeros(0, BAR), again[piece : piece + PIECE_S])
    store.close()


def make_late_journal(folder: Path, days: float) -> None:
    """One symbol, of which some seconds are revised one to ten seconds later."""
    store, end = JournalStore(folder, bulk=True), START + int(days * DAY_S)
    store.register([], SYMBOLS[:1])
    rows = Market(SYMBOLS[0], 7, START, plan(7, SYMBOLS[0], START + PIECE_S, end)).flow(START, end)
    rng = np.random.default_rng(1)
    late = np.flatnonzero(rng.random(len(rows)) < REVISED_SHARE)
    revised = dict(zip((late + rng.integers(1, 10, len(late))).tolist(), late.tolist(), strict=True))
    batches = []
    for at in range(len(rows)):
        flow: Flow = rows[[revised[at], at]] if at in revised else rows[at : at + 1]
        batches.append(Batch(int(rows["second"][at]) + 1, np.zeros(0, BAR), flow))
        if len(batches) == 3_600 or at == len(rows) - 1:
            store.append_all(batches)
            batches.clear()
    store.close()


def run(folder: Path, symbols: tuple[str, ...], block_s: int, explained: bool) -> dict[str, Any]:
    """One backtest in this process, as `sqfd backtest` runs it, `explained`: as with `--json`, without writing it."""
    keep_freed()
    store, config = JournalStore(folder, read_only=True), Config(backtest=BacktestSettings(block_s=block_s))
    wanted = planned(store, config, symbols, None, None)
    before, began, cpu = peak_mb(), time.perf_counter(), time.process_time()
    result = Backtest(store, config, wanted, brief=not explained).run()
    result.stats()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    return {
        "ticks": result.ticks,
        "signals": len(result.signals),
        "trades": len(result.trades),
        "cpu_s": round(cpu, 3),
        "wall_s": round(wall, 3),
        "ticks_per_cpu_s": round(result.ticks / cpu),
        "rss_mb": peak_mb(),
        "rss_mb_before": before,
    }


def peak_mb() -> float:
    """Peak resident memory of this program; `ru_maxrss` would hold what the parent had when it forked."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def in_process(
    folder: Path, symbols: tuple[str, ...], explained: bool = False, block_s: int = BacktestSettings().block_s
) -> dict[str, Any]:
    """The same in a process of its own, for its peak memory."""
    case = [str(folder), ",".join(symbols), str(block_s), "explained" if explained else "brief"]
    command = [sys.executable, "-m", "benchmarks.backtest", "--case", *case]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_turn(folder: Path, runs: int) -> dict[bool, dict[str, Any]]:
    """One symbol without what explains its signals and with it, in turn: of each the run with the median CPU time."""
    found = [
        {explained: in_process(folder, SYMBOLS[:1], explained) for explained in (False, True)} for _ in range(runs)
    ]
    made = {}
    for explained in (False, True):
        by_cost = sorted((one[explained] for one in found), key=lambda one: float(one["cpu_s"]))
        made[explained] = by_cost[runs // 2] | {
            "least": by_cost[-1]["ticks_per_cpu_s"],
            "most": by_cost[0]["ticks_per_cpu_s"],
        }
    return made


def slow_twin(folder: Path) -> dict[str, Any]:
    """Ticks a second of the phases written slowly and obviously, on a sample after a day of history."""
    from tests.strategy.twin import Twin

    settings = StrategySettings()
    store = JournalStore(folder, read_only=True)
    history = settings.history_s + 600
    rows = store.flow(SYMBOLS[0], START, START + history + TWIN_TICKS + 2).rows
    twin = Twin(rows, settings)
    first = int(rows["second"][-1]) + 2 - TWIN_TICKS
    began = time.process_time()
    for tick in range(first, first + TWIN_TICKS):
        twin.divergence(tick)
        twin.context(tick)
        for side in (1, -1):
            twin.score(side, tick)
            twin.exits(side, tick, tick - 60, 0)
    cpu = time.process_time() - began
    return {"ticks": TWIN_TICKS, "cpu_s": round(cpu, 3), "ticks_per_cpu_s": round(TWIN_TICKS / cpu, 1)}


AND_TELL = """
import json, resource, sys
from sqfd.cli import main
def told(who):
    used = resource.getrusage(who)
    return round(used.ru_utime + used.ru_stime, 3)
try:
    main()
finally:
    print(json.dumps([told(resource.RUSAGE_SELF), told(resource.RUSAGE_CHILDREN)]), file=sys.stderr)
"""
"""`sqfd`, and at its end the CPU seconds of itself and of its workers."""


def sweeps(folder: Path, workers: int, days: float, windows: int = 0) -> dict[str, Any]:
    """A sweep of 32 (8 least scores × 4 least gaps) over some days of one symbol: wall time, the start included, and CPU time of
    the command itself, which nobody shares, and of its workers."""
    arguments = ["sweep", "--state", str(folder), "--symbol", SYMBOLS[0], "--workers", str(workers)]
    arguments += ["--windows", str(windows)]
    arguments += ["--to", str(START + int(days * DAY_S)), "--vary", "strategy.min_entry_score=2,3,3.5,4,4.5,5,6,7"]
    arguments += ["--vary", "strategy.divergence_gap_min=1,1.25,1.5,2"]
    with tempfile.TemporaryDirectory(prefix="sqfd-sweep-") as out:
        began, environment = time.perf_counter(), installed(folder.parent / "bytecode")
        command = [sys.executable, "-c", AND_TELL, *arguments, "--out", out]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        wall_s = time.perf_counter() - began
    alone, shared = json.loads(done.stderr.splitlines()[-1])
    return {
        "ticks": int(32 * days * DAY_S),
        "cpu_s": round(alone + shared, 3),
        "alone_cpu_s": alone,
        "workers_cpu_s": shared,
        "wall_s": round(wall_s, 3),
    }


def swept_twice(folder: Path, days: float, windows: int, pairs: int) -> dict[str, dict[str, Any]]:
    """The same sweep with one worker and with two, in turn; of the pair whose speed-up (wall by wall) is the median of all.

    Beside it the speed-up that the CPU times make, were both cores idle and as fast together as one alone: the command's own time
    is not divided, that of the workers is.
    """
    found = [[sweeps(folder, workers, days, windows) for workers in (1, 2)] for _ in range(pairs)]
    for one, two in found:
        two["speed_up"] = round(one["wall_s"] / two["wall_s"], 2)
        two["speed_up_of_cpu"] = round(one["cpu_s"] / (two["alone_cpu_s"] + two["workers_cpu_s"] / 2), 2)
    one, two = sorted(found, key=lambda pair: float(pair[1]["speed_up"]))[pairs // 2]
    name = f"sweep of 32, {days:g} days" + (f" in {windows + 1} parts" if windows else "")
    return {f"{name}, 1 core": one, f"{name}, 2 cores": two}


def told(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    speed = found.get("ticks_per_cpu_s", found["ticks"] / found["cpu_s"])
    shown = f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}"
    return {
        "case": name,
        "ticks": f"{found['ticks']:,}",
        "CPU s": found["cpu_s"],
        "wall s": found.get("wall_s", ""),
        "ticks/CPU s": shown,
        "least … most": f"{found['least']:,} … {found['most']:,}" if "least" in found else "",
        "peak RSS MB": found.get("rss_mb", ""),
        "alone CPU s": found.get("alone_cpu_s", ""),
        "speed-up": found.get("speed_up", ""),
        "by CPU": found.get("speed_up_of_cpu", ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--keep", type=Path, help="make the journals there, or use those that are there")
    parser.add_argument(
        "--long-sweeps", action="store_true", help="sweep all days too, plain and walk-forward: five minutes"
    )
    parser.add_argument("--case", nargs=4, metavar=("FOLDER", "SYMBOLS", "BLOCK_S", "HOW"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        place, symbols, block_s, how = chosen.case
        print(json.dumps(run(Path(place), tuple(symbols.split(",")), int(block_s), how == "explained")))
        return
    with tempfile.TemporaryDirectory(prefix="sqfd-bench-") as made:
        folder = chosen.keep or Path(made)
        if not (folder / "long").exists():
            make_journal(folder / "long", SYMBOLS, chosen.days)
            make_late_journal(folder / "late", min(2.0, chosen.days))
        alone = in_turn(folder / "long", RUNS)
        cases = {
            f"1 symbol, {chosen.days:g} days": alone[False],
            "the same, signals explained": alone[True],
            f"3 symbols, {chosen.days:g} days": in_process(folder / "long", SYMBOLS),
            f"1 symbol, {REVISED_SHARE:.0%} of ticks revise": in_process(folder / "late", SYMBOLS[:1]),
            "slow twin of the phases": slow_twin(folder / "long"),
        }
        sweeps(folder / "long", 1, min(0.5, chosen.days))  # leaves the bytecode
        cases |= swept_twice(folder / "long", min(SWEPT_DAYS, chosen.days), 0, 3)
        if chosen.long_sweeps:
            cases |= swept_twice(folder / "long", chosen.days, 0, 3)
            cases |= swept_twice(folder / "long", chosen.days, SWEPT_WINDOWS, 3)
    report("backtest", "Backtests from a journal to statistics", [told(name, found) for name, found in cases.items()])
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
