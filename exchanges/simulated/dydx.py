"""dYdX v4, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from exchanges.api import Frame, Instrument, Trade
from exchanges.numbers import iso, iso_ms
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, by_instrument, text

CHANNEL = "v4_trades"
OPEN_COINS = 250_000.0
"""Open interest of every market, in base coins."""
BLOCK_MS = 1
"""Blocks come faster here than there: a page must hold several."""


class Connection(SimulatedConnection):
    """subscribe (answered with the newest trade), unsubscribe; trades batched per market."""

    messages = 0

    def greet(self, now_ms: int) -> Sequence[Frame]:
        return [self._message({"type": "connected"})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        symbol = request["id"]
        where = {"channel": request["channel"], "id": symbol}
        if request["channel"] != CHANNEL or (self.endpoint, symbol) not in self.exchange.instruments:
            reason = f"Invalid subscription id for channel: ({request['channel']}-{symbol})"
            return [self._message({"type": "error", "message": reason})]
        if request["type"] == "unsubscribe":
            self.topics.discard(symbol)
            return [self._message({"type": "unsubscribed"} | where)]
        self.topics.add(symbol)
        last = self.exchange.last.get((self.endpoint, symbol))
        contents = {"trades": [] if last is None else [_row(last)]}
        return [self._message({"type": "subscribed", "contents": contents} | where)]

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            self._message(
                {
                    "type": "channel_batch_data",
                    "id": symbol,
                    "channel": CHANNEL,
                    "version": "2.1.0",
                    "contents": [{"trades": [_row(trade) for trade in batch]}],
                }
            )
            for symbol, batch in by_instrument(trades).items()
            if symbol in self.topics
        ]

    def _message(self, message: Mapping[str, Any]) -> str:
        self.messages += 1
        return text({"connection_id": "sim", "message_id": self.messages - 1} | dict(message))


def _row(trade: Trade) -> dict[str, Any]:
    return {
        "id": str(trade.id),
        "side": "BUY" if trade.buy else "SELL",
        "size": repr(trade.size),
        "price": repr(trade.price),
        "type": "LIMIT" if trade.forced is None else "LIQUIDATED",
        "createdAt": iso(trade.ts_ms),
        "createdAtHeight": str(_height(trade)),
    }


def _height(trade: Trade) -> int:
    return trade.ts_ms // BLOCK_MS


def _market(instrument: Instrument) -> dict[str, Any]:
    return {
        "ticker": instrument.symbol,
        "status": "ACTIVE" if instrument.active else "FINAL_SETTLEMENT",
        "openInterest": repr(OPEN_COINS),
        "nextFundingRate": repr(FUNDING_RATE),
    }


class Simulated(SimulatedExchange):
    """perpetualMarkets, and trades of a market up to a block."""

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
        if path == "/perpetualMarkets":
            markets = {i.symbol: _market(i) for i in self.instruments.values()}
            return 200, msgspec.json.encode({"markets": markets})
        symbol = unquote(path.removeprefix("/trades/perpetualMarket/"))
        if ("indexer", symbol) not in self.instruments:
            return 404, msgspec.json.encode({"errors": [{"msg": f"no {path}"}]})
        last_ms = iso_ms(query["createdBeforeOrAt"]) if "createdBeforeOrAt" in query else now_ms
        last_block = int(query.get("createdBeforeOrAtHeight", str(last_ms // BLOCK_MS)))
        trades = history(self.instruments["indexer", symbol], 0, (last_block + 1) * BLOCK_MS)
        newest = list(trades)[-int(query.get("limit", "100")) :]
        return 200, msgspec.json.encode({"trades": [_row(trade) for trade in reversed(newest)]})
