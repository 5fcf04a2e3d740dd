"""From a seed to a run: which exchanges, which cuts, when."""

from __future__ import annotations

from random import Random

from tests.simulation.loop import run
from tests.simulation.venue import CUTS, Cut
from tests.simulation.world import PICK, World

SETTLE_S = 20.0
REST_S = 150.0
"""After the last cut: late trades come, holes are filled."""


def cuts_of(random: Random, exchange_ids: list[str], count: int) -> list[tuple[float, str, Cut, float]]:
    """`count` cuts, one after the other, some of them on top of each other."""
    at, cuts = SETTLE_S, []
    for _ in range(count):
        at += random.uniform(1.0, 25.0)
        length = random.choice([0.5, 3.0, 10.0, 30.0])
        cuts.append((at, random.choice(exchange_ids), random.choice(CUTS), length))
        at += length * random.random()
    return cuts


def simulate(seed: int, count: int = 6) -> World:
    """One run, checked. Raises what is wrong with the seed in its words."""
    random = Random(seed)
    exchange_ids = random.sample(sorted(PICK), random.choice([1, 2, 2, 3]))
    cuts = cuts_of(random, exchange_ids, count)

    async def main() -> World:
        world = World(seed, exchange_ids)
        await world.run(cuts[-1][0] + cuts[-1][3] + REST_S, cuts)
        world.check()
        return world

    try:
        return run(main())
    except BaseException as error:
        error.add_note(f"repeat with: python -m tests.simulation feeds --seeds {seed} --cuts {count}")
        raise
