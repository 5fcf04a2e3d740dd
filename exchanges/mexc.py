"""MEXC spot (protobuf) and futures (JSON).

Sources: the exchange's API documentation (spot v3 websocket with its published field numbers, contract websocket and
REST), autumn 2026. Spot answers requests in JSON text and pushes protobuf in binary frames. Only the socket gives trade
ids, REST none, so none are used: what is recovered could not be told from what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from google.protobuf.message import DecodeError

from exchanges.api import (
    ALIVE,
    PRICE_MAX,
    SIZE_MAX,
    TIME_MAX_MS,
    TIME_MIN_MS,
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
from exchanges.mexc_protobuf import Wrapper
from exchanges.numbers import SMALL_BYTES, decimal, lax, rate

DEALS = "spot@public.aggre.deals.v3.api.pb@10ms@"
DEALS_AT_ANY_PACE = DEALS.partition("@10ms")[0]
CONTRACT_DEALS = "sub.deal:"
TOPICS_PER_FRAME = 30
PAGE_ROWS = 1000
HOUR_MS = 3_600_000
BRACE = ord("{")
BUY, SELL = 1, 2

_STREAM = re.compile(r"spot@[\w.]+(?:@\w+)+")


class Deal(msgspec.Struct, gc=False):
    """A futures trade, pushed or by REST: `v` contracts, `T` 1 when the taker bought, 2 when it sold."""

    p: float
    v: float
    T: Literal[1, 2]
    t: int


class Usual(Bounded):
    """A trade; under these names as futures send it."""

    id: ClassVar[None] = None
    price: Price = msgspec.field(name="p")
    quantity: Quantity = msgspec.field(name="v")
    side: Literal[1, 2] = msgspec.field(name="T")
    time: Time = msgspec.field(name="t")


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame of futures."""

    channel: Literal["push.deal"]
    symbol: str
    data: list[Usual]


class Push(msgspec.Struct, gc=False):
    """Futures trades; older frames hold a single one instead of a list."""

    channel: Literal["push.deal"]
    symbol: str
    data: list[Deal] | Deal


class Param(msgspec.Struct, gc=False):
    symbol: str = ""


class Other(msgspec.Struct, gc=False):
    """Everything in JSON that is no readable push: spot says `code` and `msg`, futures `channel`."""

    channel: str = ""
    symbol: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    param: Param | None = None
    code: int | None = None
    msg: str = ""


_traded = lax(Traded)
_push, _other, _deal = lax(Push), lax(Other), lax(Deal)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])


def _wrapper(frame: Buffer) -> Any:
    if len(frame) > SMALL_BYTES:  # ten milliseconds of deals are a few hundred bytes; empty ones would be a bomb
        raise BadMessage(f"protobuf of more than {SMALL_BYTES} bytes")
    try:
        return Wrapper.FromString(bytes(frame))
    except DecodeError as error:
        raise BadMessage(f"protobuf: {error}"[:160]) from error


def _usual(item: Any) -> Usual:
    """A deal of spot, whose numbers are text. Raises ValueError where a value is out of range."""
    price, quantity = decimal(item.price), decimal(item.quantity)
    side, time = item.tradeType, item.time
    if not (0.0 < price < PRICE_MAX and 0.0 < quantity < SIZE_MAX and TIME_MIN_MS < time < TIME_MAX_MS):
        raise ValueError("out of range")
    if side not in (BUY, SELL):
        raise ValueError("of no side")
    return Usual(price, quantity, side, time)


