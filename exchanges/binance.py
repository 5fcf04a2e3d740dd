"""Binance spot.

Sources: the exchange's API documentation (web-socket-streams, rest-api/public-api-endpoints), autumn 2026.
`@aggTrade` is used rather than `@trade`: the REST history holds the same aggregates under the same ids, so that a gap
is filled exactly; `f` and `l` give the number of matches. Frames of `@trade` are read too (older captures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    Acked,
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
)
from exchanges.numbers import lax

QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD1", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")
HOUR_MS = 3_600_000


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
        self._asked: dict[int, tuple[str, ...]] = {}

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
        """A liquidation; only the last state of the order has its full quantity."""
        if order.X != "FILLED":
            return (Excluded("forced order not filled yet"),)
        price = order.ap if order.ap > 0 else order.p
        return (self.liquidation(order.s, order.T, price, order.z, order.S == "BUY"),)

    def control(self, message: Message) -> Sequence[Event]:
        """Answers to our own requests."""
        topics = self._asked.pop(message.id, ()) if message.id is not None else ()
        if message.error is not None:
            return (Rejected(topics, f"{message.error.code} {message.error.msg}"[:160]),)
        return (Acked(topics),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("SUBSCRIBE", topics)

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("UNSUBSCRIBE", topics)

    def _ask(self, method: str, topics: Sequence[str]) -> Sequence[Frame]:
        request_id = self.next_id()
        self._asked[request_id] = tuple(topics)
        body = {"method": method, "params": list(topics), "id": request_id}
        return (msgspec.json.encode(body).decode(),)


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
            topics_per_frame=200,
            frames=Rate(4, 1),
            max_age_s=24 * 3600,
            gapless=True,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://data-api.binance.vision"}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(6000, 60), connections=300)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id, all history"

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
        base, quote = split_pair(symbol)
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
        return self._history(gap, f"startTime={gap.after_ms}&endTime={min(gap.before_ms, gap.after_ms + HOUR_MS)}")

    def _history(self, gap: Gap, query: str) -> Call[Trade]:
        url = f"{self.url('rest')}{self.history_path}?symbol={gap.instrument.symbol}&limit={PAGE_ROWS}&{query}"
        return Call(Request(url, weight=self.history_weight), lambda body: self._read_history(gap, body))

    def _read_history(self, gap: Gap, body: bytes) -> Page[Trade]:
        """Ascending aggregates. The first page is by time, the next by id, which neither repeats nor skips a row."""
        aggregates = _aggregates.decode(body)
        make = BinanceDecoder({gap.instrument.symbol: gap.instrument}, gap.instrument.endpoint).trade
        trades = [
            made
            for row in aggregates
            if type(made := make(gap.instrument.symbol, row.T, row.p, row.q, not row.m, row.a, row.l - row.f + 1))
            is Trade
        ]
        if not aggregates or gap.before_ms <= aggregates[-1].T:
            return Page(trades)
        return Page(trades, self._history(gap, f"fromId={aggregates[-1].a + 1}"))


def split_pair(symbol: str) -> tuple[str, str]:
    """Split `BTCUSDT` by the known quotes; an unknown one leaves the quote empty."""
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol, ""
