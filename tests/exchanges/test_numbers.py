"""Times and packed payloads are read strictly and floored."""

from __future__ import annotations

import gzip
import zlib

import pytest

from exchanges.api import BadMessage
from exchanges.numbers import INFLATED_MAX_BYTES, inflate, iso_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-04-17T16:44:03.003815Z", 1_618_677_843_003),
        ("2021-04-17T16:44:03.999999999Z", 1_618_677_843_999),
        ("2021-04-17T16:44:03Z", 1_618_677_843_000),
        ("2021-04-17T18:44:03.5+02:00", 1_618_677_843_500),
        ("1969-12-31T23:59:59.9995Z", -1),
    ],
)
def test_times_are_floored_to_milliseconds(text: str, expected: int) -> None:
    """Any number of decimals, any zone, never rounded up."""
    assert iso_ms(text) == expected


@pytest.mark.parametrize("text", ["", "2021-04-17T16:44:03", "yesterday", "9999-99-99T00:00:00Z"])
def test_times_without_zone_or_sense_are_refused(text: str) -> None:
    """A time whose zone must be guessed is no time."""
    with pytest.raises(ValueError, match=r".+"):
        iso_ms(text)


def test_packed_frames_are_unpacked_within_bounds() -> None:
    """gzip and raw deflate are unpacked; a bomb, a cut frame and rubbish are BadMessage."""
    raw = zlib.compressobj(wbits=-15)
    assert inflate(gzip.compress(b"{}"), 31) == b"{}"
    assert inflate(raw.compress(b"{}") + raw.flush(), -15) == b"{}"
    for bad in (gzip.compress(bytes(INFLATED_MAX_BYTES + 1)), gzip.compress(b"{}")[:-9], b"rubbish", b""):
        with pytest.raises(BadMessage):
            inflate(bad, 31)
