"""Trades as they are decoded, for `sqfd tap`. While nobody looks it is not in the way of trades at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson

from exchanges.api import Liquidation, Trade
from sqfd.feed.intake import Intake, MarketFeed
from sqfd.http.stream import Broadcast, event


class _Watched:
    """One market's readers. Stands before its bars until `leave`."""

    def __init__(self, feed: MarketFeed, readers: Broadcast) -> None:
        self.readers = readers
        self._feed, self._add, self._force = feed, feed.add, feed.force
        feed.add, feed.force = self.add, self.force

    def leave(self) -> None:
        """Trades go to the bars alone again."""
        self._feed.add, self._feed.force = self._add, self._force

    def add(self, trades: Sequence[Trade]) -> Sequence[Trade]:
        """As the bars answer; the readers are told, late or not."""
        dropped = self._add(trades)
        for trade in trades:
            taken = not any(trade is late for late in dropped)
            self.readers.send(event(_told("trade", trade, self._feed.recv_ms, taken)))
        return dropped

    def force(self, liquidation: Liquidation) -> bool:
        """As the bars answer."""
        taken = self._force(liquidation)
        self.readers.send(event(_told("liquidation", liquidation, self._feed.recv_ms, taken)))
        return taken


class Tap:
    """Shows the trades of markets while at least one reader watches them."""

    def __init__(self, intake: Intake, max_streams: int) -> None:
        self._intake, self._max_streams = intake, max_streams
        self._watched: dict[int, _Watched] = {}

    @contextmanager
    def watch(self, market: int) -> Iterator[Broadcast]:
        """Watch the market of that index; new trades go to the broadcast."""
        watched = self._watched.get(market)
        if watched is None:
            watched = _Watched(self._intake.markets[market], Broadcast(self._max_streams))
            self._watched[market] = watched
        try:
            yield watched.readers
        finally:
            if not len(watched.readers) and self._watched.get(market) is watched:
                del self._watched[market]
                watched.leave()

    def close(self) -> None:
        """End all streams."""
        for watched in self._watched.values():
            watched.readers.close()


def _told(kind: str, one: Trade | Liquidation, recv_ms: float, taken: bool) -> bytes:
    return orjson.dumps(
        {
            "kind": kind,
            "market": one.instrument.market,
            "ts_ms": one.ts_ms,
            "recv_ms": round(recv_ms, 1),
            "side": "buy" if one.buy else "sell",
            "price": one.price,
            "size": one.size,
            "id": one.id,
            "late": not taken,
        }
    )
