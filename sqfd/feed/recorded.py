"""Received frames as they were recorded, read back in order of receipt.

A folder of `*.jsonl.gz` (or `.jsonl`); each line has `recv_ms`, `exchange` and `frame`, and where `sqfd run --record` wrote it
also `endpoint`, `conn` and, for binary frames, `encoding`. `instruments.json` beside them has the instruments that were
listed then; without it they follow from the exchanges' naming rules (`Exchange.assume`).
"""

from __future__ import annotations

import base64
import gzip
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

import exchanges
from exchanges.api import Decoder, Exchange, Instrument


class RecordingError(ValueError):
    """A folder or a line that is no recording. Its text is one line for the user."""


class Line(msgspec.Struct):
    """One line as it stands in a file."""

    recv_ms: float
    exchange: str
    frame: str
    endpoint: str | None = None
    conn: int = 0
    encoding: str | None = None


class Recorded(NamedTuple):
    """One received frame."""

    recv_ms: float
    exchange: str
    endpoint: str | None
    connection: tuple[str, int]
    """File and connection number: frames of one connection are decoded in order by one decoder."""
    frame: bytes
    binary: bool
    """It came in a binary websocket frame."""


_line = msgspec.json.Decoder(Line)
_instruments = msgspec.json.Decoder(list[Instrument])


class Recording:
    """A folder of recorded frames."""

    def __init__(self, folder: Path) -> None:
        """Raises RecordingError when the folder holds no recording."""
        self.folder = folder
        self.files = sorted([*folder.glob("*.jsonl.gz"), *folder.glob("*.jsonl")])
        if not self.files:
            raise RecordingError(f"{folder}: no *.jsonl.gz there; `sqfd run --record {folder}` makes a recording")
        self.unreadable: Counter[str] = Counter()
        """Lines that could not be read, by file; the first is in `first_unreadable`."""
        self.first_unreadable: str | None = None

    def bytes(self) -> int:
        """Size of the files, compressed as they are: for progress bars."""
        return sum(file.stat().st_size for file in self.files)

    def instruments(self) -> list[Instrument] | None:
        """What was listed when the frames were recorded; None where that was not kept."""
        path = self.folder / "instruments.json"
        if not path.exists():
            return None
        try:
            return _instruments.decode(path.read_bytes())
        except msgspec.MsgspecError as error:
            raise RecordingError(f"{path}: {error}") from error

    def names(self) -> list[str]:
        """The files' names."""
        return [file.name for file in self.files]

    def of(self, name: str) -> Iterator[Recorded]:
        """The frames of one file."""
        return self._frames(self.folder / name)

    def __iter__(self) -> Iterator[Recorded]:
        """All frames by receive time; within a file their order stays."""
        return heapq.merge(*(self._frames(file) for file in self.files), key=attrgetter("recv_ms"))

    def _frames(self, file: Path) -> Iterator[Recorded]:
        newest = float("-inf")
        for number, text in enumerate(_lines(file), 1):
            try:
                line = _line.decode(text)
                frame = base64.b64decode(line.frame, validate=True) if line.encoding else line.frame.encode()
            except ValueError as error:
                self.unreadable[file.name] += 1
                self.first_unreadable = self.first_unreadable or f"{file.name}:{number}: {error}"
                continue
            newest = max(newest, line.recv_ms)
            binary = line.encoding is not None
            yield Recorded(newest, line.exchange, line.endpoint, (file.name, line.conn), frame, binary)


def _lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        yield from stream


class Decoders:
    """One decoder per recorded connection. `instruments(exchange, endpoint)` gives each its symbols."""

    def __init__(self, known: Mapping[tuple[str, str], Mapping[str, Instrument]]) -> None:
        """`known`: (exchange id, endpoint) → instruments by symbol; it may make entries as they are asked for."""
        self._known = known
        self._exchanges: dict[str, Exchange] = {}
        self._decoders: dict[tuple[str, tuple[str, int]], tuple[str, Decoder]] = {}

    def of(self, recorded: Recorded) -> tuple[str, Decoder]:
        """(endpoint, decoder) of a frame's connection. Raises RecordingError for an exchange that is not known."""
        key = (recorded.exchange, recorded.connection)
        found = self._decoders.get(key)
        if found is None:
            exchange = self._exchange(recorded.exchange)
            endpoint = recorded.endpoint or exchange.endpoints[0].name
            decoder = exchange.decoder(endpoint, self._known[recorded.exchange, endpoint])
            found = self._decoders[key] = (endpoint, decoder)
        return found

    def _exchange(self, exchange_id: str) -> Exchange:
        if exchange_id not in self._exchanges:
            if exchange_id not in exchanges.IDS:
                raise RecordingError(f"unknown exchange {exchange_id!r} in the recording")
            self._exchanges[exchange_id] = exchanges.get(exchange_id)
        return self._exchanges[exchange_id]
