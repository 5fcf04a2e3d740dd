"""Bitfinex, seen from its own side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exchanges.api import Frame, Instrument, Liquidation, Trade
from exchanges.simulated.api import FUNDING_RATE, History, SimulatedConnection, SimulatedExchange, text

TRADES, LIQUIDATIONS = "trades:t", "status:liq:global"
"""Topics: channel and, after a colon, symbol or key."""
OPEN_COINS = 250_000.0
"""Open interest of every perpetual, in base coins."""
_DERIV_COLUMNS, _FUNDING, _OPEN_INTEREST = 23, 12, 18


class Connection(SimulatedConnection):
    """subscribe (a channel id and an image), unsubscribe; each trade as te and tu."""

    def __init__(self, exchange: SimulatedExchange, endpoint: str) -> None:
        super().__init__(exchange, endpoint)
        self.channels: dict[str, int] = {}
        self.assigned = 0

    def greet(self, now_ms: int) -> Sequence[Frame]:
        return [text({"event": "info", "version": 2, "serverId": "sim", "platform": {"status": 1}})]

    def receive(self, frame: Frame, now_ms: int) -> Sequence[Frame]:
        request = msgspec.json.decode(frame)
        if request["event"] == "ping":
            return [text({"event": "pong", "ts": now_ms, "cid": request.get("cid")})]
        if request["event"] == "unsubscribe":
            return [self._unsubscribe(request["chanId"])]
        name = {key: request[key] for key in ("channel", "symbol", "key") if key in request}
        topic = f"{name['channel']}:{name.get('symbol') or name.get('key')}"
        if topic in self.topics:
            return [text({"event": "error", "msg": "subscribe: dup", "code": 10301} | name)]
        symbol = topic.removeprefix(TRADES)
        if topic != LIQUIDATIONS and (self.endpoint, symbol) not in self.exchange.instruments:
            return [text({"event": "error", "msg": "symbol: invalid", "code": 10300} | name)]
        return self._subscribe(topic, name)

    def _subscribe(self, topic: str, name: Mapping[str, Any]) -> Sequence[Frame]:
        self.assigned += 1
        self.channels[topic] = self.assigned
        self.topics.add(topic)
        last = self.exchange.last.get((self.endpoint, topic.removeprefix(TRADES)))
        image = [] if last is None else [_row(last)]
        return [text({"event": "subscribed", "chanId": self.assigned} | dict(name)), text([self.assigned, image])]

    def _unsubscribe(self, channel: int) -> str:
        self.channels = {topic: known for topic, known in self.channels.items() if known != channel}
        self.topics = set(self.channels)
        return text({"event": "unsubscribed", "status": "OK", "chanId": channel})

    def trades(self, trades: Sequence[Trade], now_ms: int) -> Sequence[Frame]:
        return [
            text([self.channels[topic], what, _row(trade)])
            for trade in trades
            if (topic := TRADES + trade.instrument.symbol) in self.channels
            for what in ("te", "tu")
        ]

    def liquidations(self, liquidations: Sequence[Liquidation], now_ms: int) -> Sequence[Frame]:
        """Each is announced, and then matched."""
        channel = self.channels.get(LIQUIDATIONS)
        if channel is None:
            return ()
        return [text([channel, [_forced(forced, match)]]) for forced in liquidations for match in (0, 1)]

    def heartbeat(self, now_ms: int) -> Sequence[Frame]:
        if (now_ms // 1000) % 15:
            return ()
        return [text([channel, "hb"]) for channel in self.channels.values()]


def _row(trade: Trade) -> list[Any]:
    return [trade.id, trade.ts_ms, trade.size if trade.buy else -trade.size, trade.price]


def _forced(forced: Liquidation, match: int) -> list[Any]:
    """The sign is that of the position, which a sell closes where it was long."""
    amount = -forced.size if forced.buy else forced.size
    symbol = f"t{forced.instrument.symbol}"
    entry = forced.price * 1.1
    return ["pos", 1, forced.ts_ms, None, symbol, amount, entry, None, match, int(not forced.buy), None, forced.price]


def _deriv(instrument: Instrument, now_ms: int) -> list[Any]:
    row: list[Any] = [f"t{instrument.symbol}", now_ms] + [None] * (_DERIV_COLUMNS - 2)
    row[_OPEN_INTEREST], row[_FUNDING] = OPEN_COINS, FUNDING_RATE
    return row


class Simulated(SimulatedExchange):
    """conf, trades/hist, status/deriv."""

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
        listed = self.instruments.values()
        if path.startswith("/conf/"):
            spot, perp = ([i.symbol for i in listed if i.kind == kind and i.active] for kind in ("spot", "perp"))
            return 200, msgspec.json.encode([spot, perp, [["IOT", "IOTA"], ["UST", "USDt"]]])
        if path == "/status/deriv":
            return 200, msgspec.json.encode([_deriv(i, now_ms) for i in listed if i.kind == "perp"])
        symbol = path.removeprefix("/trades/t").removesuffix("/hist")
        if ("public", symbol) not in self.instruments:
            return 500, msgspec.json.encode(["error", 10020, f"no {path}"])
        instrument = self.instruments["public", symbol]
        trades = history(instrument, int(query["start"]), int(query["end"]) + 1)
        return 200, msgspec.json.encode([_row(trade) for trade in trades[: int(query["limit"])]])
