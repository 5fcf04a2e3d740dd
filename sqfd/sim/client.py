"""One client's connection to a simulated exchange: what it gets, how faults distort it, and when it is cut."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from exchanges.api import Exchange, Frame, Instrument, Trade
from exchanges.simulated.api import SimulatedConnection, SimulatedExchange
from sqfd.sim.faults import Fault, FaultKind, Faults
from sqfd.sim.source import Burst

if TYPE_CHECKING:
    from collections.abc import Callable

HELD_BURSTS = 20_000
"""Bursts that a delay may hold back for one client."""
TORN_FRAME = b'\x81\x7e\x01\x00{"e":'
"""A text frame that announces 256 bytes and ends after five."""


class Client:
    """A connection and its `SimulatedConnection`. Everything but `serve` is synchronous, so that order is kept."""

    def __init__(
        self,
        socket: ServerConnection,
        simulated: SimulatedExchange,
        endpoint: str,
        faults: Faults,
        counts: Counter[str],
        buffer_bytes: int,
    ) -> None:
        self.socket, self.exchange, self.endpoint = socket, simulated.exchange, endpoint
        self.connection: SimulatedConnection = simulated.connection(endpoint)
        self._simulated, self._faults, self._counts, self._buffer_bytes = simulated, faults, counts, buffer_bytes
        self._held: deque[tuple[float, Burst]] = deque()
        self._shuffled: list[Trade] = []
        self._shuffle_until_ms = 0.0
        self._half_open: Fault | None = None
        self._sent_since_beat = False

    async def serve(self, now_ms: Callable[[], float], image: Callable[[Client, Fault], Sequence[Trade]]) -> None:
        """Greet, then answer the client's frames until it goes. `image` gives the trades that a DUPLICATE sends again."""
        self.send(self.connection.greet(int(now_ms())))
        try:
            async for frame in self.socket:
                self._answer(frame, now_ms(), image)
        except ConnectionClosed:
            self._counts["ended without closing"] += 1

    def _answer(self, frame: Frame, now_ms: float, image: Callable[[Client, Fault], Sequence[Trade]]) -> None:
        before = set(self.connection.topics)
        try:
            replies = self._receive(frame, int(now_ms))
        except (ValueError, LookupError, TypeError) as error:  # msgspec's errors are ValueErrors
            self._counts["unreadable client frames"] += 1
            self.socket.logger.info("cannot read %r: %s", frame[:200], error)
            return
        self._counts["client frames"] += 1
        self.send(replies)
        fault = self._fault(FaultKind.DUPLICATE)
        if fault is not None and self.connection.topics - before:
            again = self.connection.trades(image(self, fault), int(now_ms))
            if again:
                fault.strike()
                self.send(again)

    def _receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        """Let the exchange answer; a symbol that it refuses is out of its list for the moment of the answer."""
        fault = self._fault(FaultKind.REFUSE_SYMBOL)
        text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
        if fault is None or fault.symbol.lower() not in text.lower():
            return self.connection.receive(frame, now_ms)
        fault.strike()
        listed = self._simulated.instruments
        wanted = fault.symbol.lower()
        self._simulated.instruments = {key: i for key, i in listed.items() if key[1].lower() != wanted}
        try:
            return self.connection.receive(frame, now_ms)
        finally:
            self._simulated.instruments = listed

    def deliver(self, burst: Burst, now_ms: float) -> None:
        """Send a burst, as the faults that are on let it through."""
        delay = self._fault(FaultKind.DELAY)
        if delay is None and not self._held:
            self._send_burst(burst, now_ms)
            return
        if delay is not None:
            delay.strike()
        self._held.append((now_ms + (delay.seconds * 1_000 if delay is not None else 0.0), burst))
        if len(self._held) > HELD_BURSTS:
            self._counts["bursts lost by delay"] += 1
            self._held.popleft()

    def tick(self, now_ms: float) -> None:
        """Do what time demands: release what was delayed or shuffled, break what is to be broken."""
        while self._held and self._held[0][0] <= now_ms:
            self._send_burst(self._held.popleft()[1], now_ms)
        if self._shuffled and now_ms >= self._shuffle_until_ms:
            trades, self._shuffled = self._shuffled[::-1], []
            self.send(self.connection.trades(trades, int(now_ms)))
        self._break()

    def _send_burst(self, burst: Burst, now_ms: float) -> None:
        if (fault := self._fault(FaultKind.SILENT)) is not None:
            fault.strike()
            return
        trades = burst.trades
        fault = self._fault(FaultKind.OUT_OF_ORDER)
        if trades and fault is not None:
            fault.strike()
            if not self._shuffled:
                self._shuffle_until_ms = now_ms + fault.seconds * 1_000
            self._shuffled.extend(trades)
            trades = []
        frames = list(self.connection.trades(trades, int(now_ms))) if trades else []
        if burst.liquidations:
            frames += self.connection.liquidations(burst.liquidations, int(now_ms))
        frames += [frame for instrument, frame in burst.raw if self.follows(instrument)]
        self.send(frames)

    def heartbeat(self, now_ms: float) -> None:
        """What the exchange sends in a second in which it had nothing else to say."""
        if not self._sent_since_beat:
            self.send(self.connection.heartbeat(int(now_ms)))
        self._sent_since_beat = False

    def follows(self, instrument: Instrument) -> bool:
        """Is the client subscribed to something of this market?"""
        return not self.connection.topics.isdisjoint(_topics(self.exchange, instrument))

    def send(self, frames: Sequence[Frame]) -> None:
        """Write frames at once. A client that does not read them is cut, as exchanges do."""
        if not frames or self._half_open is not None:
            return
        if self.backlog_bytes() > self._buffer_bytes:
            self._counts["slow clients cut"] += 1
            self.socket.transport.abort()
            return
        for frame in frames:
            broadcast((self.socket,), frame)
        self._sent_since_beat = True
        self._counts["frames sent"] += len(frames)

    def backlog_bytes(self) -> int:
        """What the client has not taken yet."""
        return 0 if self.socket.transport.is_closing() else self.socket.transport.get_write_buffer_size()

    def _fault(self, kind: FaultKind) -> Fault | None:
        return self._faults.find(kind, self.exchange.id, self.endpoint)

    def _break(self) -> None:
        """CLOSE, ABORT and HALF_OPEN, once for each connection."""
        if self._half_open is not None or self.socket.transport.is_closing():
            return
        if self.socket.protocol.state is not State.OPEN:  # closed already, and the client has not answered yet
            return
        if (fault := self._fault(FaultKind.CLOSE)) is not None:
            fault.strike()
            self.socket.protocol.send_close(fault.code, "simulated fault")
            self.socket.send_data()
        elif (fault := self._fault(FaultKind.ABORT)) is not None:
            fault.strike()
            self.socket.transport.write(TORN_FRAME)
            asyncio.get_running_loop().call_later(0.02, self.socket.transport.abort)
            self._half_open = fault
        elif (fault := self._fault(FaultKind.HALF_OPEN)) is not None:
            fault.strike()
            self.socket.transport.pause_reading()
            self._half_open = fault


@lru_cache(maxsize=4_096)
def _topics(exchange: Exchange, instrument: Instrument) -> frozenset[str]:
    """Everything that one can subscribe to for a market."""
    return frozenset(stream.topic for stream in exchange.streams(instrument, True))
