"""The ways in which an exchange's connection fails, to be switched on by tests and demonstrations.

`Faults` is a small table; `sqfd.sim.venues` looks things up in it and says when one has struck, so that a test can assert
that its fault really happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LIMIT = 1_000
"""Faults in one table."""


class FaultKind(StrEnum):
    """What goes wrong."""

    CLOSE = "close"
    """The exchange closes with `code`."""
    ABORT = "abort"
    """The connection breaks in the middle of a frame."""
    SILENT = "silent"
    """Acks, heartbeats and pongs go on; no trade comes."""
    HALF_OPEN = "half_open"
    """Nothing comes any more, not even TCP's end, and nothing is read."""
    REFUSE_CONNECT = "refuse_connect"
    """The handshake is answered with HTTP `code`, and `Retry-After: seconds` if that is above 0."""
    REFUSE_SYMBOL = "refuse_symbol"
    """Subscriptions to `symbol` are refused as the exchange refuses unknown ones."""
    DUPLICATE = "duplicate"
    """A subscription is followed by the last `seconds` of trades as if they were live."""
    OUT_OF_ORDER = "out_of_order"
    """Trades of each `seconds` come in reverse."""
    DELAY = "delay"
    """Trades come `seconds` late."""
    REFUSE_REST = "refuse_rest"
    """REST requests are answered with HTTP `code`, and `Retry-After: seconds` if that is above 0."""


_CODES = {FaultKind.CLOSE: 1001, FaultKind.REFUSE_CONNECT: 503, FaultKind.REFUSE_REST: 429}


@dataclass(eq=False)
class Fault:
    """One fault of one exchange; an endpoint of None is all of them."""

    kind: FaultKind
    exchange: str
    endpoint: str | None = None
    symbol: str = ""
    code: int = 0
    """Close code or HTTP status; 0: 1001 for CLOSE, 503 for connections, 429 for REST."""
    seconds: float = 1.0
    times: int | None = None
    """It strikes so often and is over; None: until it is removed."""
    fired: int = 0
    """How often it has struck: connections closed, frames withheld, requests refused…"""

    def __post_init__(self) -> None:
        self.code = self.code or _CODES.get(self.kind, 0)

    @property
    def over(self) -> bool:
        return self.times is not None and self.fired >= self.times

    def strike(self) -> None:
        """Count that it happened."""
        self.fired += 1


class Faults:
    """The faults that are switched on."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on. Raises ValueError when the table is full of unfinished ones."""
        self._faults = [each for each in self._faults if not each.over]
        if len(self._faults) >= LIMIT:
            raise ValueError(f"{LIMIT} faults are on already")
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Switch it off; nothing happens where it is off."""
        self._faults = [each for each in self._faults if each is not fault]

    def find(self, kind: FaultKind, exchange: str, endpoint: str | None = None) -> Fault | None:
        """The first fault of that kind that is on there."""
        for fault in self._faults:
            here = fault.kind is kind and fault.exchange == exchange and fault.endpoint in (None, endpoint)
            if here and not fault.over:
                return fault
        return None
