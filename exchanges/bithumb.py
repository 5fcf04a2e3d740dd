"""Bithumb: the other Korean spot market, whose API has the shape of Upbit's.

Sources: the exchange's documentation (websocket v1 trade, market/all, trades/ticks), autumn 2026. Frames of the older socket
(`transaction`, symbols like `BTC_KRW`, Korean time) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    Buffer,
    Decoder,
    Endpoint,
    Event,
    Frame,
    Instrument,
    Kind,
    Limits,
    Rate,
    Rejected,
    rows,
)
from exchanges.numbers import iso_ms, lax
from exchanges.upbit import TOPICS_PER_FRAME, Upbit, UpbitDecoder

KOREAN_TIME = "+09:00"
CONNECTED = "0000"


class OldRow(msgspec.Struct, gc=False):
    """A trade of the older socket: 1 is a sell, 2 a buy."""

    symbol: str
    contPrice: float
    contQty: float
    buySellGb: Literal["1", "2"] | Literal[1, 2]
    contDtm: str


class OldRows(msgspec.Struct, gc=False):
    list: msgspec.Raw


class OldMessage(msgspec.Struct, gc=False):
    type: str = ""
    content: OldRows | None = None
    status: str = ""
    resmsg: str = ""


_old_message, _old_row = lax(OldMessage), lax(OldRow)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])


class BithumbDecoder(UpbitDecoder):
    """Trades of both sockets."""

    def other(self, frame: Buffer) -> Sequence[Event]:
        message = _old_message.decode(frame)
        if message.type == "transaction" and message.content is not None:
            return rows(_raw_rows.decode(message.content.list), _old_row, self.old)
        if message.resmsg:
            return ALIVE if message.status == CONNECTED else (Rejected((), f"{message.status} {message.resmsg}"[:160]),)
        return super().other(frame)

    def old(self, row: OldRow) -> Event:
        """Its symbols name the base first."""
        base, _, quote = row.symbol.partition("_")
        today = f"{quote}-{base}"
        symbol = today if today in self.instruments else row.symbol
        buy = str(row.buySellGb) == "2"
        return self.trade(symbol, iso_ms(row.contDtm + KOREAN_TIME), row.contPrice, row.contQty, buy)

    def ping(self, now_ms: int) -> Frame | None:
        return None


class Bithumb(Upbit):
    """https://bithumb.com."""

    id: ClassVar[str] = "BITHUMB"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://ws-api.bithumb.com/websocket/v1",
            streams_per_connection=TOPICS_PER_FRAME,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(5, 3),
            ping_s=30,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.bithumb.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(5, 1), rest=Rate(10, 1), connections=100)
    usual: ClassVar[tuple[str, ...]] = ("KRW-{base}",)
    notes: ClassVar[tuple[str, ...]] = (
        *Upbit.notes,
        "In frames of the older socket side 2 is a buy, since such trades climb in price; one collector has it the other way.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BithumbDecoder(instruments, endpoint)

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """`KRW-BTC`, or `BTC_KRW` as the older socket has it."""
        if "_" not in symbol:
            return super().assume(symbol, kind)
        base, _, quote = symbol.partition("_")
        return msgspec.structs.replace(super().assume(f"{quote}-{base}", kind), symbol=symbol)
