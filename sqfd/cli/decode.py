"""`sqfd decode`: what frames mean, one JSON line for each.

Two forms of input. Plain: each line is a raw frame of one connection. Wire: each line is a JSON object that says of which
venue a frame is, how it is packed, what instrument it is about and what came before it (a *case*); or, if the first line says
`"meta": true`, whole connections with their times (a *recording*).
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
import msgspec

import exchanges
from exchanges.api import (
    Acked,
    Alive,
    Assumed,
    BadMessage,
    Closing,
    Decoder,
    Event,
    Exchange,
    Excluded,
    Instrument,
    Kind,
    Liquidation,
    Malformed,
    Past,
    Rejected,
    Reply,
    Trade,
    Unknown,
)

GZIP_MAGIC = b"\x1f\x8b"
LINE_MAX_BYTES = 16 * 1024 * 1024
UNREADABLE = (msgspec.MsgspecError, ValueError, LookupError)


# --- lines ------------------------------------------------------------------------------------------------------------


class Spec(msgspec.Struct):
    """What a line says of an instrument; conversion takes it as given."""

    symbol: str
    contract_size: float | None = None
    inverse: bool = False
    quanto: bool = False
    price_scale: int = 0
    value_scale: int = 0


class Packed(msgspec.Struct):
    """A frame as text; `encoding` says what to undo."""

    frame: str
    encoding: str = ""

    def unpack(self) -> bytes:
        """The frame as it was on the wire, compressed if it was."""
        if not self.encoding:
            return self.frame.encode()
        if not self.encoding.startswith("base64"):
            raise ValueError(f"unknown encoding {self.encoding[:40]!r}")
        return base64.b64decode(self.frame, validate=True)


class Case(Packed, kw_only=True):
    """A frame, and what it takes to read it alone."""

    venue: str
    id: str | int | None = None
    market: str = ""
    phase: str = ""
    recv_ms: float | None = None
    context: list[Packed] = []
    instrument: Spec | None = None
    instruments: list[Spec] = []


class Recording(msgspec.Struct):
    """The first line of a recording."""

    venue: str
    meta: bool
    market: str = ""
    instruments: list[Spec] = []


class Moment(Packed, kw_only=True):
    """A line of a recording."""

    t: float
    conn: int = 0
    dir: str = "in"
    frame: str = ""


class Label(msgspec.Struct):
    """What can be said of any line."""

    id: str | int | None = None
    meta: bool = False


_case = msgspec.json.Decoder(Case)
_recording = msgspec.json.Decoder(Recording)
_moment = msgspec.json.Decoder(Moment)
_label = msgspec.json.Decoder(Label)


# --- events as JSON -----------------------------------------------------------------------------------------------------


def event_json(event: Event) -> dict[str, Any]:
    """One event as a JSON object; `pair` is the exchange's own symbol, `market` our name."""
    if isinstance(event, Trade):
        row = _deal("trade", event) | {"count": event.count, "liquidation": event.forced is not None}
        if event.forced is not None and event.forced != event.buy:
            row["liq_side"] = _side(event.forced)
        return row
    if isinstance(event, Liquidation):
        return _deal("liquidation", event) | {"count": None, "liquidation": True}
    if isinstance(event, Past):
        return {"kind": "past", "trades": [_deal("past", trade) | {"count": trade.count} for trade in event.trades]}
    return _CONTROL[type(event)](event)


def _deal(kind: str, deal: Trade | Liquidation) -> dict[str, Any]:
    return {
        "kind": kind,
        "pair": deal.instrument.symbol,
        "market": deal.instrument.market,
        "ts_ms": deal.ts_ms,
        "price": deal.price,
        "size": deal.size,
        "side": _side(deal.buy),
        "trade_id": deal.id,
    }


def _side(buy: bool) -> str:
    return "buy" if buy else "sell"


def _reply(event: Reply) -> dict[str, Any]:
    if isinstance(event.frame, str):
        return {"kind": "reply", "frame": event.frame}
    return {"kind": "reply", "frame": base64.b64encode(event.frame).decode(), "encoding": "base64"}