class MexcDecoder(QuickDecoder):
    """Trades of both kinds, answers."""

    buy = BUY

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._unanswered: dict[str, None] = {}
        """Futures topics in the order in which they were asked for: answers do not name them."""
        self._ended: set[str] = set()

    def quick(self, frame: Buffer) -> Quick | None:
        if frame[0] != BRACE:
            wrapper = _wrapper(frame)
            deals, symbol = wrapper.publicAggreDeals.deals, wrapper.symbol
            usual = deals and symbol and wrapper.channel.startswith(DEALS_AT_ANY_PACE)
            return (symbol, [_usual(deal) for deal in deals]) if usual else None
        push = _traded.decode(frame)
        return push.symbol, push.data

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        if frame[0] != BRACE:
            return self.spot(frame)
        try:
            push = _push.decode(frame)
        except msgspec.ValidationError:
            return self.other(frame)
        deals = push.data if isinstance(push.data, list) else [push.data]
        return [self.contract(push.symbol, deal) for deal in deals]

    def spot(self, frame: Buffer) -> Sequence[Event]:
        """A binary frame; the wrapper can hold other messages than trades, which its channel names."""
        wrapper = _wrapper(frame)
        if not wrapper.channel.startswith("spot@"):
            raise BadMessage("protobuf without a channel")
        if ".aggre.deals." not in wrapper.channel:
            return (Unknown(f"channel {wrapper.channel[:60]}"),)
        symbol = wrapper.symbol or wrapper.channel.rpartition("@")[2]
        return [self.item(symbol, item) for item in wrapper.publicAggreDeals.deals] or ALIVE

    def item(self, symbol: str, item: Any) -> Event:
        """A spot trade; its numbers are text."""
        kind = item.tradeType
        if kind not in (BUY, SELL):
            return Malformed(f"trade type {kind}", symbol[:40])
        try:
            return self.trade(symbol, item.time, decimal(item.price), decimal(item.quantity), kind == BUY)
        except ValueError as error:
            return Malformed(str(error)[:160], symbol[:40])

    def contract(self, symbol: str, deal: Deal) -> Event:
        return self.trade(symbol, deal.t, deal.p, deal.v, deal.T == BUY)

    def other(self, frame: Buffer) -> Sequence[Event]:
        """Answers, and the slow path of futures trades: at least one row is not as documented."""
        message = _other.decode(frame)
        if message.channel == "push.deal":
            raw = _raw_rows.decode(message.data) if bytes(message.data)[:1] == b"[" else [message.data]
            return rows(raw, _deal, lambda deal: self.contract(message.symbol, deal))
        if message.channel.startswith(("pong", "rs.")):
            return self.futures_answer(message)
        if message.code is not None:
            return self.spot_answer(message)
        if message.channel.startswith(DEALS_AT_ANY_PACE):
            return ALIVE  # the wrapper as text, without deals
        return (Unknown(f"channel {message.channel[:40]}"),)

    def spot_answer(self, message: Other) -> Sequence[Event]:
        """Refusals come with code 0 too: only the text tells."""
        if message.msg == "PONG":
            return ALIVE
        topics = tuple(_STREAM.findall(message.msg))
        if message.code != 0 or not topics or "not subscribed" in message.msg.lower():
            return (Rejected(topics, message.msg[:160]),)
        return (Acked(tuple(topic for topic in topics if topic not in self._ended)),)

    def futures_answer(self, message: Other) -> Sequence[Event]:
        """Answers come in the order of the requests; a refusal may name the contract."""
        if message.channel == "rs.sub.deal":
            named = CONTRACT_DEALS + message.param.symbol if message.param else next(iter(self._unanswered), "")
            self._unanswered.pop(named, None)
            return (Acked((named,) if named else ()),)
        if message.channel == "rs.error":
            reason = bytes(message.data).decode(errors="replace")
            words = {word.strip("[]'\",.:;()") for word in reason.split()}  # whole words: BTC_USDT is in WBTC_USDT
            topics = tuple(topic for topic in self._unanswered if topic.removeprefix(CONTRACT_DEALS) in words)
            for topic in topics:
                del self._unanswered[topic]
            return (Rejected(topics, reason[:160]),)
        return ALIVE if message.channel in ("pong", "rs.unsub.deal") else (Unknown(f"channel {message.channel[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._ended.difference_update(topics)
        if self.endpoint == "futures":
            self._unanswered |= dict.fromkeys(topics)
            return [_deal_request("sub.deal", topic) for topic in topics]
        return [_spot_request("SUBSCRIPTION", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._ended.update(topics)
        if self.endpoint == "futures":
            return [_deal_request("unsub.deal", topic) for topic in topics]
        return [_spot_request("UNSUBSCRIPTION", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def ping(self, now_ms: int) -> Frame:
        return '{"method":"ping"}' if self.endpoint == "futures" else '{"method":"PING"}'


def _spot_request(method: str, topics: Sequence[str]) -> Frame:
    return msgspec.json.encode({"method": method, "params": topics}).decode()


def _deal_request(method: str, topic: str) -> Frame:
    return msgspec.json.encode({"method": method, "param": {"symbol": topic.removeprefix(CONTRACT_DEALS)}}).decode()


class Symbol(msgspec.Struct):
    """A row of spot's exchangeInfo; status 1 is online."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    isSpotTradingAllowed: bool = True


class Info(msgspec.Struct):
    symbols: list[Symbol]


class Detail(msgspec.Struct):
    """A row of contract/detail; state 0 is open. Coins settle inverse contracts."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    settleCoin: str
    contractSize: float
    state: int = 0


class Aggregate(msgspec.Struct):
    """A spot trade by REST."""

    p: float
    q: float
    T: int
    m: bool


class Ticker(msgspec.Struct):
    """Open interest in contracts."""

    symbol: str
    holdVol: float | None = None
    fundingRate: float | str | None = None
    timestamp: int | None = None


class Answer(msgspec.Struct):
    """What futures' REST answers are wrapped in."""

    success: bool
    code: int = 0
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_info, _answer, _details = lax(Info), lax(Answer), lax(list[Detail])
_aggregates, _deals, _tickers = lax(list[Aggregate]), lax(list[Deal]), lax(list[Ticker])


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if not answer.success:
        raise BadMessage(f"{answer.code} {answer.message}"[:160])
    return answer.data


QUOTES = ("USDT", "USDC", "USDE", "USD1", "TUSD", "USD", "EUR", "BTC", "ETH", "MX")
_CONTRACT_COINS = {"BTC": 0.0001, "ETH": 0.01, "SOL": 0.1}
_CONTRACT_DOLLARS = {"BTC": 100.0}

Window = tuple[int, int]
"""From and to, both included, in ms."""


class Mexc(Exchange):
    """https://mexc.com."""

    id: ClassVar[str] = "MEXC"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://wbs-api.mexc.com/ws",
            streams_per_connection=30,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(10, 1),
            ping_s=15,
            max_age_s=24 * 3600,
            ids="none",
        ),
        Endpoint(
            "futures",
            "wss://contract.mexc.com/edge",
            streams_per_connection=100,
            topics_per_frame=1,
            frames=Rate(10, 1),
            ping_s=15,
            ids="none",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.mexc.com", "rest-futures": "https://contract.mexc.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(60, 60), rest=Rate(20, 1), connections=100)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT", "{base}_USDT")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "spot by time; of futures only the newest 100 trades; none has an id"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Trades have no ids that its history knows too: repeated ones are told by time, price, size and side.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return MexcDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channel = DEALS if instrument.kind == "spot" else CONTRACT_DEALS
        return (Stream(instrument.endpoint, channel + instrument.symbol, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (
            Call(Request(self.url("rest") + "/api/v3/exchangeInfo", weight=10), self._read_symbols),
            Call(Request(self.url("rest-futures") + "/api/v1/contract/detail"), self._read_details),
        )

    def _read_symbols(self, body: bytes) -> Page[Instrument]:
        return Page(
            [
                self._spot(row.symbol, row.baseAsset, row.quoteAsset, row.status == "1" and row.isSpotTradingAllowed)
                for row in _info.decode(body).symbols
            ]
        )

    def _read_details(self, body: bytes) -> Page[Instrument]:
        return Page([self._contract(row) for row in _details.decode(_unwrap(body))])

    def _spot(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, "spot", asset, quote, "spot", multiplier=multiplier, active=active)

    def _contract(self, row: Detail) -> Instrument:
        asset, multiplier = base_asset(row.baseCoin)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "perp",
            asset,
            row.quoteCoin,
            "futures",
            contract_size=row.contractSize,
            inverse=row.settleCoin != row.quoteCoin,
            multiplier=multiplier,
            active=row.state == 0,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        base, separator, quote = symbol.partition("_")
        if not separator:
            return self._spot(symbol, *split_pair(symbol, QUOTES))
        if quote == "USD":
            return self._contract(Detail(symbol, base, quote, base, _CONTRACT_DOLLARS.get(base, 10.0)))
        return self._contract(Detail(symbol, base, quote, quote, _CONTRACT_COINS.get(base, 1.0)))

    def recover(self, gap: Gap) -> Call[Trade]:
        if gap.instrument.kind != "spot":
            return self._recent(gap)
        starts = range(gap.after_ms, gap.before_ms + 1, HOUR_MS // 2)
        return self._history(gap, [(start, min(start + HOUR_MS // 2 - 1, gap.before_ms)) for start in starts])

    def _history(self, gap: Gap, windows: Sequence[Window]) -> Call[Trade]:
        """Spot trades of the first window, then of the others.

        Which end of a window a full page misses is not documented, and rows have no ids: such a window is asked for
        again in halves, so that no row is lost or repeated.
        """
        (first, last), rest = windows[0], windows[1:]

        def read(body: bytes) -> Page[Trade]:
            found = _aggregates.decode(body)
            if len(found) >= PAGE_ROWS and last > first:
                middle = (first + last) // 2
                return Page([], self._history(gap, [(first, middle), (middle + 1, last), *rest]))
            trades = _recovered(gap, [row for row in found if first <= row.T <= last], _from_aggregate)
            return Page(trades, self._history(gap, rest) if rest else None)

        query = f"symbol={gap.instrument.symbol}&startTime={first}&endTime={last + 1}&limit={PAGE_ROWS}"
        return Call(Request(f"{self.url('rest')}/api/v3/aggTrades?{query}"), read)

    def _recent(self, gap: Gap) -> Call[Trade]:
        """The newest futures trades."""
        url = f"{self.url('rest-futures')}/api/v1/contract/deals/{gap.instrument.symbol}?limit=100"
        return Call(Request(url), lambda body: Page(_recovered(gap, _deals.decode(_unwrap(body)), _from_deal)))

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted = {instrument.symbol: instrument for instrument in instruments if instrument.kind != "spot"}

        def read(body: bytes) -> Page[OpenInterest]:
            return Page(
                [
                    _open_interest(wanted[row.symbol], row.holdVol, row)
                    for row in _tickers.decode(_unwrap(body))
                    if row.symbol in wanted and row.holdVol is not None
                ]
            )

        return (Call(Request(self.url("rest-futures") + "/api/v1/contract/ticker"), read),) if wanted else ()


def _from_aggregate(row: Aggregate) -> tuple[int, float, float, bool]:
    return row.T, row.p, row.q, not row.m


def _from_deal(row: Deal) -> tuple[int, float, float, bool]:
    return row.t, row.p, row.v, row.T == BUY


def _recovered(gap: Gap, found: Sequence[Any], values: Callable[[Any], tuple[int, float, float, bool]]) -> list[Trade]:
    """Rows of REST as trades, oldest first."""
    instrument = gap.instrument
    make = MexcDecoder({instrument.symbol: instrument}, instrument.endpoint).trade
    made = [make(instrument.symbol, *values(row)) for row in found]
    trades = gap.missing(made)
    return sorted(trades, key=lambda trade: trade.ts_ms)


def _open_interest(instrument: Instrument, contracts: float, row: Ticker) -> OpenInterest:
    amount, funding = contracts * instrument.contract_size, rate(row.fundingRate)
    if instrument.inverse:
        return OpenInterest(instrument, row.timestamp, None, amount, funding)
    return OpenInterest(instrument, row.timestamp, amount, None, funding)
