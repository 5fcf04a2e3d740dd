"""Binance spot.

Sources: the exchange's API documentation (web-socket-streams, rest-api/public-api-endpoints), autumn 2026.
`@aggTrade` is used rather than `@trade`: the REST history holds the same aggregates under the same ids, so that a gap
is filled exactly; `f` and `l` give the number of matches. Frames of `@trade` are read too (older captures).
`Binance` is also the base of the exchanges that speak its protocol.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    COUNT_MAX,
    NOTIONAL_MAX,
    UNREADABLE,
    Acked,
    Asked,
    BadMessage,
    Buffer,
    Call,
    Decoder,
    Endpoint,
    Event,
    Exchange,
    Excluded,
    Frame,
    Gap,
    Hurried,
    Id,
    Instrument,
    Kind,
    Limits,
    Natural,
    Page,
    Price,
    Quantity,
    Rate,
    Recovery,
    Rejected,
    Request,
    Run,
    Stream,
    Time,
    Trade,
    base_asset,
    chunks,
    split_pair,
)
from exchanges.numbers import lax

QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD1", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")
HOUR_MS = 3_600_000
TOPICS_PER_FRAME = 200


class Aggregate(msgspec.Struct, gc=False, tag_field="e", tag="aggTrade"):
    """Matches of one taker order at one price. REST history has the same fields but `e` and `s`."""

    a: int
    p: float
    q: float
    f: int
    l: int  # noqa: E741
    T: int
    m: bool
    s: str = ""


class Bounded(msgspec.Struct, gc=False, tag_field="e", tag="aggTrade"):
    """An aggregate whose values are in range; its fields in the order of the wire."""

    s: str
    a: Id
    p: Price
    q: Quantity
    f: Natural
    l: Natural  # noqa: E741
    T: Time
    m: bool


class Aggregated(msgspec.Struct, gc=False):
    """Nearly every frame."""

    data: Bounded


class Match(msgspec.Struct, gc=False, tag_field="e", tag="trade"):
    """A single match. `X` (futures only) tells fills of the public book from the others."""

    s: str
    t: int
    p: float
    q: float
    T: int
    m: bool
    X: str = "MARKET"


class Order(msgspec.Struct, gc=False):
    """The order within a `forceOrder` message (futures)."""

    s: str
    S: Literal["BUY", "SELL"]
    p: float
    ap: float
    z: float
    X: str
    T: int


class Forced(msgspec.Struct, gc=False, tag_field="e", tag="forceOrder"):
    o: Order


class Refusal(msgspec.Struct, gc=False):
    code: int = 0
    msg: str = ""


class Message(msgspec.Struct, gc=False):
    """A frame of a combined stream, or an answer to a request of ours."""

    data: Aggregate | Match | Forced | None = None
    id: int | None = None
    error: Refusal | None = None


_aggregated = lax(Aggregated).decode
_decode = lax(Message).decode
_bare: msgspec.json.Decoder[Aggregate | Match | Forced] = msgspec.json.Decoder(Aggregate | Match | Forced, strict=False)


class BinanceDecoder(Hurried):
    """Frames of Binance and its likes (US, USD-M, COIN-M, Aster)."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def quickly(self, frames: Sequence[Buffer]) -> tuple[int, Iterable[Run]]:
        """As `QuickDecoder` has it, for rows that tell their number of matches by the first and the last."""
        runs: dict[str, Run] = {}
        decode, instruments, symbol, at = _aggregated, self.instruments, None, 0
        try:
            for at, frame in enumerate(frames):  # noqa: B007  # where it ended
                row = decode(frame).data
                if row.s != symbol:
                    instrument, symbol = instruments[row.s], row.s
                    run = runs.get(symbol) or runs.setdefault(symbol, [])
                price, size, count = row.p, row.q * instrument.contract_size, row.l - row.f + 1
                if instrument.inverse:
                    size /= price
                if not (0 < count < COUNT_MAX and 0.0 < price * size < NOTIONAL_MAX):
                    raise ValueError("out of range")
                run.append(Trade(instrument, row.T, price, size, not row.m, row.a, count))
        except UNREADABLE:
            return at, filter(None, runs.values())
        return len(frames), runs.values()

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        message = _decode(frame)
        row = message.data
        if row is None:
            if message.id is not None or message.error is not None:
                return self.control(message)
            row = _bare.decode(frame)  # without the envelope: streams of `/ws`
        if type(row) is Aggregate:
            first, last = row.f, row.l
            if not 0 <= first <= last:
                raise BadMessage("aggregate of no matches")
            return (self.trade(row.s, row.T, row.p, row.q, not row.m, row.a, last - first + 1),)
        if type(row) is Match:
            if row.X not in ("MARKET", "RPI"):  # INSURANCE_FUND, ADL, NA: not of the public book
                return (Excluded(f"execution type {row.X[:20]}"),)
            return (self.trade(row.s, row.T, row.p, row.q, not row.m, row.t),)
        assert type(row) is Forced
        return self.forced(row.o)

    def forced(self, order: Order) -> Sequence[Event]:
        """A liquidation; only the last state of the order has its full quantity. Its price is the order's, as elsewhere."""
        if order.X != "FILLED":
            return (Excluded("forced order not filled yet"),)
        price = order.p if order.p > 0 else order.ap
        return (self.liquidation(order.s, order.T, price, order.z, order.S == "BUY"),)

    def control(self, message: Message) -> Sequence[Event]:
        """Answers to our own requests; one that ends subscriptions acknowledges nothing."""
        topics = self._asked.pop(message.id, ()) if message.id is not None else ()
        if message.error is not None:
            return (Rejected(topics, f"{message.error.code} {message.error.msg}"[:160]),)
        return (Acked(topics),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            self._asked[self.request_id + 1] = tuple(part)
            frames.append(self._ask("SUBSCRIBE", part))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("UNSUBSCRIBE", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def _ask(self, method: str, topics: Sequence[str]) -> Frame:
        return msgspec.json.encode({"method": method, "params": topics, "id": self.next_id()}).decode()


class Listed(msgspec.Struct):
    """A row of exchangeInfo, of all products: COIN-M says `contractStatus` and `contractSize`, the others `status`."""

    symbol: str
    baseAsset: str
    quoteAsset: str
    status: str = ""
    contractStatus: str = ""
    contractSize: float = 1.0


class ExchangeInfo(msgspec.Struct):
    symbols: list[Listed]


_info = lax(ExchangeInfo)
_aggregates = lax(list[Aggregate])
PAGE_ROWS = 1000
_DATED = re.compile(r".+_\d{6}")


def socket(name: str, url: str, frames_per_s: float) -> Endpoint:
    """A socket of combined streams, closed after a day; the ids of its aggregates have no holes."""
    return Endpoint(
        name,
        url,
        streams_per_connection=200,
        topics_per_frame=TOPICS_PER_FRAME,
        frames=Rate(frames_per_s, 1),
        max_age_s=24 * 3600,
        gapless=True,
    )


class Binance(Exchange):
    """https://binance.com spot, by way of its market-data-only hosts."""

    id: ClassVar[str] = "BINANCE"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (socket("spot", "wss://data-stream.binance.vision:9443/stream", 4),)
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://data-api.binance.vision"}
    paths: ClassVar[Mapping[str, tuple[str, str]]] = {"spot": ("rest", "/api/v3")}
    """Of each endpoint's product: the name of its REST address, and the path to which `/exchangeInfo` and so on are added."""
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(6000, 60), connections=300)
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id, all history"
    notes: ClassVar[tuple[str, ...]] = ("Trades are aggregates: fills of one order at one price, with their number.",)
    listing_weight: ClassVar[float] = 20
    history_weight: ClassVar[float] = 4

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BinanceDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        forced = liquidations and instrument.kind != "spot"
        name = instrument.symbol.lower()
        channels = ("aggTrade", "forceOrder") if forced else ("aggTrade",)
        return [Stream(instrument.endpoint, f"{name}@{channel}", instrument) for channel in channels]

    def rest_url(self, endpoint: str) -> str:
        """What REST paths of that endpoint's product begin with."""
        name, path = self.paths[endpoint]
        return self.url(name) + path

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing(endpoint) for endpoint in self.paths]

    def _listing(self, endpoint: str) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            return Page([self.listed(row, endpoint) for row in _info.decode(body).symbols])

        return Call(Request(self.rest_url(endpoint) + "/exchangeInfo", weight=self.listing_weight), read)

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        return self.assumed(symbol, "spot")

    def assumed(self, symbol: str, endpoint: str) -> Instrument:
        """The instrument by its symbol alone, which begins with base and quote."""
        return self.listed(Listed(symbol, *split_pair(symbol.partition("_")[0], QUOTES), "TRADING"), endpoint)

    def pair(self, symbol: str, endpoint: str) -> str:
        """Our name of a market."""
        return symbol.lower()

    def listed(self, row: Listed, endpoint: str) -> Instrument:
        """What a row of that endpoint's exchangeInfo stands for."""
        asset, multiplier = base_asset(row.baseAsset)
        perpetual_or_future: Kind = "future" if _DATED.fullmatch(row.symbol) else "perp"
        return Instrument(
            self.id,
            self.pair(row.symbol, endpoint),
            row.symbol,
            "spot" if endpoint == "spot" else perpetual_or_future,
            asset,
            row.quoteAsset,
            endpoint,
            multiplier=multiplier,
            active="TRADING" in (row.status, row.contractStatus),
        )

    def recover(self, gap: Gap) -> Call[Trade]:
        if isinstance(gap.after_id, int):
            return self._history_from(gap, gap.after_id + 1)
        return self._history_at(gap, gap.after_ms)

    def _history_at(self, gap: Gap, from_ms: int) -> Call[Trade]:
        """By time, an hour at most: used until a page gives an id to go on from."""
        to_ms = min(gap.before_ms, from_ms + HOUR_MS - 1)

        def read(body: bytes) -> Page[Trade]:
            later = self._history_at(gap, to_ms + 1) if to_ms < gap.before_ms else None
            return self._read_history(gap, body, later)

        return self._history(gap, f"startTime={from_ms}&endTime={to_ms}", read)

    def _history_from(self, gap: Gap, from_id: int) -> Call[Trade]:
        """By id, which neither repeats nor skips a row."""
        return self._history(gap, f"fromId={from_id}", lambda body: self._read_history(gap, body))

    def _history(self, gap: Gap, query: str, read: Callable[[bytes], Page[Trade]]) -> Call[Trade]:
        address = self.rest_url(gap.instrument.endpoint) + "/aggTrades"
        url = f"{address}?symbol={gap.instrument.symbol}&limit={PAGE_ROWS}&{query}"
        return Call(Request(url, weight=self.history_weight), read)

    def _read_history(self, gap: Gap, body: bytes, when_empty: Call[Trade] | None = None) -> Page[Trade]:
        """Ascending aggregates."""
        aggregates = _aggregates.decode(body)
        if not aggregates:
            return Page([], when_empty)
        make = BinanceDecoder({gap.instrument.symbol: gap.instrument}, gap.instrument.endpoint).trade
        trades = [
            made
            for row in aggregates
            if type(made := make(gap.instrument.symbol, row.T, row.p, row.q, not row.m, row.a, row.l - row.f + 1))
            is Trade
            and gap.covers(made)
        ]
        if gap.before_ms < aggregates[-1].T or _reached(gap.before_id, aggregates[-1].a):
            return Page(trades)
        return Page(trades, self._history_from(gap, aggregates[-1].a + 1))


def _reached(before_id: int | str | None, number: int) -> bool:
    return isinstance(before_id, int) and number >= before_id - 1
