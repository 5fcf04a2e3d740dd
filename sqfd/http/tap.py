"""Trades as they are decoded, for `sqfd tap`. While nobody looks it is not in the way of trades at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from exchanges.api import Liquidation, Trade
from sqfd.feed.intake import Intake, Sink
from sqfd.http.stream import Broadcast, event


class Tap:
    """Stands between the intake and the bars while at least one market is watched."""

    def __init__(self, intake: Intake, max_streams: int) -> None:
        self._intake, self._max_streams = intake, max_streams
        self._bars: Sink | None = None
        self._watched: dict[int, Broadcast] = {}

    @contextmanager
    def watch(self, market: int) -> Iterator[Broadcast]:
        """Watch the market of that index; new trades go to the broadcast."""
        readers = self._watched.setdefault(market, Broadcast(self._max_streams))
        if self._bars is None:
            self._bars = self._intake.divert(self)
        try:
            yield readers
        finally:
            if not len(readers) and self._watched.get(market) is readers:
                del self._watched[market]
            if not self._watched and self._bars is not None:
                self._intake.divert(self._bars)
                self._bars = None

    def close(self) -> None:
        """End all streams."""
        for readers in self._watched.values():
            readers.close()

    def trade(self, market: int, trade: Trade, recv_ms: float) -> bool:
        """As the bars answer; a watched one is told, late or not."""
        assert self._bars is not None
        taken = self._bars.trade(market, trade, recv_ms)
        if (readers := self._watched.get(market)) is not None:
            readers.send(event(_told("trade", trade, recv_ms, taken)))
        return taken

    def liquidation(self, market: int, liquidation: Liquidation, recv_ms: float) -> bool:
        """As the bars answer."""
        assert self._bars is not None
        taken = self._bars.liquidation(market, liquidation, recv_ms)
        if (readers := self._watched.get(market)) is not None:
            readers.send(event(_told("liquidation", liquidation, recv_ms, taken)))
        return taken

    def recovered(self, market: int, trade: Trade, first: bool) -> bool:
        """As the bars answer; what was missing is not told, because it does not come now."""
        assert self._bars is not None
        return self._bars.recovered(market, trade, first)

    @property
    def oldest_ms(self) -> int:
        assert self._bars is not None
        return self._bars.oldest_ms


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
