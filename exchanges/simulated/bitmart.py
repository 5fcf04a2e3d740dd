"""BitMart, seen from its own side."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

SPOT, FUTURES = "spot/trade", "futures/trade"
LIQUIDATION, NORMAL = 1, 8
PERPETUAL = 1
OPEN_CONTRACTS = 250_000.0
_PRICE = 100.0
"""What open interest is valued at."""


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping; spot trades packed in binary frames."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        if frame in ("ping", b"ping"):
            return ["pong"]
        request = msgspec.json.decode(frame)
        if request.get("action") == "ping":
            return [text({"group": "System", "data": "pong"})]
        op = request.get("op") or request["action"]
        return [self._answer(op, topic) for topic in request["args"]]

    def _answer(self, op: str, topic: str) -> Frame:
        channel, _, symbol = topic.partition(":")
        spot = self.endpoint == "spot"
        known = channel == (SPOT if spot else FUTURES) and (self.endpoint, symbol) in self.exchange.instruments
        if not known and spot:
            return text({"event": topic, "errorMessage": f"channel {topic} doesn't exist", "errorCode": "90004"})
        if known:
            (self.topics.add if op == "subscribe" else self.topics.discard)(topic)
        if spot:
            return text({"event": op, "topic": topic})
        answer = {"action": op, "group": topic, "success": known, "request": {"action": op, "args": [topic]}}
        return text(answer if known else answer | {"error": f"Invalid group [{topic}]"})

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        channel = SPOT if self.endpoint == "spot" else FUTURES
        frames: list[Frame] = []
        for symbol, batch in by_instrument(trades).items():
            if f"{channel}:{symbol}" not in self.topics:
                continue
            if channel == SPOT:
                frames.append(_deflate({"table": SPOT, "data": [self._spot(trade) for trade in batch]}))
            else:
                rows = [self._futures(trade) for trade in batch]
                frames.append(text({"group": f"{channel}:{symbol}", "data": rows}))
        return frames

    def _spot(self, trade: Trade) -> dict[str, Any]:
        return {
            "symbol": trade.instrument.symbol,
            "price": repr(trade.price),
            "size": repr(self.exchange.wire_quantity(trade)),
            "side": "buy" if trade.buy else "sell",
            "s_t": trade.ts_ms // 1000,
            "ms_t": trade.ts_ms,
        }

    def _futures(self, trade: Trade) -> dict[str, Any]:
        return {
            "trade_id": str(trade.id),
            "symbol": trade.instrument.symbol,
            "deal_price": repr(trade.price),
            "deal_vol": repr(self.exchange.wire_quantity(trade)),
            "way": 1 if trade.buy else 5,
            "m": not trade.buy,
            "type": NORMAL if trade.forced is None else LIQUIDATION,
            "created_at": f"{datetime.fromtimestamp(trade.ts_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{trade.ts_ms % 1000:03}000000Z",
        }


def _deflate(value: object) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(msgspec.json.encode(value)) + packer.flush()


class Simulated(SimulatedExchange):
    """symbols, contract details, newest trades, open interest."""

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
        if path.endswith("/spot/v1/symbols/details"):
            return _answer({"symbols": [_pair(i) for i in self.listed("spot")]})
        if path.endswith("/contract/public/details"):
            return _answer({"symbols": [_contract(i) for i in self.listed("futures")]})
        instrument = self.instruments.get(("spot" if "/spot/" in path else "futures", query.get("symbol", "")))
        if instrument is None:
            return 400, msgspec.json.encode({"code": 70002, "message": "symbol not found", "data": {}})
        if path.endswith("/open-interest"):
            value = OPEN_CONTRACTS * instrument.contract_size * _PRICE
            row = {"symbol": instrument.symbol, "open_interest": repr(OPEN_CONTRACTS), "timestamp": now_ms}
            return _answer(row | {"open_interest_value": repr(value)})
        trades = history(instrument, 0, now_ms + 1)[-int(query["limit"]) :][::-1]
        return _answer([self._past(trade) for trade in trades])

    def _past(self, trade: Trade) -> Any:
        size = repr(self.wire_quantity(trade))
        if trade.instrument.kind == "spot":
            side = "buy" if trade.buy else "sell"
            return [trade.instrument.symbol, str(trade.ts_ms), repr(trade.price), size, side]
        row = {"symbol": trade.instrument.symbol, "price": repr(trade.price), "qty": size}
        return row | {"time": trade.ts_ms, "is_buyer_maker": not trade.buy}


def _answer(data: object) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"code": 1000, "message": "OK", "data": data, "trace": "sim"})


def _pair(instrument: Instrument) -> dict[str, Any]:
    multiplied = "" if instrument.multiplier == 1 else str(int(instrument.multiplier))
    return {
        "symbol": instrument.symbol,
        "base_currency": multiplied + instrument.base,
        "quote_currency": instrument.quote,
        "trade_status": "trading" if instrument.active else "pre-trade",
    }


def _contract(instrument: Instrument) -> dict[str, Any]:
    multiplied = "" if instrument.multiplier == 1 else str(int(instrument.multiplier))
    return {
        "symbol": instrument.symbol,
        "product_type": PERPETUAL,
        "base_currency": multiplied + instrument.base,
        "quote_currency": instrument.quote,
        "contract_size": repr(instrument.contract_size),
        "status": "Trading" if instrument.active else "Delisted",
        "expected_funding_rate": repr(FUNDING_RATE),
        "funding_interval_hours": 8,
    }
