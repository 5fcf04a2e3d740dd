"""Bybit v5: spot, linear (USDT, USDC) and inverse contracts.

Sources: the exchange's v5 documentation (websocket public trade and all-liquidation, market endpoints), autumn 2026.
Spot and linear share symbols, so spot pairs end in `-SPOT` here. `type: snapshot` is live on trade topics. Quantities are
base coins, on inverse contracts dollars. The side of a liquidation row is that of the *position*. Block trades are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    Request,
    Stream,
    TextId,
    Time,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
    split_pair,
)
from exchanges.numbers import hours_s, lax, rate

Side = Literal["Buy", "Sell"]

TRADES, LIQUIDATIONS = "publicTrade.", "allLiquidation."
TOPICS_PER_FRAME = {"spot": 10, "linear": 200, "inverse": 200}
HISTORY_ROWS = {"spot": 60, "linear": 1000, "inverse": 1000}


class Row(msgspec.Struct, gc=False):
    """A trade or, without id, a liquidation."""

    T: int
    s: str
    S: Side
    v: float
    p: float
    i: str | None = None


class Usual(Bounded):
    """A trade."""

    time: Time = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    side: Side = msgspec.field(name="S")
    quantity: Quantity = msgspec.field(name="v")
    price: Price = msgspec.field(name="p")
    id: TextId | None = msgspec.field(name="i", default=None)


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    topic: str
    data: list[Usual]


class Message(msgspec.Struct, gc=False):
    """A push, or an answer to a request of ours."""

    topic: str = ""
    data: list[Row] | None = None
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""


class Envelope(msgspec.Struct, gc=False):
    """A message whose rows are read one by one."""

    topic: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_traded = lax(Traded)
_message = lax(Message)
_envelope = lax(Envelope)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_row = lax(Row)

Maker = Callable[[Row], Event]


class BybitDecoder(QuickDecoder):
    """Trades, liquidations, answers."""

    buy = "Buy"

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()
        self._topics = {TRADES + symbol for symbol in instruments}

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        return (None, push.data) if push.topic in self._topics else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(frame)
        if message.data is None or not message.topic:
            return self.control(message)
        make = self.maker(message.topic)
        if make is None:
            return (Unknown(f"topic {message.topic[:40]}"),)
        return [make(row) for row in message.data]

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        envelope = _envelope.decode(frame)
        make = self.maker(envelope.topic)
        if make is None:
            return (Unknown(f"topic {envelope.topic[:40]}"),)
        return rows(_raw_rows.decode(envelope.data), _row, make)

    def maker(self, topic: str) -> Maker | None:
        """What makes events of the rows of a topic; None where we do not know it."""
        if topic.startswith(TRADES):
            return self.traded
        return self.liquidated if topic.startswith(LIQUIDATIONS) else None

    def traded(self, row: Row) -> Event:
        return self.trade(row.s, row.T, row.p, row.v, row.S == "Buy", row.i)

    def liquidated(self, row: Row) -> Event:
        """A position that was bought is closed by a sell."""
        return self.liquidation(row.s, row.T, row.p, row.v, row.S == "Sell")

    def control(self, message: Message) -> Sequence[Event]:
        """Pongs and answers to our requests, which name them by `req_id`."""
        if message.op in ("ping", "pong") or message.ret_msg == "pong":
            return ALIVE
        topics = self._asked.pop(message.req_id, ())
        if message.success is None:
            return (Unknown(f"op {message.op[:40]}"),)
        if message.success:
            return (Acked(topics),)
        named = tuple(topic for topic in topics if topic in message.ret_msg)
        return (Rejected(named or topics, message.ret_msg[:160]),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME[self.endpoint]):
            self._asked[str(self.request_id + 1)] = tuple(part)
            frames.append(self._ask("subscribe", part))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("unsubscribe", part) for part in chunks(topics, TOPICS_PER_FRAME[self.endpoint])]

    def _ask(self, op: str, topics: Sequence[str]) -> Frame:
        return msgspec.json.encode({"req_id": str(self.next_id()), "op": op, "args": topics}).decode()

    def ping(self, now_ms: int) -> Frame:
        return '{"op":"ping"}'


class Listed(msgspec.Struct):
    """A row of instruments-info; spot has no contractType."""

    symbol: str
    status: str
    baseCoin: str
    quoteCoin: str
    contractType: str = ""


class Past(msgspec.Struct):
    """A row of recent-trade."""

    execId: str
    price: float
    size: float
    side: Side
    time: int


class Ticker(msgspec.Struct):
    """The open interest in a row of tickers: contracts' own unit, and its worth in the other; funding is empty where dated."""

    symbol: str
    openInterest: float = 0.0
    openInterestValue: float = 0.0
    fundingRate: float | str | None = None
    fundingIntervalHour: float | str | None = None


class Result(msgspec.Struct):
    list: msgspec.Raw
    nextPageCursor: str = ""


class Answer(msgspec.Struct):
    """What every REST answer is wrapped in."""

    retCode: int
    retMsg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: int = 0


_answer = lax(Answer)
_result = lax(Result)
_listed = lax(list[Listed])
_past = lax(list[Past])
_tickers = lax(list[Ticker])


def _unwrap(body: bytes) -> tuple[Result, int]:
    """The result of a REST answer and its time."""
    answer = _answer.decode(body)
    if answer.retCode != 0:
        raise BadMessage(f"{answer.retCode} {answer.retMsg}"[:160])
    return _result.decode(answer.result), answer.time


