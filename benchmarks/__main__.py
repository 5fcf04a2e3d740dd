"""`make bench`: every benchmark in turn, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_RUN = {"__init__", "__main__", "compare", "harness", "load", "peers"}


def main() -> int:
    """Run all; the exit code is that of the first that failed."""
    failed = 0
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in NOT_RUN:
            print(f"\n== {path.stem}", flush=True)
            failed = failed or subprocess.run([sys.executable, "-m", f"benchmarks.{path.stem}"]).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
