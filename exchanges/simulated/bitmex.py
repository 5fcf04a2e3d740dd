"""BitMEX, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.numbers import iso, iso_ms
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

XBT_SATOSHIS = 1e8
OPEN_CONTRACTS = 250_000.0
"""Open interest of every contract."""
_PRICE = 100.0
"""What open interest is valued at."""
_TABLES = ("trade", "liquidation")


class Connection(SimulatedConnection):
    """subscribe (answered with an image of each table), unsubscribe, ping; trades batched per symbol."""

    def greet(self, now_ms: int) -> Sequence[Frame]:
        welcome = {"info": "Welcome to the BitMEX Realtime API.", "version": "sim", "timestamp": iso(now_ms)}
        return [text(welcome | {"limit": {"remaining": 39}})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        if frame == "ping":
            return ["pong"]
        request = msgspec.json.decode(frame)
        return [answer for topic in request["args"] for answer in self._answer(request, topic)]

    def _answer(self, request: Mapping[str, Any], topic: str) -> Sequence[Frame]:
        table, _, symbol = topic.partition(":")
        if table not in _TABLES or (self.endpoint, symbol) not in self.exchange.instruments:
            reason = "Unknown or expired symbol." if table in _TABLES else f"Unknown table: {table}"
            return [text({"status": 400, "error": reason, "meta": {}, "request": request})]
        answer = text({"success": True, request["op"]: topic, "request": request})
        if request["op"] == "unsubscribe":
            self.topics.discard(topic)
            return [answer]
        self.topics.add(topic)
        last = self.exchange.last.get((self.endpoint, symbol))
        rows = [_row(last, self.exchange.wire_quantity(last))] if last is not None and table == "trade" else []
        return [answer, text({"table": table, "action": "partial", "filter": {"symbol": symbol}, "data": rows})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text(
                {
                    "table": "trade",
                    "action": "insert",
                    "data": [_row(trade, self.exchange.wire_quantity(trade)) for trade in batch],
                }
            )
            for symbol, batch in by_instrument(trades).items()
            if f"trade:{symbol}" in self.topics
        ]

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        return [
            text({"table": "liquidation", "action": "insert", "data": [self._order(forced) for forced in batch]})
            for symbol, batch in by_instrument(liquidations).items()
            if f"liquidation:{symbol}" in self.topics
        ]

    def _order(self, forced: Liquidation) -> dict[str, Any]:
        return {
            "orderID": str(forced.id or f"{forced.ts_ms}-{forced.price}"),
            "symbol": forced.instrument.symbol,
            "side": "Buy" if forced.buy else "Sell",
            "price": forced.price,
            "leavesQty": self.exchange.wire_quantity(forced),
        }


def _row(trade: Trade, contracts: float) -> dict[str, Any]:
    return {
        "timestamp": iso(trade.ts_ms),
        "symbol": trade.instrument.symbol,
        "side": "Buy" if trade.buy else "Sell",
        "size": contracts,
        "price": trade.price,
        "tickDirection": "PlusTick",
        "trdMatchID": str(trade.id),
        "homeNotional": trade.size,
        "foreignNotional": trade.size * trade.price,
        "trdType": "Regular",
    }


def _listed(instrument: Instrument, now_ms: int) -> dict[str, Any]:
    contract = instrument.contract_size
    worth = {"multiplier": -contract * XBT_SATOSHIS, "underlyingToPositionMultiplier": None}
    if not instrument.inverse:
        worth = {"multiplier": contract * XBT_SATOSHIS, "underlyingToPositionMultiplier": 1 / contract}
    return {
        "symbol": instrument.symbol,
        "typ": {"spot": "IFXXXP", "perp": "FFWCSX", "future": "FFCCSX"}[instrument.kind],
        "underlying": instrument.base,
        "quoteCurrency": instrument.quote,
        "settlCurrency": "XBt" if instrument.inverse or instrument.quanto else "USDt",
        "state": "Open" if instrument.active else "Closed",
        "isInverse": instrument.inverse,
        "isQuanto": instrument.quanto,
        "openInterest": OPEN_CONTRACTS,
        "fundingRate": FUNDING_RATE if instrument.kind == "perp" else None,
        "lastPrice": _PRICE,
        "timestamp": iso(now_ms),
    } | worth


class Simulated(SimulatedExchange):
    """instrument/active, trade."""

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
        if path == "/instrument/active":
            index = {"symbol": ".BXBT", "typ": "MRCXXX", "underlying": "XBT", "quoteCurrency": "USD", "lastPrice": 1.0}
            return 200, msgspec.json.encode([_listed(i, now_ms) for i in self.instruments.values()] + [index])
        if path != "/trade" or ("public", query["symbol"]) not in self.instruments:
            return 400, msgspec.json.encode({"error": {"message": f"no {path}", "name": "HTTPError"}})
        from_ms, to_ms = iso_ms(query["startTime"]), iso_ms(query["endTime"])
        start, count = int(query.get("start", "0")), int(query.get("count", "100"))
        trades = history(self.instruments["public", query["symbol"]], from_ms, to_ms + 1)[start : start + count]
        return 200, msgspec.json.encode([_row(trade, self.wire_quantity(trade)) for trade in trades])
