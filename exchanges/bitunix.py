"""Bitunix: futures only.

Sources: the exchange's documentation (futures trade channel, trading pairs), autumn 2026. Trades have no ids and no REST
history. The first push of every symbol on a connection is history, which nothing in it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    Acked,
    BadMessage,
    Bounded,
    Buffer,
    Call,
    Decoder,
    Endpoint,
    Event,
    Exchange,
    Frame,
    Instrument,
    Kind,
    Limits,
    Page,
    Price,
    Quantity,
    Quick,
    QuickDecoder,
    Rate,
    Rejected,
    Request,
    Stream,
    Unknown,
    base_asset,
    chunks,
    rows,
    split_pair,
)
from exchanges.image import past
from exchanges.numbers import iso_ms, lax, usual_ms

CHANNEL = "trade"
TOPICS_PER_FRAME = 100
QUOTES = ("USDT", "USDC", "USD")


class Row(msgspec.Struct, gc=False):
    t: str
    p: float
    v: float
    s: Literal["buy", "sell"]


class Usual(Bounded):
    """A trade."""

    id: ClassVar[None] = None
    time: str = msgspec.field(name="t")
    price: Price = msgspec.field(name="p")
    quantity: Quantity = msgspec.field(name="v")
    side: Literal["buy", "sell"] = msgspec.field(name="s")


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    ch: Literal["trade"]
    symbol: str
    data: list[Usual]


class Result(msgspec.Struct, gc=False):
    result: bool = True


class Message(msgspec.Struct, gc=False):
    """A push of trades."""

    ch: str
    symbol: str
    data: list[Row]


class Envelope(msgspec.Struct, gc=False):
    """An answer, or a push whose rows are read one by one."""

    op: str = ""
    ch: str = ""
    symbol: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    msg: str = ""
    code: str | int = ""


_traded = lax(Traded)
_message, _envelope, _row, _result = lax(Message), lax(Envelope), lax(Row), lax(Result)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])


class BitunixDecoder(QuickDecoder):
    """Trades, answers. Every channel of a connection begins with history, whether we saw who asked for it or not."""

    ms = staticmethod(usual_ms)

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._begun: set[str] = set()
        """Wanted symbols whose history is over."""

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        return (push.symbol, push.data) if push.symbol in self._begun else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
            if message.ch != CHANNEL:
                return (Unknown(f"channel {message.ch[:40]}"),)
            return self.live_or_past(message.symbol, [self.traded(message.symbol, row) for row in message.data])
        except (ValueError, ArithmeticError):
            return self.other(_envelope.decode(frame))

    def other(self, envelope: Envelope) -> Sequence[Event]:
        """Answers, and the slow path: at least one row is not as documented."""
        if envelope.op:
            return self.control(envelope)
        if envelope.ch != CHANNEL:
            return (Unknown(f"channel {envelope.ch[:40]}"),)
        symbol = envelope.symbol
        events = rows(_raw_rows.decode(envelope.data), _row, lambda row: self.traded(symbol, row))
        return self.live_or_past(symbol, events)

    def traded(self, symbol: str, row: Row) -> Event:
        return self.trade(symbol, iso_ms(row.t), row.p, row.v, row.s == "buy")

    def live_or_past(self, symbol: str, events: list[Event]) -> Sequence[Event]:
        if symbol in self._begun:
            return events
        if self.instruments.get(symbol) is not None:
            self._begun.add(symbol)
        return past(events)

    def control(self, envelope: Envelope) -> Sequence[Event]:
        if envelope.op in ("connect", "ping", "pong", "unsubscribe"):
            return ALIVE
        topics = (f"{envelope.ch}:{envelope.symbol}",) if envelope.symbol else ()
        refused = bool(bytes(envelope.data)) and not _result.decode(envelope.data).result
        if envelope.op == "error" or refused or str(envelope.code) not in ("", "0"):
            return (Rejected(topics, f"{envelope.code} {envelope.msg}".strip()[:160] or "refused"),)
        return (Acked(topics),) if envelope.op == "subscribe" else (Unknown(f"op {envelope.op[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._begun.difference_update(topic.partition(":")[2] for topic in topics)
        return [_ask("subscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("unsubscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def ping(self, now_ms: int) -> Frame:
        return msgspec.json.encode({"op": "ping", "ping": now_ms // 1000}).decode()


def _ask(op: str, topics: Sequence[str]) -> Frame:
    args = [{"symbol": topic.partition(":")[2], "ch": CHANNEL} for topic in topics]
    return msgspec.json.encode({"op": op, "args": args}).decode()


class Listed(msgspec.Struct):
    """A row of trading_pairs."""

    symbol: str
    base: str
    quote: str
    symbolStatus: str = "OPEN"


class Answer(msgspec.Struct):
    code: int
    data: list[Listed] | None = None
    msg: str = ""


_answer = lax(Answer)


class Bitunix(Exchange):
    """https://bitunix.com."""

    id: ClassVar[str] = "BITUNIX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "futures",
            "wss://fapi.bitunix.com/public/",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            ping_s=20,
            ids="none",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://fapi.bitunix.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(1, 1), rest=Rate(10, 1), connections=20)
    kinds: ClassVar[tuple[Kind, ...]] = ("perp",)
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT",)
    notes: ClassVar[tuple[str, ...]] = (
        "The first message of every market is history and never enters a bar.",
        "Trades have no ids, and what is missed during an outage cannot be recovered.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BitunixDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, f"{CHANNEL}:{instrument.symbol}", instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/api/v1/futures/market/trading_pairs"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        answer = _answer.decode(body)
        if answer.code != 0 or not answer.data:
            raise BadMessage(f"{answer.code} {answer.msg}"[:160])
        return Page([self._listed(row) for row in answer.data])

    def _listed(self, row: Listed) -> Instrument:
        asset, multiplier = base_asset(row.base)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "perp",
            asset,
            row.quote,
            "futures",
            multiplier=multiplier,
            active=row.symbolStatus == "OPEN",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        return self._listed(Listed(symbol, *split_pair(symbol, QUOTES)))
