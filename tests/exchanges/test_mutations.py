"""Hostile frames cost only themselves: BadMessage or counted rows, never another exception, never an absurd trade."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import (
    NOTIONAL_MAX,
    PRICE_MAX,
    TIME_MAX_MS,
    TIME_MIN_MS,
    BadMessage,
    Decoder,
    Event,
    Liquidation,
    Malformed,
    Past,
    Trade,
)
from tests.exchanges.support import NOW_MS, Link, endpoints, identity, raw, simulated, sockets

GZIP_MAGIC = b"\x1f\x8b"

ODD = [
    None,
    True,
    -1,
    0,
    1e308,
    -1e308,
    5e-324,
    2**63,
    10**40,
    "",
    "nan",
    "Infinity",
    "-Infinity",
    "1e999",
    "1_0",
    "\u0661",
    [],
    {},
    [[]],
    {"a": 1},
]
FORMS = [
    1.0,
    1.5,
    "1e2",
    "007",
    " 1 ",
    "-0",
    "1970-01-01T00:00:00.000Z",
    "2021-04-17T16:44:03.00381599999999Z",
    "2021-04-17T16:44:03.1Z",
    "2021-04-17T16:44:03Z",
    "2021-04-17T16:44:03.003+01:00",
    "20210417T16:44:03.003Z",
    "x" * 5000,
    "9999-99-99T99:99:99Z",
]
"""Numbers and times in other forms than usual, which a shorter way must read as the long one, or leave to it."""


@cache
def valid(exchange_id: str, endpoint: str) -> tuple[bytes, ...]:
    """Frames of every type that the simulated exchange sends."""
    link = Link(simulated(exchange_id), endpoint, liquidations=True)
    answers = [
        f for frame in link.decoder.subscribe(link.topics, NOW_MS) for f in link.connection.receive(frame, NOW_MS)
    ]
    of = list(link.instruments.values())
    number = range(2, 2 + len(of))
    trades = [
        Trade(i, NOW_MS, 100.5, 2.0, True, identity(exchange_id, n, endpoint), 1)
        for i, n in zip(of, number, strict=True)
    ]
    forced = [Liquidation(i, NOW_MS, 100.5, 2.0, False) for i in of if i.kind != "spot"]
    frames = [
        *link.connection.greet(NOW_MS),
        *answers,
        *link.connection.trades(trades, NOW_MS),
        *link.connection.liquidations(forced, NOW_MS),
        *link.connection.heartbeat(NOW_MS),
    ]
    return tuple(raw(f) for f in frames)


def fresh(exchange_id: str, endpoint: str) -> Decoder:
    return Link(simulated(exchange_id), endpoint, liquidations=True).decoder


def checked(decoder: Decoder, frame: bytes) -> list[Event]:
    """Decode; whatever comes is an event in range, or BadMessage."""
    try:
        events = list(decoder.decode(frame, NOW_MS))
    except BadMessage:
        return []
    for event in events:
        for deal in event.trades if isinstance(event, Past) else [event]:
            if isinstance(deal, Trade | Liquidation):
                assert 0 < deal.price < PRICE_MAX
                assert 0 < deal.size * deal.price < NOTIONAL_MAX
                assert math.isfinite(deal.size)
                assert TIME_MIN_MS < deal.ts_ms < TIME_MAX_MS
                assert type(deal.ts_ms) is int
                assert type(deal.buy) is bool
                assert not isinstance(deal.id, int) or abs(deal.id) <= 2**63
                assert not isinstance(deal.id, str) or len(deal.id) <= 64
    return events


def alone(decoder: Decoder, frame: bytes) -> list[Event]:
    """What a frame means, one that cannot be read included."""
    try:
        return list(decoder.decode(frame, NOW_MS))
    except BadMessage as error:
        return [Malformed(str(error))]


def paths(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield at
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield from paths(value, (*at, key))


def replaced(node: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy with the value at that place exchanged."""
    if not at:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[at[0]] = replaced(node[at[0]], at[1:], value)
    return copy


