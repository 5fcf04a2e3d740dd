"""MEXC, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.mexc_protobuf import Wrapper
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

DEALS = "spot@public.aggre.deals.v3.api.pb@10ms@"
CONTRACT_DEALS = "sub.deal:"
OPEN_CONTRACTS = 2500.0
HISTORY_ROWS = 100


class Spot(SimulatedConnection):
    """SUBSCRIPTION, UNSUBSCRIPTION, PING in text; trades in protobuf."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if request["method"] == "PING":
            return [_reply("PONG")]
        topics = set(request["params"])
        refused = {t for t in topics if (self.endpoint, t.removeprefix(DEALS)) not in self.exchange.instruments}
        done = sorted(topics - refused)
        self.topics = self.topics | {*done} if request["method"] == "SUBSCRIPTION" else self.topics - {*done}
        answers = [_reply(",".join(done))] if done else []
        if refused:
            answers.append(_reply(f"Not Subscribed successfully! [{','.join(sorted(refused))}].  Reason: Blocked! "))
        return answers

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            self._push(symbol, of_one, now_ms)
            for symbol, of_one in by_instrument(trades).items()
            if DEALS + symbol in self.topics
        ]

    def _push(self, symbol: str, trades: Sequence[Trade], now_ms: int) -> bytes:
        wrapper = Wrapper(channel=DEALS + symbol, symbol=symbol, sendTime=now_ms)
        wrapper.publicAggreDeals.eventType = DEALS.rpartition("@")[0]
        for trade in trades:
            wrapper.publicAggreDeals.deals.add(
                price=repr(trade.price),
                quantity=repr(self.exchange.wire_quantity(trade)),
                tradeType=1 if trade.buy else 2,
                time=trade.ts_ms,
            )
        return bytes(wrapper.SerializeToString())


class Futures(SimulatedConnection):
    """sub.deal, unsub.deal, ping. Answers do not name the contract, refusals do."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        method = request["method"]
        if method == "ping":
            return [text({"channel": "pong", "data": now_ms})]
        symbol = request["param"]["symbol"]
        if method not in ("sub.deal", "unsub.deal") or (self.endpoint, symbol) not in self.exchange.instruments:
            return [text({"channel": "rs.error", "data": f"Contract [{symbol}] not exists", "ts": now_ms})]
        topic = {CONTRACT_DEALS + symbol}
        self.topics = self.topics | topic if method == "sub.deal" else self.topics - topic
        return [text({"channel": f"rs.{method}", "data": "success", "ts": now_ms})]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        frames = []
        for symbol, of_one in by_instrument(trades).items():
            if CONTRACT_DEALS + symbol in self.topics:
                data = [deal(t, self.exchange.wire_quantity(t)) for t in of_one]
                frames.append(text({"symbol": symbol, "data": data, "channel": "push.deal", "ts": now_ms}))
        return frames


def deal(trade: Trade, quantity: float) -> dict[str, Any]:
    """A futures trade as pushed and as REST has it."""
    return {"p": trade.price, "v": quantity, "T": 1 if trade.buy else 2, "O": 3, "M": 1, "t": trade.ts_ms}


def _reply(message: str) -> str:
    return text({"id": 0, "code": 0, "msg": message})


class Simulated(SimulatedExchange):
    """exchangeInfo, aggTrades; contract detail, deals, ticker."""

    def connection(self, endpoint: str) -> SimulatedConnection:
        return Spot(self, endpoint) if endpoint == "spot" else Futures(self, endpoint)

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
        if name == "rest-futures":
            return self._futures(path, history, now_ms)
        if path == "/api/v3/exchangeInfo":
            return 200, msgspec.json.encode({"symbols": [_symbol(i) for i in self.listed("spot")]})
        instrument = self.instruments.get(("spot", query.get("symbol", "")))
        if instrument is None or path != "/api/v3/aggTrades":
            return 400, msgspec.json.encode({"code": -1121, "msg": "Invalid symbol."})
        trades = history(instrument, int(query["startTime"]), int(query["endTime"]) + 1)[: int(query["limit"])]
        none = {"a": None, "f": None, "l": None}
        rows = [
            none | {"p": repr(t.price), "q": repr(self.wire_quantity(t)), "T": t.ts_ms, "m": not t.buy} for t in trades
        ]
        return 200, msgspec.json.encode(rows)

    def _futures(self, path: str, history: History, now_ms: int) -> tuple[int, bytes]:
        listed = self.listed("futures")
        if path == "/api/v1/contract/detail":
            return _ok([_detail(i) for i in listed])
        if path == "/api/v1/contract/ticker":
            return _ok(
                [
                    {"symbol": i.symbol, "holdVol": OPEN_CONTRACTS, "fundingRate": FUNDING_RATE, "timestamp": now_ms}
                    for i in listed
                ]
            )
        instrument = self.instruments.get(("futures", path.removeprefix("/api/v1/contract/deals/")))
        if instrument is None:
            return 200, msgspec.json.encode({"success": False, "code": 1001, "message": "Contract does not exist!"})
        trades = history(instrument, 0, now_ms)[-HISTORY_ROWS:]
        return _ok([deal(t, self.wire_quantity(t)) for t in reversed(trades)])


def _ok(data: object) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"success": True, "code": 0, "data": data})


def _base(instrument: Instrument) -> str:
    return instrument.base if instrument.multiplier == 1 else f"{instrument.multiplier:.0f}{instrument.base}"


def _symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "status": "1" if instrument.active else "2",
        "baseAsset": _base(instrument),
        "quoteAsset": instrument.quote,
        "isSpotTradingAllowed": True,
    }


def _detail(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "baseCoin": _base(instrument),
        "quoteCoin": instrument.quote,
        "settleCoin": _base(instrument) if instrument.inverse else instrument.quote,
        "contractSize": instrument.contract_size,
        "state": 0 if instrument.active else 3,
    }
