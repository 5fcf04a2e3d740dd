"""What InfluxDB 1.x's answer to a write means. Pure.

Measured against influxd 1.6.7. Its `dropped=` count is wrong for lines that it cannot parse, and it stores the good lines of a
batch that it refuses: writing again is free (same series and time overwrites), so a bad line is found by halving.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What to do with the lines of one write."""

    ACCEPTED = "accepted"
    """Stored, and durable through a crash."""
    EXPIRED = "expired"
    """Stored, but for lines older than the retention policy, which nobody wants: accepted, counted."""
    RETRY = "retry"
    """Nothing is known to be stored and it will pass: the same again, later."""
    SPLIT = "split"
    """Something in it is refused: the halves, at once."""
    REJECTED = "rejected"
    """This one line is refused for ever."""
    HOLD = "hold"
    """Somebody has to do something (missing database or policy, login): alarm, try again slowly, lose nothing."""


class Failure(Enum):
    """A write that got no answer."""

    REFUSED = "refused"
    """No connection."""
    RESET = "reset"
    """The connection broke during the request. A body over 25 MB looks like this too."""
    TIMEOUT = "timeout"


RESETS_BEFORE_SPLIT = 2
_LINE_FAULTS = (
    "unable to parse",
    "field type conflict",
    "max-series-per-database",
    "max-values-per-tag",
    "invalid field",
)
_TRANSIENT_400 = ("unexpected eof", "gzip", "timeout")
_SCHEMA = ("retention policy not found", "database not found")
_BUSY = frozenset({408, 425, 429, 502, 503, 504})


def judge(answer: int | Failure, body: str = "", *, lines: int, resets: int = 0) -> Verdict:
    """Verdict on a write of `lines` lines, answered with a status and a body, or not at all.

    `resets`: how often in a row, this time included, the same lines broke their connection.
    """
    if isinstance(answer, Failure):
        halve = answer is Failure.RESET and resets >= RESETS_BEFORE_SPLIT and lines > 1
        return Verdict.SPLIT if halve else Verdict.RETRY
    if answer == 204:
        return Verdict.ACCEPTED
    text = body.lower()
    if answer == 400:
        return _bad_request(text, lines)
    if answer == 413:
        return _smaller(lines)
    if answer in _BUSY:
        return Verdict.RETRY
    if answer >= 500:
        return Verdict.HOLD if needs_schema(answer, text) else Verdict.RETRY
    return Verdict.HOLD  # 401, 403, 404, redirects, and a 200 from something that is no InfluxDB


def needs_schema(answer: int | Failure, body: str) -> bool:
    """Whether the database or the retention policy is missing."""
    return not isinstance(answer, Failure) and any(words in body.lower() for words in _SCHEMA)


def _bad_request(text: str, lines: int) -> Verdict:
    if any(words in text for words in _LINE_FAULTS):
        return _smaller(lines)
    if "beyond retention policy" in text:
        return Verdict.EXPIRED
    return Verdict.RETRY if any(words in text for words in _TRANSIENT_400) else Verdict.HOLD


def _smaller(lines: int) -> Verdict:
    return Verdict.SPLIT if lines > 1 else Verdict.REJECTED
