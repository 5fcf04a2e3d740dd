"""Binance spot, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, base_name, text

OPEN_UNITS = 250_000.0
"""Open interest of every derivative, in units of the wire."""


class Connection(SimulatedConnection):
    """SUBSCRIBE, UNSUBSCRIBE, aggTrade, forceOrder; combined streams."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        for topic in request["params"]:
            symbol, _, channel = topic.partition("@")
            if channel not in ("aggTrade", "trade", "forceOrder"):
                return (
                    text(
                        {
                            "error": {"code": 2, "msg": f"Invalid request: unknown stream {topic}"},
                            "id": request["id"],
                        }
                    ),
                )
            if (self.endpoint, symbol.upper()) not in self.exchange.instruments:
                continue  # the exchange acknowledges streams of symbols that do not exist, and sends nothing
            if request["method"] == "SUBSCRIBE":
                self.topics.add(topic)
            else:
                self.topics.discard(topic)
        return (text({"result": None, "id": request["id"]}),)

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text(
                {
                    "stream": topic,
                    "data": {"e": "aggTrade", "E": now_ms, "s": trade.instrument.symbol} | self._row(trade),
                }
            )
            for trade in trades
            if (topic := f"{trade.instrument.symbol.lower()}@aggTrade") in self.topics
        ]

    def _row(self, trade: Trade) -> dict[str, Any]:
        return aggregate(trade, self.exchange.wire_quantity(trade))

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        frames = []
        for forced in liquidations:
            topic = f"{forced.instrument.symbol.lower()}@forceOrder"
            if topic not in self.topics:
                continue
            quantity = repr(self.exchange.wire_quantity(forced))
            side = "BUY" if forced.buy else "SELL"
            order = {"s": forced.instrument.symbol, "S": side, "o": "LIMIT", "f": "IOC", "q": quantity}
            order |= {
                "p": repr(forced.price),
                "ap": repr(forced.price),
                "X": "FILLED",
                "l": quantity,
                "z": quantity,
            }
            frames.append(
                text(
                    {
                        "stream": topic,
                        "data": {"e": "forceOrder", "E": now_ms, "o": order | {"T": forced.ts_ms}},
                    }
                )
            )
        return frames


def aggregate(trade: Trade, quantity: float) -> dict[str, Any]:
    """The fields that aggTrade has on the socket and in REST history."""
    assert isinstance(trade.id, int)
    last = trade.id * 1000 + trade.count - 1
    return {
        "a": trade.id,
        "p": repr(trade.price),
        "q": repr(quantity),
        "f": trade.id * 1000,
        "l": last,
        "T": trade.ts_ms,
        "m": not trade.buy,
    }


class Simulated(SimulatedExchange):
    """exchangeInfo and aggTrades."""

    endpoints: ClassVar[Mapping[str, str]] = {"rest": "spot"}
    """What each REST address speaks of."""
    markets_are_asked_for: ClassVar[Sequence[str]] = ("aggTrades",)
    funding_is_asked_for: ClassVar[Sequence[str]] = ()
    """Last parts of the paths that take a symbol."""

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
        listed, asked = self.listed(self.endpoints[name]), path.rpartition("/")[2]
        if asked == "exchangeInfo":
            return 200, msgspec.json.encode({"symbols": [self.symbol(instrument) for instrument in listed]})
        if asked in self.funding_is_asked_for:
            return 200, msgspec.json.encode(_funding(asked, listed))
        if asked not in self.markets_are_asked_for:
            return 404, msgspec.json.encode({"code": -1, "msg": f"no {path}"})
        found = next((i for i in listed if i.symbol == query["symbol"]), None)
        if found is None:
            return 400, msgspec.json.encode({"code": -1121, "msg": "Invalid symbol."})
        if asked == "aggTrades":
            return 200, self._aggregates(found, query, history, now_ms)
        row = {"symbol": found.symbol, "openInterest": repr(OPEN_UNITS), "time": now_ms}
        return 200, msgspec.json.encode(row)

    def symbol(self, instrument: Instrument) -> dict[str, Any]:
        """A row of exchangeInfo."""
        status = "TRADING" if instrument.active else "BREAK"
        return {
            "symbol": instrument.symbol,
            "status": status,
            "baseAsset": base_name(instrument),
            "quoteAsset": instrument.quote,
        }

    def _aggregates(self, of: Instrument, query: Mapping[str, str], history: History, now_ms: int) -> bytes:
        limit = int(query.get("limit", "500"))
        if "fromId" in query:
            trades = [t for t in history(of, 0, now_ms) if int(t.id or 0) >= int(query["fromId"])]
        else:
            trades = list(history(of, int(query["startTime"]), int(query["endTime"]) + 1))
        return msgspec.json.encode([aggregate(t, self.wire_quantity(t)) for t in trades[:limit]])


def _funding(asked: str, listed: Sequence[Instrument]) -> list[dict[str, Any]]:
    """premiumIndex of every contract, or fundingInfo: the first one is settled every 4 hours, the others are not named."""
    if asked == "fundingInfo":
        return [{"symbol": i.symbol, "fundingIntervalHours": 4} for i in listed[:1] if i.kind == "perp"]
    rates = {i.symbol: repr(FUNDING_RATE) if i.kind == "perp" else "" for i in listed}
    return [{"symbol": symbol, "lastFundingRate": said} for symbol, said in rates.items()]
