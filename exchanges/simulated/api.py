"""The contract of a simulated exchange: the server's half of what `exchanges.api` describes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from exchanges.api import Exchange, Frame, Instrument, Liquidation, Trade

Deal = TypeVar("Deal", Trade, Liquidation)


def text(value: object) -> str:
    """A JSON text frame."""
    return msgspec.json.encode(value).decode()


def by_instrument(trades: Sequence[Deal]) -> dict[str, list[Deal]]:
    """Split by the exchange's symbol, in order: what exchanges batch into one frame."""
    found: dict[str, list[Deal]] = {}
    for trade in trades:
        found.setdefault(trade.instrument.symbol, []).append(trade)
    return found


def base_name(instrument: Instrument) -> str:
    """The base as exchanges list it: 1000PEPE for PEPE with that multiplier."""
    return instrument.base if instrument.multiplier == 1 else f"{instrument.multiplier:.0f}{instrument.base}"


History = Callable[[Instrument, int, int], Sequence[Trade]]
"""(instrument, from_ms, to_ms) → the trades of [from_ms, to_ms), oldest first."""


FUNDING_RATE = -0.000125
"""What every perpetual says, where its exchange says one along with open interest."""


class SimulatedConnection(ABC):
    """One client connection as the exchange sees it. Frames that it returns are to be sent in order."""

    def __init__(self, exchange: SimulatedExchange, endpoint: str) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.topics: set[str] = set()
        """What the client is subscribed to."""

    def greet(self, now_ms: int) -> Sequence[Frame]:
        """What the exchange sends on connect."""
        return ()

    @abstractmethod
    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer a client's frame: subscriptions are kept in `topics`; unknown symbols are refused as it refuses."""

    @abstractmethod
    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        """Encode live trades of one instant; those not subscribed to are left out. Batched as the exchange batches."""

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        """Encode forced orders, where the exchange has a feed of them."""
        return ()

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        """What the exchange sends each second on a quiet connection; nothing where it sends nothing."""
        return ()


class SimulatedExchange(ABC):
    """The server's half of one exchange. `instruments` are what it lists."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.instruments: dict[tuple[str, str], Instrument] = {}
        """What it lists, by (endpoint, symbol)."""
        self.last: dict[tuple[str, str], Trade] = {}
        """The newest trade of each instrument: what those exchanges push first that begin with an image."""

    def list(self, instruments: Sequence[Instrument]) -> None:
        """Add instruments to what is traded here."""
        self.instruments |= {(i.endpoint, i.symbol): i for i in instruments}

    def remember(self, trades: Sequence[Trade]) -> None:
        """Keep the newest trades, for connections that subscribe later."""
        self.last |= {(t.instrument.endpoint, t.instrument.symbol): t for t in trades}

    def listed(self, endpoint: str) -> Sequence[Instrument]:
        """What trades on an endpoint."""
        return [i for i in self.instruments.values() if i.endpoint == endpoint]

    @abstractmethod
    def connection(self, endpoint: str) -> SimulatedConnection:
        """A new client connection to that endpoint."""

    @abstractmethod
    def rest(
        self,
        method: str,
        name: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        history: History,
        now_ms: int,
    ) -> tuple[int, bytes]:
        """Answer a REST request as (status, JSON body): listings, history, open interest, tokens.

        `name` is the key of `Exchange.rest` under which it was asked, `path` what follows that base address.
        """

    def wire_quantity(self, trade: Trade | Liquidation) -> float:
        """Base-coin size → the quantity on the wire; the inverse of `Decoder.trade`'s conversion."""
        quantity = trade.size * trade.price if trade.instrument.inverse else trade.size
        return quantity / trade.instrument.contract_size
