"""Run many seeds: `python -m tests.simulation feeds --seeds 0:170 --cuts 6`, `… day --seeds 0:60 --hours 1 --out FILE`.

Ends with a table; a failing seed is named, with the command that repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from tests.simulation.hours import EVERY_S, LIVENESS_S, SETTLE_S, live
from tests.simulation.plan import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    feeds = kinds.add_parser("feeds", help="feeds alone under cuts of every kind")
    feeds.add_argument("--seeds", default="0:170", help="one seed, or FIRST:END")
    feeds.add_argument("--cuts", type=int, default=6, help="cuts in each run")
    day = kinds.add_parser("day", help="the whole daemon under faults of every kind")
    day.add_argument("--seeds", default="0:60", help="one seed, or FIRST:END")
    day.add_argument("--hours", type=float, default=1.0, help="hours of each run")
    day.add_argument("--settle", type=float, default=SETTLE_S, help="seconds before the first fault")
    day.add_argument("--liveness", type=float, default=LIVENESS_S, help="seconds after the last fault")
    day.add_argument("--every", type=float, default=EVERY_S, help="seconds between faults, on average")
    day.add_argument("--faults", default="", help="names of faults, by comma; none: all of them")
    day.add_argument("--out", type=Path, help="add a line of JSON for each seed to this file")
    added = kinds.add_parser("sum", help="add up what `day --out` wrote")
    added.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.kind == "sum":
        lines = [line for file in options.files for line in file.read_bytes().splitlines()]
        tell([msgspec.json.decode(line) for line in lines])
        return
    first, _, end = options.seeds.partition(":")
    seeds = range(int(first), int(end or int(first) + 1))
    if options.kind == "feeds":
        sys.exit(run_feeds(seeds, options.cuts))
    else:
        names = options.faults.split(",") if options.faults else None
        sys.exit(
            run_days(
                seeds,
                lambda seed: live(seed, options.hours, names, options.every, options.settle, options.liveness),
                options.out,
            )
        )


def run_days(seeds: Sequence[int], lived: Callable[[int], dict[str, Any]], out: Path | None) -> int:
    """One line per seed; goes on after a failure, and gives how many there were."""
    every: list[dict[str, Any]] = []
    for seed in seeds:
        try:
            figures = lived(seed)
            words = f"{figures['starts']} starts, {figures['faults']} faults, {figures['bars']} bars, {figures['stream']} signals"
            sys.stdout.write(f"seed {seed}: {words}, {figures['cpu_s']:.0f} s\n")
        except BaseException as error:
            figures = {"seed": seed, "failed": f"{type(error).__name__}: {error}", "repeat": error.__notes__[0]}
            traceback.print_exception(error)
            if isinstance(error, KeyboardInterrupt):
                raise
        every.append(figures)
        if out is not None:
            with out.open("ab") as lines:
                lines.write(msgspec.json.encode(figures) + b"\n")
        sys.stdout.flush()
    return tell(every)


def tell(every: Sequence[dict[str, Any]]) -> int:
    """All runs in one table; gives how many failed."""
    struck: Counter[str] = Counter()
    good = [figures for figures in every if "failed" not in figures]
    for figures in good:
        struck.update(figures["struck"])
    hours, faults = sum(figures["hours"] for figures in good), sum(struck.values())
    failed = [str(figures["seed"]) for figures in every if "failed" in figures]
    sys.stdout.write(
        f"{len(good)} seeds, {hours:.1f} daemon-hours, {faults} faults, {len(failed)} failed: {','.join(failed)}\n"
    )
    for name in ("starts", "kills", "stops", "bars", "stream", "punctual", "trades delivered"):
        sys.stdout.write(f"  {sum(figures.get(name, 0) for figures in good):8} {name}\n")
    for name, times in sorted(struck.items()):
        sys.stdout.write(f"  {times:8} {name}\n")
    return len(failed)


def run_feeds(seeds: Sequence[int], count: int) -> int:
    """Feeds alone: all cuts in one table. Goes on after a failure, and gives how many there were."""
    kinds: Counter[str] = Counter()
    states: Counter[str] = Counter()
    back: list[float] = []
    dead: list[float] = []
    failed: list[str] = []
    started, trades = time.monotonic(), 0
    for seed in seeds:
        try:
            world = simulate(seed, count)
        except Exception as error:  # noqa: BLE001  # told with the command that repeats it; the others are of use
            traceback.print_exception(error)
            failed.append(str(seed))
            continue
        kinds.update(struck.kind for struck in world.struck)
        states.update(state for id in world.venues for state in world.states(id))
        back += world.back_s()
        dead += world.dead_s()
        trades += world.intake.totals().received
        sys.stdout.write(f"\rseed {seed}: {sum(kinds.values())} cuts")
        sys.stdout.flush()
    failures = f"{len(failed)} seeds failed: {','.join(failed)}"
    took_s = time.monotonic() - started
    sys.stdout.write(f"\r{sum(kinds.values())} cuts, {trades} trades, {took_s:.0f} s, {failures}\n")
    for name, waits in (("trading again", back), ("half open noticed", dead)):
        if waits:
            sys.stdout.write(f"{name} after: median {median(waits):.1f} s, longest {max(waits):.1f} s\n")
    for name, counter in (("cuts", kinds), ("gaps", states)):
        sys.stdout.write(f"{name}: " + ", ".join(f"{kind} {count}" for kind, count in counter.most_common()) + "\n")
    return len(failed)


main()
