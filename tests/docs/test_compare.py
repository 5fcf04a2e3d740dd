"""The README's table of how sqfd compares is made of one run of a benchmark."""

from __future__ import annotations

import pytest

from benchmarks.compare import README, put_in, table

RUN = {
    "machine": {"processor": "A", "cores": 2, "python": "3.11"},
    "rows": [
        {"case": "plain", "path": "floor", "µs CPU a trade": 3.04},
        {"case": "plain", "path": "daemon", "µs CPU a trade": 4.84},
        {"case": "plain", "path": "ccxt", "µs CPU a trade": 46.0},
        {"case": "TLS", "path": "floor", "µs CPU a trade": 5.5},
        {"case": "TLS", "path": "daemon", "µs CPU a trade": 7.26},
    ],
}


def test_the_table_has_who_took_part() -> None:
    """A row for each case that was run, a column for each path; what did not take part in a case is left open."""
    assert table(RUN).splitlines() == [
        "| CPU seconds per million trades, one core | sqfd | ccxt pro | reading and decoding alone |",
        "|---|---|---|---|",
        "| one trade a frame | 4.8 | 46.0 | 3.0 |",
        "| one trade a frame, over TLS | 7.3 | – | 5.5 |",
        "",
        "Medians of one run of `benchmarks.ingest` on 2 cores of A, Python 3.11.",
    ]


def test_it_takes_the_place_of_the_one_before() -> None:
    """Written twice it stands once, and nothing else of the README changes."""
    before = README.read_text()
    once = put_in(before, table(RUN))
    assert once != before
    assert put_in(once, table(RUN)) == once
    with pytest.raises(ValueError, match="no place"):
        put_in("# Nothing", "x")
