"""Phemex, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

INTEGERS, TEXTS = "trade:", "trade_p:"
NS_PER_MS = 1_000_000
OPEN = 2500.0
HISTORY_ROWS = 1000
HOUR_MS = 3_600_000


class Connection(SimulatedConnection):
    """trade and trade_p, subscribe and unsubscribe; ping. Each subscription begins with a snapshot."""

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        answer = {"error": None, "id": request["id"], "result": {"status": "success"}}
        if request["method"] == "server.ping":
            return [text(answer | {"result": "pong"})]
        channel, _, verb = request["method"].partition(".")
        listed = [self.exchange.instruments.get((self.endpoint, symbol)) for symbol in request["params"]]
        instruments = [i for i in listed if i is not None and _channel(i) == f"{channel}:"]
        if len(instruments) < len(listed):
            return [text(answer | {"error": {"code": 6001, "message": "invalid argument"}, "result": None})]
        topics = {_channel(i) + i.symbol for i in instruments}
        if verb == "unsubscribe":
            self.topics -= topics
            return [text(answer)]
        self.topics |= topics
        return [text(answer), *(self._past(i, now_ms) for i in instruments)]

    def _past(self, instrument: Instrument, now_ms: int) -> Frame:
        """The newest trade; where there was none yet, one of an hour ago."""
        last = self.exchange.last.get((self.endpoint, instrument.symbol))
        trades = [last or Trade(instrument, now_ms - HOUR_MS, 1.0, 1.0, True)]
        return text(push(instrument, [row(t, self.exchange.wire_quantity(t)) for t in trades], "snapshot"))

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        self.exchange.remember(trades)
        frames = []
        for of_one in by_instrument(trades).values():
            instrument = of_one[0].instrument
            if _channel(instrument) + instrument.symbol in self.topics:
                rows = [row(t, self.exchange.wire_quantity(t)) for t in reversed(of_one)]
                frames.append(text(push(instrument, rows, "incremental")))
        return frames


def _channel(instrument: Instrument) -> str:
    return INTEGERS if instrument.price_scale else TEXTS


def push(instrument: Instrument, rows: Sequence[list[Any]], kind: str) -> dict[str, Any]:
    """A message of trades, newest first, as pushed and as REST wraps it."""
    key = "trades" if instrument.price_scale else "trades_p"
    return {"sequence": 1, "symbol": instrument.symbol, key: rows, "type": kind}


def row(trade: Trade, quantity: float) -> list[Any]:
    """Scaled integers, or text; spot quantities have a scale too."""
    instrument = trade.instrument
    head = [trade.ts_ms * NS_PER_MS + 456_789, "Buy" if trade.buy else "Sell"]
    if not instrument.price_scale:
        return [*head, repr(trade.price), repr(quantity)]
    price = round(trade.price * 10**instrument.price_scale)
    scaled = quantity * 10**instrument.value_scale
    return [*head, price, round(scaled) if instrument.value_scale else scaled]


class Simulated(SimulatedExchange):
    """products, both trade histories, tickers."""

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
        if path == "/public/products":
            return 200, msgspec.json.encode({"code": 0, "msg": "", "data": self._products()})
        if path in ("/md/v1/ticker/24hr/all", "/md/v3/ticker/24hr/all"):
            older = "/v1/" in path
            listed = [i for i in self.listed("market") if i.kind != "spot" and bool(i.price_scale) == older]
            said = (
                {"openInterest": OPEN}
                if older
                else {"openInterestRv": repr(OPEN), "markPriceRp": "100.0", "fundingRateRr": repr(FUNDING_RATE)}
            )
            return _ok([said | {"symbol": i.symbol, "timestamp": now_ms * NS_PER_MS} for i in listed])
        instrument = self.instruments.get(("market", query.get("symbol", "")))
        if instrument is None or path != ("/md/trade" if instrument.price_scale else "/md/v2/trade"):
            refusal = {"code": 6001, "message": "invalid argument"}
            return 200, msgspec.json.encode({"error": refusal, "id": 0, "result": None})
        trades = history(instrument, 0, now_ms)[-HISTORY_ROWS:]
        return _ok(push(instrument, [row(t, self.wire_quantity(t)) for t in reversed(trades)], "snapshot"))

    def _products(self) -> dict[str, Any]:
        listed = self.listed("market")
        return {
            "currencies": [{"currency": "BTC", "valueScale": 8}],
            "products": [_product(i) for i in listed if i.price_scale],
            "perpProductsV2": [_product(i) for i in listed if not i.price_scale],
        }


def _ok(result: object) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"error": None, "id": 0, "result": result})


def _product(instrument: Instrument) -> dict[str, Any]:
    base = instrument.base if instrument.multiplier == 1 else f"{instrument.multiplier:.0f}{instrument.base}"
    product: dict[str, Any] = {
        "symbol": instrument.symbol,
        "quoteCurrency": instrument.quote,
        "status": "Listed" if instrument.active else "Delisted",
    }
    if not instrument.price_scale:
        return product | {"type": "PerpetualV2", "baseCurrency": base, "priceScale": 0}
    product["priceScale"] = instrument.price_scale
    if instrument.kind == "spot":
        return product | {"type": "Spot", "baseCurrency": base}
    under = instrument.quote if instrument.inverse else base
    contract = {"type": "Perpetual", "indexSymbol": f".{base}", "contractUnderlyingAssets": under}
    return product | contract | {"contractSize": instrument.contract_size}
