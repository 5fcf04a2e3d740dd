"""A capture as a source: received frames, in the form that `sqfd run --record` writes, sent again as they were.

A folder of `<EXCHANGE>-<pair>.jsonl.gz`; each line has `recv_ms`, `exchange` and the raw text `frame`, in order of receipt.
"""

from __future__ import annotations

import gzip
import heapq
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from exchanges.api import Assumed, BadMessage, Decoder, Exchange, Instrument, Trade
from sqfd.sim.source import Burst, Recent

HEAD_LINES = 1_000
"""A file's market must show within so many lines."""
AT_ONCE = 500
"""Frames of one call at speed max."""


class Line(msgspec.Struct):
    """One received frame."""

    recv_ms: float
    exchange: str
    frame: str


_line = msgspec.json.Decoder(Line)


class Capture:
    """The frames of a folder, merged by receive time; order within a file is kept."""

    def __init__(self, folder: Path, exchanges: Mapping[str, Exchange]) -> None:
        """Raises ValueError when the folder has no capture, an exchange is unknown, or a file begins with no trade."""
        self.files = sorted(folder.glob("*.jsonl.gz"))
        if not self.files:
            raise ValueError(f"no *.jsonl.gz in {folder}")
        self._exchanges = exchanges
        self._decoders: dict[str, Decoder] = {}
        self.markets: dict[Path, Instrument] = {file: self._market(file) for file in self.files}

    def lines(self) -> Iterator[tuple[Line, Instrument, Sequence[Trade]]]:
        """(line, market that it belongs to, trades in it) in order of receipt.

        A frame without a trade belongs to the market of its file.
        """
        files = [((line, file) for line in _read(file)) for file in self.files]
        for line, file in heapq.merge(*files, key=lambda pair: pair[0].recv_ms):
            trades = self.trades(line)
            yield line, trades[0].instrument if trades else self.markets[file], trades

    def trades(self, line: Line) -> list[Trade]:
        """The trades of a frame; none where it cannot be read (it is sent all the same)."""
        try:
            events = self._decoder(line.exchange).decode(line.frame.encode(), int(line.recv_ms))
        except BadMessage:
            return []
        return [event for event in events if type(event) is Trade]

    def _decoder(self, exchange_id: str) -> Decoder:
        if exchange_id not in self._decoders:
            if exchange_id not in self._exchanges:
                raise ValueError(f"the capture has frames of {exchange_id}, which is not among the exchanges")
            exchange = self._exchanges[exchange_id]
            self._decoders[exchange_id] = exchange.decoder(exchange.endpoints[0].name, Assumed(exchange))
        return self._decoders[exchange_id]

    def _market(self, file: Path) -> Instrument:
        for _, line in zip(range(HEAD_LINES), _read(file), strict=False):
            if trades := self.trades(line):
                return trades[0].instrument
        raise ValueError(f"no trade in the first {HEAD_LINES} lines of {file.name}")


def _read(file: Path) -> Iterator[Line]:
    """The lines of one file. Raises ValueError naming the file and line that is not of this form."""
    with gzip.open(file) as stream:
        for number, text in enumerate(stream, 1):
            try:
                yield _line.decode(text)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{file.name}:{number}: {error}") from error


class Playback:
    """A capture as a `Source`: original spacing divided by `speed`; None sends as fast as clients take it."""

    patient = True

    def __init__(self, capture: Capture, speed: float | None = 1.0) -> None:
        if speed is not None and not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed!r}")
        self.instruments: tuple[Instrument, ...] = tuple({i.market: i for i in capture.markets.values()}.values())
        self.speed = speed
        self.sent = 0
        self._recent = Recent(self.instruments)
        self._lines = capture.lines()
        self._ahead = next(self._lines, None)
        self._origin: tuple[float, float] | None = None

    @property
    def finished(self) -> bool:
        return self._ahead is None

    def due(self, now_ms: float) -> list[Burst]:
        """The playback begins with the first call."""
        bursts: list[Burst] = []
        while self._ahead is not None and self._is_due(self._ahead[0], now_ms, len(bursts)):
            line, instrument, trades = self._ahead
            for trade in trades:
                self._recent.add(trade)
            bursts.append(Burst(line.exchange, instrument.endpoint, raw=[(instrument, line.frame)]))
            self.sent += 1
            self._ahead = next(self._lines, None)
        return bursts

    def _is_due(self, line: Line, now_ms: float, taken: int) -> bool:
        if self.speed is None:
            return taken < AT_ONCE
        if self._origin is None:
            self._origin = (now_ms, line.recv_ms)
        started_ms, first_ms = self._origin
        return (line.recv_ms - first_ms) / self.speed <= now_ms - started_ms

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        return self._recent.between(instrument, from_ms, to_ms)