def tree(frame: bytes) -> Any:
    """The frame as JSON, unpacked if need be, or None where it is something else."""
    try:
        return json.loads(gzip.decompress(frame) if frame.startswith(GZIP_MAGIC) else frame)
    except ValueError:
        return None


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
@given(data=st.data())
def test_only_bad_message_is_raised_on_damaged_bytes(exchange_id: str, endpoint: str, data: st.DataObject) -> None:
    """Truncation, foreign bytes, bad UTF-8 and flipped bits raise BadMessage or nothing."""
    frame = bytearray(data.draw(st.sampled_from(valid(exchange_id, endpoint))))
    at = data.draw(st.integers(0, len(frame)))
    how = data.draw(st.sampled_from(["cut", "insert", "flip", "double"]))
    if how == "cut":
        del frame[at:]
    elif how == "insert":
        frame[at:at] = data.draw(st.sampled_from([b"\xff\xfe", b"\xed\xa0\x80", b"\x00", b"{", b"]", b'"', b"NaN"]))
    elif how == "flip" and at < len(frame):
        frame[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        frame *= 2
    decoder = fresh(exchange_id, endpoint)
    checked(decoder, bytes(frame))
    for good in valid(exchange_id, endpoint):
        checked(decoder, good)


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
@given(data=st.data())
def test_only_bad_message_is_raised_on_swapped_values(exchange_id: str, endpoint: str, data: st.DataObject) -> None:
    """Any value exchanged for one of another type or size raises BadMessage or gives trades in range."""
    value = tree(data.draw(st.sampled_from(valid(exchange_id, endpoint))))
    if value is None:
        return
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from(list(paths(value))))
        value = replaced(value, at, data.draw(st.sampled_from(ODD)))
    checked(fresh(exchange_id, endpoint), json.dumps(value).encode())


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
def test_every_single_value_may_be_wrong(exchange_id: str, endpoint: str) -> None:
    """Exhaustively: each place of each frame, each odd value."""
    decoder = fresh(exchange_id, endpoint)
    for frame in valid(exchange_id, endpoint):
        value = tree(frame)
        for at in paths(value):
            for odd in ODD:
                checked(decoder, json.dumps(replaced(value, at, odd)).encode())


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
def test_frames_that_arrive_together_mean_what_each_means_alone(exchange_id: str, endpoint: str) -> None:
    """The shorter way of usual frames (`quick`) gives the same as `read`, for each odd value at each place: reasons too."""
    frames = [frame for good in valid(exchange_id, endpoint) for frame in (good, *mutants(good))]
    live, slow = fresh(exchange_id, endpoint), fresh(exchange_id, endpoint)
    for start in range(0, len(frames), 16):
        some = frames[start : start + 16]
        together = [
            event for one in live.read_all(some, NOW_MS) for event in (one if isinstance(one, list) else (one,))
        ]
        assert told(together) == told([event for frame in some for event in alone(slow, frame)])


def told(events: Sequence[Event]) -> list[Event | dict[str, list[Trade]]]:
    """What is no trade, and between these the trades of each market: that the order of markets is kept is not promised."""
    found: list[Event | dict[str, list[Trade]]] = [{}]
    for event in events:
        if type(event) is not Trade:
            found += event, {}
        elif isinstance(last := found[-1], dict):
            last.setdefault(event.instrument.symbol, []).append(event)
    return found


def mutants(frame: bytes) -> Iterator[bytes]:
    """That frame with each odd value at each place, packed as it was."""
    value = tree(frame)
    for at in paths(value) if value is not None else ():
        for odd in ODD + FORMS:
            text = json.dumps(replaced(value, at, odd)).encode()
            yield gzip.compress(text, 1) if frame.startswith(GZIP_MAGIC) else text


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"0",
        b'"text"',
        b"[]",
        b"{}",
        b"[[[]]]",
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b'{"data":[' * 5_000 + b"]}" * 5_000,
        b'{"topic":"' + b"x" * 1_000_000 + b'"}',
        b"\xff" * 1000,
        b"<html>502 Bad Gateway</html>",
    ],
    ids=lambda frame: frame[:12].decode("latin-1") or "empty",
)
def test_what_no_exchange_sends_costs_only_itself(exchange_id: str, endpoint: str, frame: bytes) -> None:
    """Nonsense, deep nesting and pages of proxies give no trade, and the decoder goes on."""
    decoder = fresh(exchange_id, endpoint)
    assert not [e for e in checked(decoder, frame) if isinstance(e, Trade | Liquidation | Past)]
    untouched = fresh(exchange_id, endpoint)
    for good in valid(exchange_id, endpoint):
        assert checked(decoder, good) == checked(untouched, good)


