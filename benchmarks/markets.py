"""What all exchanges at once cost: the daemon on `sqfd demo --exchanges all`, its memory and its share of a core.

The simulated exchanges run in a process of their own; this process is the daemon and nothing else. It warms up for WARM_S, then
CPU time and resident memory are taken over `--seconds`.

    python -m benchmarks.markets [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

import exchanges
from benchmarks.harness import report
from sqfd import log
from sqfd.cli.demo import SYMBOLS, page_port
from sqfd.config import Config, load
from sqfd.daemon import Daemon, Status
from sqfd.sim.clock import ScaledClock
from sqfd.sim.listing import listed
from sqfd.sim.process import Ready, SimulatedExchanges

WARM_S = 15.0


def rss_mb() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


async def measured(config: Config, state: Path, served: Ready, seconds: float) -> tuple[Status, Status, float, float]:
    """(status before, status after, CPU seconds, RSS in MB) of the daemon over `seconds`."""
    daemon = Daemon(config, state, clock=ScaledClock(served.anchor_ms, served.speed))
    running = asyncio.create_task(daemon.run())
    ready = asyncio.create_task(daemon.ready.wait())
    await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    await asyncio.sleep(WARM_S)
    before, cpu = daemon.status(), time.process_time()
    await asyncio.sleep(seconds)
    after, cpu = daemon.status(), time.process_time() - cpu
    memory = rss_mb()
    daemon.stop()
    await running
    return before, after, cpu, memory


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    log.configure("error", "console")
    chosen = [name for name in exchanges.IDS if listed(exchanges.get(name), SYMBOLS)]
    with tempfile.TemporaryDirectory(prefix="sqfd-markets-") as folder:
        state = Path(folder)
        with SimulatedExchanges(chosen, SYMBOLS, journal=state, timeout_s=120) as served:
            flags = {
                "symbols.symbols": list(SYMBOLS),
                "symbols.exchanges": chosen,
                "feed.addresses": served.addresses,
                "http.port": page_port(),
            }
            config = load(environment={"HOME": folder}, flags=flags).config
            before, after, cpu, memory = uvloop.run(measured(config, state, served, seconds))
    row = {
        "exchanges": len(chosen),
        "markets": after.markets,
        "live": after.live,
        "trades/s": round((after.trades - before.trades) / seconds, 1),
        "bars/s": round((after.bars - before.bars) / seconds, 1),
        "CPU %": round(100 * cpu / seconds, 2),
        "RSS MB": round(memory, 1),
    }
    report("markets", f"markets: the daemon on all exchanges, {len(SYMBOLS)} symbols, {seconds:.0f} s", [row])


if __name__ == "__main__":
    main()
