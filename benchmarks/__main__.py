"""`make bench`: the benchmarks in turn, each in a process of its own, quick ones first; `--table` puts their results into the README.

Each has a limit, so that all end within ten minutes: one that exceeds it is ended with all its processes and counts as failed.

    python -m benchmarks [NAME …] [--table]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness import RESULTS

HERE = Path(__file__).parent
ARGUMENTS = {
    "startup": (),
    "tick_kernel": (),
    "decode": (),
    "tick": (),
    "history": (),
    "storage": (),
    "importing": ("--rounds", "1", "--tardis", "1300000"),
    "idle": ("--seconds", "10"),
    "memory": ("--minutes", "3"),
    "burst": (),
    "backtest": (),
    "ingest": (),
    "paced": (),
    "markets": (),
}
"""All benchmarks in their order; what shortens them here."""
BY_NAME = frozenset({"markets"})
"""Those that run only where they are named."""
LIMIT_S = 150.0
ALL_S = 600.0
TOO_LONG = 124
BEGIN, END = "<!-- results: python -m benchmarks --table -->", "<!-- end of results -->"


def command(name: str) -> list[str]:
    """The process of one benchmark."""
    return [sys.executable, "-m", f"benchmarks.{name}", *ARGUMENTS[name]]


def run(name: str, limit_s: float) -> int:
    """Run one; its exit code, TOO_LONG where it did not end in time."""
    print(f"\n== {name}", flush=True)
    process = subprocess.Popen(command(name), start_new_session=True)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        print(f"{name} did not end within {limit_s:.0f} s", flush=True)
        return TOO_LONG
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever it began ends with it; servers in sessions of their own end by themselves when their parent is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tables() -> Iterator[str]:
    """The results on disk as Markdown, in the order of ARGUMENTS."""
    for name in ARGUMENTS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            yield from _table(orjson.loads(path.read_bytes()))


def _table(document: dict[str, Any]) -> Iterator[str]:
    rows, machine = document["rows"], document["machine"]
    yield f"**{document['title']}** (load {machine['load']:.1f})\n"
    yield f"| {' | '.join(rows[0])} |"
    yield f"|{'---|' * len(rows[0])}"
    for row in rows:
        yield f"| {' | '.join(str(value).replace('|', '/') for value in row.values())} |"
    yield ""


def write_tables(readme: Path) -> None:
    """Put the tables between BEGIN and END. Raises ValueError where the file does not have them."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{readme}: no {BEGIN!r} followed by {END!r}")
    readme.write_text("\n".join([before + BEGIN + "\n", *tables(), END + after]), encoding="utf-8")


def main() -> int:
    """Run all, or those named; the exit code is that of the first that failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(ARGUMENTS)}; default: all but {', '.join(BY_NAME)}"
    )
    parser.add_argument("--table", action="store_true", help="Run nothing: write the last results into README.md.")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in ARGUMENTS]:
        parser.error(f"no benchmark {', '.join(unknown)}")
    if options.table:
        write_tables(HERE / "README.md")
        return 0
    failed, began, took = 0, time.monotonic(), {}
    for name in options.names or [name for name in ARGUMENTS if name not in BY_NAME]:
        began_one = time.monotonic()
        left_s = ALL_S - (began_one - began)
        code = run(name, min(LIMIT_S, left_s)) if left_s > 1 else TOO_LONG
        failed, took[name] = failed or code, round(time.monotonic() - began_one)
    print(f"\n{sum(took.values())} s: " + ", ".join(f"{name} {seconds}" for name, seconds in took.items()))
    return failed


if __name__ == "__main__":
    sys.exit(main())
