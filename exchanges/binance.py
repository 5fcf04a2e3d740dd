"""Binance spot.

Sources: the exchange's API documentation (web-socket-streams, rest-api/public-api-endpoints), autumn 2026.
`@aggTrade` is used rather than `@trade`: the REST history holds the same aggregates under the same ids, so that a gap
is filled exactly; `f` and `l` give the number of matches. Frames of `@trade` are read too (older captures).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
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
    Instrument,
    Kind,
    Limits,
    Page,
    Rate,
    Recovery,
    Rejected,
    Request,
    Stream,
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


_message = lax(Message)
_bare: msgspec.json.Decoder[Aggregate | Match | Forced] = msgspec.json.Decoder(Aggregate | Match | Forced, strict=False)


class BinanceDecoder(Decoder):
    """Frames of Binance and its likes (US, USD-M, COIN-M, Aster)."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        message = _message.decode(frame)
        row = message.data
        if row is None:
            if message.id is not None or message.error is not None:
                return self.control(message)
            row = _bare.decode(frame)  # without the envelope: streams of `/ws`
        if type(row) is Aggregate:
            if not 0 <= row.f <= row.l:
                raise BadMessage("aggregate of no matches")
            return (self.trade(row.s, row.T, row.p, row.q, not row.m, row.a, row.l - row.f + 1),)
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


class Symbol(msgspec.Struct):
    """A row of spot's exchangeInfo."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str


class ExchangeInfo(msgspec.Struct):
    symbols: list[Symbol]


_info = lax(ExchangeInfo)
_aggregates = lax(list[Aggregate])
PAGE_ROWS = 1000


class Binance(Exchange):
    """https://binance.com spot, by way of its market-data-only hosts."""

    id: ClassVar[str] = "BINANCE"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            name="spot",
            url="wss://data-stream.binance.vision:9443/stream",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(4, 1),
            max_age_s=24 * 3600,
            gapless=True,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://data-api.binance.vision"}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(6000, 60), connections=300)
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id, all history"
    notes: ClassVar[tuple[str, ...]] = ("Trades are aggregates: fills of one order at one price, with their number.",)
    history_path: ClassVar[str] = "/api/v3/aggTrades"
    info_path: ClassVar[str] = "/api/v3/exchangeInfo"
    history_weight: ClassVar[float] = 4

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BinanceDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, f"{instrument.symbol.lower()}@aggTrade", instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + self.info_path, weight=20), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        return Page(
            [
                self._instrument(row.symbol, row.baseAsset, row.quoteAsset, active=row.status == "TRADING")
                for row in _info.decode(body).symbols
            ]
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        base, quote = split_pair(symbol, QUOTES)
        return self._instrument(symbol, base, quote)

    def _instrument(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(
            self.id,
            symbol.lower(),
            symbol,
            "spot",
            asset,
            quote,
            "spot",
            multiplier=multiplier,
            active=active,
        )

    def recover(self, gap: Gap) -> Call[Trade]:
        if isinstance(gap.after_id, int):
            return self._history_from(gap, gap.after_id + 1)
        return self._history_at(gap, gap.after_ms)

    def history_url(self, instrument: Instrument) -> str:
        """Where the aggregates of this market are."""
        return self.url("rest") + self.history_path

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
        url = f"{self.history_url(gap.instrument)}?symbol={gap.instrument.symbol}&limit={PAGE_ROWS}&{query}"
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
