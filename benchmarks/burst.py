"""A burst: 100 × the usual rate for a minute. Is anything lost, do seconds close in time, does memory stay bounded?

The load sends trades of four markets at the usual rate, then at BURST times that, then at the usual rate again, stamped with the time at
which they leave. The daemon runs as it is, in a process of its own. A second is late by what its closing lags behind its end and the
grace; memory is what the process grew by from the burst's beginning to the end of the run.

    python -m benchmarks.burst [--seconds 60] [--rate 200]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson
import uvloop

from benchmarks.harness import quantiles_ms, report
from benchmarks.load import Plan, started

BURST = 100.0
QUIET_S = 3.0
END_S = 5.0
"""After the last trade, for its second to close."""
OVERDUE_S = 120.0
"""For trades that are on their way still: what has not come by then is lost."""


def plan(rate_hz: float, seconds: float) -> Plan:
    """The usual rate, a burst of so many seconds, the usual rate."""
    made = Plan(rate_hz=rate_hz, burst=BURST, burst_s=seconds, quiet_s=QUIET_S)
    return msgspec.structs.replace(made, trades=int(made.due(seconds + 2 * QUIET_S)))


async def measure(addresses: dict[str, str], given: Plan, folder: Path) -> dict[str, Any]:
    """The daemon under that load, to its end; what became of every trade and second."""
    running, task = await started(addresses, given, folder)
    late_s, ticks, memory, begun = [], running.ticks, _rss_mb(), time.process_time()
    until_s = time.monotonic() + given.burst_s + 2 * QUIET_S + END_S
    while time.monotonic() < until_s or (
        running.counts().aggregated < given.trades and time.monotonic() < until_s + OVERDUE_S
    ):
        await asyncio.sleep(0.005)
        if running.ticks > ticks:
            ticks = running.ticks
            late_s.append(max(0.0, running.status().lag_s - running.config.feed.grace_s))
    counts, grown = running.counts(), _rss_mb() - memory
    result = {
        "trades": given.trades,
        "aggregated": counts.aggregated,
        "dropped": counts.received - counts.aggregated,
        "seconds": ticks,
        "late_s": late_s,
        "grown_mb": grown,
        "cpu_s": time.process_time() - begun,
        "conserved": counts.conserved(),
    }
    running.stop()
    await task
    return result


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def loaded(given: Plan, folder: Path) -> dict[str, Any]:
    """Start the load and, beside it, the daemon; the result of `measure`."""
    told = ["--plan", msgspec.json.encode(given).decode(), "--folder", str(folder)]
    load = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ingest", *told, "--role", "load"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert load.stdout is not None
        addresses = load.stdout.readline()
        command = [sys.executable, "-m", "benchmarks.burst", *told, "--addresses", addresses]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        load.kill()
        load.wait()
        assert load.stdout is not None
        load.stdout.close()
    made: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    return made


def main() -> None:
    """One burst, and its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--plan", default="{}")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--addresses", help="run the daemon against this load (used by the benchmark itself)")
    options = parser.parse_args()
    if options.addresses:
        given = msgspec.json.decode(options.plan, type=Plan)
        with tempfile.TemporaryDirectory(prefix="sqfd-burst-") as state:
            print(orjson.dumps(uvloop.run(measure(orjson.loads(options.addresses), given, Path(state)))).decode())
        return
    given = plan(options.rate, options.seconds)
    with tempfile.TemporaryDirectory(prefix="sqfd-burst-") as folder:
        found = loaded(given, Path(folder))
    row = {
        "trades/s": f"{options.rate:,.0f} → {options.rate * BURST:,.0f}",
        "seconds": found["seconds"],
        "trades": found["trades"],
        "lost": found["trades"] - found["aggregated"],
        **{f"late {name}": value for name, value in quantiles_ms(found["late_s"]).items()},
        "CPU s": round(found["cpu_s"], 1),
        "grown MB": round(found["grown_mb"], 1),
    }
    report("burst", f"burst: {BURST:.0f} × the usual rate for {options.seconds:.0f} s", [row])


if __name__ == "__main__":
    main()
