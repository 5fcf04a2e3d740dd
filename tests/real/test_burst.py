"""A short burst over a real socket; a minute of it is `python -m benchmarks.burst`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.burst import BURST, QUIET_S, loaded, plan

SECONDS = 3.0


def test_a_burst_loses_nothing(tmp_path: Path) -> None:
    """A hundred times the usual rate: every trade ends in its bar, and seconds go on closing one by one, all of them."""
    given = plan(40.0, SECONDS)
    assert given.trades > 40 * BURST * SECONDS
    found = loaded(given, tmp_path)
    assert found["aggregated"] == given.trades
    assert found["dropped"] == 0
    assert found["conserved"]
    assert found["seconds"] >= SECONDS + 2 * QUIET_S - 1
