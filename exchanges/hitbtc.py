"""HitBTC: spot and perpetuals.

Sources: the exchange's v3 documentation (websocket trades, public symbols, trades and futures info), autumn 2026, and v2,
whose frames are read too. Sizes are base coins; images have a name of their own (`snapshot`). Very quiet: silence is normal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ID_MAX_CHARS,
    Acked,
    Asked,
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
    Id,
    Instrument,
    Kind,
    Limits,
    Malformed,
    OpenInterest,
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
    chunks,
    rows,
    split_pair,
)
from exchanges.image import past
from exchanges.numbers import iso_ms, lax, rate

Side = Literal["buy", "sell"]

CHANNEL = "trades"
TOPICS_PER_FRAME = 100
PAGE_ROWS = 1000
PERPETUAL = "perpetual"
QUOTES = ("USDT", "USDC", "USD", "EURS", "EUR", "DAI", "BTC", "ETH", "BNB")


class Row(msgspec.Struct, gc=False):
    """A trade of v3."""

    t: int
    i: int
    p: float
    q: float
    s: Side


class Usual(Bounded):
    """A trade."""

    time: Time = msgspec.field(name="t")
    id: Id = msgspec.field(name="i")
    price: Price = msgspec.field(name="p")
    quantity: Quantity = msgspec.field(name="q")
    side: Side = msgspec.field(name="s")


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    ch: Literal["trades"]
    update: dict[str, list[Usual]]


class RowV2(msgspec.Struct, gc=False):
    """A trade of v2. REST history has `qty` instead of `quantity`."""

    id: int
    price: float
    side: Side
    timestamp: str
    quantity: float = 0.0
    qty: float = 0.0


class Batch(msgspec.Struct, gc=False):
    """What a frame of v2 is about."""

    symbol: str
    data: list[msgspec.Raw]


class Answered(msgspec.Struct, gc=False):
    subscriptions: list[str] = msgspec.field(default_factory=list)
    ch: str = ""


class Refusal(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""
    description: str = ""


class Message(msgspec.Struct, gc=False):
    """A push of v3, or an answer."""

    ch: str = ""
    update: dict[str, list[Row]] | None = None
    snapshot: dict[str, list[Row]] | None = None
    method: str = ""
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: Refusal | None = None


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one: of v3 by symbol, of v2 in `params`."""

    ch: str = ""
    update: dict[str, msgspec.Raw] | None = None
    snapshot: dict[str, msgspec.Raw] | None = None


class EnvelopeV2(msgspec.Struct, gc=False):
    method: str
    params: Batch


_traded = lax(Traded)
_message, _envelope, _envelope_v2 = lax(Message), lax(Envelope), lax(EnvelopeV2)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_row, _row_v2, _answered = lax(Row), lax(RowV2), lax(Answered)


class HitbtcDecoder(QuickDecoder):
    """Trades of v3 and v2, answers."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def quick(self, frame: Buffer) -> Quick | None:
        update = _traded.decode(frame).update
        if len(update) != 1:
            return None
        (item,) = update.items()
        return item

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(_envelope.decode(frame))
        if message.method:
            return self.v2(message.method, frame)
        if message.ch and message.ch != CHANNEL:
            return (Unknown(f"channel {message.ch[:40]}"),)
        if message.update is not None:
            return [self.traded(symbol, row) for symbol, batch in message.update.items() for row in batch]
        if message.snapshot is not None:
            return past([self.traded(symbol, row) for symbol, batch in message.snapshot.items() for row in batch])
        return self.control(message)

    def one_by_one(self, envelope: Envelope) -> Sequence[Event]:
        """The slow path: at least one row is not as documented, or it is another channel's."""
        if envelope.ch != CHANNEL:
            return (Unknown(f"channel {envelope.ch[:40]}"),)
        batches = envelope.update or envelope.snapshot or {}
        events = [event for symbol, raw in batches.items() for event in self.batch(symbol, raw)]
        return past(events) if envelope.update is None else events

    def batch(self, symbol: str, raw: msgspec.Raw) -> Sequence[Event]:
        """The rows of one symbol."""
        try:
            return rows(_raw_rows.decode(raw), _row, lambda row: self.traded(symbol, row))
        except ValueError as error:
            return (Malformed(str(error)[:160], symbol[:ID_MAX_CHARS]),)

    def v2(self, method: str, frame: Buffer) -> Sequence[Event]:
        if method not in ("snapshotTrades", "updateTrades"):
            return (Unknown(f"method {method[:40]}"),)
        batch = _envelope_v2.decode(frame).params
        events = rows(batch.data, _row_v2, lambda row: self.traded_v2(batch.symbol, row))
        return past(events) if method == "snapshotTrades" else events

    def traded(self, symbol: str, row: Row) -> Event:
        return self.trade(symbol, row.t, row.p, row.q, row.s == "buy", row.i)

    def traded_v2(self, symbol: str, row: RowV2) -> Event:
        quantity = row.quantity or row.qty
        return self.trade(symbol, iso_ms(row.timestamp), row.price, quantity, row.side == "buy", row.id)

    def control(self, message: Message) -> Sequence[Event]:
        """Answers to our requests: v3 lists what it took, v2 says `true`."""
        asked = self._asked.pop(message.id, ()) if message.id is not None else ()
        if message.error is not None:
            reason = f"{message.error.code} {message.error.message} {message.error.description}"
            return (Rejected(asked, reason.strip()[:160]),)
        result = bytes(message.result)
        if not result:
            return (Unknown("message without result"),)
        taken = _answered.decode(result).subscriptions if result.startswith(b"{") else None
        if not asked or taken is None:
            return (Acked(asked),)
        refused = tuple(topic for topic in asked if topic not in taken)
        acked = Acked(tuple(topic for topic in asked if topic in taken))
        return (acked, Rejected(refused, "not among what was subscribed to")) if refused else (acked,)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            self._asked[self.request_id + 1] = tuple(part)
            frames.append(self._ask("subscribe", {"symbols": list(part), "limit": 0}))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("unsubscribe", {"symbols": list(part)}) for part in chunks(topics, TOPICS_PER_FRAME)]

    def _ask(self, method: str, params: Mapping[str, object]) -> Frame:
        body = {"method": method, "ch": CHANNEL, "params": params, "id": self.next_id()}
        return msgspec.json.encode(body).decode()


