"""`python -m sqfd.sim`: simulated exchanges in a process of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import click
import orjson
import uvloop

import exchanges
from sqfd.clock import Clock, SystemClock
from sqfd.journal import JournalStore
from sqfd.model import market_of
from sqfd.sim.capture import Capture, Playback
from sqfd.sim.clock import ScaledClock
from sqfd.sim.history import World, world
from sqfd.sim.source import Source, Synthetic
from sqfd.sim.venues import Venues

PARENT_S = 1.0


def _names(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip().upper() for name in text.split(",") if name.strip())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--exchanges", "exchange_ids", default=",".join(exchanges.IDS[:5]), show_default=True, callback=_names)
@click.option("--symbols", default="BTC,ETH,SOL", show_default=True, callback=_names)
@click.option("--seed", default=1, show_default=True, help="Another seed, another market.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0.01, 1000), help="× real time.")
@click.option("--flat-out", is_flag=True, help="Play a capture as fast as clients take it.")
@click.option("--port", default=0, help="Websockets here, REST on the next port; 0: free ports.")
@click.option("--now", type=int, help="Epoch second at which the market's past ends; default: the present one.")
@click.option("--staged/--random", default=True, help="Begin with a squeeze that is about to run.")
@click.option("--capture", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Replay this folder.")
@click.option(
    "--journal", type=click.Path(file_okay=False, path_type=Path), help="Write the day before `now` to this journal."
)
def main(
    exchange_ids: tuple[str, ...],
    symbols: tuple[str, ...],
    seed: int,
    speed: float,
    flat_out: bool,
    port: int,
    now: int | None,
    staged: bool,
    capture: Path | None,
    journal: Path | None,
) -> None:
    """Serve simulated exchanges on loopback until SIGTERM, SIGINT or the end of the parent process.

    One line of JSON on stdout says when they are ready: their addresses, and `anchor_ms`, `speed` and `now`, from which
    another process builds the same `ScaledClock` and `World`.
    """
    parent = os.getppid()  # before anything slow: it may end while a day of history is made
    now = int(time.time()) if now is None else now
    chosen = [exchanges.get(name) for name in exchange_ids if _known(name)]
    clock: Clock
    source: Source
    if capture is None:
        clock = ScaledClock(now * 1e3, speed)
        simulated = world(chosen, symbols, seed, now, staged=staged)
        if journal is not None:
            _write_history(journal, simulated, now)
        source = Synthetic(simulated, now)
    else:
        clock = SystemClock()
        source = Playback(Capture(capture, {exchange.id: exchange for exchange in chosen}), None if flat_out else speed)
    facts = {"anchor_ms": now * 1_000, "speed": speed, "now": now, "markets": [i.market for i in source.instruments]}
    uvloop.run(_serve(Venues(chosen, source, clock, port=port), facts, parent))


def _write_history(folder: Path, simulated: World, now: int) -> None:
    """The day before `now`, as a daemon would have journaled it; what one did journal there stays as it is."""
    store = JournalStore(folder, bulk=True)
    history = simulated.history(now).since(store.last_tick())
    store.register([market_of(instrument) for instrument in history.markets], history.symbols)
    store.load(history.bars, history.flow)
    store.close()


def _known(name: str) -> bool:
    if name not in exchanges.IDS:
        raise click.BadParameter(f"no exchange {name}; known: {', '.join(exchanges.IDS)}")
    return True


async def _serve(venues: Venues, facts: dict[str, object], parent: int) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    addresses = await venues.start()
    sys.stdout.write(orjson.dumps({"addresses": addresses, **facts}).decode() + "\n")
    sys.stdout.flush()
    ended = asyncio.create_task(venues.failed())
    ended.add_done_callback(lambda _: stopping.set())
    watch = loop.create_task(_orphaned(parent, stopping))
    await stopping.wait()
    watch.cancel()
    ended.cancel()
    await venues.stop()


async def _orphaned(parent: int, stopping: asyncio.Event) -> None:
    """Stop when the parent process is gone."""
    while os.getppid() == parent and not stopping.is_set():  # noqa: ASYNC110  # the kernel sets no asyncio.Event
        await asyncio.sleep(PARENT_S)
    stopping.set()


if __name__ == "__main__":
    main()
