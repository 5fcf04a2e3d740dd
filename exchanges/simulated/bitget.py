"""Bitget, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

TRADES, LIQUIDATIONS = "publicTrade", "liquidation"
PAGE_ROWS = 1000
OPEN_COINS = 2500.0
FUTURES = ("usdt-futures", "usdc-futures", "coin-futures")


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping. A trade topic begins with an image."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        if frame in ("ping", b"ping"):
            return ["pong"]
        request = msgspec.json.decode(frame)
        return [f for arg in request["args"] for f in self._answer(request["op"], arg)]

    def _answer(self, op: str, arg: dict[str, str]) -> Sequence[Frame]:
        if not self._exists(arg):
            reason = {"event": "error", "arg": arg, "code": "30001", "msg": "instType, topic or symbol doesn't exist"}
            return [text(reason)]
        topic = ":".join(arg.values())
        if op != "subscribe":
            self.topics.discard(topic)
            return [text({"event": op, "arg": arg})]
        self.topics.add(topic)
        answer = text({"event": op, "arg": arg})
        return [answer] if arg["topic"] == LIQUIDATIONS else [answer, self._image(arg)]

    def _exists(self, arg: Mapping[str, str]) -> bool:
        if arg["topic"] == LIQUIDATIONS:
            return arg["instType"] in FUTURES and "symbol" not in arg
        instrument = self.exchange.instruments.get((self.endpoint, arg.get("symbol", "")))
        return arg["topic"] == TRADES and instrument is not None and _category(instrument) == arg["instType"]

    def _image(self, arg: Mapping[str, str]) -> Frame:
        last = self.exchange.last.get((self.endpoint, arg["symbol"]))
        data = [] if last is None else [self._row(last)]
        return text({"action": "snapshot", "arg": arg, "data": data})

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        frames = []
        for symbol, batch in by_instrument(trades).items():
            arg = {"instType": _category(batch[0].instrument), "topic": TRADES, "symbol": symbol}
            if ":".join(arg.values()) in self.topics:
                rows = [self._row(trade) for trade in batch]
                frames.append(text({"action": "update", "arg": arg, "data": rows, "ts": now_ms}))
        return frames

    def _row(self, trade: Trade) -> dict[str, Any]:
        return {
            "i": str(trade.id),
            "p": repr(trade.price),
            "v": repr(self.exchange.wire_quantity(trade)),
            "S": "buy" if trade.buy else "sell",
            "T": str(trade.ts_ms),
            "isRPI": "no",
        }

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        frames = []
        for forced in liquidations:
            arg = {"instType": _category(forced.instrument), "topic": LIQUIDATIONS}
            if ":".join(arg.values()) in self.topics:
                frames.append(text({"action": "update", "arg": arg, "data": [_forced(forced)], "ts": now_ms}))
        return frames


def _forced(forced: Liquidation) -> dict[str, Any]:
    return {
        "symbol": forced.instrument.symbol,
        "side": "sell" if forced.buy else "buy",  # the side of the position
        "price": repr(forced.price),
        "amount": repr(forced.size * forced.price),
        "ts": str(forced.ts_ms),
    }


class Simulated(SimulatedExchange):
    """v3 instruments and open-interest, v2 fills-history."""

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
        endpoint = "spot" if "/spot/" in path or query.get("category") == "SPOT" else "futures"
        if path.endswith("/market/instruments"):
            wanted = query["category"].lower()
            return _answer([_listed(i) for i in self.listed(endpoint) if _category(i) == wanted])
        if path.endswith("/current-fund-rate"):
            said = {"fundingRate": repr(FUNDING_RATE), "fundingRateInterval": "8"}
            perps = [i for i in self.listed("futures") if i.kind == "perp"]
            return _answer(
                [{"symbol": i.symbol, **said} for i in perps if _category(i) == query["productType"].lower()]
            )
        instrument = self.instruments.get((endpoint, query.get("symbol", "")))
        if instrument is None:
            return 400, msgspec.json.encode({"code": "40034", "msg": "Parameter does not exist", "data": None})
        if path.endswith("/open-interest"):
            row = {"symbol": instrument.symbol, "openInterest": repr(OPEN_COINS)}
            return _answer({"list": [row], "ts": str(now_ms)})
        from_ms, to_ms = int(query["startTime"]), min(int(query["endTime"]), now_ms + 1)
        trades = list(history(instrument, from_ms, to_ms))[::-1]
        if "idLessThan" in query:
            trades = [t for t in trades if int(t.id or 0) < int(query["idLessThan"])]
        return _answer([self._past(t) for t in trades[: min(PAGE_ROWS, int(query["limit"]))]])

    def _past(self, trade: Trade) -> dict[str, Any]:
        return {
            "symbol": trade.instrument.symbol,
            "tradeId": str(trade.id),
            "side": "buy" if trade.buy else "sell",
            "price": repr(trade.price),
            "size": repr(self.wire_quantity(trade)),
            "ts": str(trade.ts_ms),
        }


def _answer(data: object) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"code": "00000", "msg": "success", "requestTime": 0, "data": data})


def _category(instrument: Instrument) -> str:
    if instrument.kind == "spot":
        return "spot"
    if instrument.inverse:
        return "coin-futures"
    return "usdc-futures" if instrument.quote == "USDC" else "usdt-futures"


def _listed(instrument: Instrument) -> dict[str, Any]:
    row = {
        "symbol": instrument.symbol,
        "category": _category(instrument).upper(),
        "baseCoin": instrument.base if instrument.multiplier == 1 else f"{int(instrument.multiplier)}{instrument.base}",
        "quoteCoin": instrument.quote,
        "status": "online" if instrument.active else "offline",
    }
    return (
        row if instrument.kind == "spot" else row | {"type": "perpetual" if instrument.kind == "perp" else "delivery"}
    )
