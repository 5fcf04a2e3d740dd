"""KuCoin, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, text

SPOT, FUTURES = "/market/match:", "/contractMarket/execution:"
NS_PER_MS = 1_000_000
OK = "200000"
OPEN_CONTRACTS = 2500.0
HISTORY_ROWS = 100


class Connection(SimulatedConnection):
    """welcome, subscribe, unsubscribe, ping. A frame with an unknown symbol is refused whole."""

    def greet(self, now_ms: int) -> Sequence[Frame]:
        return [text({"id": "sim", "type": "welcome"})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if request["type"] == "ping":
            return [text({"id": request["id"], "type": "pong"})]
        channel, _, symbols = request["topic"].partition(":")
        asked = {f"{channel}:{symbol}" for symbol in symbols.split(",")}
        unknown = [symbol for symbol in symbols.split(",") if (self.endpoint, symbol) not in self.exchange.instruments]
        if unknown or f"{channel}:" != (SPOT if self.endpoint == "spot" else FUTURES):
            reason = f"topic {channel}:{','.join(unknown)} is not found"
            return [text({"id": request["id"], "type": "error", "code": 404, "data": reason})]
        self.topics = self.topics | asked if request["type"] == "subscribe" else self.topics - asked
        return [text({"id": request["id"], "type": "ack"})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        channel, subject = (SPOT, "trade.l3match") if self.endpoint == "spot" else (FUTURES, "match")
        return [
            text(
                {
                    "type": "message",
                    "topic": channel + trade.instrument.symbol,
                    "subject": subject,
                    "data": row(trade, self.exchange.wire_quantity(trade)) | {"symbol": trade.instrument.symbol},
                }
            )
            for trade in trades
            if channel + trade.instrument.symbol in self.topics
        ]


def row(trade: Trade, quantity: float) -> dict[str, Any]:
    """A trade as pushed and, but for the symbol, as REST has it."""
    ts_ns = trade.ts_ms * NS_PER_MS + 456_789
    found: dict[str, Any] = {"side": "buy" if trade.buy else "sell", "tradeId": str(trade.id)}
    if trade.instrument.kind == "spot":
        numbers = {"price": repr(trade.price), "size": repr(quantity), "sequence": str(trade.id), "time": str(ts_ns)}
        return found | numbers
    return found | {"price": repr(trade.price), "size": quantity, "sequence": trade.id, "ts": ts_ns}


class Simulated(SimulatedExchange):
    """Tokens, symbols, contracts, histories."""

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
        endpoint = "spot" if name == "rest" else "futures"
        if (method, path) == ("POST", "/api/v1/bullet-public"):
            server = {"endpoint": self.exchange.url(endpoint), "pingInterval": 18000, "pingTimeout": 10000}
            return _ok({"token": "simulated", "instanceServers": [server]})
        if path == "/api/v2/symbols":
            return _ok([_symbol(i) for i in self.listed("spot")])
        if path == "/api/v1/contracts/active":
            return _ok([_contract(i) for i in self.listed("futures")])
        instrument = self.instruments.get((endpoint, query.get("symbol", "")))
        if instrument is None or path not in ("/api/v1/market/histories", "/api/v1/trade/history"):
            return 200, msgspec.json.encode({"code": "400100", "msg": "This pair is not provided at present"})
        trades = history(instrument, 0, now_ms)[-HISTORY_ROWS:]
        return _ok([row(t, self.wire_quantity(t)) for t in reversed(trades)])


def _ok(data: object) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"code": OK, "data": data})


def _base(instrument: Instrument) -> str:
    return "XBT" if instrument.base == "BTC" and instrument.kind != "spot" else instrument.base


def _symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "baseCurrency": instrument.symbol.partition("-")[0],
        "quoteCurrency": instrument.quote,
        "enableTrading": instrument.active,
    }


def _contract(instrument: Instrument) -> dict[str, Any]:
    multiplied = f"{instrument.multiplier:.0f}" if instrument.multiplier != 1 else ""
    return {
        "symbol": instrument.symbol,
        "baseCurrency": multiplied + _base(instrument),
        "quoteCurrency": instrument.quote,
        "multiplier": -instrument.contract_size if instrument.inverse else instrument.contract_size,
        "isInverse": instrument.inverse,
        "status": "Open" if instrument.active else "Paused",
        "expireDate": None if instrument.kind == "perp" else 1_900_000_000_000,
        "openInterest": repr(OPEN_CONTRACTS),
        "fundingFeeRate": FUNDING_RATE if instrument.kind == "perp" else None,
    }
