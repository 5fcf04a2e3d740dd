"""Upbit: the Korean spot market.

Sources: the exchange's documentation (websocket trade, market/all, trades/ticks), autumn 2026. Frames are JSON in binary
frames. Market codes name the quote first: `KRW-BTC`. A request replaces all earlier subscriptions of its socket; what
answers it is a snapshot (the last trade) of each market. Both field spellings (`DEFAULT` and `SIMPLE`) are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    Gap,
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
    Time,
    Trade,
    Unknown,
    base_asset,
)
from exchanges.image import past
from exchanges.numbers import lax

CHANNEL = "trade"
TOPICS_PER_FRAME = 200
PAGE_ROWS = 500


class Row(msgspec.Struct, gc=False):
    """A trade in the `DEFAULT` format."""

    type: str
    code: str
    trade_price: float
    trade_volume: float
    ask_bid: Literal["ASK", "BID"]
    trade_timestamp: int
    sequential_id: int
    stream_type: str = "REALTIME"


class Traded(Bounded):
    """Nearly every frame: a live trade."""

    type: Literal["trade"]
    symbol: str = msgspec.field(name="code")
    time: Time = msgspec.field(name="trade_timestamp")
    price: Price = msgspec.field(name="trade_price")
    quantity: Quantity = msgspec.field(name="trade_volume")
    side: Literal["ASK", "BID"] = msgspec.field(name="ask_bid")
    sequential_id: int
    stream_type: Literal["REALTIME"] = "REALTIME"

    @property
    def id(self) -> str:
        return str(self.sequential_id)


class Simple(msgspec.Struct, gc=False):
    """A trade in the `SIMPLE` format."""

    ty: str
    cd: str
    tp: float
    tv: float
    ab: Literal["ASK", "BID"]
    ttms: int
    sid: int
    st: str = "REALTIME"


class Refusal(msgspec.Struct, gc=False):
    name: str = ""
    message: str = ""


class Control(msgspec.Struct, gc=False):
    """What is not a trade."""

    type: str = ""
    ty: str = ""
    status: str = ""
    error: Refusal | None = None


_traded = lax(Traded)
_row, _simple, _control = lax(Row), lax(Simple), lax(Control)


class UpbitDecoder(QuickDecoder):
    """Trades, status, errors. Remembers what it asked for, since each request must name everything."""

    buy = "BID"

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._wanted: dict[str, None] = {}

    def quick(self, frame: Buffer) -> Quick | None:
        return None, (_traded.decode(frame),)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            row = _row.decode(frame)
        except msgspec.ValidationError:
            return self.other(frame)
        if row.type != CHANNEL:
            return (Unknown(f"type {row.type[:40]}"),)
        return self.live_or_past(row)

    def live_or_past(self, row: Row) -> Sequence[Event]:
        """A snapshot is the last trade before the subscription, which it confirms. `ASK`: the taker sold."""
        buy, number = row.ask_bid == "BID", str(row.sequential_id)
        event = self.trade(row.code, row.trade_timestamp, row.trade_price, row.trade_volume, buy, number)
        if row.stream_type != "SNAPSHOT":
            return (event,)
        topic = f"{CHANNEL}:{row.code}"
        return [Acked((topic,)), *past([event])] if topic in self._wanted else past([event])

    def other(self, frame: Buffer) -> Sequence[Event]:
        control = _control.decode(frame)
        if control.ty == CHANNEL:
            row = _simple.decode(frame)
            return self.live_or_past(Row(row.ty, row.cd, row.tp, row.tv, row.ab, row.ttms, row.sid, row.st))
        if control.type == CHANNEL:
            raise BadMessage("trade of another shape")
        if control.error is not None:
            return (Rejected((), f"{control.error.name} {control.error.message}"[:160]),)
        if control.status == "UP":
            return ALIVE
        return (Unknown(f"type {(control.type or control.ty)[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._wanted |= dict.fromkeys(topics)
        return self._ask(self._wanted, now_ms)

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        """Ask for the rest; where nothing is left, for a mere snapshot, since there is no request for nothing."""
        for topic in topics:
            self._wanted.pop(topic, None)
        if self._wanted:
            return self._ask(self._wanted, now_ms)
        return self._ask(topics[:1], now_ms, isOnlySnapshot=True)

    def _ask(self, topics: Iterable[str], now_ms: int, **options: bool) -> Sequence[Frame]:
        trades = {"type": CHANNEL, "codes": [topic.partition(":")[2] for topic in topics], **options}
        ticket = {"ticket": f"sqfd-{now_ms}-{self.next_id()}"}
        return (msgspec.json.encode([ticket, trades, {"format": "DEFAULT"}]).decode(),)

    def ping(self, now_ms: int) -> Frame | None:
        return "PING"


class Listed(msgspec.Struct):
    """A row of market/all."""

    market: str


class PastRow(msgspec.Struct):
    """A row of trades/ticks."""

    timestamp: int
    trade_price: float
    trade_volume: float
    ask_bid: Literal["ASK", "BID"]
    sequential_id: int


_listed, _history = lax(list[Listed]), lax(list[PastRow])


class Upbit(Exchange):
    """https://upbit.com."""

    id: ClassVar[str] = "UPBIT"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://api.upbit.com/websocket/v1",
            streams_per_connection=TOPICS_PER_FRAME,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(5, 3),
            ping_s=60,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.upbit.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(5, 1), rest=Rate(10, 1), connections=100)
    usual: ClassVar[tuple[str, ...]] = ("KRW-{base}", "USDT-{base}")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "backwards from the first trade after the hole"
    notes: ClassVar[tuple[str, ...]] = (
        "The exchange confirms a subscription by its last trade alone: one to a market that does not exist stays silent.",
        "The last trade before a subscription is history and never enters a bar (some collectors count it).",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return UpbitDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, f"{CHANNEL}:{instrument.symbol}", instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/v1/market/all"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        found = _listed.decode(body)
        if not found:
            raise BadMessage("an empty listing")
        return Page([self.assume(row.market) for row in found])

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        quote, _, base = symbol.partition("-")
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, "spot", asset, quote, "spot", multiplier=multiplier)

    def recover(self, gap: Gap) -> Call[Trade]:
        return self._history(gap, None if gap.before_id is None else str(gap.before_id))

    def _history(self, gap: Gap, cursor: str | None) -> Call[Trade]:
        """Newest first, before the trade that `cursor` names."""
        instrument = gap.instrument
        make = UpbitDecoder({instrument.symbol: instrument}, instrument.endpoint).trade

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(body)
            made = [
                make(instrument.symbol, r.timestamp, r.trade_price, r.trade_volume, r.ask_bid == "BID", number)
                for r in reversed(found)
                if (number := str(r.sequential_id)) != cursor
            ]
            trades = gap.missing(made)
            if len(found) < PAGE_ROWS or found[-1].timestamp < gap.after_ms:
                return Page(trades)
            return Page(trades, self._history(gap, str(found[-1].sequential_id)))

        query = f"market={instrument.symbol}&count={PAGE_ROWS}" + (f"&cursor={cursor}" if cursor else "")
        return Call(Request(f"{self.url('rest')}/v1/trades/ticks?{query}"), read)
