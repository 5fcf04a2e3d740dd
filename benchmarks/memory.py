"""Resident memory of the daemon: 112 markets on all exchanges, 5 symbols with 28 h of flow, journal and HTTP on, under load.

The daemon is a process of its own (as `sqfd run`, in the time of the simulated market), the exchanges are another; this one
watches. Its rings are full from the first second: the simulation writes the day before into its journal. What grows after that
fills within hours of market time (bars that can still be revised, memories of trades seen): the slope is told from the first hour
on, and over the second half. Every few seconds health, metrics, an hour of history and the page's own data are asked for.

By itself it looks at a quarter of an hour; `--minutes 61 --speed 12` is the hour of the limit, in five minutes; more, e.g.
`--minutes 900 --speed 20`, tells the slope.

    python -m benchmarks.memory [--minutes 15] [--speed 15]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import exchanges
from benchmarks.harness import report
from sqfd.journal import JournalStore
from sqfd.settings import toml_value
from sqfd.sim.listing import listed
from sqfd.sim.process import Ready, SimulatedExchanges
from tests.ports import free_port
from tests.real.daemons import DaemonProcess

SYMBOLS = ("BTC", "ETH", "SOL", "XRP", "DOGE")
MARKETS = 112
SETTLED_S = 3_600
"""Market time before which no slope is told: the start fills most."""
LIMIT_MB = 120.0


def chosen_markets(served: Ready) -> list[str]:
    """MARKETS of those that are listed, of all exchanges."""
    return sorted(random.Random(1).sample(served.markets, min(MARKETS, len(served.markets))))


def write_config(folder: Path, served: Ready, port: int) -> Path:
    """Those markets on the loopback exchanges, HTTP on."""
    lines = ["[symbols]", f"symbols = {toml_value(SYMBOLS)}", f"markets = {toml_value(chosen_markets(served))}"]
    lines += ["[http]", f"port = {port}"]
    for exchange, addresses in served.addresses.items():
        lines += [f"[feed.addresses.{exchange}]", *(f"{name} = {toml_value(url)}" for name, url in addresses.items())]
    path = folder / "sqfd.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory, its largest so far, and the part that is no file."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    found = {
        words[0].rstrip(":"): int(words[1]) / 1024 for words in lines if words[0] in ("VmRSS:", "VmHWM:", "RssAnon:")
    }
    return {
        "RSS MB": round(found["VmRSS"], 1),
        "anonymous MB": round(found["RssAnon"], 1),
        "peak MB": round(found["VmHWM"], 1),
    }


def ask(port: int, now_s: int, market: str) -> None:
    """What monitors and charts ask for. Errors that are answers (no results yet) are fine."""
    for path in (
        "/health/detailed",
        "/metrics",
        "/status",
        f"/historical/{(now_s - 3600) * 1000}/{now_s * 1000}/10000/{market}",
    ):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()


def watched(daemon: DaemonProcess, served: Ready, port: int, minutes: float) -> Iterator[tuple[int, dict[str, float]]]:
    """(seconds of market time since the start, memory), some twenty times over the span."""
    assert daemon.process is not None
    first = daemon.last_tick()
    market = chosen_markets(served)[0]
    yield 0, memory_mb(daemon.process.pid)
    while (passed := daemon.last_tick() - first) < minutes * 60:
        time.sleep(max(0.5, minutes * 60 / served.speed / 20))
        ask(port, first + passed, market)
        yield daemon.last_tick() - first, memory_mb(daemon.process.pid)


def slope_mb_h(samples: list[tuple[int, dict[str, float]]], from_s: float) -> float | None:
    """By least squares over what came from `from_s` of market time on; None where that is too short to tell."""
    late = [(at / 3600, memory["RSS MB"]) for at, memory in samples if at >= from_s]
    if len(late) < 4:
        return None
    hours, megabytes = np.array(late).T
    return round(float(np.polyfit(hours, megabytes, 1)[0]), 2)


def slopes(samples: list[tuple[int, dict[str, float]]]) -> str:
    """After the first hour, in which caches fill, and over the second half: a curve that flattens has a smaller second one."""
    if (hour := slope_mb_h(samples, SETTLED_S)) is None:
        return "slope not measured"
    half = slope_mb_h(samples, max(SETTLED_S, samples[-1][0] / 2))
    return f"slope {hour} MB/h after the first hour, {'not measured' if half is None else f'{half} MB/h'} in the second half"


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=15.0, help="Market time.")
    parser.add_argument("--speed", type=float, default=15.0, help="Market seconds a second.")
    options = parser.parse_args()
    offered = [name for name in exchanges.IDS if listed(exchanges.get(name), SYMBOLS)]
    with tempfile.TemporaryDirectory(prefix="sqfd-memory-") as folder:
        state = Path(folder) / "state"
        with SimulatedExchanges(offered, SYMBOLS, speed=options.speed, journal=state, timeout_s=300) as served:
            port = free_port()
            daemon = DaemonProcess(write_config(Path(folder), served, port), state, served)
            began = daemon.last_tick()
            try:
                daemon.start()
                samples = list(watched(daemon, served, port, options.minutes))
            finally:
                daemon.end()
        store = JournalStore(state, read_only=True)
        bars = store.bars(None, began, 1 << 40)
        store.close()
    step = max(1, len(samples) // 6)
    rows = [{"market time min": round(at / 60, 1), **memory} for at, memory in [*samples[:-1:step], samples[-1]]]
    trades = int(bars["cbuy"].sum() + bars["csell"].sum())
    span = samples[-1][0]
    title = (
        f"memory: {MARKETS} markets, {len(SYMBOLS)} symbols, {trades / max(span, 1):.0f} trades and {len(bars) / max(span, 1):.0f} "
        f"bars a market second; limit {LIMIT_MB:.0f} MB; {slopes(samples)}"
    )
    report("memory", title, rows)


if __name__ == "__main__":
    main()
