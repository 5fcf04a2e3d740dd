"""OKX (id OKEX): spot, swaps and dated futures.

Sources: the exchange's v5 documentation (trades and liquidation-orders channels, public and market
endpoints, funding-rate with instId=ANY), autumn 2026.
One socket carries everything. The first push of a trade channel is the last trade *before* the subscription, the first push
of liquidations holds past ones; nothing in the push says so. Liquidations are subscribed to once per instrument type.
Contract sizes differ per instrument (`ctVal`) and are dollars where `ctType` is inverse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    COUNT_MAX,
    Acked,
    BadMessage,
    Buffer,
    Call,
    Closing,
    Decoder,
    Endpoint,
    Event,
    Exchange,
    Excluded,
    Frame,
    Funding,
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
)
from exchanges.image import FirstPush, past
from exchanges.numbers import HOUR_MS, hours_s, lax, rate

Side = Literal["buy", "sell"]

TRADES, LIQUIDATIONS = "trades", "liquidation-orders"
TOPICS_PER_FRAME = 100
PAGE_ROWS = 100
CLOSING_NOTICE = "64008"

Count = Annotated[int, msgspec.Meta(gt=0, lt=COUNT_MAX)]


class Row(msgspec.Struct, gc=False):
    """A trade: matches of one taker order at one price. REST history has the same fields, one match a row."""

    instId: str
    tradeId: int
    px: float
    sz: float
    side: Side
    ts: int
    count: int = 1


class Usual(msgspec.Struct, gc=False):
    """A trade whose values are in range (see `Bounded`), with its number of matches."""

    symbol: str = msgspec.field(name="instId")
    id: Id = msgspec.field(name="tradeId")
    price: Price = msgspec.field(name="px")
    quantity: Quantity = msgspec.field(name="sz")
    side: Side
    time: Time = msgspec.field(name="ts")
    count: Count = 1


class Detail(msgspec.Struct, gc=False):
    """One forced order. `side` is the order's, the price is that of bankruptcy."""

    side: Side
    bkPx: float
    sz: float
    ts: int


class Forced(msgspec.Struct, gc=False):
    """Forced orders of one instrument."""

    instId: str
    details: list[msgspec.Raw]


class Arg(msgspec.Struct, gc=False):
    """What a message is about."""

    channel: str = ""
    instId: str = ""
    instType: str = ""

    @property
    def topic(self) -> str:
        return f"{self.channel}:{self.instId or self.instType}"


class TradesArg(msgspec.Struct, gc=False):
    channel: Literal["trades"]
    instId: str


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    arg: TradesArg
    data: list[Usual]


class Message(msgspec.Struct, gc=False):
    """A push of trades, or an answer."""

    arg: Arg | None = None
    data: list[Row] | None = None
    event: str = ""
    code: str = ""
    msg: str = ""


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    arg: Arg | None = None
    data: list[msgspec.Raw] = msgspec.field(default_factory=list)
    table: str = ""


_traded = lax(Traded)
_message = lax(Message)
_envelope = lax(Envelope)
_row, _forced, _detail = lax(Row), lax(Forced), lax(Detail)
_NAMED = re.compile(r"channel:([\w-]+),inst(?:Id|Type):([\w-]+)")


