"""Gate, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

SPOT, FUTURES, LIQUIDATIONS = "spot.trades", "futures.trades", "futures.public_liquidates"
OPEN_CONTRACTS = 250_000.0


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping; one symbol that does not exist refuses the whole request."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        channel, event = request["channel"], request.get("event", "")
        head = {"time": now_ms // 1000, "time_ms": now_ms}
        if channel.endswith(".ping"):
            return [text(head | {"channel": channel.replace("ping", "pong"), "event": "", "result": None})]
        symbols = request["payload"]
        answer = head | {"id": request["id"], "channel": channel, "event": event, "payload": symbols}
        unknown = [s for s in symbols if not self._exists(channel, s)]
        if unknown:
            error = {"code": 2, "message": f"unknown currency pair or contract: {unknown[0]}"}
            return [text(answer | {"error": error, "result": {"status": "fail"}})]
        topics = [f"{channel}:{symbol}" for symbol in symbols]
        if event == "subscribe":
            self.topics.update(topics)
        else:
            self.topics.difference_update(topics)
        return [text(answer | {"error": None, "result": {"status": "success"}})]

    def _exists(self, channel: str, symbol: str) -> bool:
        channels = (SPOT,) if self.endpoint == "spot" else (FUTURES, LIQUIDATIONS)
        return channel in channels and (self.endpoint, symbol) in self.exchange.instruments

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        """Spot: one trade a frame. Futures: batches."""
        frames: list[Frame] = []
        for symbol, batch in by_instrument(trades).items():
            if f"{SPOT}:{symbol}" in self.topics:
                frames += [self._push(SPOT, spot_row(t, self.exchange.wire_quantity(t)), now_ms) for t in batch]
            if f"{FUTURES}:{symbol}" in self.topics:
                rows = [futures_row(t, self.exchange.wire_quantity(t)) for t in batch]
                frames.append(self._push(FUTURES, rows, now_ms))
        return frames

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        return [
            self._push(LIQUIDATIONS, [self._forced(forced) for forced in batch], now_ms)
            for symbol, batch in by_instrument(liquidations).items()
            if f"{LIQUIDATIONS}:{symbol}" in self.topics
        ]

    def _forced(self, forced: Liquidation) -> dict[str, Any]:
        return {
            "price": repr(forced.price),
            "size": _signed(forced, self.exchange.wire_quantity(forced)),
            "time_ms": forced.ts_ms,
            "contract": forced.instrument.symbol,
        }

    def _push(self, channel: str, result: object, now_ms: int) -> Frame:
        head = {"time": now_ms // 1000, "time_ms": now_ms, "channel": channel}
        return text(head | {"event": "update", "result": result})


def spot_row(trade: Trade, quantity: float) -> dict[str, Any]:
    """The fields of a spot trade on the socket and in REST history."""
    return {
        "id": trade.id,
        "create_time": trade.ts_ms // 1000,
        "create_time_ms": f"{trade.ts_ms}.000000",
        "side": "buy" if trade.buy else "sell",
        "currency_pair": trade.instrument.symbol,
        "amount": repr(quantity),
        "price": repr(trade.price),
    }


def futures_row(trade: Trade, quantity: float) -> dict[str, Any]:
    """The fields of a futures trade on the socket."""
    return {
        "size": _signed(trade, quantity),
        "id": trade.id,
        "create_time": trade.ts_ms // 1000,
        "create_time_ms": trade.ts_ms,
        "price": repr(trade.price),
        "contract": trade.instrument.symbol,
    }


def _signed(deal: Trade | Liquidation, quantity: float) -> str:
    return repr(quantity if deal.buy else -quantity)


class Simulated(SimulatedExchange):
    """currency_pairs, contracts, trades by page and offset, tickers."""

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
        if path.endswith("/spot/currency_pairs"):
            return 200, msgspec.json.encode([_pair(i) for i in self.listed("spot")])
        endpoint = "spot" if "/spot/" in path else path.split("/")[-2]
        if path.endswith("/contracts"):
            return 200, msgspec.json.encode([_contract(i) for i in self.listed(endpoint)])
        if path.endswith("/tickers"):
            rows = [
                {"contract": i.symbol, "total_size": repr(OPEN_CONTRACTS), "funding_rate": repr(FUNDING_RATE)}
                for i in self.listed(endpoint)
            ]
            return 200, msgspec.json.encode(rows)
        instrument = self.instruments.get((endpoint, query.get("currency_pair") or query.get("contract", "")))
        if instrument is None:
            return 400, msgspec.json.encode({"label": "INVALID_CURRENCY_PAIR", "message": "unknown"})
        return 200, msgspec.json.encode(self._past(instrument, query, history))

    def _past(self, instrument: Instrument, query: Mapping[str, str], history: History) -> list[dict[str, Any]]:
        """Newest first; REST says milliseconds of futures as seconds with decimals."""
        trades = history(instrument, int(query["from"]) * 1000, (int(query["to"]) + 1) * 1000)[::-1]
        limit = int(query["limit"])
        start = int(query["offset"]) if "offset" in query else (int(query["page"]) - 1) * limit
        page = trades[start : start + limit]
        if instrument.kind == "spot":
            return [spot_row(t, self.wire_quantity(t)) | {"id": str(t.id)} for t in page]
        return [futures_row(t, self.wire_quantity(t)) | {"create_time_ms": t.ts_ms / 1000} for t in page]


def _base(instrument: Instrument) -> str:
    return ("" if instrument.multiplier == 1 else str(int(instrument.multiplier))) + instrument.base


def _pair(instrument: Instrument) -> dict[str, Any]:
    status = "tradable" if instrument.active else "untradable"
    return {
        "id": instrument.symbol,
        "base": _base(instrument),
        "quote": instrument.quote,
        "trade_status": status,
    }


def _contract(instrument: Instrument) -> dict[str, Any]:
    return {
        "name": instrument.symbol,
        "type": "inverse" if instrument.inverse else "direct",
        "quanto_multiplier": "0" if instrument.inverse else repr(instrument.contract_size),
        "in_delisting": not instrument.active,
    }
