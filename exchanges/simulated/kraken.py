"""Kraken, seen from its own side: spot v2 and futures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.numbers import iso, iso_ms
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

SPOT_ROWS, FUTURES_ROWS = 1000, 100
_MARK = 50_000.0
OPEN_CONTRACTS = 250_000.0
"""Open interest of every contract, in units of the wire."""


class SpotConnection(SimulatedConnection):
    """subscribe (answered with the newest trade where asked for), unsubscribe, ping; trades batched per pair."""

    def greet(self, now_ms: int) -> Sequence[Frame]:
        return [text({"channel": "status", "type": "update", "data": [{"api_version": "v2", "system": "online"}]})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        method = request["method"]
        if method == "ping":
            return [text({"method": "pong", "time_in": iso(now_ms), "time_out": iso(now_ms)})]
        wanted = request["params"]
        return [f for symbol in wanted["symbol"] for f in self._answer(method, symbol, wanted.get("snapshot", False))]

    def _answer(self, method: str, symbol: str, image: bool) -> Sequence[Frame]:
        if (self.endpoint, symbol) not in self.exchange.instruments:
            error = f"Currency pair not supported {symbol}"
            return [text({"error": error, "method": method, "success": False, "symbol": symbol})]
        result = {"channel": "trade", "symbol": symbol}
        if method == "unsubscribe":
            self.topics.discard(symbol)
            return [text({"method": method, "result": result, "success": True})]
        self.topics.add(symbol)
        answer = text({"method": method, "result": result | {"snapshot": image}, "success": True})
        last = self.exchange.last.get((self.endpoint, symbol))
        rows = [] if last is None else [_spot_row(last)]
        return [answer, text({"channel": "trade", "type": "snapshot", "data": rows})] if image else [answer]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text({"channel": "trade", "type": "update", "data": [_spot_row(trade) for trade in batch]})
            for symbol, batch in by_instrument(trades).items()
            if symbol in self.topics
        ]

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        return [text({"channel": "heartbeat"})]


class FuturesConnection(SimulatedConnection):
    """subscribe (answered with the newest trade), unsubscribe; one trade per frame."""

    def greet(self, now_ms: int) -> Sequence[Frame]:
        return [text({"event": "info", "version": 1})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        return [f for symbol in request["product_ids"] for f in self._answer(request["event"], symbol.upper())]

    def _answer(self, event: str, symbol: str) -> Sequence[Frame]:
        known = (self.endpoint, symbol) in self.exchange.instruments
        outcome = f"{event}d" if known else f"{event}d_failed"
        answer = text({"event": outcome, "feed": "trade", "product_ids": [symbol]})
        if event == "unsubscribe" or not known:
            self.topics.discard(symbol)
            return [answer]
        self.topics.add(symbol)
        last = self.exchange.last.get((self.endpoint, symbol))
        rows = [] if last is None else [self._row(last)]
        return [answer, text({"feed": "trade_snapshot", "product_id": symbol, "trades": rows})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [text(self._row(trade)) for trade in trades if trade.instrument.symbol in self.topics]

    def _row(self, trade: Trade) -> dict[str, Any]:
        return {
            "feed": "trade",
            "product_id": trade.instrument.symbol,
            "uid": str(trade.id),
            "side": _side(trade),
            "type": _type(trade),
            "seq": 1,
            "time": trade.ts_ms,
            "qty": self.exchange.wire_quantity(trade),
            "price": trade.price,
        }


def _side(trade: Trade) -> str:
    return "buy" if trade.buy else "sell"


def _type(trade: Trade) -> str:
    return "fill" if trade.forced is None else "liquidation"


def _spot_row(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": trade.instrument.symbol,
        "side": _side(trade),
        "price": trade.price,
        "qty": trade.size,
        "ord_type": "market",
        "trade_id": trade.id,
        "timestamp": iso(trade.ts_ms),
    }


def _past_spot(trade: Trade) -> list[Any]:
    seconds, ms = divmod(trade.ts_ms, 1000)
    when = msgspec.Raw(f"{seconds}.{ms:03d}".encode())
    return [repr(trade.price), repr(trade.size), when, _side(trade)[0], "m", "", trade.id]


def _contract(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "type": "futures_inverse" if instrument.inverse else "flexible_futures",
        "tradeable": instrument.active,
        "contractSize": instrument.contract_size,
    }


class Simulated(SimulatedExchange):
    """AssetPairs and Trades of spot; instruments, history and tickers of futures."""

    def connection(self, endpoint: str) -> SimulatedConnection:
        return SpotConnection(self, endpoint) if endpoint == "spot" else FuturesConnection(self, endpoint)

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
        answer: object
        match name, path:
            case "rest", "/AssetPairs":
                answer = {"error": [], "result": {i.pair: self._pair(i) for i in self.listed("spot")}}
            case "rest", "/Trades":
                answer = self._spot_history(query, history, now_ms)
            case "rest_futures", "/instruments":
                answer = {"result": "success", "instruments": [_contract(i) for i in self.listed("futures")]}
            case "rest_futures", "/history":
                answer = {"result": "success", "history": self._futures_history(query, history)}
            case "rest_futures", "/tickers":
                tickers = [_ticker(i) for i in self.listed("futures")]
                answer = {"result": "success", "tickers": tickers, "serverTime": iso(now_ms)}
            case _:
                return 404, msgspec.json.encode({"error": [f"EGeneral:no {path}"]})
        return 200, msgspec.json.encode(answer)

    def _pair(self, instrument: Instrument) -> dict[str, Any]:
        status = "online" if instrument.active else "cancel_only"
        return {"altname": instrument.pair.replace("/", ""), "wsname": instrument.pair, "status": status}

    def _spot_history(self, query: Mapping[str, str], history: History, now_ms: int) -> dict[str, Any]:
        found = [i for i in self.listed("spot") if i.pair.replace("/", "") == query["pair"]]
        if not found:
            return {"error": ["EQuery:Unknown asset pair"]}
        after_ms = int(query["since"]) // 1_000_000
        trades = history(found[0], after_ms + 1, now_ms + 1)
        count = int(query.get("count", SPOT_ROWS))
        # Trades of the exchange differ by nanoseconds; here a page must not end between two of the same millisecond.
        while 0 < count < len(trades) and trades[count].ts_ms == trades[count - 1].ts_ms:
            count += 1
        trades = trades[:count]
        last = trades[-1].ts_ms * 1_000_000 if trades else int(query["since"])
        return {"error": [], "result": {found[0].pair: [_past_spot(t) for t in trades], "last": str(last)}}

    def _futures_history(self, query: Mapping[str, str], history: History) -> list[dict[str, Any]]:
        instrument = self.instruments["futures", query["symbol"]]
        trades = history(instrument, 0, iso_ms(query["lastTime"]))
        return [self._past_future(trade) for trade in reversed(trades[-FUTURES_ROWS:])]

    def _past_future(self, trade: Trade) -> dict[str, Any]:
        return {
            "time": iso(trade.ts_ms),
            "trade_id": 1,
            "price": trade.price,
            "size": self.wire_quantity(trade),
            "side": _side(trade),
            "type": _type(trade),
            "uid": str(trade.id),
        }


def _ticker(instrument: Instrument) -> dict[str, Any]:
    row = {"symbol": instrument.symbol, "openInterest": OPEN_CONTRACTS}
    if instrument.kind != "perp":
        return row
    paid = FUNDING_RATE / _MARK if instrument.inverse else FUNDING_RATE * _MARK
    return row | {"fundingRate": paid, "markPrice": _MARK}