class OkexDecoder(QuickDecoder):
    """Trades, liquidations, answers. Knows which channels have yet to make their first push."""

    counted = True

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._first = FirstPush()

    def quick(self, frame: Buffer) -> Quick | None:
        push, expected = _traded.decode(frame), self._first.expected
        return None if expected and f"{TRADES}:{push.arg.instId}" in expected else (None, push.data)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        if len(frame) == 4 and bytes(frame) == b"pong":
            return ALIVE
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(frame)
        if message.event or message.data is None or message.arg is None:
            return self.control(message)
        if message.arg.channel != TRADES:
            return self.one_by_one(frame)
        return self.live_or_past(message.arg.topic, [self.traded(row) for row in message.data])

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """Liquidations, and the slow path of trades: at least one row is not as documented."""
        envelope = _envelope.decode(frame)
        if envelope.arg is None:
            return (Unknown(f"table {envelope.table[:40]}"),)
        topic = envelope.arg.topic
        if envelope.arg.channel == TRADES:
            return self.live_or_past(topic, rows(envelope.data, _row, self.traded))
        if envelope.arg.channel != LIQUIDATIONS:
            return (Unknown(f"channel {envelope.arg.channel[:40]}"),)
        if self._first.take(topic):
            return (Excluded("liquidation before the subscription", len(envelope.data)),)
        return [event for raw in envelope.data for event in self.liquidated(raw)]

    def live_or_past(self, topic: str, events: list[Event]) -> Sequence[Event]:
        """The first push after subscribing is over already."""
        return past(events) if self._first.take(topic) else events

    def traded(self, row: Row) -> Event:
        return self.trade(row.instId, row.ts, row.px, row.sz, row.side == "buy", row.tradeId, row.count)

    def liquidated(self, raw: msgspec.Raw) -> Sequence[Event]:
        """The forced orders of one instrument."""
        try:
            forced = _forced.decode(raw)
        except ValueError as error:
            return (Malformed(str(error)[:160]),)

        def make(row: Detail) -> Event:
            return self.liquidation(forced.instId, row.ts, row.bkPx, row.sz, row.side == "buy")

        return rows(forced.details, _detail, make)

    def control(self, message: Message) -> Sequence[Event]:
        """Answers to our requests; each argument is answered on its own."""
        if message.event == "subscribe" and message.arg is not None:
            self._first.acked(message.arg.topic)
            return (Acked((message.arg.topic,)),)
        if message.event == "error":
            return (self.refused(f"{message.code} {message.msg}"),)
        if message.event == "notice":
            return (Closing(message.msg[:160]),) if message.code == CLOSING_NOTICE else ALIVE
        if message.event in ("unsubscribe", "channel-conn-count"):
            return ALIVE
        return (Unknown(f"event {message.event[:40]}"),)

    def refused(self, reason: str) -> Event:
        """The text names the topic, if anything does."""
        named = _NAMED.search(reason)
        topics = (f"{named[1]}:{named[2]}",) if named else ()
        self._first.refused(topics)
        return Rejected(topics, reason[:160])

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._first.asked(topics)
        return [_ask("subscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("unsubscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def ping(self, now_ms: int) -> Frame:
        return "ping"


def _ask(op: str, topics: Sequence[str]) -> Frame:
    args = []
    for topic in topics:
        channel, _, of = topic.partition(":")
        args.append({"channel": channel, "instType" if channel == LIQUIDATIONS else "instId": of})
    return msgspec.json.encode({"op": op, "args": args}).decode()


class Listed(msgspec.Struct):
    """A row of public/instruments; derivatives leave baseCcy and quoteCcy empty."""

    instId: str
    state: str
    instFamily: str = ""
    baseCcy: str = ""
    quoteCcy: str = ""
    ctVal: str = ""
    ctMult: str = ""
    ctType: str = ""


class Rates(msgspec.Struct):
    """A row of funding-rate; times are those of the settlement to come and of the one after it."""

    instId: str
    fundingRate: float | str | None = None
    fundingTime: int | None = None
    nextFundingTime: int | None = None

    @property
    def interval_s(self) -> float | None:
        if self.fundingTime is None or self.nextFundingTime is None:
            return None
        return hours_s((self.nextFundingTime - self.fundingTime) / HOUR_MS)


class Interest(msgspec.Struct):
    """A row of public/open-interest."""

    instId: str
    oiCcy: float
    ts: int
    oiUsd: float | None = None


class Answer(msgspec.Struct):
    """What every REST answer is wrapped in."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_answer = lax(Answer)
_listed = lax(list[Listed])
_history = lax(list[Row])
_interest, _rates = lax(list[Interest]), lax(list[Rates])

_TYPES: Mapping[str, Kind] = {"SPOT": "spot", "SWAP": "perp", "FUTURES": "future"}
_KINDS = {kind: name for name, kind in _TYPES.items()}
_USUAL_SIZES = {"BTC": 0.01, "ETH": 0.1}
"""Coins in a contract that is not inverse, of assets where it is not 1."""


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.code != "0":
        raise BadMessage(f"{answer.code} {answer.msg}"[:160])
    return answer.data


class Okex(Exchange):
    """https://okx.com."""

    id: ClassVar[str] = "OKEX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "public",
            "wss://ws.okx.com:8443/ws/v5/public",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(3, 1),
            requests=Rate(480, 3600),
            ping_s=20,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://www.okx.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(3, 1), rest=Rate(20, 2), connections=30)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}-USDT", "{base}-USDT-SWAP", "{base}-USD-SWAP")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id, three months; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "The first push of each market is the last trade before the subscription and never enters a bar (one collector counts it).",
        "Trades are aggregates: fills of one order at one price, with their number; history has single fills.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return OkexDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        streams = [Stream(instrument.endpoint, f"{TRADES}:{instrument.symbol}", instrument)]
        if liquidations and instrument.kind != "spot":
            streams.append(Stream(instrument.endpoint, f"{LIQUIDATIONS}:{_KINDS[instrument.kind]}"))
        return streams

    def listings(self) -> Sequence[Call[Instrument]]:
        return [Call(self._request("public/instruments", f"instType={kind}"), self._read_listing) for kind in _TYPES]

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        return Page([self._listed(row) for row in _listed.decode(_unwrap(body))])

    def _listed(self, row: Listed) -> Instrument:
        base, _, quote = (row.instFamily or row.instId).partition("-")
        size = float(row.ctVal or 1) * float(row.ctMult or 1)
        return self._instrument(
            row.instId,
            row.baseCcy or base,
            row.quoteCcy or quote.partition("-")[0],
            size,
            row.ctType == "inverse",
            row.state == "live",
        )

    def _instrument(
        self, symbol: str, base: str, quote: str, size: float, inverse: bool, active: bool = True
    ) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(
            self.id,
            symbol,
            symbol,
            _kind(symbol),
            asset,
            quote,
            "public",
            contract_size=size,
            inverse=inverse,
            multiplier=multiplier,
            active=active,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """Inverse contracts are 100 USD of BTC and 10 of others; linear ones differ: only the listing has them all."""
        base, _, rest = symbol.partition("-")
        quote = rest.partition("-")[0]
        if _kind(symbol) == "spot":
            return self._instrument(symbol, base, quote, 1.0, False)
        if quote == "USD":
            return self._instrument(symbol, base, quote, 100.0 if base == "BTC" else 10.0, True)
        return self._instrument(symbol, base, quote, _USUAL_SIZES.get(base, 1.0), False)

    def _request(self, path: str, query: str) -> Request:
        return Request(f"{self.url('rest')}/api/v5/{path}?{query}")

    def recover(self, gap: Gap) -> Call[Trade]:
        """Newest first, by id. The trade after the hole stands for `before_count` ids that end with its own."""
        if isinstance(gap.before_id, int):
            return self._history(gap, f"type=1&after={gap.before_id - gap.before_count + 1}")
        return self._history(gap, f"type=2&after={gap.before_ms + 1}")

    def _history(self, gap: Gap, query: str) -> Call[Trade]:
        instrument = gap.instrument
        make = OkexDecoder({instrument.symbol: instrument}, instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(_unwrap(body))
            made = [make(row) for row in reversed(found)]
            trades = gap.missing(made)
            if not found or _before(gap, found[-1]):
                return Page(trades)
            return Page(trades, self._history(gap, f"type=1&after={found[-1].tradeId}"))

        query = f"instId={instrument.symbol}&limit={PAGE_ROWS}&{query}"
        return Call(self._request("market/history-trades", query), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind != "spot":
                wanted.setdefault(_KINDS[instrument.kind], {})[instrument.symbol] = instrument
        return [self._open_interest(kind, by_symbol) for kind, by_symbol in wanted.items()]

    def _open_interest(self, kind: str, wanted: Mapping[str, Instrument]) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            found = _interest.decode(_unwrap(body))
            return Page([OpenInterest(wanted[r.instId], r.ts, r.oiCcy, r.oiUsd) for r in found if r.instId in wanted])

        return Call(self._request("public/open-interest", f"instType={kind}"), read)

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """One answer for all swaps; the interval is the time between the next two settlements."""
        wanted = {instrument.symbol: instrument for instrument in instruments if instrument.kind == "perp"}

        def read(body: bytes) -> Page[Funding]:
            rows = [row for row in _rates.decode(_unwrap(body)) if row.instId in wanted]
            found = [(row, rate(row.fundingRate)) for row in rows]
            return Page([Funding(wanted[row.instId], said, row.interval_s) for row, said in found if said is not None])

        return (Call(self._request("public/funding-rate", "instId=ANY"), read),) if wanted else ()


def _before(gap: Gap, row: Row) -> bool:
    """Whether a row, the oldest of its page, is before the hole or its very first trade."""
    if isinstance(gap.after_id, int):
        return row.tradeId <= gap.after_id + 1
    return row.ts < gap.after_ms


def _kind(symbol: str) -> Kind:
    """`BTC-USDT`, `BTC-USDT-SWAP`, `BTC-USDT-261225`; raises ValueError on options and anything else."""
    parts = symbol.split("-")
    if len(parts) == 2:
        return "spot"
    if len(parts) == 3 and parts[2] == "SWAP":
        return "perp"
    if len(parts) == 3 and parts[2].isdigit():
        return "future"
    raise ValueError(f"neither spot, swap nor dated future: {symbol[:40]!r}")
