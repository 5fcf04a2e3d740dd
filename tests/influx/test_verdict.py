"""The verdict table, row by row, without a server (tests/real asks a real one)."""

from __future__ import annotations

import pytest

from sqfd.influx.verdict import Failure, Verdict, judge, needs_schema


@pytest.mark.parametrize(
    ("answer", "body", "many", "one"),
    [
        (204, "", Verdict.ACCEPTED, Verdict.ACCEPTED),
        (400, 'partial write: field type conflict: input field "x" dropped=1', Verdict.SPLIT, Verdict.REJECTED),
        (400, "unable to parse 'x': missing fields dropped=0", Verdict.SPLIT, Verdict.REJECTED),
        (400, "partial write: max-series-per-database limit exceeded: (1) dropped=1", Verdict.SPLIT, Verdict.REJECTED),
        (400, "partial write: points beyond retention policy dropped=1", Verdict.EXPIRED, Verdict.EXPIRED),
        (400, "unexpected EOF", Verdict.RETRY, Verdict.RETRY),
        (400, "something new", Verdict.HOLD, Verdict.HOLD),
        (404, 'database not found: "x"', Verdict.HOLD, Verdict.HOLD),
        (500, "retention policy not found: aggr_1s", Verdict.HOLD, Verdict.HOLD),
        (500, "engine: cache maximum memory size exceeded", Verdict.RETRY, Verdict.RETRY),
        (500, "no space left on device", Verdict.RETRY, Verdict.RETRY),
        (503, "", Verdict.RETRY, Verdict.RETRY),
        (429, "", Verdict.RETRY, Verdict.RETRY),
        (413, "", Verdict.SPLIT, Verdict.REJECTED),
        (401, "", Verdict.HOLD, Verdict.HOLD),
        (403, "", Verdict.HOLD, Verdict.HOLD),
        (200, "<html>", Verdict.HOLD, Verdict.HOLD),
        (302, "", Verdict.HOLD, Verdict.HOLD),
        (Failure.REFUSED, "", Verdict.RETRY, Verdict.RETRY),
        (Failure.TIMEOUT, "", Verdict.RETRY, Verdict.RETRY),
        (Failure.RESET, "", Verdict.RETRY, Verdict.RETRY),
    ],
)
def test_verdicts(answer, body, many, one):
    """One answer, for a batch and for a single line."""
    assert judge(answer, body, lines=100) is many
    assert judge(answer, body, lines=1) is one


def test_two_resets_halve_a_batch_but_never_lose_a_line():
    """A body that is too large looks like a broken connection; a single line goes on being retried."""
    assert judge(Failure.RESET, lines=2, resets=1) is Verdict.RETRY
    assert judge(Failure.RESET, lines=2, resets=2) is Verdict.SPLIT
    assert judge(Failure.RESET, lines=1, resets=9) is Verdict.RETRY


def test_a_missing_schema_is_told_from_other_faults():
    """Only there is creating it an answer."""
    assert needs_schema(404, 'database not found: "x"')
    assert needs_schema(500, "retention policy not found: aggr_1s")
    assert not needs_schema(500, "timeout")
    assert not needs_schema(Failure.RESET, "database not found")
