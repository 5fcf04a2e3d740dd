"""P10: no frame that a transport lets through costs a decoder 4 MB."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exchanges.api import BadMessage
from exchanges.numbers import INFLATED_MAX_BYTES, SMALL_BYTES, VALUES_MAX, crowded
from tests.exchanges.support import NOW_MS, sockets
from tests.exchanges.test_mutations import fresh, paths, replaced, tree, valid

LIMIT = 4_000_000
FRAME_BYTES = 512 * 1024
"""Default of feed.max_frame_bytes: the transport refuses longer ones, and `crowded` ones."""


def cost(exchange_id: str, endpoint: str, frame: bytes) -> int:
    """Most memory in use while a decoder reads a frame and its events are held."""
    decoder = fresh(exchange_id, endpoint)
    tracemalloc.start()
    try:
        events = list(decoder.decode(frame, NOW_MS))
    except BadMessage:
        events = []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del events
    return peak


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def grown(value: Any) -> Iterator[bytes]:
    """A frame with each of its lists repeated as often as the limits allow."""
    for path in paths(value):
        found = at(value, path)
        if isinstance(found, list) and found:
            one = json.dumps(found, separators=(",", ":"))
            room = VALUES_MAX - json.dumps(value).count(",")
            times = min(FRAME_BYTES // len(one), room // (one.count(",") + 1)) - 1
            yield json.dumps(replaced(value, path, found * times), separators=(",", ":")).encode()


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
def test_the_longest_lists_cost_less_than_four_megabytes(exchange_id: str, endpoint: str) -> None:
    """Every list of every message, repeated to the limit of bytes or values."""
    values = [value for value in map(tree, valid(exchange_id, endpoint)) if value is not None]
    for value in {json.dumps([*map(str, paths(value))]): value for value in values}.values():  # one of each shape
        for bomb in grown(value):
            assert len(bomb) <= FRAME_BYTES
            assert not crowded(bomb)
            assert cost(exchange_id, endpoint, bomb) < LIMIT, bomb[:300]


BOMBS: dict[str, Callable[[], bytes]] = {
    "64 levels": lambda: b'{"data":' * 64 + b"1" + b"}" * 64,
    "100,000 levels": lambda: b"[" * 100_000 + b"]" * 100_000,
    "a number of 500,000 digits": lambda: b'{"data":' + b"9" * 500_000 + b"}",
    "a fraction of 500,000 digits": lambda: b'{"data":0.' + b"9" * 500_000 + b"}",
    "an exponent of 500,000 digits": lambda: b'{"data":1e' + b"9" * 500_000 + b"}",
    "a text of 500,000 escapes": lambda: b'{"data":"' + b"\\u0000" * 80_000 + b'"}',
    "a text of wide characters": lambda: b'{"data":"' + "\U0001f4a3".encode() * 120_000 + b'"}',
    "a key of 500,000 characters": lambda: b'{"' + b"k" * 500_000 + b'":1}',
    "as many keys as there is room for": lambda: b"{" + b",".join(b'"%d":0' % n for n in range(11_000)) + b"}",
    "small and crowded": lambda: b"[" + b"[],[]," * (SMALL_BYTES // 6 - 2) + b"[]]",
    "gzip": lambda: gzip.compress(b" " * 40_000_000),
    "gzip of a list": lambda: gzip.compress(b'{"tick":{"data":[' + b"{}," * 2_000_000 + b"{}]}}"),
    "gzip that just fits": lambda: gzip.compress(b'{"ch":"' + b"x" * (INFLATED_MAX_BYTES - 9) + b'"}'),
    "raw deflate": lambda: zlib.compress(b" " * 40_000_000, wbits=-15),
    "protobuf of empty deals": lambda: b"\n" + b"\x01x" + b"\xd2\x13\xff\xff\x1f" + b"\n\x00" * 262_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_cost_less_than_four_megabytes(bomb: str) -> None:
    """Deep, long, wide and packed: each against every decoder."""
    frame = BOMBS[bomb]()
    for exchange_id, endpoint in sockets():
        assert cost(exchange_id, endpoint, frame) < LIMIT, (exchange_id, endpoint)


def test_real_messages_are_not_crowded() -> None:
    """A thousand trades of ten fields at once still pass."""
    row = dict.fromkeys("abcdefghij", "1234567890.123")
    assert not crowded(json.dumps([row] * 1_000).encode())
