"""Bybit, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import (
    FUNDING_RATE,
    History,
    SimulatedConnection,
    SimulatedExchange,
    base_name,
    by_instrument,
    text,
)

TRADES, LIQUIDATIONS = "publicTrade.", "allLiquidation."
HISTORY_ROWS = {"spot": 60, "linear": 1000, "inverse": 1000}
ROWS_PER_FRAME = 1024
OPEN_CONTRACTS = 250_000.0
_PRICE = 100.0
"""What open interest is valued at."""


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping; publicTrade and allLiquidation."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        op, args = request["op"], request.get("args", [])
        answer = {"success": True, "ret_msg": "", "conn_id": "sim", "op": op} | _own_id(request)
        if op == "ping":
            return [text(answer | {"ret_msg": "pong"})]
        unknown = [topic for topic in args if not self._exists(topic)]
        if unknown:
            message = f"error:handler not found,topic:{unknown[0]}"
            return [text(answer | {"success": False, "ret_msg": message})]
        if op == "subscribe":
            self.topics.update(args)
        else:
            self.topics.difference_update(args)
        return [text(answer)]

    def _exists(self, topic: str) -> bool:
        channel, _, symbol = topic.partition(".")
        known = channel + "." in ((TRADES,) if self.endpoint == "spot" else (TRADES, LIQUIDATIONS))
        return known and (self.endpoint, symbol) in self.exchange.instruments

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return self._push(TRADES, {s: [self._trade(t) for t in ts] for s, ts in by_instrument(trades).items()}, now_ms)

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        found = by_instrument(liquidations)
        return self._push(LIQUIDATIONS, {s: [self._forced(f) for f in fs] for s, fs in found.items()}, now_ms)

    def _push(self, prefix: str, batches: Mapping[str, Sequence[Any]], now_ms: int) -> Sequence[Frame]:
        return [
            text({"topic": prefix + symbol, "type": "snapshot", "ts": now_ms, "data": rows[at : at + ROWS_PER_FRAME]})
            for symbol, rows in batches.items()
            if prefix + symbol in self.topics
            for at in range(0, len(rows), ROWS_PER_FRAME)
        ]

    def _trade(self, trade: Trade) -> dict[str, Any]:
        side = "Buy" if trade.buy else "Sell"
        return self._row(trade, side) | {"L": "PlusTick", "i": str(trade.id), "BT": False, "RPI": False}

    def _forced(self, forced: Liquidation) -> dict[str, Any]:
        return self._row(forced, "Sell" if forced.buy else "Buy")  # the side of the position

    def _row(self, deal: Trade | Liquidation, side: str) -> dict[str, Any]:
        size = repr(self.exchange.wire_quantity(deal))
        return {"T": deal.ts_ms, "s": deal.instrument.symbol, "S": side, "v": size, "p": repr(deal.price)}


def _own_id(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"req_id": request["req_id"]} if "req_id" in request else {}


class Simulated(SimulatedExchange):
    """instruments-info with cursors, recent-trade, tickers."""

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
        category = query.get("category", "")
        if path.endswith("/instruments-info"):
            result = self._instruments(category, query)
        elif path.endswith("/tickers"):
            result = {"list": [_ticker(i) for i in self.listed(category)]}
        elif path.endswith("/recent-trade") and (category, query["symbol"]) in self.instruments:
            instrument = self.instruments[category, query["symbol"]]
            limit = min(int(query["limit"]), HISTORY_ROWS[category])
            trades = history(instrument, 0, now_ms + 1)[-limit:]
            result = {"list": [self._past(t) for t in reversed(trades)]}
        else:
            return 200, msgspec.json.encode({"retCode": 10001, "retMsg": "params error", "result": {}, "time": now_ms})
        answer = {"retCode": 0, "retMsg": "OK", "result": {"category": category} | result, "time": now_ms}
        return 200, msgspec.json.encode(answer)

    def _instruments(self, category: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Spot has no pages."""
        listed, start = self.listed(category), int(query.get("cursor", "0"))
        end = len(listed) if category == "spot" else start + int(query.get("limit", "500"))
        cursor = str(end) if end < len(listed) else ""
        return {"list": [_listed(i) for i in listed[start:end]], "nextPageCursor": cursor}

    def _past(self, trade: Trade) -> dict[str, Any]:
        return {
            "execId": str(trade.id),
            "symbol": trade.instrument.symbol,
            "price": repr(trade.price),
            "size": repr(self.wire_quantity(trade)),
            "side": "Buy" if trade.buy else "Sell",
            "time": str(trade.ts_ms),
        }


def _listed(instrument: Instrument) -> dict[str, Any]:
    row = {
        "symbol": instrument.symbol,
        "status": "Trading" if instrument.active else "Closed",
        "baseCoin": base_name(instrument),
        "quoteCoin": instrument.quote,
    }
    if instrument.kind == "spot":
        return row
    prefix = "Inverse" if instrument.inverse else "Linear"
    return row | {"contractType": prefix + ("Perpetual" if instrument.kind == "perp" else "Futures")}


def _ticker(instrument: Instrument) -> dict[str, Any]:
    value = OPEN_CONTRACTS / _PRICE if instrument.inverse else OPEN_CONTRACTS * _PRICE
    return {"symbol": instrument.symbol, "openInterest": repr(OPEN_CONTRACTS), "openInterestValue": repr(value)} | {
        "fundingIntervalHour": "4",
        "fundingRate": repr(FUNDING_RATE) if instrument.kind == "perp" else "",
    }