KEYED = {"update", "snapshot"}
"""Objects whose keys are symbols rather than names of fields."""


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
def test_unknown_fields_change_nothing(exchange_id: str, endpoint: str) -> None:
    """Fields that an exchange adds without notice are ignored, wherever they stand."""
    for frame in valid(exchange_id, endpoint):
        value = tree(frame)
        usual = checked(fresh(exchange_id, endpoint), frame)
        for at in paths(value):
            node = value
            for key in at:
                node = node[key]
            if isinstance(node, dict) and not KEYED & set(at[-1:]) and "subscriptions" not in at:
                added = replaced(value, at, node | {"zz_new": {"a": [1, "b"]}})
                assert checked(fresh(exchange_id, endpoint), json.dumps(added).encode()) == usual


def batches(value: Any, size: int) -> Iterator[tuple[Any, ...]]:
    """Places of lists of that many rows."""
    for at in paths(value):
        node = value
        for key in at:
            node = node[key]
        if isinstance(node, list) and len(node) == size and all(isinstance(row, dict | list) for row in node):
            yield at


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
def test_a_bad_row_costs_only_itself(exchange_id: str, endpoint: str) -> None:
    """In a batch of trades a row that cannot be read is counted as malformed, and the others are traded."""
    link = Link(simulated(exchange_id), endpoint)
    link.subscribe()
    instrument = next(iter(link.instruments.values()))
    sent = [Trade(instrument, NOW_MS, 100.0 + n, 1.0, True, identity(exchange_id, 100 + n, endpoint)) for n in range(7)]
    frames = [raw(f) for f in link.connection.trades(sent, NOW_MS)]
    if len(frames) > 1 or tree(frames[0]) is None:
        return  # one trade in a frame: there is nothing beside a bad row
    value = tree(frames[0])
    (at,) = batches(value, len(sent))
    for bad in ("x", None, [], {}, 7, {"zz": 1}):
        events = checked(link.decoder, json.dumps(replaced(value, (*at, 3), bad)).encode())
        assert sum(isinstance(e, Trade) for e in events) == len(sent) - 1
        assert sum(isinstance(e, Malformed) for e in events) == 1


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
def test_a_bad_value_in_a_row_costs_at_most_that_row(exchange_id: str, endpoint: str) -> None:
    """Also where its type is right and only reading it (a time, a side) fails."""
    link = Link(simulated(exchange_id), endpoint)
    link.subscribe()
    instrument = next(iter(link.instruments.values()))
    sent = [Trade(instrument, NOW_MS, 100.0 + n, 1.0, True, identity(exchange_id, 100 + n, endpoint)) for n in range(7)]
    frames = [raw(f) for f in link.connection.trades(sent, NOW_MS)]
    if len(frames) > 1 or tree(frames[0]) is None:
        return  # one trade in a frame: there is nothing beside a bad row
    value = tree(frames[0])
    (at,) = batches(value, len(sent))
    row = value
    for key in (*at, 3):
        row = row[key]
    for field in paths(row):
        for odd in ODD if field else []:
            events = checked(link.decoder, json.dumps(replaced(value, (*at, 3, *field), odd)).encode())
            assert sum(isinstance(e, Trade) for e in events) >= len(sent) - 1, (field, odd)


def test_batches_are_really_tested() -> None:
    """The test above is not empty: exchanges that batch are among the tested."""
    assert {("BYBIT", "linear"), ("OKEX", "public"), ("COINBASE", "perp")} <= set(endpoints())
