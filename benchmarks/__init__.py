"""Measurements of what sqfd claims; each module runs alone (`python -m benchmarks.tick`) or all with `make bench`."""
