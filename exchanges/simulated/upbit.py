"""Upbit, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Trade
from exchanges.simulated.api import History, SimulatedConnection, SimulatedExchange

CHANNEL = "trade"
PAGE_ROWS = 500
HOUR_MS = 3_600_000


class Connection(SimulatedConnection):
    """Each request replaces what was subscribed to and is answered by snapshots; unknown codes are ignored."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        if frame in ("PING", b"PING"):
            return [b'{"status":"UP"}']
        parts = msgspec.json.decode(frame)
        wanted = [part for part in parts if part.get("type") == CHANNEL]
        if not wanted or not wanted[0].get("codes"):
            return [_binary({"error": {"name": "NO_CODES", "message": "codes are missing"}})]
        known = [c for part in wanted for c in part["codes"] if (self.endpoint, c) in self.exchange.instruments]
        self.topics = set() if wanted[0].get("isOnlySnapshot") else {f"{CHANNEL}:{code}" for code in known}
        if wanted[0].get("isOnlyRealtime"):
            return ()
        return [self._push(self._last(code, now_ms), now_ms, "SNAPSHOT") for code in known]

    def _last(self, code: str, now_ms: int) -> Trade:
        """The newest trade; where there was none yet, one of an hour ago."""
        key = (self.endpoint, code)
        old = Trade(self.exchange.instruments[key], now_ms - HOUR_MS, 1.0, 1.0, True, "1")
        return self.exchange.last.get(key, old)

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        return [
            self._push(trade, now_ms, "REALTIME")
            for trade in trades
            if f"{CHANNEL}:{trade.instrument.symbol}" in self.topics
        ]

    def _push(self, trade: Trade, now_ms: int, stream: str) -> Frame:
        return _binary(
            {
                "type": CHANNEL,
                "code": trade.instrument.symbol,
                "timestamp": now_ms,
                "trade_timestamp": trade.ts_ms,
                "trade_price": trade.price,
                "trade_volume": self.exchange.wire_quantity(trade),
                "ask_bid": "BID" if trade.buy else "ASK",
                "sequential_id": _number(trade),
                "stream_type": stream,
            }
        )


def _binary(value: object) -> bytes:
    return msgspec.json.encode(value)


def _number(trade: Trade) -> int:
    return int(trade.id or 0)


class Simulated(SimulatedExchange):
    """market/all, trades/ticks with a cursor."""

    def connection(self, endpoint: str) -> SimulatedConnection:
        return Connection(self, endpoint)

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
        if path.endswith("/market/all"):
            return 200, msgspec.json.encode([{"market": i.symbol} for i in self.listed("spot") if i.active])
        instrument = self.instruments.get(("spot", query.get("market", "")))
        if instrument is None or not path.endswith("/trades/ticks"):
            return 404, msgspec.json.encode({"error": {"name": 404, "message": "Code not found"}})
        trades = history(instrument, 0, now_ms + 1)[::-1]
        if "cursor" in query:
            trades = [trade for trade in trades if _number(trade) < int(query["cursor"])]
        return 200, msgspec.json.encode([self._past(t) for t in trades[: min(PAGE_ROWS, int(query["count"]))]])

    def _past(self, trade: Trade) -> dict[str, Any]:
        return {
            "market": trade.instrument.symbol,
            "timestamp": trade.ts_ms,
            "trade_price": trade.price,
            "trade_volume": self.wire_quantity(trade),
            "ask_bid": "BID" if trade.buy else "ASK",
            "sequential_id": _number(trade),
        }
