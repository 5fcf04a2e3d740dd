"""Bitunix, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import History, SimulatedConnection, SimulatedExchange, by_instrument, text

CHANNEL = "trade"


class Connection(SimulatedConnection):
    """connect, subscribe, unsubscribe, ping. Each channel begins with a push of the past."""

    def greet(self, now_ms: int) -> Sequence[Frame]:
        return [text({"op": "connect", "data": {"result": True}})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if request["op"] == "ping":
            return [text({"op": "ping", "ping": request["ping"], "pong": now_ms // 1000})]
        return [f for arg in request["args"] for f in self._answer(request["op"], arg, now_ms)]

    def _answer(self, op: str, arg: Mapping[str, str], now_ms: int) -> Sequence[Frame]:
        symbol = arg["symbol"]
        exists = arg["ch"] == CHANNEL and (self.endpoint, symbol) in self.exchange.instruments
        answer = text({"op": op, "ch": arg["ch"], "symbol": symbol, "data": {"result": exists}})
        topic = f"{CHANNEL}:{symbol}"
        if not exists or op != "subscribe":
            self.topics.discard(topic)
            return [answer]
        self.topics.add(topic)
        last = self.exchange.last.get((self.endpoint, symbol))
        return [answer, self._push(symbol, [] if last is None else [last], now_ms)]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        batches = by_instrument(trades).items()
        return [self._push(s, batch, now_ms) for s, batch in batches if f"{CHANNEL}:{s}" in self.topics]

    def _push(self, symbol: str, trades: Sequence[Trade], now_ms: int) -> Frame:
        rows = [self._row(trade) for trade in trades]
        return text({"ch": CHANNEL, "symbol": symbol, "ts": now_ms, "data": rows})

    def _row(self, trade: Trade) -> dict[str, Any]:
        second = datetime.fromtimestamp(trade.ts_ms // 1000, UTC)
        return {
            "t": f"{second:%Y-%m-%dT%H:%M:%S}.{trade.ts_ms % 1000:03}000000Z",
            "p": repr(trade.price),
            "v": repr(self.exchange.wire_quantity(trade)),
            "s": "buy" if trade.buy else "sell",
        }


class Simulated(SimulatedExchange):
    """trading_pairs."""

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
        if path.endswith("/trading_pairs"):
            data = [_listed(i) for i in self.listed("futures")]
            return 200, msgspec.json.encode({"code": 0, "data": data, "msg": "Success"})
        return 404, msgspec.json.encode({"code": 2, "data": None, "msg": f"no {path}"})


def _listed(instrument: Instrument) -> dict[str, Any]:
    multiplied = "" if instrument.multiplier == 1 else str(int(instrument.multiplier))
    return {
        "symbol": instrument.symbol,
        "base": multiplied + instrument.base,
        "quote": instrument.quote,
        "symbolStatus": "OPEN" if instrument.active else "STOP",
    }
