"""HitBTC, seen from its own side (v3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

CHANNEL = "trades"
PERPETUAL = "perpetual"
OPEN_COINS = 2500.0


class Connection(SimulatedConnection):
    """subscribe and unsubscribe; an unknown symbol refuses the whole request."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        symbols, number = request["params"]["symbols"], request["id"]
        unknown = [s for s in symbols if (self.endpoint, s) not in self.exchange.instruments]
        if request["ch"] != CHANNEL or unknown:
            error = {"code": 2001, "message": "Symbol not found", "description": ", ".join(unknown)}
            return [text({"jsonrpc": "2.0", "error": error, "id": number})]
        if request["method"] == "subscribe":
            self.topics.update(symbols)
        else:
            self.topics.difference_update(symbols)
        return [text({"jsonrpc": "2.0", "result": {"ch": CHANNEL, "subscriptions": symbols}, "id": number})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        update = {
            symbol: [self._row(trade) for trade in batch]
            for symbol, batch in by_instrument(trades).items()
            if symbol in self.topics
        }
        return [text({"ch": CHANNEL, "update": update})] if update else ()

    def _row(self, trade: Trade) -> dict[str, Any]:
        size = repr(self.exchange.wire_quantity(trade))
        side = "buy" if trade.buy else "sell"
        return {"t": trade.ts_ms, "i": trade.id, "p": repr(trade.price), "q": size, "s": side}


class Simulated(SimulatedExchange):
    """public/symbol, public/trades by id and time, futures/info."""

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
        listed = self.listed("public")
        if path.endswith("/public/symbol"):
            return 200, msgspec.json.encode({i.symbol: _listed(i) for i in listed})
        if path.endswith("/futures/info"):
            row = {"open_interest": repr(OPEN_COINS), "funding_rate": repr(FUNDING_RATE), "timestamp": _iso(now_ms)}
            return 200, msgspec.json.encode({i.symbol: row for i in listed if i.kind != "spot"})
        instrument = self.instruments.get(("public", path.rpartition("/")[2]))
        if instrument is None:
            return 400, msgspec.json.encode({"error": {"code": 2001, "message": "Symbol not found"}})
        if query["by"] == "id":
            trades = [t for t in history(instrument, 0, now_ms + 1) if int(t.id or 0) >= int(query["from"])]
        else:
            trades = list(history(instrument, int(query["from"]), int(query["till"]) + 1))
        return 200, msgspec.json.encode([self._past(t) for t in trades[: int(query["limit"])]])

    def _past(self, trade: Trade) -> dict[str, Any]:
        return {
            "id": trade.id,
            "price": repr(trade.price),
            "qty": repr(self.wire_quantity(trade)),
            "side": "buy" if trade.buy else "sell",
            "timestamp": _iso(trade.ts_ms),
        }


def _iso(ts_ms: int) -> str:
    return f"{datetime.fromtimestamp(ts_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ts_ms % 1000:03}Z"


def _listed(instrument: Instrument) -> dict[str, Any]:
    base = ("" if instrument.multiplier == 1 else str(int(instrument.multiplier))) + instrument.base
    row = {"quote_currency": instrument.quote, "status": "working" if instrument.active else "suspended"}
    if instrument.kind == "spot":
        return row | {"type": "spot", "base_currency": base}
    return row | {"type": "futures", "base_currency": None, "underlying": base, "contract_type": PERPETUAL}
