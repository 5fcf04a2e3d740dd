"""From a seed to hours of a daemon's life: which faults, when, for how long."""

from __future__ import annotations

import asyncio
import gc
import resource
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation.day import Day
from tests.simulation.faults import FAULTS, Fault
from tests.simulation.loop import run

SETTLE_S = 150.0
"""Nothing is broken before: the strategy must have warmed up."""
LIVENESS_S = 300.0
"""Nothing is broken in the end: all must become well, and holes be filled."""
EVERY_S = 40.0
"""Faults begin so long after each other, on average."""
STEP = 11
"""Seeds begin this many faults apart: prime to the number of faults, so that they begin everywhere."""
MEMORY = Path("/dev/shm")
"""Journals lie in memory: the disk that counts is the simulated one."""


async def strike(day: Day, fault: Fault, length_s: float, random: Random) -> None:
    """One fault, from its beginning to its end."""
    number, begin_s = day.counts["faults"], day.loop.time()
    day.counts["faults"] += 1
    day.struck[fault.name] += 1
    day.on[number] = fault.name
    try:
        end = fault.begin(day, random)
        await asyncio.sleep(length_s)
        if end is not None:
            end()
    finally:
        del day.on[number]
        day.spans.append((fault.name, begin_s, day.loop.time()))


async def storm(day: Day, until_s: float, names: Sequence[str], every_s: float, settle_s: float) -> None:
    """Faults one after the other and on top of each other; all have ended when it returns.

    Every fault has its turn before one comes again; seeds begin at different places of the same order.
    """
    random, order = Random(day.seed * 7_919 + 1), list(names)
    Random(1).shuffle(order)
    turn = day.seed * STEP
    await asyncio.sleep(settle_s)
    running = []
    while order and day.loop.time() < until_s:
        fault, turn = FAULTS[order[turn % len(order)]], turn + 1
        length_s = random.choice(fault.lengths_s) * random.uniform(0.5, 1.0)
        running.append(asyncio.create_task(strike(day, fault, length_s, random)))
        await asyncio.sleep(random.choice([0.05, 1.0, every_s, 2 * every_s]) * random.uniform(0.2, 1.8))
        for task in running:
            if task.done():
                task.result()
    await asyncio.gather(*running, *day.errands)


def live(
    seed: int,
    hours: float = 1.0,
    names: Sequence[str] | None = None,
    every_s: float = EVERY_S,
    settle_s: float = SETTLE_S,
    liveness_s: float = LIVENESS_S,
) -> dict[str, Any]:
    """One run, checked; its last `liveness_s` are without faults. Gives its figures. Raises what is wrong, with the seed."""
    chosen = sorted(FAULTS) if names is None else list(names)
    until_s = max(hours * 3600.0 - liveness_s, settle_s)
    folder = Path(tempfile.mkdtemp(prefix="sqfd-sim-", dir=MEMORY if MEMORY.is_dir() else None))
    made: list[Day] = []

    async def main() -> dict[str, Any]:
        day = Day(seed, folder)
        made.append(day)
        await day.run(until_s, liveness_s, storm(day, until_s, chosen, every_s, settle_s))
        return day.check()

    before = _cpu_s()
    gc.collect()
    gc.freeze()  # the daemon collects each minute: what this interpreter imported is no part of it
    try:
        figures = run(main(), Random(seed))
        day = made[0]
        timed = {"seed": seed, "hours": day.loop_s / 3600.0, "cpu_s": round(_cpu_s() - before, 2)}
        servers = {"influx": dict(day.influx.counts), "redis": dict(day.redis.counts), "disk": dict(day.disk.counts)}
        return {**timed, **figures, **day.counts, "struck": dict(day.struck), **servers}
    except BaseException as error:
        options = "" if settle_s == SETTLE_S else f" --settle {settle_s:g} --liveness {liveness_s:g}"
        options += "" if every_s == EVERY_S else f" --every {every_s:g}"
        options += "" if names is None else f" --faults '{','.join(names)}'"
        error.add_note(f"repeat with: python -m tests.simulation day --seeds {seed} --hours {hours!r}{options}")
        if made:
            error.add_note("\n".join(f"{name} {begin:.1f}-{until:.1f}" for name, begin, until in made[0].spans[-6:]))
            error.add_note("\n".join(map(str, made[0].last_events[-15:])))
        raise
    finally:
        gc.unfreeze()
        shutil.rmtree(folder, ignore_errors=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
