"""OKX, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

TRADES, LIQUIDATIONS = "trades", "liquidation-orders"
PAGE_ROWS = 100
OPEN_COINS = 2500.0
HOUR_MS = 3_600_000
_TYPES = {"spot": "SPOT", "perp": "SWAP", "future": "FUTURES"}


class Connection(SimulatedConnection):
    """subscribe, unsubscribe, ping. Each channel begins with a push of the past."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        if frame in ("ping", b"ping"):
            return ["pong"]
        request = msgspec.json.decode(frame)
        return [f for arg in request["args"] for f in self._answer(request["op"], arg, now_ms)]

    def _answer(self, op: str, arg: dict[str, str], now_ms: int) -> Sequence[Frame]:
        channel, of = arg["channel"], arg.get("instId", arg.get("instType", ""))
        if not self._exists(channel, arg):
            named = ",".join(f"{key}:{value}" for key, value in arg.items())
            return [text({"event": "error", "code": "60018", "msg": f"Wrong URL or {named} doesn't exist."})]
        answer = text({"event": op, "arg": arg, "connId": "sim"})
        if op != "subscribe":
            self.topics.discard(f"{channel}:{of}")
            return [answer]
        self.topics.add(f"{channel}:{of}")
        return [answer, self._past_trade(of, now_ms) if channel == TRADES else self._past_forced(of, now_ms)]

    def _exists(self, channel: str, arg: Mapping[str, str]) -> bool:
        if channel == LIQUIDATIONS:
            return arg.get("instType") in ("SWAP", "FUTURES") and "instId" not in arg
        return channel == TRADES and (self.endpoint, arg.get("instId", "")) in self.exchange.instruments

    def _past_trade(self, symbol: str, now_ms: int) -> Frame:
        """The newest trade; where there was none yet, one of an hour ago."""
        instrument = self.exchange.instruments[self.endpoint, symbol]
        last = self.exchange.last.get((self.endpoint, symbol))
        return self._push(symbol, [last or Trade(instrument, now_ms - HOUR_MS, 1.0, 1.0, True, 1)])

    def _past_forced(self, kind: str, now_ms: int) -> Frame:
        listed = [i for i in self.exchange.listed(self.endpoint) if _TYPES[i.kind] == kind]
        return self._forced(kind, {i.symbol: [Liquidation(i, now_ms - HOUR_MS, 1.0, 1.0, True)] for i in listed[:1]})

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        batches = by_instrument([t for t in trades if f"{TRADES}:{t.instrument.symbol}" in self.topics])
        return [self._push(symbol, batch) for symbol, batch in batches.items()]

    def _push(self, symbol: str, trades: Sequence[Trade]) -> Frame:
        data = [history_row(t, self.exchange.wire_quantity(t)) | {"count": str(t.count)} for t in trades]
        return text({"arg": {"channel": TRADES, "instId": symbol}, "data": data})

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        by_kind: dict[str, list[Liquidation]] = {}
        for forced in liquidations:
            by_kind.setdefault(_TYPES[forced.instrument.kind], []).append(forced)
        subscribed = (kind for kind in by_kind if f"{LIQUIDATIONS}:{kind}" in self.topics)
        return [self._forced(kind, by_instrument(by_kind[kind])) for kind in subscribed]

    def _forced(self, kind: str, by_symbol: Mapping[str, Sequence[Liquidation]]) -> Frame:
        data = [
            {"instId": symbol, "instType": kind, "details": [self._detail(f) for f in forced]}
            for symbol, forced in by_symbol.items()
        ]
        return text({"arg": {"channel": LIQUIDATIONS, "instType": kind}, "data": data})

    def _detail(self, forced: Liquidation) -> dict[str, Any]:
        return {
            "side": "buy" if forced.buy else "sell",
            "posSide": "short" if forced.buy else "long",
            "bkPx": repr(forced.price),
            "sz": repr(self.exchange.wire_quantity(forced)),
            "bkLoss": "0",
            "ts": str(forced.ts_ms),
        }


def history_row(trade: Trade, quantity: float) -> dict[str, Any]:
    """The fields that the socket and REST history share."""
    return {
        "instId": trade.instrument.symbol,
        "tradeId": str(trade.id),
        "px": repr(trade.price),
        "sz": repr(quantity),
        "side": "buy" if trade.buy else "sell",
        "ts": str(trade.ts_ms),
    }


class Simulated(SimulatedExchange):
    """instruments, history-trades by id and by time, open-interest."""

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
        of_type = [i for i in self.listed("public") if _TYPES[i.kind] == query.get("instType")]
        if path.endswith("/public/instruments"):
            return _answer([_listed(i) for i in of_type])
        if path.endswith("/public/open-interest"):
            return _answer([{"instId": i.symbol, "oiCcy": repr(OPEN_COINS), "ts": str(now_ms)} for i in of_type])
        if path.endswith("/public/funding-rate"):
            times = {"fundingTime": str(now_ms + 1000), "nextFundingTime": str(now_ms + 1000 + 4 * 3_600_000)}
            swaps = [i for i in self.listed("public") if i.kind == "perp"]
            return _answer([{"instId": i.symbol, "fundingRate": repr(FUNDING_RATE), **times} for i in swaps])
        if path.endswith("/market/history-trades") and ("public", query["instId"]) in self.instruments:
            trades = self._older(self.instruments["public", query["instId"]], query, history, now_ms)
            return _answer([history_row(t, self.wire_quantity(t)) for t in trades])
        return 200, msgspec.json.encode({"code": "51001", "msg": "Instrument ID does not exist.", "data": []})

    def _older(
        self, instrument: Instrument, query: Mapping[str, str], history: History, now_ms: int
    ) -> Sequence[Trade]:
        """Newest first, older than an id (type 1) or a time (type 2)."""
        after = int(query["after"])
        if query["type"] == "2":
            trades = history(instrument, 0, min(after, now_ms + 1))
        else:
            trades = [t for t in history(instrument, 0, now_ms + 1) if int(t.id or 0) < after]
        return trades[::-1][: min(PAGE_ROWS, int(query["limit"]))]


def _answer(data: Sequence[Mapping[str, Any]]) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"code": "0", "msg": "", "data": data})


def _listed(instrument: Instrument) -> dict[str, Any]:
    row = {"instId": instrument.symbol, "state": "live" if instrument.active else "suspend"}
    if instrument.kind == "spot":
        base, _, quote = instrument.symbol.partition("-")
        return row | {"baseCcy": base, "quoteCcy": quote, "ctVal": "", "ctMult": "", "ctType": ""}
    family = "-".join(instrument.symbol.split("-")[:2])
    kind = "inverse" if instrument.inverse else "linear"
    return row | {"instFamily": family, "ctVal": repr(instrument.contract_size), "ctMult": "1", "ctType": kind}