_CONTROL: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    Acked: lambda e: {"kind": "ack", "topics": e.topics},
    Rejected: lambda e: {"kind": "rejected", "topics": e.topics, "reason": e.reason},
    Reply: _reply,
    Alive: lambda e: {"kind": "alive"},
    Closing: lambda e: {"kind": "closing", "reason": e.reason},
    Malformed: lambda e: {"kind": "malformed", "reason": e.reason, "symbol": e.symbol},
    Excluded: lambda e: {"kind": "excluded", "reason": e.reason, "count": e.count},
    Unknown: lambda e: {"kind": "unknown", "type": e.kind},
}


# --- decoding -------------------------------------------------------------------------------------------------------------


def decode_lines(lines: Iterable[bytes], exchange_id: str | None = None, kind: Kind | None = None) -> Iterator[bytes]:
    """Decode lines to lines: raw frames of `exchange_id`, or cases and recordings where that is None.

    One line for each (of a recording: for each frame that came in). A frame that cannot be read gives an `error`.
    Raises KeyError when there is no such exchange.
    """
    if exchange_id is not None:
        yield from _plain(lines, exchanges.get(exchange_id), kind)
        return
    recording: _Playback | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        label = Label(number)
        try:
            _check_length(line)
            label = _label.decode(line)
            if label.meta:
                recording = _Playback(_recording.decode(line))
                continue
            found = recording.play(line) if recording is not None else _read_case(_case.decode(line))
        except UNREADABLE as error:
            found = {"error": str(error)[:300]}
        if found is not None:
            yield msgspec.json.encode({"id": number if label.id is None else label.id} | found)


def _plain(lines: Iterable[bytes], exchange: Exchange, kind: Kind | None) -> Iterator[bytes]:
    """Raw frames, one per line, of one connection."""
    decoder = _decoder(exchange, kind, ())
    for number, line in enumerate(lines, 1):
        frame = line.rstrip(b"\r\n")
        if not frame:
            continue
        try:
            _check_length(line)
            found: dict[str, Any] = _events(decoder.decode(frame, _now_ms()))
        except BadMessage as error:
            found = {"error": str(error)}
        yield msgspec.json.encode({"id": number} | found)


def _now_ms() -> int:
    """When a frame is read, where nobody says when it was received: some events have no other time."""
    return int(time.time() * 1000)


def _check_length(line: bytes) -> None:
    if len(line) > LINE_MAX_BYTES:
        raise BadMessage(f"longer than {LINE_MAX_BYTES} bytes")


def _read_case(case: Case) -> dict[str, Any]:
    """Feed the context to a fresh decoder, then judge the frame alone."""
    exchange = _exchange(case.venue, case.market)
    kind = cast("Kind", case.market) if case.market in ("spot", "perp") else None
    specs = [*([case.instrument] if case.instrument else []), *case.instruments]
    known = [_known(exchange, spec, kind) for spec in specs]
    decoder = _decoder(exchange, kind, known)
    recv_ms = int(case.recv_ms) if case.recv_ms else _now_ms()
    if case.phase == "first":
        streams = [stream for instrument in known for stream in exchange.streams(instrument, True)]
        decoder.subscribe([s.topic for s in streams if s.endpoint == decoder.endpoint], recv_ms)
    for frame in case.context:
        decoder.decode(frame.unpack(), recv_ms)
    return _events(decoder.decode(case.unpack(), recv_ms))


class _Playback:
    """A recording under way: one decoder for each connection."""

    def __init__(self, head: Recording) -> None:
        self._exchange = _exchange(head.venue, head.market)
        self._known = [_known(self._exchange, spec, None) for spec in head.instruments]
        self._decoders: dict[int, Decoder] = {}

    def play(self, line: bytes) -> dict[str, Any] | None:
        """The output of one line; None for what did not come in."""
        moment = _moment.decode(line)
        if moment.dir == "open" or moment.conn not in self._decoders:
            self._decoders[moment.conn] = _decoder(self._exchange, None, self._known)
        if moment.dir != "in":
            return None
        where = {"t": moment.t, "conn": moment.conn}
        try:
            return where | _events(self._decoders[moment.conn].decode(moment.unpack(), int(moment.t * 1000)))
        except (BadMessage, binascii.Error) as error:
            return where | {"error": str(error)}


