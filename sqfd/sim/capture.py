"""A capture as a source: received frames, as `sqfd run --record` keeps them, sent again as they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from exchanges.api import Assumed, BadMessage, Exchange, Instrument, Trade
from sqfd.feed.recorded import Decoders, Recorded, Recording, RecordingError
from sqfd.sim.source import Burst, Recent

HEAD_FRAMES = 1_000
"""The market of a file must show within so many of its frames."""
AT_ONCE = 500
"""Frames of one call at speed max."""


class _Symbols(dict[tuple[str, str], Mapping[str, Instrument]]):
    """Instruments by the exchanges' naming rules, for whichever endpoint is asked."""

    def __init__(self, exchanges: Mapping[str, Exchange]) -> None:
        super().__init__()
        self._exchanges = exchanges

    def __missing__(self, key: tuple[str, str]) -> Mapping[str, Instrument]:
        if key[0] not in self._exchanges:
            raise ValueError(f"the capture has frames of {key[0]}, which is not among the exchanges")
        symbols = self[key] = Assumed(self._exchanges[key[0]])
        return symbols


class Capture:
    """The frames of a folder, in order of receipt."""

    def __init__(self, folder: Path, exchanges: Mapping[str, Exchange]) -> None:
        """Raises ValueError when the folder has no capture, an exchange is unknown, or a file begins with no trade."""
        self._recording = Recording(folder)
        self._decoders = Decoders(_Symbols(exchanges))
        self.markets: dict[str, Instrument] = {file: self._market(file) for file in self._recording.names()}

    def frames(self) -> Iterator[tuple[Recorded, Instrument, Sequence[Trade]]]:
        """(frame, market that it belongs to, trades in it); one without a trade belongs to the market of its file.

        Raises RecordingError at a line that cannot be read: what is played must be all that was received.
        """
        for recorded in self._recording:
            trades = self.trades(recorded)
            yield recorded, trades[0].instrument if trades else self.markets[recorded.connection[0]], trades
        if self._recording.first_unreadable is not None:
            raise RecordingError(self._recording.first_unreadable)

    def trades(self, recorded: Recorded) -> list[Trade]:
        """The trades of a frame; none where it cannot be read (it is sent all the same)."""
        _, decoder = self._decoders.of(recorded)
        try:
            events = decoder.decode(recorded.frame, int(recorded.recv_ms))
        except BadMessage:
            return []
        return [event for event in events if type(event) is Trade]

    def _market(self, file: str) -> Instrument:
        for _, recorded in zip(range(HEAD_FRAMES), self._recording.of(file), strict=False):
            if trades := self.trades(recorded):
                return trades[0].instrument
        raise ValueError(f"no trade in the first {HEAD_FRAMES} frames of {file}")


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
        self._frames = capture.frames()
        self._ahead = next(self._frames, None)
        self._origin: tuple[float, float] | None = None

    @property
    def finished(self) -> bool:
        return self._ahead is None

    def due(self, now_ms: float) -> list[Burst]:
        """The playback begins with the first call."""
        bursts: list[Burst] = []
        while self._ahead is not None and self._is_due(self._ahead[0], now_ms, len(bursts)):
            recorded, instrument, trades = self._ahead
            for trade in trades:
                self._recent.add(trade)
            frame = recorded.frame if recorded.binary else recorded.frame.decode()
            bursts.append(Burst(recorded.exchange, instrument.endpoint, raw=[(instrument, frame)]))
            self.sent += 1
            self._ahead = next(self._frames, None)
        return bursts

    def _is_due(self, recorded: Recorded, now_ms: float, taken: int) -> bool:
        if self.speed is None:
            return taken < AT_ONCE
        if self._origin is None:
            self._origin = (now_ms, recorded.recv_ms)
        started_ms, first_ms = self._origin
        return (recorded.recv_ms - first_ms) / self.speed <= now_ms - started_ms

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        return self._recent.between(instrument, from_ms, to_ms)
