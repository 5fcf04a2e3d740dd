"""What a trade costs where trades come at a rate: CPU share and lag at 1,000, 10,000 and 50,000 a second, as `benchmarks.ingest`.

python -m benchmarks.paced [--runs 5] [--case 1k/s …] [--peers /path/to/python]
"""

from __future__ import annotations

from benchmarks.ingest import PACED, PACED_S, main

if __name__ == "__main__":
    main(PACED, "paced", f"at a rate for {PACED_S:g} s")