class Listed(msgspec.Struct):
    """A value of public/symbol; futures name their `underlying` instead of a base."""

    type: str
    quote_currency: str
    base_currency: str | None = None
    underlying: str | None = None
    contract_type: str | None = None
    status: str = "working"


class Info(msgspec.Struct):
    """The open interest in a value of futures/info: base coins."""

    open_interest: float
    funding_rate: float | str | None = None
    timestamp: str | None = None


_listing, _info = lax(dict[str, Listed]), lax(dict[str, Info])
_history = lax(list[RowV2])


class Hitbtc(Exchange):
    """https://hitbtc.com."""

    id: ClassVar[str] = "HITBTC"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "public",
            "wss://api.hitbtc.com/api/3/ws/public",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.hitbtc.com/api/3"}
    limits: ClassVar[Limits] = Limits(connects=Rate(1, 1), rest=Rate(10, 1), connections=20)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Very quiet: minutes without a trade are normal, even on large markets.",
        "The trades that come with a subscription are history and never enter a bar (some collectors count them).",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return HitbtcDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, instrument.symbol, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/public/symbol"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        """Spot and perpetuals."""
        found = _listing.decode(body)
        if not found:
            raise BadMessage("an empty listing")
        return Page([self._listed(s, row) for s, row in found.items() if row.contract_type in (None, PERPETUAL)])

    def _listed(self, symbol: str, row: Listed) -> Instrument:
        asset, multiplier = base_asset(row.base_currency or row.underlying or "")
        return Instrument(
            self.id,
            symbol,
            symbol,
            "perp" if row.type == "futures" else "spot",
            asset,
            row.quote_currency,
            "public",
            multiplier=multiplier,
            active=row.status == "working",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        name, _, contract = symbol.partition("_")
        base, quote = split_pair(name, QUOTES)
        return self._listed(symbol, Listed("futures" if contract else "spot", quote, base))

    def recover(self, gap: Gap) -> Call[Trade]:
        if isinstance(gap.after_id, int):
            return self._history(gap, f"by=id&from={gap.after_id + 1}")
        return self._history(gap, f"by=timestamp&from={gap.after_ms}&till={gap.before_ms + 1}")

    def _history(self, gap: Gap, query: str) -> Call[Trade]:
        """Oldest first. The first page may be by time, the next are by id, which neither repeats nor skips a row."""
        instrument = gap.instrument
        decoder = HitbtcDecoder({instrument.symbol: instrument}, instrument.endpoint)

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(body)
            times = [iso_ms(row.timestamp) for row in found]
            made = [decoder.traded_v2(instrument.symbol, row) for row in found]
            trades = gap.missing(made)
            reached = isinstance(gap.before_id, int) and any(row.id >= gap.before_id - 1 for row in found)
            if len(found) < PAGE_ROWS or times[-1] > gap.before_ms or reached:
                return Page(trades)
            return Page(trades, self._history(gap, f"by=id&from={found[-1].id + 1}"))

        url = f"{self.url('rest')}/public/trades/{instrument.symbol}?sort=ASC&limit={PAGE_ROWS}&{query}"
        return Call(Request(url), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted = {i.symbol: i for i in instruments if i.kind != "spot"}

        def read(body: bytes) -> Page[OpenInterest]:
            return Page(
                [_open_interest(wanted[symbol], row) for symbol, row in _info.decode(body).items() if symbol in wanted]
            )

        return (Call(Request(self.url("rest") + "/public/futures/info"), read),) if wanted else ()


def _open_interest(instrument: Instrument, row: Info) -> OpenInterest:
    ts_ms = iso_ms(row.timestamp) if row.timestamp else None
    return OpenInterest(instrument, ts_ms, row.open_interest, None, rate(row.funding_rate))