_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DATED = re.compile(rf"([A-Z0-9]+?)(USDT|USD)?-\d\d?(?:{_MONTHS})\d\d")
_INVERSE = re.compile(r"([A-Z0-9]+)USD([HMUZ]\d\d)?")
QUOTES = ("USDT", "USDC", "USDE", "USD1", "USDR", "BRZ", "BRL", "DAI", "EUR", "BTC", "ETH", "SOL", "MNT")


def _endpoint(name: str) -> Endpoint:
    return Endpoint(
        name,
        f"wss://stream.bybit.com/v5/public/{name}",
        streams_per_connection=200,
        topics_per_frame=TOPICS_PER_FRAME[name],
        ping_s=20,
        ids="unique",
    )


class Bybit(Exchange):
    """https://bybit.com."""

    id: ClassVar[str] = "BYBIT"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (_endpoint("spot"), _endpoint("linear"), _endpoint("inverse"))
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.bybit.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(500, 300), rest=Rate(600, 5), connections=1000)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT-SPOT", "{base}USDT")
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "newest 1000 trades of a contract, newest 60 of a spot pair"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "The side of a liquidation is that of the position, so it is turned round: a long that ends is a sell.",
        "BTCUSDT is the perpetual and BTCUSDT-SPOT the spot pair.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BybitDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        prefixes = (TRADES, LIQUIDATIONS) if liquidations and instrument.kind != "spot" else (TRADES,)
        return [Stream(instrument.endpoint, prefix + instrument.symbol, instrument) for prefix in prefixes]

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing(endpoint.name) for endpoint in self.endpoints]

    def _listing(self, category: str, cursor: str = "") -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            result, _ = _unwrap(body)
            items = [self._listed(row, category) for row in _listed.decode(result.list)]
            return Page(items, self._listing(category, result.nextPageCursor) if result.nextPageCursor else None)

        query = f"category={category}" + ("" if category == "spot" else "&limit=1000")
        return Call(self._request("instruments-info", query + (f"&cursor={cursor}" if cursor else "")), read)

    def _listed(self, row: Listed, category: str) -> Instrument:
        kind: Kind = "future" if row.contractType.endswith("Futures") else "perp"
        return self._instrument(
            row.symbol,
            "spot" if category == "spot" else kind,
            row.baseCoin,
            row.quoteCoin,
            category,
            row.status == "Trading",
        )

    def _instrument(
        self, symbol: str, kind: Kind, base: str, quote: str, endpoint: str, active: bool = True
    ) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(
            self.id,
            f"{symbol}-SPOT" if kind == "spot" else symbol,
            symbol,
            kind,
            asset,
            quote,
            endpoint,
            inverse=endpoint == "inverse",
            multiplier=multiplier,
            active=active,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        if kind == "spot" or symbol.endswith("-SPOT"):
            symbol = symbol.removesuffix("-SPOT")
            return self._instrument(symbol, "spot", *split_pair(symbol, QUOTES), "spot")
        if (dated := _DATED.fullmatch(symbol)) is not None:
            inverse = dated[2] == "USD"
            return self._instrument(symbol, "future", dated[1], dated[2] or "USDC", "inverse" if inverse else "linear")
        if (match := _INVERSE.fullmatch(symbol)) is not None:
            return self._instrument(symbol, "future" if match[2] else "perp", match[1], "USD", "inverse")
        base, quote = (symbol[:-4], "USDC") if symbol.endswith("PERP") else split_pair(symbol, QUOTES)
        return self._instrument(symbol, "perp", base, quote, "linear")

    def _request(self, path: str, query: str) -> Request:
        return Request(f"{self.url('rest')}/v5/market/{path}?{query}")

    def recover(self, gap: Gap) -> Call[Trade]:
        instrument = gap.instrument
        make = BybitDecoder({instrument.symbol: instrument}, instrument.endpoint).trade

        def read(body: bytes) -> Page[Trade]:
            result, _ = _unwrap(body)
            made = [
                make(instrument.symbol, row.time, row.price, row.size, row.side == "Buy", row.execId)
                for row in reversed(_past.decode(result.list))
            ]
            return Page(gap.missing(made))

        category = instrument.endpoint
        query = f"category={category}&symbol={instrument.symbol}&limit={HISTORY_ROWS[category]}"
        return Call(self._request("recent-trade", query), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind != "spot":
                wanted.setdefault(instrument.endpoint, {})[instrument.symbol] = instrument
        return [self._open_interest(category, by_symbol) for category, by_symbol in wanted.items()]

    def _open_interest(self, category: str, wanted: Mapping[str, Instrument]) -> Call[OpenInterest]:
        """One answer for all contracts. Inverse contracts count dollars and are worth coins, linear the other way."""

        def read(body: bytes) -> Page[OpenInterest]:
            result, time_ms = _unwrap(body)
            items = []
            for row in _tickers.decode(result.list):
                if (instrument := wanted.get(row.symbol)) is not None:
                    base, usd = row.openInterest, row.openInterestValue
                    if instrument.inverse:
                        base, usd = usd, base
                    items.append(
                        OpenInterest(
                            instrument, time_ms, base, usd, rate(row.fundingRate), hours_s(row.fundingIntervalHour)
                        )
                    )
            return Page(items)

        return Call(self._request("tickers", f"category={category}"), read)
