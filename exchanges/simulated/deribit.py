"""Deribit, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

TRADES, SUFFIX = "trades.", ".100ms"
OPEN_INTEREST = 250_000.0
"""Of every contract, in the wire's unit."""
HEARTBEAT_MS = 30_000


class Connection(SimulatedConnection):
    """JSON-RPC: subscribe, unsubscribe, set_heartbeat, test; trades batched per instrument."""

    next_test_ms: int | None = None

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        method, params = request["method"], request.get("params", {})
        if method == "public/set_heartbeat":
            self.next_test_ms = now_ms + HEARTBEAT_MS
            return [_answer(request, "ok")]
        if method == "public/test":
            return [_answer(request, {"version": "1.2.26"})]
        if method not in ("public/subscribe", "public/unsubscribe"):
            return [_refusal(request, -32601, "Method not found")]
        known = [channel for channel in params["channels"] if self._exists(channel)]
        if method == "public/subscribe":
            self.topics.update(known)
        else:
            self.topics.difference_update(known)
        return [_answer(request, known)]

    def _exists(self, channel: str) -> bool:
        symbol = channel.removeprefix(TRADES).removesuffix(SUFFIX)
        return channel == TRADES + symbol + SUFFIX and (self.endpoint, symbol) in self.exchange.instruments

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text(
                {
                    "jsonrpc": "2.0",
                    "method": "subscription",
                    "params": {"channel": channel, "data": [_row(t, self.exchange.wire_quantity(t)) for t in batch]},
                }
            )
            for symbol, batch in by_instrument(trades).items()
            if (channel := TRADES + symbol + SUFFIX) in self.topics
        ]

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        if self.next_test_ms is None or now_ms < self.next_test_ms:  # as asked for by set_heartbeat
            return ()
        self.next_test_ms = now_ms + HEARTBEAT_MS
        return [text({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}})]


def _answer(request: Mapping[str, Any], result: object) -> str:
    return text({"jsonrpc": "2.0", "id": request["id"], "result": result})


def _refusal(request: Mapping[str, Any], code: int, message: str) -> str:
    return text({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}})


def _row(trade: Trade, amount: float) -> dict[str, Any]:
    row = {
        "trade_seq": trade.id,
        "trade_id": str(trade.id),
        "timestamp": trade.ts_ms,
        "price": trade.price,
        "instrument_name": trade.instrument.symbol,
        "direction": "buy" if trade.buy else "sell",
        "amount": amount,
    }
    return row if trade.forced is None else row | {"liquidation": "T" if trade.forced == trade.buy else "M"}


def _listed(instrument: Instrument) -> dict[str, Any]:
    row = {
        "instrument_name": instrument.symbol,
        "kind": "spot" if instrument.kind == "spot" else "future",
        "base_currency": instrument.base,
        "quote_currency": instrument.quote,
        "is_active": instrument.active,
        "instrument_type": "reversed" if instrument.inverse else "linear",
    }
    if instrument.kind == "spot":
        return row
    return row | {"settlement_period": "perpetual" if instrument.kind == "perp" else "month"}


class Simulated(SimulatedExchange):
    """get_instruments, get_last_trades_…, get_book_summary_by_currency."""

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
        if path == "/get_instruments":
            found: object = [
                _listed(i) for i in self.instruments.values() if (i.kind == "spot") == (query["kind"] == "spot")
            ]
        elif path == "/get_book_summary_by_currency":
            found = [_summary(i, now_ms) for i in self.instruments.values() if _settled_in(i) == query["currency"]]
        elif path.startswith("/get_last_trades_by_instrument"):
            found = self._trades(query, history, now_ms)
        else:
            return 400, msgspec.json.encode({"error": {"code": -32601, "message": f"no {path}"}})
        return 200, msgspec.json.encode({"jsonrpc": "2.0", "result": found})

    def _trades(self, query: Mapping[str, str], history: History, now_ms: int) -> dict[str, Any]:
        instrument = self.instruments["public", query["instrument_name"]]
        from_ms, to_ms = int(query.get("start_timestamp", "0")), int(query.get("end_timestamp", str(now_ms)))
        first, last = int(query.get("start_seq", "0")), int(query.get("end_seq", str(1 << 62)))
        trades = [t for t in history(instrument, from_ms, to_ms + 1) if first <= int(t.id or 0) <= last]
        count = int(query.get("count", "10"))
        page = [_row(t, self.wire_quantity(t)) for t in trades[:count]]
        return {"trades": page, "has_more": len(trades) > count}


def _settled_in(instrument: Instrument) -> str:
    if instrument.kind == "spot":
        return ""
    return instrument.base if instrument.inverse else instrument.quote


def _summary(instrument: Instrument, now_ms: int) -> dict[str, Any]:
    return {
        "instrument_name": instrument.symbol,
        "open_interest": OPEN_INTEREST,
        "creation_timestamp": now_ms,
    } | ({"funding_8h": FUNDING_RATE} if instrument.kind == "perp" else {})
