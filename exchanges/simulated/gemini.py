"""Gemini, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import History, SimulatedConnection, SimulatedExchange, text

PAGE_ROWS_MAX = 500


class Connection(SimulatedConnection):
    """SUBSCRIBE, UNSUBSCRIBE; `symbol@trade`. Answers name the request by text, whatever it was."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        number, topics = str(request["id"]), request["params"]
        for topic in topics:
            if not self._exists(topic):
                refusal = {"code": -1121, "msg": f"Invalid stream {topic}"}
                return (text({"id": number, "status": 400, "error": refusal}),)
        self.topics = self.topics | {*topics} if request["method"] == "SUBSCRIBE" else self.topics - {*topics}
        return (text({"id": number, "status": 200}),)

    def _exists(self, topic: str) -> bool:
        symbol, _, stream = topic.partition("@")
        return stream == "trade" and (self.endpoint, symbol) in self.exchange.instruments

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [text(self._row(t)) for t in trades if f"{t.instrument.symbol}@trade" in self.topics]

    def _row(self, trade: Trade) -> dict[str, Any]:
        return {
            "E": trade.ts_ms * 1_000_000 + 685_423,  # within the millisecond: times are never whole ones
            "s": trade.instrument.symbol,
            "t": trade.id,
            "p": repr(trade.price),
            "q": repr(self.exchange.wire_quantity(trade)),
            "m": not trade.buy,
        }


class Simulated(SimulatedExchange):
    """The names of what trades, history after an id or a time, what is open of a perpetual."""

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
        if path == "/v1/symbols":
            return 200, msgspec.json.encode([i.symbol for i in self.instruments.values() if i.active])
        *start, symbol = path.split("/")
        found = [i for i in self.instruments.values() if i.symbol == symbol.lower()]
        if not found:
            return 400, msgspec.json.encode({"result": "error", "reason": "InvalidSymbol", "message": symbol})
        if start == ["", "v1", "trades"]:
            return 200, msgspec.json.encode(self._trades(found[0], query, history, now_ms))
        if start == ["", "v1", "riskstats"] and found[0].kind == "perp":
            return 200, msgspec.json.encode({"open_interest": "14.439", "open_interest_notional": "434325.12"})
        return 404, msgspec.json.encode({"result": "error", "reason": "EndpointNotFound", "message": path})

    def _trades(self, of: Instrument, query: Mapping[str, str], history: History, now_ms: int) -> list[dict[str, Any]]:
        """The trades next after an id, else after a time; newest first."""
        limit = min(int(query.get("limit_trades", "50")), PAGE_ROWS_MAX)
        if "since_tid" in query:
            found = [t for t in history(of, 0, now_ms) if int(t.id or 0) > int(query["since_tid"])]
        else:
            found = list(history(of, int(query["timestamp"]) + 1, now_ms))
        return [self._past(trade) for trade in reversed(found[:limit])]

    def _past(self, trade: Trade) -> dict[str, Any]:
        return {
            "timestamp": trade.ts_ms // 1000,
            "timestampms": trade.ts_ms,
            "tid": trade.id,
            "price": repr(trade.price),
            "amount": repr(self.wire_quantity(trade)),
            "exchange": "gemini",
            "type": "buy" if trade.buy else "sell",
        }
