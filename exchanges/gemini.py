"""Gemini spot and perpetuals.

Sources: the exchange's API documentation (websocket v3 `@trade` streams, v2 market data, REST trades and risk stats),
autumn 2026. Times are nanoseconds; `m` says that the buyer was the maker. Frames of the older v2 socket are read too: its
`l2_updates` hold an image of past trades, its symbols are capitals.
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
    OpenInterest,
    Page,
    Past,
    Rate,
    Recovery,
    Rejected,
    Request,
    Stream,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
    split_pair,
)
from exchanges.numbers import lax

TRADES = "@trade"
TOPICS_PER_FRAME = 100
NS_PER_MS = 1_000_000
PAGE_ROWS = 500
OK = 200


class Live(msgspec.Struct, gc=False):
    """A trade of the v3 socket."""

    E: int
    s: str
    t: int
    p: float
    q: float
    m: bool


class Old(msgspec.Struct, gc=False):
    """A trade of the v2 socket. Auctions and blocks have no side."""

    symbol: str
    event_id: int
    timestamp: int
    price: float
    quantity: float
    side: Literal["buy", "sell"] | None = None


class Refusal(msgspec.Struct, gc=False):
    code: int = 0
    msg: str = ""


class Other(msgspec.Struct, gc=False):
    """Everything that is not a trade of the v3 socket: answers to requests, messages of the v2 socket."""

    type: str = ""
    symbol: str = ""
    trades: list[msgspec.Raw] = []
    id: int | str | None = None
    status: int | None = None
    error: Refusal | None = None


_live, _old, _other = lax(Live), lax(Old), lax(Other)


class GeminiDecoder(Decoder):
    """Trades and answers."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            return (self.live(_live.decode(frame)),)
        except msgspec.ValidationError as error:
            return self.other(frame, error)

    def live(self, row: Live) -> Event:
        return self.trade(row.s, row.E // NS_PER_MS, row.p, row.q, not row.m, row.t)

    def old(self, row: Old) -> Event:
        if row.side is None:
            return Excluded("auction or block, which has no aggressor")
        symbol = row.symbol if self.instruments.get(row.symbol) is not None else row.symbol.lower()
        return self.trade(symbol, row.timestamp, row.price, row.quantity, row.side == "buy", row.event_id)

    def other(self, frame: Buffer, error: msgspec.ValidationError) -> Sequence[Event]:
        message = _other.decode(frame)
        if message.type == "trade":
            return (self.old(_old.decode(frame)),)
        if message.type == "l2_updates":
            return self.image(message.trades)
        if message.type == "heartbeat":
            return ALIVE
        if message.id is not None:
            return (self.answered(message),)
        if message.type:
            return (Unknown(f"type {message.type[:40]}"),)
        raise BadMessage(str(error)[:200]) from error

    def image(self, raw: Sequence[msgspec.Raw]) -> Sequence[Event]:
        """Trades that come with the book are over already; later ones come as messages of their own."""
        events = rows(raw, _old, self.old)
        past = [event for event in events if type(event) is Trade]
        return [*([Past(past)] if past else []), *(event for event in events if type(event) is not Trade)] or ALIVE

    def answered(self, message: Other) -> Event:
        topics = self._asked.pop(str(message.id), ())
        if message.error is None and message.status in (None, OK):
            return Acked(topics)
        reason = f"{message.error.code} {message.error.msg}" if message.error else f"status {message.status}"
        return Rejected(tuple(topic for topic in topics if topic in reason) or topics, reason[:160])

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            self._asked[str(self.request_id + 1)] = tuple(part)
            frames.append(self._ask("SUBSCRIBE", part))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("UNSUBSCRIBE", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def _ask(self, method: str, topics: Sequence[str]) -> Frame:
        return msgspec.json.encode({"method": method, "params": topics, "id": self.next_id()}).decode()


class Listed(msgspec.Struct):
    """A row of trades by REST; `type` is the taker's side, or `auction`, `block`."""

    timestampms: int
    tid: int
    price: float
    amount: float
    type: str
    broken: bool = False


class Risk(msgspec.Struct):
    """The open interest in risk stats, in base coins and dollars."""

    open_interest: float
    open_interest_notional: float | None = None


_symbols, _past, _risk = msgspec.json.Decoder(list[str]), lax(list[Listed]), lax(Risk)

QUOTES = ("rlusd", "usdt", "usdc", "usd", "eur", "gbp", "sgd", "aud", "cad", "dai", "btc", "eth", "fil", "ltc", "bch")
_GUSD_BASES = frozenset({"btc", "eth", "sol", "usdc", "usdt"})
"""What is traded against GUSD: by spelling alone `paxgusd` would be PAX against GUSD rather than PAXG against USD."""


def parts(symbol: str) -> tuple[str, str, Kind]:
    """Base, quote and kind by the exchange's spelling.

    >>> parts("btcusd"), parts("paxgusd"), parts("btcgusdperp")
    (('btc', 'usd', 'spot'), ('paxg', 'usd', 'spot'), ('btc', 'gusd', 'perp'))
    """
    if symbol.endswith("perp"):
        pair = symbol.removesuffix("perp")
        return pair[:-4], pair[-4:], "perp"
    if symbol.endswith("gusd") and symbol[:-4] in _GUSD_BASES:
        return symbol[:-4], "gusd", "spot"
    return *split_pair(symbol, QUOTES), "spot"


class Gemini(Exchange):
    """https://gemini.com."""

    id: ClassVar[str] = "GEMINI"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "market",
            "wss://ws.gemini.com/?snapshot=-1",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(2, 1),
            ping_s=20,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.gemini.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(60, 60), rest=Rate(120, 60), connections=20)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{lower}usd",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by id, the last seven days"
    has_open_interest: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "The list of symbols holds names only: base, quote and whether it is a perpetual are read from the spelling.",
        "Auctions and block trades have no aggressor and are not counted.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return GeminiDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, instrument.symbol + TRADES, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/v1/symbols"), self._read_symbols),)

    def _read_symbols(self, body: bytes) -> Page[Instrument]:
        symbols = _symbols.decode(body)
        if not symbols:
            raise BadMessage("an empty listing")
        return Page([self.assume(symbol) for symbol in symbols])

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        pair = symbol.lower()
        base, quote, spelled = parts(pair)
        asset, multiplier = base_asset(base.upper())
        return Instrument(self.id, pair, symbol, spelled, asset, quote.upper(), "market", multiplier=multiplier)

    def recover(self, gap: Gap) -> Call[Trade]:
        if isinstance(gap.after_id, int):
            return self._history(gap, f"since_tid={gap.after_id}")
        return self._history(gap, f"timestamp={gap.after_ms - 1}")

    def _history(self, gap: Gap, query: str) -> Call[Trade]:
        """The oldest trades after a time or an id, newest first."""
        url = f"{self.url('rest')}/v1/trades/{gap.instrument.symbol}?limit_trades={PAGE_ROWS}&{query}"
        return Call(Request(url), lambda body: self._read_history(gap, body))

    def _read_history(self, gap: Gap, body: bytes) -> Page[Trade]:
        instrument = gap.instrument
        make = GeminiDecoder({instrument.symbol: instrument}, instrument.endpoint).trade
        past = sorted(_past.decode(body), key=lambda row: row.tid)
        made = [
            make(instrument.symbol, row.timestampms, row.price, row.amount, row.type == "buy", row.tid)
            for row in past
            if row.type in ("buy", "sell") and not row.broken
        ]
        trades = gap.missing(made)
        if len(past) < PAGE_ROWS or past[-1].timestampms > gap.before_ms:
            return Page(trades)
        return Page(trades, self._history(gap, f"since_tid={past[-1].tid}"))

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(instrument) for instrument in instruments if instrument.kind == "perp"]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            row = _risk.decode(body)
            return Page([OpenInterest(instrument, None, row.open_interest, row.open_interest_notional)])

        return Call(Request(f"{self.url('rest')}/v1/riskstats/{instrument.symbol}"), read)
