"""HTX, seen from its own side."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import (
    FUNDING_RATE,
    History,
    SimulatedConnection,
    SimulatedExchange,
    base_name,
    by_instrument,
)

TRADES = re.compile(r"market\.(.+)\.trade\.detail")
LIQUIDATIONS = re.compile(r"public\.(.+)\.liquidation_orders")
SIDES = 2.0
"""Derivatives count what was bought and what was sold."""
OPEN_CONTRACTS = 2500.0
HOUR_MS = 3_600_000


def packed(value: object) -> bytes:
    """A frame as the exchange sends it."""
    return gzip.compress(msgspec.json.encode(value), 1)


class Market(SimulatedConnection):
    """sub, unsub, ping; each channel begins with a push of the past."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if "pong" in request:
            return []
        verb = "sub" if "sub" in request else "unsub"
        topic = request[verb]
        named = TRADES.fullmatch(topic)
        instrument = self.exchange.instruments.get((self.endpoint, named[1])) if named else None
        answer = {"id": request.get("id"), "ts": now_ms}
        if instrument is None:
            refusal = {"err-code": "bad-request", "err-msg": f"invalid topic {topic}"}
            return [packed(answer | {"status": "error"} | refusal)]
        accepted = packed(answer | {"status": "ok", f"{verb}bed": topic})
        if verb == "unsub":
            self.topics.discard(topic)
            return [accepted]
        self.topics.add(topic)
        image = self._past(instrument, now_ms)
        return [accepted, image] if self.endpoint == "spot" else [image, accepted]

    def _past(self, instrument: Instrument, now_ms: int) -> Frame:
        """The newest trade; where there was none yet, one of an hour ago."""
        last = self.exchange.last.get((self.endpoint, instrument.symbol))
        return self._push(instrument, [last or Trade(instrument, now_ms - HOUR_MS, 1.0, 1.0, True, 1)], now_ms)

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        return [
            self._push(of_one[0].instrument, of_one, now_ms)
            for symbol, of_one in by_instrument(trades).items()
            if _topic(symbol) in self.topics
        ]

    def _push(self, instrument: Instrument, trades: Sequence[Trade], now_ms: int) -> Frame:
        data = [pushed(t, self.exchange.wire_quantity(t)) for t in trades]
        tick = {"id": trades[0].id, "ts": trades[0].ts_ms, "data": data}
        return packed({"ch": _topic(instrument.symbol), "ts": now_ms, "tick": tick})

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        return [packed({"ping": now_ms})]


class Notification(SimulatedConnection):
    """sub, unsub and liquidations; by contract, or by coin for futures."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if request["op"] == "pong":
            return []
        op, topic = request["op"], request["topic"]
        answer = {"op": op, "cid": request["cid"], "topic": topic, "ts": now_ms}
        named = LIQUIDATIONS.fullmatch(topic)
        if named is None or named[1] not in {self._subject(i) for i in self.exchange.instruments.values()}:
            return [packed(answer | {"err-code": 2002, "err-msg": f"invalid topic {topic}"})]
        self.topics = self.topics | {topic} if op == "sub" else self.topics - {topic}
        return [packed(answer | {"err-code": 0})]

    def _subject(self, instrument: Instrument) -> str:
        return base_name(instrument) if instrument.endpoint == "coin" else instrument.symbol

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return []

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        frames = []
        for of_one in by_instrument(liquidations).values():
            topic = f"public.{self._subject(of_one[0].instrument)}.liquidation_orders"
            if topic in self.topics:
                data = [self._forced(one) for one in of_one]
                frames.append(packed({"op": "notify", "topic": topic, "ts": now_ms, "data": data}))
        return frames

    def _forced(self, forced: Liquidation) -> dict[str, Any]:
        return {
            "symbol": base_name(forced.instrument),
            "contract_code": forced.instrument.symbol,
            "direction": "buy" if forced.buy else "sell",
            "offset": "close",
            "volume": self.exchange.wire_quantity(forced),
            "amount": forced.size,
            "price": forced.price,
            "created_at": forced.ts_ms,
        }

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        return [packed({"op": "ping", "ts": str(now_ms)})]


def _topic(symbol: str) -> str:
    return f"market.{symbol}.trade.detail"


def pushed(trade: Trade, quantity: float) -> dict[str, Any]:
    """A trade as pushed; spot's id is longer than 64 bits."""
    row = {"ts": trade.ts_ms, "price": trade.price, "amount": quantity, "direction": "buy" if trade.buy else "sell"}
    if trade.instrument.kind == "spot":
        return row | {"id": msgspec.Raw(b"255757558546958%010d" % int(trade.id or 0)), "tradeId": trade.id}
    return row | {"id": trade.id, "quantity": trade.size * SIDES}


