"""Bitstamp, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import History, SimulatedConnection, SimulatedExchange, text

TRADES = "live_trades_"
_SPANS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


class Connection(SimulatedConnection):
    """bts:subscribe, bts:unsubscribe, bts:heartbeat; one trade per frame."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        event = request["event"]
        if event == "bts:heartbeat":
            return [text({"event": event, "channel": "", "data": {"status": "success"}})]
        channel = request["data"]["channel"]
        if not channel.startswith(TRADES) or channel != channel.lower() or "/" in channel:
            data = {"code": None, "message": "Invalid channel provided."}
            return [text({"event": "bts:error", "channel": channel, "data": data})]
        if event == "bts:subscribe":  # also of what does not exist, which then stays silent
            self.topics.add(channel)
            return [text({"event": "bts:subscription_succeeded", "channel": channel, "data": {}})]
        self.topics.discard(channel)
        return [text({"event": "bts:unsubscription_succeeded", "channel": channel, "data": {}})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text({"data": _live(trade), "channel": channel, "event": "trade"})
            for trade in trades
            if (channel := TRADES + trade.instrument.symbol) in self.topics
        ]


def _live(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.id,
        "timestamp": str(trade.ts_ms // 1000),
        "amount": trade.size,
        "amount_str": repr(trade.size),
        "price": trade.price,
        "price_str": repr(trade.price),
        "type": 0 if trade.buy else 1,
        "microtimestamp": str(trade.ts_ms * 1000),
    }


def _past(trade: Trade) -> dict[str, Any]:
    return {
        "tid": str(trade.id),
        "date": str(trade.ts_ms // 1000),
        "amount": repr(trade.size),
        "price": repr(trade.price),
        "type": "0" if trade.buy else "1",
    }


def _listed(instrument: Instrument) -> dict[str, Any]:
    return {
        "market_symbol": instrument.symbol,
        "base_currency": instrument.base,
        "counter_currency": instrument.quote,
        "market_type": "PERPETUAL" if instrument.kind == "perp" else "SPOT",
        "trading": "Enabled" if instrument.active else "Disabled",
    }


class Simulated(SimulatedExchange):
    """markets, and transactions of the last minute, hour or day."""

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
        parts = path.strip("/").split("/")
        if parts == ["markets"]:
            return 200, msgspec.json.encode([_listed(i) for i in self.instruments.values()])
        if parts[0] == "transactions" and ("public", parts[-1]) in self.instruments:
            since_ms = now_ms - _SPANS_MS[query.get("time", "hour")]
            trades = history(self.instruments["public", parts[-1]], since_ms, now_ms + 1)
            return 200, msgspec.json.encode([_past(trade) for trade in reversed(trades)])
        return 404, msgspec.json.encode({"status": "error", "reason": f"no {path}"})