def _events(events: Sequence[Event]) -> dict[str, Any]:
    return {"events": [event_json(event) for event in events]}


def _exchange(venue: str, market: str) -> Exchange:
    found = exchanges.by_venue(venue, market)
    if found is None:
        raise ValueError(f"unknown venue {venue[:40]!r}; known: {', '.join(exchanges.IDS)}")
    return exchanges.get(found)


def _known(exchange: Exchange, spec: Spec, kind: Kind | None) -> Instrument:
    """The instrument by its name's rules, with what the line says of it."""
    assumed = exchange.assume(spec.symbol, kind)
    return msgspec.structs.replace(
        assumed,
        contract_size=assumed.contract_size if spec.contract_size is None else spec.contract_size,
        inverse=spec.inverse,
        quanto=spec.quanto,
        price_scale=spec.price_scale,
        value_scale=spec.value_scale,
    )


def _decoder(exchange: Exchange, kind: Kind | None, known: Sequence[Instrument]) -> Decoder:
    """A fresh decoder that makes instruments up from their names, but for those that are known."""
    endpoint = known[0].endpoint if known else exchange.endpoints[0].name
    return exchange.decoder(endpoint, Assumed(exchange, kind, known))


# --- the command --------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("arguments", nargs=-1, metavar="[EXCHANGE] [FILE]...")
@click.option(
    "--wire", is_flag=True, help="Lines are JSON objects with venue, frame, context, instrument (or recordings)."
)
@click.option(
    "--kind",
    type=click.Choice(["spot", "perp"]),
    help="What bare symbols are, at exchanges that use one name for both.",
)
def decode(arguments: tuple[str, ...], wire: bool, kind: str | None) -> None:
    """Say what exchange frames mean: one JSON line for each line read.

    Frames come from FILEs or standard input, packed with gzip or not. A frame that cannot be read gives {"id": …, "error": …}, and the run
    goes on. Contract sizes are the documented usual ones, unless --wire lines bring their own.

    \b
    Example:
      echo '{"e":"trade","s":"BTCUSDT","t":7,"p":"60000","q":"0.5","T":1723161256000,"m":true}' \\
        | sqfd decode BINANCE
      {"id":1,"events":[{"kind":"trade","pair":"BTCUSDT",…,"side":"sell"}]}
      sqfd decode --kind perp BYBIT frames.txt.gz
      sqfd decode --wire < cases.jsonl
    """
    exchange_id, files = (None, arguments) if wire else (arguments[0].upper() if arguments else "", arguments[1:])
    if exchange_id is not None and exchange_id not in exchanges.IDS:
        exchange_id = exchanges.by_venue(exchange_id, kind)
        if exchange_id is None:
            known = ", ".join(exchanges.IDS)
            raise click.UsageError(f"name an exchange ({known}) or say --wire")
    out = sys.stdout.buffer
    for source in files or ("-",):
        try:
            with _open(source) as lines:
                out.writelines(line + b"\n" for line in decode_lines(lines, exchange_id, cast("Kind | None", kind)))
        except (OSError, EOFError) as error:
            raise click.ClickException(f"{source}: {error}") from error
    out.flush()


@contextmanager
def _open(source: str) -> Iterator[Iterable[bytes]]:
    """Standard input or a file, unpacked where it begins as gzip does."""
    if source != "-" and not Path(source).is_file():
        raise click.UsageError(f"no file {source}")
    with click.open_file(source, "rb") as opened:
        # What can look ahead already must not be wrapped: a second buffer would hold lines of a pipe back.
        looking = hasattr(opened, "peek")
        lines = cast("io.BufferedReader", opened if looking else io.BufferedReader(cast("io.RawIOBase", opened)))
        yield gzip.GzipFile(fileobj=lines) if lines.peek(2)[:2] == GZIP_MAGIC else lines
