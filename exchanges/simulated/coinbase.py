"""Coinbase, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import (
    FUNDING_RATE,
    History,
    SimulatedConnection,
    SimulatedExchange,
    by_instrument,
    text,
)

MATCHES, MARKET_TRADES, HEARTBEATS = "matches", "market_trades", "heartbeats"
PRODUCTS_PER_PAGE = 500
OPEN_COINS = 2500.0


class FeedConnection(SimulatedConnection):
    """The exchange feed: matches. One unknown product refuses the whole request."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        wanted = [(c["name"], product) for c in request["channels"] for product in c["product_ids"]]
        for channel, product in wanted:
            if channel != MATCHES:
                return [_failure("Failed to subscribe", f"{channel} is not a valid channel")]
            if (self.endpoint, product) not in self.exchange.instruments:
                return [_failure("Failed to subscribe", f"{product} is not a valid product")]
        topics = {f"{channel}:{product}" for channel, product in wanted}
        if request["type"] == "unsubscribe":
            self.topics -= topics
            return [self._subscriptions()]
        self.topics |= topics
        lasts = (self.exchange.last.get((self.endpoint, product)) for _, product in wanted)
        return [self._subscriptions(), *(self._match("last_match", last) for last in lasts if last is not None)]

    def _subscriptions(self) -> Frame:
        products = sorted(topic.partition(":")[2] for topic in self.topics)
        channels = [{"name": MATCHES, "product_ids": products}] if products else []
        return text({"type": "subscriptions", "channels": channels})

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        return [self._match("match", t) for t in trades if f"{MATCHES}:{t.instrument.symbol}" in self.topics]

    def _match(self, kind: str, trade: Trade) -> Frame:
        row = {"type": kind, "product_id": trade.instrument.symbol, "sequence": trade.id}
        return text(row | history_row(trade, self.exchange.wire_quantity(trade)))


class AdvancedConnection(SimulatedConnection):
    """The advanced-trade feed: market_trades and heartbeats."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        channel, products = request["channel"], request.get("product_ids", [])
        unknown = [p for p in products if (self.endpoint, p) not in self.exchange.instruments]
        if unknown or channel not in (MARKET_TRADES, HEARTBEATS):
            return [_failure("failed to subscribe", f"{(unknown or [channel])[0]} is not valid")]
        topics = {HEARTBEATS} if channel == HEARTBEATS else {f"{channel}:{product}" for product in products}
        if request["type"] == "unsubscribe":
            self.topics -= topics
            return [self._subscriptions(now_ms)]
        self.topics |= topics
        lasts = [self.exchange.last[key] for p in products if (key := (self.endpoint, p)) in self.exchange.last]
        image = [self._trades("snapshot", lasts, now_ms)] if lasts and channel == MARKET_TRADES else []
        return [self._subscriptions(now_ms), *image]

    def _subscriptions(self, now_ms: int) -> Frame:
        products = sorted(topic.partition(":")[2] for topic in self.topics if topic != HEARTBEATS)
        subscribed = {MARKET_TRADES: products} if products else {}
        if HEARTBEATS in self.topics:
            subscribed[HEARTBEATS] = [HEARTBEATS]
        return _message("subscriptions", [{"subscriptions": subscribed}], now_ms)

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        batches = by_instrument([t for t in trades if f"{MARKET_TRADES}:{t.instrument.symbol}" in self.topics])
        return [self._trades("update", batch, now_ms) for batch in batches.values()]

    def _trades(self, kind: str, trades: Sequence[Trade], now_ms: int) -> Frame:
        rows = [market_trade(t, self.exchange.wire_quantity(t)) for t in trades]
        return _message(MARKET_TRADES, [{"type": kind, "trades": rows}], now_ms)

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        if HEARTBEATS not in self.topics:
            return ()
        return [_message(HEARTBEATS, [{"current_time": str(now_ms), "heartbeat_counter": now_ms // 1000}], now_ms)]


def _message(channel: str, events: Sequence[Any], now_ms: int) -> Frame:
    return text({"channel": channel, "client_id": "", "timestamp": iso(now_ms), "sequence_num": 0, "events": events})


def _failure(message: str, reason: str) -> Frame:
    return text({"type": "error", "message": message, "reason": reason})


def iso(ts_ms: int) -> str:
    """Milliseconds since the epoch as the exchange writes times."""
    seconds, ms = divmod(ts_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}000Z"


def history_row(trade: Trade, quantity: float) -> dict[str, Any]:
    """The fields that a match and a row of REST history share; `side` is the maker's."""
    return {
        "trade_id": trade.id,
        "side": "sell" if trade.buy else "buy",
        "size": repr(quantity),
        "price": repr(trade.price),
        "time": iso(trade.ts_ms),
    }


def market_trade(trade: Trade, quantity: float) -> dict[str, Any]:
    """A row of the advanced-trade feed and of its REST ticker; `side` is the maker's."""
    return {
        "trade_id": str(trade.id),
        "product_id": trade.instrument.symbol,
        "price": repr(trade.price),
        "size": repr(quantity),
        "side": "SELL" if trade.buy else "BUY",
        "time": iso(trade.ts_ms),
    }


class Simulated(SimulatedExchange):
    """Products (with open interest), trades by id, the ticker of a period."""

    def connection(self, endpoint: str) -> SimulatedConnection:
        return FeedConnection(self, endpoint) if endpoint == "spot" else AdvancedConnection(self, endpoint)

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
        if path.endswith("/market/products"):
            return self._products(query)
        product, action = path.rsplit("/", 2)[1:]
        endpoint = "spot" if name == "exchange" else "perp"
        instrument = self.instruments.get((endpoint, product))
        if instrument is None:
            return 404, msgspec.json.encode({"message": "NotFound"})
        if action == "ticker":
            trades = history(instrument, int(query["start"]) * 1000, int(query["end"]) * 1000)
            newest = trades[::-1][: int(query["limit"])]
            return 200, msgspec.json.encode({"trades": [market_trade(t, self.wire_quantity(t)) for t in newest]})
        trades = history(instrument, 0, now_ms + 1)
        older = [t for t in trades if "after" not in query or int(t.id or 0) < int(query["after"])]
        newest = older[::-1][: int(query["limit"])]
        return 200, msgspec.json.encode([history_row(t, self.wire_quantity(t)) for t in newest])

    def _products(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        listed = self.listed("spot" if query["product_type"] == "SPOT" else "perp")
        start, limit = int(query.get("offset", "0")), int(query.get("limit", PRODUCTS_PER_PAGE))
        return 200, msgspec.json.encode({"products": [_product(i) for i in listed[start : start + limit]]})


def _product(instrument: Instrument) -> dict[str, Any]:
    row = {
        "product_id": instrument.symbol,
        "status": "online" if instrument.active else "delisted",
        "alias": "",
        "base_currency_id": instrument.symbol.partition("-")[0],
        "quote_currency_id": instrument.quote,
    }
    if instrument.kind == "spot":
        return row
    details = {
        "venue": "INTX",
        "perpetual_details": {"open_interest": repr(OPEN_COINS), "funding_rate": repr(FUNDING_RATE)},
    }
    return row | {"future_product_details": details}
