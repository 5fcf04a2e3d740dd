"""Crypto.com Exchange: spot, perpetuals and dated futures.

Sources: the exchange's v1 documentation (trade channel, heartbeat, get-instruments, get-trades, get-tickers, get-valuations),
autumn 2026.
Quantities are base coins. The first push of every channel on a connection is history, which nothing in it says. `d` can be
shared by all matches of one order; only `m` (newer frames) tells matches apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
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
    Funding,
    Gap,
    Instrument,
    Kind,
    Limits,
    OpenInterest,
    Page,
    Price,
    Quantity,
    Quick,
    QuickDecoder,
    Rate,
    Recovery,
    Rejected,
    Reply,
    Request,
    Stream,
    TextId,
    Time,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
)
from exchanges.image import past
from exchanges.numbers import lax, rate

CHANNEL = "trade"
TOPICS_PER_FRAME = 100
PAGE_ROWS = 150


class Row(msgspec.Struct, gc=False):
    """A trade, on the socket and in REST history. Rows come newest first."""

    s: Literal["BUY", "SELL", "buy", "sell"]
    p: float
    q: float
    t: int
    m: str | int | None = None


class Usual(Bounded):
    """A trade."""

    side: Literal["BUY", "SELL"] = msgspec.field(name="s")
    price: Price = msgspec.field(name="p")
    quantity: Quantity = msgspec.field(name="q")
    time: Time = msgspec.field(name="t")
    id: TextId = msgspec.field(name="m")


class Traded(msgspec.Struct, gc=False):
    channel: Literal["trade"]
    instrument_name: str
    data: list[Usual]


class TradedMessage(msgspec.Struct, gc=False):
    """Nearly every frame."""

    result: Traded
    code: Literal[0] = 0


class Push(msgspec.Struct, gc=False):
    channel: str
    instrument_name: str
    data: list[Row]


class Message(msgspec.Struct, gc=False):
    """A push of trades, an answer, or a heartbeat."""

    method: str = ""
    id: int | None = None
    code: int = 0
    result: Push | None = None
    message: str = ""


class RawPush(msgspec.Struct, gc=False):
    channel: str = ""
    instrument_name: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    result: RawPush


_traded = lax(TradedMessage)
_message, _envelope, _row = lax(Message), lax(Envelope), lax(Row)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])


class CryptocomDecoder(QuickDecoder):
    """Trades, answers, heartbeats. Every channel of a connection begins with history, whoever asked for it."""

    buy = "BUY"

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()
        self._begun: set[str] = set()
        """Wanted symbols whose history is over."""

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame).result
        name = push.instrument_name
        return (name, reversed(push.data)) if name in self._begun else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(_envelope.decode(frame).result)
        push = message.result
        if push is None or message.code != 0:
            return self.control(message)
        if push.channel != CHANNEL:
            return (Unknown(f"channel {push.channel[:40]}"),)
        name = push.instrument_name
        return self.live_or_past(name, [self.traded(name, row) for row in reversed(push.data)])

    def one_by_one(self, push: RawPush) -> Sequence[Event]:
        """The slow path: at least one row is not as documented, or it is another channel's."""
        if push.channel != CHANNEL:
            return (Unknown(f"channel {push.channel[:40]}"),)
        name = push.instrument_name
        events = rows(_raw_rows.decode(push.data)[::-1], _row, lambda row: self.traded(name, row))
        return self.live_or_past(name, events)

    def traded(self, symbol: str, row: Row) -> Event:
        number = None if row.m is None else str(row.m)
        return self.trade(symbol, row.t, row.p, row.q, row.s in ("BUY", "buy"), number)

    def live_or_past(self, symbol: str, events: list[Event]) -> Sequence[Event]:
        if symbol in self._begun:
            return events
        if self.instruments.get(symbol) is not None:
            self._begun.add(symbol)
        return past(events)

    def control(self, message: Message) -> Sequence[Event]:
        """Heartbeats, which must be answered within five seconds, and answers to our requests."""
        if message.method == "public/heartbeat":
            return (Reply(_text({"id": message.id, "method": "public/respond-heartbeat"})),)
        topics = self._asked.pop(message.id, ()) if message.id is not None else ()
        if message.code != 0:
            named = tuple(topic for topic in topics if _mentions(message.message, topic))
            return (Rejected(named or topics, f"{message.code} {message.message}"[:160]),)
        if message.method == "subscribe":
            return (Acked(topics),)
        return ALIVE if message.method == "unsubscribe" else (Unknown(f"method {message.method[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._begun.difference_update(topic.partition(".")[2] for topic in topics)
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            self._asked[self.request_id + 1] = tuple(part)
            frames.append(self._ask("subscribe", part, now_ms))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("unsubscribe", part, now_ms) for part in chunks(topics, TOPICS_PER_FRAME)]

    def _ask(self, method: str, topics: Sequence[str], now_ms: int) -> Frame:
        params = {"channels": list(topics)}
        return _text({"id": self.next_id(), "method": method, "params": params, "nonce": now_ms})


def _mentions(reason: str, topic: str) -> bool:
    """Whether an error's text names a topic, or its instrument, as a whole word."""
    words = [word.strip("[]'\",.:;()") for word in reason.split()]
    return topic in words or topic.partition(".")[2] in words


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Listed(msgspec.Struct):
    """A row of get-instruments."""

    symbol: str
    inst_type: str
    base_ccy: str
    quote_ccy: str
    tradable: bool = True


class Ticker(msgspec.Struct):
    """The open interest in a row of get-tickers: base coins."""

    i: str
    oi: float | None = None
    t: int | None = None


class Valuation(msgspec.Struct):
    """A row of get-valuations, newest first."""

    v: float | str | None = None


class Rows(msgspec.Struct):
    data: msgspec.Raw


class Answer(msgspec.Struct):
    """What every REST answer is wrapped in."""

    code: int
    message: str = ""
    result: Rows | None = None


_answer = lax(Answer)
_listed, _history, _tickers = lax(list[Listed]), lax(list[Row]), lax(list[Ticker])
_valuations = lax(list[Valuation])
_KINDS: Mapping[str, Kind] = {"CCY_PAIR": "spot", "PERPETUAL_SWAP": "perp", "FUTURE": "future"}


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.code != 0 or answer.result is None:
        raise BadMessage(f"{answer.code} {answer.message}"[:160])
    return answer.result.data


class Cryptocom(Exchange):
    """https://crypto.com/exchange."""

    id: ClassVar[str] = "CRYPTOCOM"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "market",
            "wss://stream.crypto.com/exchange/v1/market",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(20, 1),
            ids="unique",
            settle_s=1.0,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.crypto.com/exchange/v1"}
    limits: ClassVar[Limits] = Limits(connects=Rate(10, 10), rest=Rate(50, 1), connections=100)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}_USD", "{base}USD-PERP")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by time"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    funding_s: ClassVar[float] = 3_600.0
    notes: ClassVar[tuple[str, ...]] = (
        "The first message of every market is the trades of before and never enters a bar (all collectors count them).",
        "Trades in one message come newest first and are put in order.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return CryptocomDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, f"{CHANNEL}.{instrument.symbol}", instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/public/get-instruments"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        """Warrants and other products are no concern of ours."""
        found = [row for row in _listed.decode(_unwrap(body)) if row.inst_type in _KINDS]
        return Page(
            [
                self._instrument(row.symbol, _KINDS[row.inst_type], row.base_ccy, row.quote_ccy, row.tradable)
                for row in found
            ]
        )

    def _instrument(self, symbol: str, kind: Kind, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, kind, asset, quote, "market", multiplier=multiplier, active=active)

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """`BTC_USDT`, `BTCUSD-PERP`, `BTCUSD-261225`."""
        if "_" in symbol:
            base, _, quote = symbol.partition("_")
            return self._instrument(symbol, "spot", base, quote)
        name, _, suffix = symbol.partition("-")
        quote = next((q for q in ("USDT", "USDC", "USD") if name.endswith(q)), "")
        return self._instrument(symbol, "perp" if suffix == "PERP" else "future", name.removesuffix(quote), quote)

    def recover(self, gap: Gap) -> Call[Trade]:
        return self._history(gap, gap.before_ms + 1, frozenset())

    def _history(self, gap: Gap, end_ms: int, seen: frozenset[Identity]) -> Call[Trade]:
        """Newest first, before `end_ms`. The oldest millisecond of a page is asked for again; `seen` is known of it."""
        instrument = gap.instrument
        decoder = CryptocomDecoder({instrument.symbol: instrument}, instrument.endpoint)

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(_unwrap(body))
            made = [decoder.traded(instrument.symbol, row) for row in reversed(found)]
            trades = [trade for trade in gap.missing(made) if _identity(trade) not in seen]
            if len(found) < PAGE_ROWS or found[-1].t < gap.after_ms:
                return Page(trades)
            oldest_ms = found[-1].t
            if oldest_ms + 1 >= end_ms:  # a full page of one millisecond: there is no way to ask for its rest
                return Page(trades, self._history(gap, oldest_ms, frozenset()))
            again = frozenset(_identity(t) for t in made if type(t) is Trade and t.ts_ms == oldest_ms)
            return Page(trades, self._history(gap, oldest_ms + 1, again))

        query = f"instrument_name={instrument.symbol}&start_ts={gap.after_ms}&end_ts={end_ms}&count={PAGE_ROWS}"
        return Call(Request(f"{self.url('rest')}/public/get-trades?{query}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted = {i.symbol: i for i in instruments if i.kind != "spot"}

        def read(body: bytes) -> Page[OpenInterest]:
            found = _tickers.decode(_unwrap(body))
            return Page([OpenInterest(wanted[r.i], r.t, r.oi) for r in found if r.i in wanted and r.oi is not None])

        return (Call(Request(self.url("rest") + "/public/get-tickers"), read),) if wanted else ()

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """A question for each market: no answer has all. What the hour that runs is estimated to cost."""
        return [self._funding(instrument) for instrument in instruments if instrument.kind == "perp"]

    def _funding(self, instrument: Instrument) -> Call[Funding]:
        def read(body: bytes) -> Page[Funding]:
            found = [rate(row.v) for row in _valuations.decode(_unwrap(body))[:1]]
            return Page([Funding(instrument, said) for said in found if said is not None])

        query = f"instrument_name={instrument.symbol}&valuation_type=estimated_funding_rate&count=1"
        return Call(Request(f"{self.url('rest')}/public/get-valuations?{query}"), read)


Identity = tuple[int | str | None, float, float, bool]
"""What tells a recovered trade from others of its millisecond."""


def _identity(trade: Trade) -> Identity:
    if trade.id is not None:
        return (trade.id, 0.0, 0.0, False)
    return (None, trade.price, trade.size, trade.buy)
