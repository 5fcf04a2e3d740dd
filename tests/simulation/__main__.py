"""Run many seeds: `python -m tests.simulation --seeds 0:200 --cuts 6`. Ends with a table; a failing seed is named."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from statistics import median

from tests.simulation.plan import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:170", help="one seed, or FIRST:END")
    parser.add_argument("--cuts", type=int, default=6, help="cuts in each run")
    options = parser.parse_args()
    first, _, end = options.seeds.partition(":")
    kinds: Counter[str] = Counter()
    states: Counter[str] = Counter()
    back: list[float] = []
    dead: list[float] = []
    started, trades = time.monotonic(), 0
    for seed in range(int(first), int(end or int(first) + 1)):
        world = simulate(seed, options.cuts)
        kinds.update(struck.kind for struck in world.struck)
        states.update(state for id in world.venues for state in world.states(id))
        back += world.back_s()
        dead += world.dead_s()
        trades += world.intake.totals().received
        sys.stdout.write(f"\rseed {seed}: {sum(kinds.values())} cuts")
        sys.stdout.flush()
    sys.stdout.write(f"\r{sum(kinds.values())} cuts, {trades} trades, {time.monotonic() - started:.0f} s\n")
    for name, waits in (("trading again", back), ("half open noticed", dead)):
        if waits:
            sys.stdout.write(f"{name} after: median {median(waits):.1f} s, longest {max(waits):.1f} s\n")
    for name, counter in (("cuts", kinds), ("gaps", states)):
        sys.stdout.write(f"{name}: " + ", ".join(f"{kind} {count}" for kind, count in counter.most_common()) + "\n")


main()
