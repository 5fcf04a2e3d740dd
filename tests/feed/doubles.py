"""Sinks that only remember."""

from __future__ import annotations

from collections.abc import Sequence

from exchanges.api import Liquidation, Trade


class Way:
    """One market's way into a sink."""

    def __init__(self, sink: Sink, market: int) -> None:
        self.newest: Trade | None = None
        self._sink, self._market = sink, market

    def add(self, trades: Sequence[Trade]) -> Sequence[Trade]:
        return [trade for trade in trades if not self._sink.trade(self._market, trade)]


class Sink:
    """Keeps what it is given; `late` decides what comes too late."""

    def __init__(self) -> None:
        self.trades: list[tuple[int, Trade]] = []
        self.liquidations: list[tuple[int, Liquidation]] = []
        self.refuse_before_ms = 0
        self.ways: dict[int, Way] = {}

    def way(self, market: int) -> Way:
        return self.ways.setdefault(market, Way(self, market))

    def trade(self, market: int, trade: Trade) -> bool:
        if trade.ts_ms < self.refuse_before_ms:
            return False
        self.trades.append((market, trade))
        newest = self.way(market).newest
        if newest is None or trade.ts_ms >= newest.ts_ms:
            self.way(market).newest = trade
        return True

    def recovered(self, market: int, trade: Trade, first: bool) -> bool:
        return self.trade(market, trade)

    @property
    def oldest_ms(self) -> int:
        return self.refuse_before_ms

    def liquidation(self, market: int, liquidation: Liquidation) -> bool:
        if liquidation.ts_ms < self.refuse_before_ms:
            return False
        self.liquidations.append((market, liquidation))
        return True


class Offsets:
    def __init__(self) -> None:
        self.delays: list[tuple[str, float]] = []

    def observe(self, exchange: str, delay_ms: float) -> None:
        self.delays.append((exchange, delay_ms))
