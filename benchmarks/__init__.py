"""Measurements of what sqfd claims; each module runs alone (`python -m benchmarks.tick`) or all with `make bench`."""

import os

# As `sqfd` does, before anything imports numpy: each benchmark, and each process that it starts, has as many threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
