"""Bitstamp: spot and perpetuals, on one socket.

Sources: the exchange's documentation (websocket v2 `live_trades`, HTTP API `markets` and `transactions`), autumn 2026. Amounts
are base coins, of perpetuals (`btcusd-perp`) too. A subscription to what does not exist is acknowledged and stays silent. One trade per frame; its time is `microtimestamp`, and `type` 0 means that the taker bought. History says whole
seconds only, so recovered trades stand at the beginning of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    TIME_MAX_MS,
    TIME_MIN_MS,
    Acked,
    BadMessage,
    Bounded,
    Buffer,
    Call,
    Closing,
    Decoder,
    Endpoint,
    Event,
    Exchange,
    Frame,
    Gap,
    Id,
    Instrument,
    Kind,
    Limits,
    Page,
    Price,
    Quantity,
    Quick,
    QuickDecoder,
    Rate,
    Recovery,
    Rejected,
    Request,
    Stream,
    Trade,
    Unknown,
    base_asset,
    split_pair,
)
from exchanges.numbers import lax

TRADES = "live_trades_"
_PERP = "-perp"
QUOTES = ("USDT", "USDC", "PYUSD", "USD", "EUR", "GBP", "BTC", "ETH", "PAX")


class Data(msgspec.Struct, gc=False):
    """A trade, an error, or nothing of either."""

    id: int | None = None
    microtimestamp: int = 0
    price: float = 0.0
    amount: float = 0.0
    type: Literal[0, 1] | None = None
    code: int | None = None
    message: str = ""


class Usual(Bounded):
    """A trade."""

    id: Id
    quantity: Quantity = msgspec.field(name="amount")
    price: Price
    side: Literal[0, 1] = msgspec.field(name="type")
    time: Annotated[int, msgspec.Meta(ge=(TIME_MIN_MS + 1) * 1000, lt=TIME_MAX_MS * 1000)] = msgspec.field(
        name="microtimestamp"
    )


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    data: Usual
    channel: str
    event: Literal["trade"]


class Message(msgspec.Struct, gc=False):
    event: str
    channel: str = ""
    data: Data | str | None = None


_traded = lax(Traded)
_message = lax(Message)


class BitstampDecoder(QuickDecoder):
    """Trades, answers, and the request to reconnect."""

    buy = 0

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._symbols = {TRADES + symbol: symbol for symbol in instruments}
        """By channel."""

    per_ms = 1000

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        return self._symbols[push.channel], (push.data,)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        message = _message.decode(frame)
        if message.event != "trade" or not message.channel.startswith(TRADES):
            return self.control(message)
        row = message.data
        if type(row) is not Data or row.type is None:
            raise ValueError("a trade without its side")
        symbol = message.channel[len(TRADES) :]
        return (self.trade(symbol, row.microtimestamp // 1000, row.price, row.amount, row.type == 0, row.id),)

    def control(self, message: Message) -> Sequence[Event]:
        """Answers and notices. An error names its channel only where the exchange could read it."""
        match message.event:
            case "bts:subscription_succeeded":
                return (Acked((message.channel,)),)
            case "bts:heartbeat" | "bts:unsubscription_succeeded":
                return ALIVE
            case "bts:request_reconnect":
                return (Closing("asked to reconnect"),)
            case "bts:error":
                reason = message.data.message if type(message.data) is Data else str(message.data)
                return (Rejected((message.channel,) if message.channel else (), reason[:160]),)
        return (Unknown(f"event {message.event[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("subscribe", topic) for topic in topics]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("unsubscribe", topic) for topic in topics]

    def ping(self, now_ms: int) -> Frame:
        return '{"event":"bts:heartbeat"}'


def _ask(what: str, topic: str) -> Frame:
    return msgspec.json.encode({"event": f"bts:{what}", "data": {"channel": topic}}).decode()


class Listed(msgspec.Struct):
    """A row of markets."""

    market_symbol: str
    base_currency: str
    counter_currency: str
    market_type: str
    trading: str


class Transaction(msgspec.Struct):
    """A row of history; `date` in seconds."""

    tid: int
    date: int
    price: float
    amount: float
    type: Literal[0, 1]


_listed = lax(list[Listed])
_transactions = lax(list[Transaction])


class Bitstamp(Exchange):
    """https://bitstamp.net."""

    id: ClassVar[str] = "BITSTAMP"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "public",
            "wss://ws.bitstamp.net",
            streams_per_connection=200,
            topics_per_frame=1,
            frames=Rate(20, 1),
            ping_s=20,
            max_age_s=80 * 86_400,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://www.bitstamp.net/api/v2"}
    limits: ClassVar[Limits] = Limits(connects=Rate(10, 1), rest=Rate(10_000, 600))
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{lower}usd",)
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "by id, the last 24 hours; times of recovered trades are whole seconds"
    notes: ClassVar[tuple[str, ...]] = (
        "History gives whole seconds: a recovered trade is in the right bar, at the beginning of its second.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BitstampDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, TRADES + instrument.symbol, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/markets/"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        found = _listed.decode(body)
        if not found:
            raise BadMessage("an empty listing")
        return Page([self._listed(row) for row in found])

    def _listed(self, row: Listed) -> Instrument:
        kind: Kind = "perp" if row.market_type == "PERPETUAL" else "spot"
        quote = row.counter_currency.removesuffix(_PERP.upper())
        return self._instrument(row.market_symbol, kind, row.base_currency, quote, row.trading == "Enabled")

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        perp = symbol.endswith(_PERP)
        return self._instrument(
            symbol, "perp" if perp else "spot", *split_pair(symbol.removesuffix(_PERP).upper(), QUOTES)
        )

    def _instrument(self, symbol: str, kind: Kind, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, kind, asset, quote, "public", multiplier=multiplier, active=active)

    def recover(self, gap: Gap) -> Call[Trade]:
        """The last hour, and the whole day where that does not reach back to the hole. Newest first."""
        return self._history(gap, "hour", before_id=None)

    def _history(self, gap: Gap, span: Literal["hour", "day"], before_id: int | None) -> Call[Trade]:
        symbol = gap.instrument.symbol
        whole = msgspec.structs.replace(gap, after_ms=gap.after_ms - gap.after_ms % 1000)  # as history tells time
        make = BitstampDecoder({symbol: gap.instrument}, gap.instrument.endpoint).trade

        def read(body: bytes) -> Page[Trade]:
            found = _transactions.decode(body)
            older = sorted((row for row in found if before_id is None or row.tid < before_id), key=lambda row: row.tid)
            made = [make(symbol, row.date * 1000, row.price, row.amount, row.type == 0, row.tid) for row in older]
            trades = whole.missing(made)
            if span == "day" or (older and _reaches(gap, older[0])):
                return Page(trades)
            return Page(trades, self._history(gap, "day", older[0].tid if older else before_id))

        return Call(Request(f"{self.url('rest')}/transactions/{symbol}/?time={span}"), read)


def _reaches(gap: Gap, oldest: Transaction) -> bool:
    """Whether a page whose oldest row this is goes back to the beginning of the hole."""
    if isinstance(gap.after_id, int):
        return oldest.tid <= gap.after_id + 1
    return oldest.date * 1000 + 999 < gap.after_ms
