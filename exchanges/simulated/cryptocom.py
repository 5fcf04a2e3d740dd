"""Crypto.com Exchange, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

CHANNEL = "trade"
PAGE_ROWS = 150
OPEN_COINS = 2500.0
HEARTBEAT_MS = 30_000
_TYPES = {"spot": "CCY_PAIR", "perp": "PERPETUAL_SWAP", "future": "FUTURE"}


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, heartbeats. Each channel begins with a push of the past."""

    def __init__(self, exchange: SimulatedExchange, endpoint: str) -> None:
        super().__init__(exchange, endpoint)
        self._beat_ms: int | None = None

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        method, number = request["method"], request["id"]
        if method == "public/respond-heartbeat":
            return ()
        channels = request["params"]["channels"]
        unknown = [channel for channel in channels if not self._exists(channel)]
        if unknown:
            message = f"Unknown symbol {unknown[0].partition('.')[2]}"
            return [text({"id": number, "method": method, "code": 40003, "message": message})]
        answer = text({"id": number, "method": method, "code": 0})
        if method != "subscribe":
            self.topics.difference_update(channels)
            return [answer]
        self.topics.update(channels)
        return [answer, *(self._image(channel.partition(".")[2]) for channel in channels)]

    def _exists(self, channel: str) -> bool:
        name, _, symbol = channel.partition(".")
        return name == CHANNEL and (self.endpoint, symbol) in self.exchange.instruments

    def _image(self, symbol: str) -> Frame:
        last = self.exchange.last.get((self.endpoint, symbol))
        return self._push(symbol, [] if last is None else [last])

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        batches = by_instrument(trades).items()
        return [self._push(symbol, batch) for symbol, batch in batches if f"{CHANNEL}.{symbol}" in self.topics]

    def _push(self, symbol: str, trades: Sequence[Trade]) -> Frame:
        result = {
            "channel": CHANNEL,
            "subscription": f"{CHANNEL}.{symbol}",
            "instrument_name": symbol,
            "data": [row(trade, self.exchange.wire_quantity(trade)) for trade in reversed(trades)],
        }
        return text({"id": -1, "method": "subscribe", "code": 0, "result": result})

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        if self._beat_ms is not None and now_ms - self._beat_ms < HEARTBEAT_MS:
            return ()
        self._beat_ms = now_ms
        return [text({"id": now_ms, "method": "public/heartbeat", "code": 0})]


def row(trade: Trade, quantity: float) -> dict[str, Any]:
    """The fields of a trade on the socket and in REST history."""
    return {
        "s": "BUY" if trade.buy else "SELL",
        "p": repr(trade.price),
        "q": repr(quantity),
        "t": trade.ts_ms,
        "tn": trade.ts_ms * 1_000_000,
        "d": str(trade.id),
        "m": str(trade.id),
        "i": trade.instrument.symbol,
    }


class Simulated(SimulatedExchange):
    """get-instruments, get-trades, get-tickers."""

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
        listed = self.listed("market")
        if path.endswith("/get-instruments"):
            return _answer(path, [_listed(i) for i in listed])
        if path.endswith("/get-tickers"):
            return _answer(path, [{"i": i.symbol, "oi": repr(OPEN_COINS), "t": now_ms} for i in listed])
        instrument = self.instruments.get(("market", query.get("instrument_name", "")))
        if instrument is None:
            return 400, msgspec.json.encode({"id": -1, "code": 40003, "message": "INVALID_REQUEST"})
        if path.endswith("/get-valuations"):
            return _answer(path, [{"v": repr(FUNDING_RATE), "t": now_ms}][: int(query["count"])])
        trades = history(instrument, int(query["start_ts"]), int(query["end_ts"]))[::-1]
        count = min(PAGE_ROWS, int(query["count"]))
        return _answer(path, [row(t, self.wire_quantity(t)) for t in trades[:count]])


def _answer(path: str, data: Sequence[Mapping[str, Any]]) -> tuple[int, bytes]:
    method = path.lstrip("/")
    return 200, msgspec.json.encode({"id": -1, "method": method, "code": 0, "result": {"data": data}})


def _listed(instrument: Instrument) -> dict[str, Any]:
    multiplied = "" if instrument.multiplier == 1 else str(int(instrument.multiplier))
    return {
        "symbol": instrument.symbol,
        "inst_type": _TYPES[instrument.kind],
        "base_ccy": multiplied + instrument.base,
        "quote_ccy": instrument.quote,
        "tradable": instrument.active,
    }
