"""Poloniex, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import (
    FUNDING_RATE,
    Deal,
    History,
    SimulatedConnection,
    SimulatedExchange,
    by_instrument,
    text,
)

TRADES, LIQUIDATIONS = "trades", "liquidation_orders"
OPEN_CONTRACTS = 2500.0


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping; a refusal does not say what it refuses."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if request["event"] == "ping":
            return [text({"event": "pong"})]
        return [self._answer(request["event"], channel, request["symbols"]) for channel in request["channel"]]

    def _answer(self, event: str, channel: str, symbols: Sequence[str]) -> Frame:
        if channel not in (TRADES, LIQUIDATIONS) or (channel == LIQUIDATIONS and self.endpoint == "spot"):
            return text({"message": f'Invalid channel values ["{channel}"]', "event": "error"})
        valid = [symbol for symbol in symbols if (self.endpoint, symbol) in self.exchange.instruments]
        if not valid:
            return text({"message": "no valid symbols", "event": "error"})
        topics = {f"{channel}:{symbol}" for symbol in valid}
        self.topics = self.topics | topics if event == "subscribe" else self.topics - topics
        return text({"event": event, "channel": channel, "symbols": valid})

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        row = spot if self.endpoint == "spot" else contract
        return self._push(TRADES, trades, lambda trade: row(trade, self.exchange.wire_quantity(trade), now_ms))

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        return self._push(LIQUIDATIONS, liquidations, self._forced)

    def _push(self, channel: str, deals: Sequence[Deal], row: Any) -> Sequence[Frame]:
        return [
            text({"channel": channel, "data": [row(deal) for deal in of_one]})
            for symbol, of_one in by_instrument(deals).items()
            if f"{channel}:{symbol}" in self.topics
        ]

    def _forced(self, forced: Liquidation) -> dict[str, Any]:
        return {
            "s": forced.instrument.symbol,
            "side": "BUY" if forced.buy else "SELL",
            "posSide": "BOTH",
            "sz": repr(self.exchange.wire_quantity(forced)),
            "bkPx": repr(forced.price),
            "uTime": forced.ts_ms,
        }


def spot(trade: Trade, quantity: float, now_ms: int) -> dict[str, Any]:
    """A spot trade as pushed and as REST has it."""
    return {
        "symbol": trade.instrument.symbol,
        "amount": repr(quantity * trade.price),
        "quantity": repr(quantity),
        "takerSide": "buy" if trade.buy else "sell",
        "createTime": trade.ts_ms,
        "price": repr(trade.price),
        "id": str(trade.id),
        "ts": now_ms,
    }


def contract(trade: Trade, quantity: float, now_ms: int) -> dict[str, Any]:
    """A futures trade as pushed and as REST has it."""
    return {
        "s": trade.instrument.symbol,
        "id": trade.id,
        "side": "buy" if trade.buy else "sell",
        "px": repr(trade.price),
        "qty": repr(quantity),
        "amt": repr(trade.size * trade.price),
        "cT": trade.ts_ms,
        "ts": now_ms,
    }


class Simulated(SimulatedExchange):
    """markets, allInstruments, both trade histories, openInterest."""

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
        if path == "/markets":
            return 200, msgspec.json.encode([_market(i) for i in self.listed("spot")])
        if path == "/v3/market/allInstruments":
            return _ok([_product(i) for i in self.listed("futures")])
        if path.startswith("/markets/"):
            return self._spot_history(path.split("/")[2], query, history, now_ms)
        instrument = self.instruments.get(("futures", query.get("symbol", "")))
        if instrument is None:
            return 200, msgspec.json.encode({"code": 24101, "msg": "Invalid symbol!", "data": ""})
        if path == "/v3/market/openInterest":
            return _ok({"s": instrument.symbol, "oInterest": repr(OPEN_CONTRACTS), "ts": now_ms})
        if path == "/v3/market/fundingRate":
            times = {"fT": now_ms // 1000 * 1000, "nFT": now_ms // 1000 * 1000 + 8 * 3_600_000}
            return _ok({"s": instrument.symbol, "fR": "0.5", "nFR": repr(FUNDING_RATE), **times})
        if path == "/v3/market/trades":
            trades = history(instrument, 0, now_ms)[-int(query["limit"]) :]
            rows = [contract(t, self.wire_quantity(t), now_ms) for t in reversed(trades)]
            return _ok([{key: value for key, value in row.items() if key not in ("s", "ts")} for row in rows])
        return 404, msgspec.json.encode({"code": 404, "message": "Resources do not exist"})

    def _spot_history(self, symbol: str, query: Mapping[str, str], history: History, now_ms: int) -> tuple[int, bytes]:
        instrument = self.instruments.get(("spot", symbol))
        if instrument is None:
            return 400, msgspec.json.encode({"code": 24101, "message": "Invalid symbol"})
        trades = history(instrument, 0, now_ms)[-int(query["limit"]) :]
        rows = [spot(t, self.wire_quantity(t), now_ms) for t in reversed(trades)]
        return 200, msgspec.json.encode([{key: row[key] for key in row if key != "symbol"} for row in rows])


def _ok(data: object) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"code": 200, "msg": "Success", "data": data})


def _base(instrument: Instrument) -> str:
    """The base name as the symbol has it, multiplier included."""
    return instrument.symbol.partition("_")[0]


def _market(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "baseCurrencyName": _base(instrument),
        "quoteCurrencyName": instrument.quote,
        "state": "NORMAL" if instrument.active else "PAUSE",
    }


def _product(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "bCcy": _base(instrument),
        "qCcy": instrument.quote,
        "ctVal": repr(instrument.contract_size),
        "ctType": "INVERSE" if instrument.inverse else "LINEAR",
        "alias": "" if instrument.kind == "perp" else "quarter",
        "status": "OPEN" if instrument.active else "PAUSED",
    }
