"""What simulated exchanges have to say: the contract of a source, memory of recent trades, and the synthetic one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from exchanges.api import Frame, Instrument, Liquidation, Trade
from sqfd.sim.history import World

Event = TypeVar("Event", Trade, Liquidation)

RECENT_TRADES = 20_000
"""Trades per market that REST history can reach."""
CATCH_UP_S = 120
"""After a stall (a suspended host) at most this much is sent late; the rest is skipped and counted."""


@dataclass
class Burst:
    """What one endpoint of an exchange has to send at one instant. Each in order of time."""

    exchange: str
    endpoint: str
    trades: list[Trade] = field(default_factory=list)
    liquidations: list[Liquidation] = field(default_factory=list)
    raw: list[tuple[Instrument, Frame]] = field(default_factory=list)
    """Frames to pass on as they are to those who are subscribed to that market."""


class Source(Protocol):
    """Where the frames of simulated exchanges come from."""

    @property
    def instruments(self) -> Sequence[Instrument]:
        """All markets, of all exchanges."""

    @property
    def patient(self) -> bool:
        """True: wait until every market has a subscriber, and for slow ones; nothing may be lost. False: real time."""

    @property
    def finished(self) -> bool:
        """Nothing will come any more."""

    def due(self, now_ms: float) -> list[Burst]:
        """Everything that has become due since the last call."""

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        """Remembered trades of [from_ms, to_ms), oldest first: an `exchanges.simulated.api.History`."""


class Recent:
    """The newest trades of each market."""

    def __init__(self, instruments: Sequence[Instrument], limit: int = RECENT_TRADES) -> None:
        self._trades: dict[str, deque[Trade]] = {i.market: deque(maxlen=limit) for i in instruments}

    def add(self, trade: Trade) -> None:
        """Remember a trade; one of a market that is not listed cannot be asked for, and is not kept."""
        if (kept := self._trades.get(trade.instrument.market)) is not None:
            kept.append(trade)

    def between(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        """Trades of [from_ms, to_ms), oldest first."""
        return [t for t in self._trades.get(instrument.market, ()) if from_ms <= t.ts_ms < to_ms]


def gather(trades: Sequence[Trade], liquidations: Sequence[Liquidation]) -> list[Burst]:
    """Sort events by the endpoint that sends them."""
    bursts: dict[tuple[str, str], Burst] = {}

    def of(instrument: Instrument) -> Burst:
        key = (instrument.exchange, instrument.endpoint)
        return bursts.setdefault(key, Burst(*key))

    for trade in trades:
        of(trade.instrument).trades.append(trade)
    for forced in liquidations:
        of(forced.instrument).liquidations.append(forced)
    return list(bursts.values())


class Synthetic:
    """A `World` in real time, from second `now` on (which may be any second of its future)."""

    patient = False
    finished = False

    def __init__(self, world: World, now: int, remembered_s: int = 120) -> None:
        """`remembered_s` seconds before `now` can be asked for by REST."""
        self.world = world
        self.instruments = world.instruments
        self.skipped_s = 0
        self._recent = Recent(self.instruments)
        self._pending: deque[Trade] = deque()
        self._forced: deque[Liquidation] = deque()
        self._next = max(world.start, now - remembered_s)
        while self._next < now:
            self._load()
        while self._pending:
            self._recent.add(self._pending.popleft())
        self._forced.clear()

    def due(self, now_ms: float) -> list[Burst]:
        now = int(now_ms // 1_000)
        if now - self._next > CATCH_UP_S:
            self.skipped_s += now - CATCH_UP_S - self._next
            self._next = now - CATCH_UP_S
        while self._next <= now:
            self._load()
        trades = _until(self._pending, now_ms)
        for trade in trades:
            self._recent.add(trade)
        return gather(trades, _until(self._forced, now_ms))

    def history(self, instrument: Instrument, from_ms: int, to_ms: int) -> Sequence[Trade]:
        return self._recent.between(instrument, from_ms, to_ms)

    def _load(self) -> None:
        """Put the next second's events into the queues; they hold a second or CATCH_UP_S at most."""
        trades, forced = [], []
        for tape in self.world.tapes:
            trades += tape.second(self._next)
            forced += tape.liquidations(self._next)
        self._pending.extend(sorted(trades, key=_time))
        self._forced.extend(sorted(forced, key=_time))
        self._next += 1


def _time(event: Trade | Liquidation) -> int:
    return event.ts_ms


def _until(queue: deque[Event], now_ms: float) -> list[Event]:
    """Take from the front what is due."""
    taken: list[Event] = []
    while queue and queue[0].ts_ms <= now_ms:
        taken.append(queue.popleft())
    return taken
