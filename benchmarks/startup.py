"""How long `sqfd` takes from its start to READY=1, with a warm journal: 5 symbols with 28 h of flow.

The daemon is started as systemd would start it, on simulated exchanges, again and again on the same journal; READY=1 is
waited for on the socket of NOTIFY_SOCKET. Beside it the same without a journal, and the bare interpreter with the daemon's imports:
what is left of the first is the warm start.

    python -m benchmarks.startup [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import report
from benchmarks.memory import SYMBOLS
from sqfd.settings import toml_value
from sqfd.sim.process import Ready, SimulatedExchanges

EXCHANGES = ("BINANCE", "BINANCE_FUTURES", "BYBIT", "OKEX", "COINBASE")
LIMIT_S = 60.0


class Start(NamedTuple):
    """Of one start, in seconds: until READY=1, and the processor's part of it (all of the process, to its end)."""

    wall_s: float
    cpu_s: float


def write_config(folder: Path, served: Ready) -> Path:
    """The usual exchanges on loopback."""
    lines = [
        "[symbols]",
        f"symbols = {toml_value(SYMBOLS)}",
        f"exchanges = {toml_value(EXCHANGES)}",
        "[http]",
        "port = 0",
    ]
    for exchange, addresses in served.addresses.items():
        lines += [f"[feed.addresses.{exchange}]", *(f"{name} = {toml_value(url)}" for name, url in addresses.items())]
    path = folder / "sqfd.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def child_cpu_s() -> float:
    """Processor time of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def started(config: Path, state: Path, served: Ready) -> Start:
    """Start it, wait for READY=1, kill it."""
    address = str(config.parent / "notify")
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(address)
        told.settimeout(LIMIT_S)
        command = [sys.executable, "-m", "tests.real.daemons", config, state, served.anchor_ms, served.speed]
        cpu_s, began = child_cpu_s(), time.perf_counter()
        process = subprocess.Popen([*map(str, command)], env={**os.environ, "NOTIFY_SOCKET": address})
        try:
            while b"READY=1" not in told.recv(4096):
                pass
            wall_s = time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
    return Start(wall_s, child_cpu_s() - cpu_s)


def imported() -> Start:
    """The interpreter and the daemon's imports alone."""
    cpu_s, began = child_cpu_s(), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import sqfd.cli.running"], check=True)
    return Start(time.perf_counter() - began, child_cpu_s() - cpu_s)


def row(name: str, starts: list[Start]) -> dict[str, object]:
    """Median and range."""
    walls, cpus = zip(*starts, strict=True)
    return {
        "what": name,
        "s": round(statistics.median(walls), 2),
        "least": round(min(walls), 2),
        "most": round(max(walls), 2),
        "CPU s": round(statistics.median(cpus), 2),
        "CPU least": round(min(cpus), 2),
        "CPU most": round(max(cpus), 2),
    }


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, list[Start]] = {"imports alone": [], "empty journal": [], "5 symbols × 28 h": []}
    with tempfile.TemporaryDirectory(prefix="sqfd-startup-") as name:
        folder = Path(name)
        with SimulatedExchanges(EXCHANGES, SYMBOLS, journal=folder / "warm", timeout_s=300) as served:
            config = write_config(folder, served)
            for _ in range(rounds):
                found["imports alone"].append(imported())
                shutil.rmtree(folder / "empty", ignore_errors=True)
                found["empty journal"].append(started(config, folder / "empty", served))
                found["5 symbols × 28 h"].append(started(config, folder / "warm", served))
    report("startup", "startup: from exec to READY=1", [row(what, starts) for what, starts in found.items()])


if __name__ == "__main__":
    main()
