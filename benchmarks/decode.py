"""What reading a trade costs: ns per trade of each exchange's decoder, beside its floor and `orjson.loads` of the same bytes.

The frames are those that the simulated exchanges send: one trade alone, and BATCH trades of one market at one instant, which
some exchanges put into one frame (the column `trades a frame` says how many). All read in turn the same frames, ROUNDS times; the
median counts. The decoder gives checked trades in base coins, the floor (`benchmarks.wires`) five values, `orjson.loads` a
dictionary. Where frames are packed, `orjson` gets the text unpacked; it cannot read protobuf.

    python -m benchmarks.decode [EXCHANGE …]
"""

from __future__ import annotations

import gzip
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

import orjson

import exchanges
from benchmarks.harness import report
from benchmarks.wires import NO_TRADES, Reader, reader
from exchanges.api import Decoder, Instrument, Trade
from exchanges.simulated import get as simulate
from sqfd.feed.transport import TOGETHER

NOW_MS = 1_790_000_000_000
BATCH = 20
ROUNDS = 41
FRAMES = 60
"""Frames in a round, of growing ids and times as live ones have."""
GZIP_MAGIC = b"\x1f\x8b"


def trade(instrument: Instrument, number: int) -> Trade:
    """The trade of that number."""
    ids = exchanges.get(instrument.exchange).endpoint(instrument.endpoint).ids
    price, size = 60_000.0 + number % 100 / 10, 0.001 * (1 + number % 50)
    id = None if ids == "none" else 10_000_000 + number
    return Trade(instrument, NOW_MS + number, price, size, number % 2 == 0, id)


def sent(instrument: Instrument, of_one: int, floor: Reader) -> tuple[Decoder, list[bytes]]:
    """A subscribed decoder, and FRAMES sends of `of_one` trades each as the exchange frames them. `floor` hears the answers."""
    exchange = exchanges.get(instrument.exchange)
    server = simulate(exchange)
    server.list([instrument])
    connection = server.connection(instrument.endpoint)
    decoder = exchange.decoder(instrument.endpoint, {instrument.symbol: instrument})
    topics = [s.topic for s in exchange.streams(instrument, False) if s.endpoint == instrument.endpoint]
    for frame in connection.greet(NOW_MS):
        decoder.decode(payload(frame), NOW_MS)
    for request in decoder.subscribe(topics, NOW_MS):
        for frame in connection.receive(request, NOW_MS):
            decoder.decode(payload(frame), NOW_MS)
            with suppress(*NO_TRADES):
                floor(payload(frame))
    numbers = [range(n * of_one, (n + 1) * of_one) for n in range(FRAMES + 1)]
    frames = [[payload(f) for f in connection.trades([trade(instrument, n) for n in of], NOW_MS)] for of in numbers]
    for frame in frames[0]:  # where the first push is taken for history
        decoder.decode(frame, NOW_MS)
    return decoder, [frame for of in frames[1:] for frame in of]


def payload(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def unpacked(frame: bytes) -> bytes | None:
    """The JSON text of a frame; None where it is none."""
    if frame.startswith(GZIP_MAGIC):
        return gzip.decompress(frame)
    if frame[:1] in b"{[":
        return frame
    try:
        return zlib.decompress(frame, -zlib.MAX_WBITS)
    except zlib.error:
        return None


def timed(read: Callable[[Any], Any], frames: Sequence[Any]) -> int:
    """Nanoseconds of CPU for all frames."""
    begun = time.thread_time_ns()
    for frame in frames:
        read(frame)
    return time.thread_time_ns() - begun


def measured(instrument: Instrument, of_one: int) -> dict[str, float]:
    """Medians in ns per trade, and how many trades a frame holds."""
    floor = reader(instrument.exchange, instrument.endpoint, lambda *_: None)
    decoder, frames = sent(instrument, of_one, floor)
    texts = [unpacked(frame) for frame in frames]
    plain = [text for text in texts if text is not None]
    trades = sum(type(event) is Trade for frame in frames for event in decoder.decode(frame, NOW_MS))
    if trades != FRAMES * of_one:
        raise RuntimeError(f"{instrument.market}: {trades} trades of {FRAMES * of_one} came back")
    reads = [frames[at : at + TOGETHER] for at in range(0, len(frames), TOGETHER)]
    ours, least, theirs = [], [], []
    for _ in range(ROUNDS):
        ours.append(timed(lambda some: decoder.read_all(some, NOW_MS), reads) / trades)
        least.append(timed(floor, frames) / trades)
        theirs.append(timed(orjson.loads, plain) / trades)
    orjson_ns = median(theirs) if plain else float("nan")
    found = {"ns": median(ours), "floor_ns": median(least)}
    return found | {"orjson_ns": orjson_ns, "per_frame": trades / len(frames)}


def row(instrument: Instrument) -> dict[str, Any]:
    """A line of the table: one socket of an exchange."""
    one, many = measured(instrument, 1), measured(instrument, BATCH)
    return {
        "socket": f"{instrument.exchange} {instrument.endpoint}",
        "single ns": round(one["ns"]),
        "floor ns": round(one["floor_ns"]),
        "× floor": round(one["ns"] / one["floor_ns"], 2),
        "orjson ns": _whole(one["orjson_ns"]),
        "× orjson": _ratio(one),
        "trades a frame": round(many["per_frame"], 1),
        "batched ns": round(many["ns"]),
        "batched × floor": round(many["ns"] / many["floor_ns"], 2),
        "batched × orjson": _ratio(many),
    }


def _whole(value: float) -> int | None:
    return None if value != value else round(value)


def _ratio(found: dict[str, float]) -> float | None:
    ratio = found["ns"] / found["orjson_ns"]
    return None if ratio != ratio else round(ratio, 2)


def main() -> None:
    """Measure every socket of the exchanges named, or of all."""
    wanted = [name.upper() for name in sys.argv[1:]] or exchanges.IDS
    sockets = {(i.exchange, i.endpoint): i for e in wanted for i in exchanges.get(e).usual_markets("BTC")}
    rows = [row(instrument) for instrument in sockets.values()]
    middle, batched = median(r["single ns"] for r in rows), median(r["batched ns"] for r in rows)
    title = (
        f"decode: median {middle:.0f} ns per trade in frames of one, {batched:.0f} in frames of up to {BATCH}; "
        f"{ROUNDS} rounds of {FRAMES} sends"
    )
    report("decode", title, rows)


if __name__ == "__main__":
    main()
