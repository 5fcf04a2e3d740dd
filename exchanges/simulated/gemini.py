"""Gemini, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from exchanges.api import Frame, Trade
from exchanges.gemini import NS_PER_MS, OK, TRADES
from exchanges.simulated.api import History, SimulatedConnection, SimulatedExchange, text

OPEN_COINS = 2500.0


class Connection(SimulatedConnection):
    """SUBSCRIBE, UNSUBSCRIBE, trades."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        asked = request["params"]
        for topic in asked:
            symbol, known = topic.removesuffix(TRADES), topic.endswith(TRADES)
            if not known or (self.endpoint, symbol) not in self.exchange.instruments:
                refusal = {"code": -1121, "msg": f"Invalid stream {topic}"}
                return [text({"id": str(request["id"]), "status": 400, "error": refusal})]
        self.topics = self.topics | {*asked} if request["method"] == "SUBSCRIBE" else self.topics - {*asked}
        return [text({"id": str(request["id"]), "status": OK})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text(
                {
                    "E": trade.ts_ms * NS_PER_MS + 84_200,
                    "s": trade.instrument.symbol,
                    "t": trade.id,
                    "p": repr(trade.price),
                    "q": repr(self.exchange.wire_quantity(trade)),
                    "m": not trade.buy,
                }
            )
            for trade in trades
            if trade.instrument.symbol + TRADES in self.topics
        ]


class Simulated(SimulatedExchange):
    """symbols, trades, riskstats."""

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
            return 200, msgspec.json.encode([i.symbol for i in self.listed("market") if i.active])
        what, _, symbol = path.removeprefix("/v1/").partition("/")
        if ("market", symbol) not in self.instruments:
            return 400, msgspec.json.encode({"result": "error", "reason": "Bad Request", "message": f"no {symbol}"})
        if what == "riskstats":
            return 200, msgspec.json.encode({"open_interest": repr(OPEN_COINS), "mark_price": "100.0"})
        if what == "trades":
            return 200, msgspec.json.encode(self._history(symbol, query, history, now_ms))
        return 404, msgspec.json.encode({"result": "error", "reason": "EndpointNotFound"})

    def _history(self, symbol: str, query: Mapping[str, str], history: History, now_ms: int) -> list[object]:
        """The oldest after an id or a time, newest first."""
        trades = history(self.instruments["market", symbol], int(query.get("timestamp", "0")), now_ms)
        after = int(query.get("since_tid", "-1"))
        found = [t for t in trades if isinstance(t.id, int) and t.id > after][: int(query["limit_trades"])]
        return [
            {
                "timestamp": t.ts_ms // 1000,
                "timestampms": t.ts_ms,
                "tid": t.id,
                "price": repr(t.price),
                "amount": repr(self.wire_quantity(t)),
                "exchange": "gemini",
                "type": "buy" if t.buy else "sell",
            }
            for t in reversed(found)
        ]