class Simulated(SimulatedExchange):
    """symbols, contract info, histories, open interest."""

    def connection(self, endpoint: str) -> SimulatedConnection:
        return Notification(self, endpoint) if endpoint.endswith("-liquidations") else Market(self, endpoint)

    def wire_quantity(self, trade: Trade | Liquidation) -> float:
        """Trades of derivatives count both sides, liquidations one."""
        quantity = super().wire_quantity(trade)
        return quantity * SIDES if isinstance(trade, Trade) and trade.instrument.kind != "spot" else quantity

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
        if path == "/v1/settings/common/symbols":
            return _ok([_symbol(i) for i in self.listed("spot")], now_ms)
        if path.endswith("/history/trade"):
            return self._history(_kind(name, path), query, history, now_ms)
        if path.endswith("contract_info"):
            return _ok([_contract(i) for i in self.listed(_kind(name, path))], now_ms)
        if path.endswith("open_interest"):
            return _ok([_interest(i) for i in self.listed(_kind(name, path))], now_ms)
        if path.endswith("batch_funding_rate"):
            perps = [i for i in self.listed(_kind(name, path)) if i.kind == "perp"]
            rows = [{"contract_code": i.symbol, "funding_rate": repr(FUNDING_RATE)} for i in perps]
            return _ok(rows, now_ms)
        return 404, msgspec.json.encode({"status": "error", "err-code": "api-not-found", "err-msg": path})

    def _history(self, endpoint: str, query: Mapping[str, str], history: History, now_ms: int) -> tuple[int, bytes]:
        symbol = query.get("symbol", query.get("contract_code", ""))
        instrument = self.instruments.get((endpoint, symbol))
        if instrument is None:
            refusal = {"status": "error", "err-code": "invalid-parameter", "err-msg": "invalid symbol"}
            return 200, msgspec.json.encode(refusal)
        rows = [pushed(t, self.wire_quantity(t)) for t in history(instrument, 0, now_ms)[-int(query["size"]) :]]
        if endpoint == "spot":
            rows = [{"trade-id" if key == "tradeId" else key: row[key] for key in row} for row in rows]
        return _ok([{"id": 1, "ts": row["ts"], "data": [row]} for row in reversed(rows)], now_ms)


def _kind(name: str, path: str) -> str:
    """The endpoint that a REST path is about."""
    if name == "rest":
        return "spot"
    return "linear" if path.startswith("/linear-swap") else "swap" if path.startswith("/swap") else "coin"


def _ok(data: object, now_ms: int) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"status": "ok", "data": data, "ts": now_ms})


def _symbol(instrument: Instrument) -> dict[str, Any]:
    base, quote = base_name(instrument).lower(), instrument.quote.lower()
    state = "online" if instrument.active else "offline"
    return {"symbol": instrument.symbol, "bc": base, "qc": quote, "state": state}


def _contract(instrument: Instrument) -> dict[str, Any]:
    info = {
        "symbol": base_name(instrument),
        "contract_code": instrument.symbol,
        "contract_size": instrument.contract_size,
        "contract_status": 1 if instrument.active else 3,
    }
    return info if instrument.endpoint == "swap" else info | {"contract_type": _expiry(instrument)}


def _expiry(instrument: Instrument) -> str:
    return "swap" if instrument.kind == "perp" else "quarter"


def _interest(instrument: Instrument) -> dict[str, Any]:
    amount = OPEN_CONTRACTS * instrument.contract_size
    coins = amount / 100.0 if instrument.inverse else amount
    row = {"symbol": instrument.base, "contract_code": instrument.symbol, "volume": OPEN_CONTRACTS, "amount": coins}
    return row if instrument.inverse else row | {"value": amount * 100.0}
