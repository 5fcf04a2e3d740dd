"""Hyperliquid, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

TRADES = "trades:"
OPEN_COINS = 2500.0
MARK_PRICE = 100.0
RECENT = 100
"""How many trades `recentTrades` gives; how many the real one does is not documented."""
HOUR_MS = 3_600_000


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping. Each subscription begins with a push of the past."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        method = request["method"]
        if method == "ping":
            return [text({"channel": "pong"})]
        asked = request["subscription"]
        instrument = self.exchange.instruments.get((self.endpoint, asked["coin"]))
        if asked["type"] != "trades" or instrument is None:
            return [text({"channel": "error", "data": f"Invalid subscription {text(asked)}"})]
        answer = text({"channel": "subscriptionResponse", "data": {"method": method, "subscription": asked}})
        if method != "subscribe":
            self.topics.discard(TRADES + instrument.symbol)
            return [answer]
        self.topics.add(TRADES + instrument.symbol)
        return [answer, self._past(instrument, now_ms)]

    def _past(self, instrument: Instrument, now_ms: int) -> Frame:
        """The newest trade; where there was none yet, one of an hour ago."""
        last = self.exchange.last.get((self.endpoint, instrument.symbol))
        return self._push([last or Trade(instrument, now_ms - HOUR_MS, 1.0, 1.0, True, 1)])

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        return [self._push(ts) for coin, ts in by_instrument(trades).items() if TRADES + coin in self.topics]

    def _push(self, trades: Sequence[Trade]) -> Frame:
        return text({"channel": "trades", "data": [row(t, self.exchange.wire_quantity(t)) for t in trades]})


def row(trade: Trade, quantity: float) -> dict[str, Any]:
    """A trade as pushed and as `recentTrades` has it."""
    return {
        "coin": trade.instrument.symbol,
        "side": "B" if trade.buy else "A",
        "px": repr(trade.price),
        "sz": repr(quantity),
        "time": trade.ts_ms,
        "hash": "0x0",
        "tid": trade.id,
    }


class Simulated(SimulatedExchange):
    """meta, metaAndAssetCtxs, recentTrades."""

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
        if (method, path) != ("POST", "/info"):
            return 404, b"null"
        asked = msgspec.json.decode(body)
        listed = self.listed("perp")
        universe = {"universe": [self._asset(i) for i in listed]}
        if asked["type"] == "meta":
            return 200, msgspec.json.encode(universe)
        if asked["type"] == "metaAndAssetCtxs":
            context = {"openInterest": repr(OPEN_COINS), "markPx": repr(MARK_PRICE), "funding": repr(FUNDING_RATE)}
            return 200, msgspec.json.encode([universe, [context] * len(listed)])
        if asked["type"] == "recentTrades" and ("perp", asked["coin"]) in self.instruments:
            trades = history(self.instruments["perp", asked["coin"]], now_ms - HOUR_MS, now_ms)[-RECENT:]
            return 200, msgspec.json.encode([row(t, self.wire_quantity(t)) for t in reversed(trades)])
        return 422, msgspec.json.encode("Failed to deserialize the JSON body into the target type")

    def _asset(self, instrument: Instrument) -> dict[str, Any]:
        asset: dict[str, Any] = {"name": instrument.symbol, "szDecimals": 3, "maxLeverage": 20}
        return asset if instrument.active else asset | {"isDelisted": True}
