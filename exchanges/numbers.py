"""Times, numbers and compressed payloads as exchanges write them, read strictly.

JSON numbers, quoted or bare, are read by msgspec in lax mode (`lax`): like Python's `float` it would take "nan" and
"inf", which `Decoder.trade` refuses by range. Everything that msgspec does not read stands here.
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

import msgspec

from exchanges.api import TIME_MAX_MS, TIME_MIN_MS, BadMessage, Buffer

T = TypeVar("T")

HOUR_MS = 3_600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

INFLATED_MAX_BYTES = 512 * 1024
"""A frame may not grow beyond this when unpacked (a zip bomb costs no more)."""
SMALL_PACKED_BYTES = INFLATED_MAX_BYTES // 1040
"""A frame up to this size cannot grow beyond that: deflate packs 1032 bytes into one at most."""
RATE_MAX = 1.0
"""No interval costs more than what is held: a greater number is in another unit."""
VALUES_MAX = 12_000
"""Values in one message. A thousand trades have fewer; a message of nothing else costs its thirtyfold in memory."""
SMALL_BYTES = 32 * 1024
"""Messages up to this size cannot hold more values than that by much, and are not counted."""


def lax(shape: type[T]) -> msgspec.json.Decoder[T]:
    """A JSON decoder that also takes quoted numbers, since exchanges quote them or not as they like.

    Values stay strict otherwise: `1_0`, ` 12 ` and full-width digits, which Python's own `float` takes, are refused.
    """
    return msgspec.json.Decoder(shape, strict=False)


def rate(value: float | str | None) -> float | None:
    """A rate that comes along with something else: None where it is left empty (dated contracts) or is no number.

    >>> rate("-0.0001"), rate(1e-5), rate(""), rate("nan"), rate(None)
    (-0.0001, 1e-05, None, None, None)
    """
    try:
        found = float(value) if value else 0.0 if value == 0 else None
    except ValueError:
        return None
    return found if found is not None and abs(found) <= RATE_MAX else None


def hours_s(value: float | str | None) -> float | None:
    """A funding interval in hours as seconds; None where it is left empty or is none (an hour at the least, a day at most).

    >>> hours_s("8"), hours_s(4), hours_s(""), hours_s(None), hours_s(-1)
    (28800.0, 14400.0, None, None, None)
    """
    try:
        hours = float(value) if value else 0.0
    except ValueError:
        return None
    return hours * 3600 if 1 <= hours <= 24 else None


_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def decimal(text: str) -> float:
    """A number written in plain ASCII digits, which messages other than JSON carry as text.

    >>> decimal("0.0125")
    0.0125
    """
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"not a number: {text[:40]!r}")
    return float(text)


def iso_ms(text: str) -> int:
    """ISO 8601 with a zone, any number of decimals → milliseconds since the epoch, floored.

    >>> iso_ms("2021-04-17T16:44:03.003815Z")
    1618677843003
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text[:40]!r}")
    return (moment - _EPOCH) // _MILLISECOND


_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


@lru_cache(maxsize=64)
def _second_ms(text: str) -> int:
    """A second in UTC without its zone: trades that come together share theirs."""
    if _SECOND.fullmatch(text) is None or not TIME_MIN_MS < (ms := iso_ms(text + "Z")) < TIME_MAX_MS:
        raise ValueError(f"not in the usual form: {text[:40]!r}")
    return ms


def usual_ms(text: str) -> int:
    """What `iso_ms` gives, sooner: of milliseconds or finer in UTC, within the limits of `Time`. Raises ValueError for others.

    >>> usual_ms("2021-04-17T16:44:03.003815Z")
    1618677843003
    """
    if text[19:20] != "." or text[-1] != "Z" or not text.isascii() or not text[20:-1].isdigit():
        raise ValueError(f"not in the usual form: {text[:40]!r}")
    return _second_ms(text[:19]) + int(text[20:23])


def iso(ts_ms: int) -> str:
    """Milliseconds since the epoch → ISO 8601 in UTC, the inverse of `iso_ms`.

    >>> iso(1618677843003)
    '2021-04-17T16:44:03.003Z'
    """
    seconds, ms = divmod(ts_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def crowded(message: bytes) -> bool:
    """Whether a JSON message holds more than VALUES_MAX values, by its commas: a quick look before it is decoded.

    >>> crowded(b"[" + b"1," * 30_000 + b"1]"), crowded(b"[1,2]")
    (True, False)
    """
    return len(message) > SMALL_BYTES and message.count(b",") > VALUES_MAX


def inflate(frame: Buffer, wbits: int) -> bytes:
    """Unpack a compressed frame: `wbits` 31 for gzip, -15 for raw deflate.

    Raises BadMessage when it is damaged, incomplete, larger than INFLATED_MAX_BYTES or `crowded`.
    """
    if len(frame) <= SMALL_PACKED_BYTES:
        try:
            return zlib.decompress(frame, wbits)
        except zlib.error:
            pass  # below, for the reason
    unpacker = zlib.decompressobj(wbits)
    try:
        data = unpacker.decompress(frame, INFLATED_MAX_BYTES)
    except zlib.error as error:
        raise BadMessage(f"cannot unpack: {error}") from error
    if unpacker.unconsumed_tail:
        raise BadMessage(f"larger than {INFLATED_MAX_BYTES} bytes when unpacked")
    if not unpacker.eof and wbits > 0:
        raise BadMessage("compressed frame is cut short")
    if crowded(data):
        raise BadMessage(f"more than {VALUES_MAX} values")
    return data
