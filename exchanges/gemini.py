"""Gemini: spot and perpetuals on one socket.

Sources: the exchange's documentation (WebSocket: message format, trade stream, ping; REST: List Trades, List Symbols,
risk stats), autumn 2026, and recorded frames of both sockets.

- `E` is the trade's time in nanoseconds, which floats do not hold: it is floored as an integer.
- `m` says that the buyer was the maker, so that the seller was the aggressor. The older socket's `side` is the taker's.
- `q` is in coins, for perpetuals too.
- `t` grows per market and is history's `tid`.
- The listing has names only, history the next 500 trades after an id or a time.
- Auctions and block trades have no aggressor: they are Excluded.

Frames of the older socket (`/v2/marketdata`) are read as well, for archives: it begins with an image of past trades, and
its symbols are capitals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
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
    Excluded,
    Frame,
    Gap,
    Id,
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
    TimeNs,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
    split_pair,
)
from exchanges.image import past
from exchanges.numbers import lax

QUOTES = ("RLUSD", "USDT", "USDC", "USD", "EUR", "GBP", "SGD", "AUD", "CAD", "DAI", "BTC", "ETH", "BCH", "LTC", "FIL")
AGAINST_GUSD = frozenset({"BTC", "ETH", "SOL", "USDT", "USDC"})
"""What trades on spot against GUSD: of `paxgusd` the spelling alone would say PAX against GUSD."""
PERPETUAL = "PERP"
OK = 200
PAGE_ROWS = 500
TOPICS_PER_FRAME = 100
NS_PER_MS = 1_000_000


class Deal(msgspec.Struct, gc=False):
    """A trade of the current socket."""

    E: int
    s: str
    t: int
    p: float
    q: float
    m: bool


class Traded(Bounded):
    """Nearly every frame: a trade."""

    time: TimeNs = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    id: Id = msgspec.field(name="t")
    price: Price = msgspec.field(name="p")
    quantity: Quantity = msgspec.field(name="q")
    side: bool = msgspec.field(name="m")


class OldDeal(msgspec.Struct, gc=False):
    """A trade of the older socket; without a side where it was no trade of the book."""

    symbol: str
    event_id: int
    timestamp: int
    price: float
    quantity: float
    side: Literal["buy", "sell"] | None = None


class Refusal(msgspec.Struct, gc=False):
    code: int = 0
    msg: str = ""


class Message(msgspec.Struct, gc=False):
    """Everything else: answers by `id`, the older socket's messages by `type`."""

    id: int | str | None = None
    status: int | None = None
    error: Refusal | None = None
    type: str = ""
    trades: list[msgspec.Raw] = []


_traded = lax(Traded)
_deal = lax(Deal)
_old_deal = lax(OldDeal)
_message = lax(Message)
_topics = re.compile(r"\w+@\w+")


class GeminiDecoder(QuickDecoder):
    """Frames of both sockets; subscribes on the current one."""

    buy = False  # whether the buyer made
    per_ms = NS_PER_MS

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def quick(self, frame: Buffer) -> Quick | None:
        return None, (_traded.decode(frame),)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            row = _deal.decode(frame)
        except msgspec.ValidationError as error:
            return self.other(frame, error)
        return (self.trade(row.s, row.E // NS_PER_MS, row.p, row.q, not row.m, row.t),)

    def other(self, frame: Buffer, error: msgspec.ValidationError) -> Sequence[Event]:
        """What is no trade of the current socket, or a damaged one."""
        message = _message.decode(frame)
        if message.type == "trade":
            return (self.old(_old_deal.decode(frame)),)
        if message.type == "l2_updates":  # its trades are those before the subscription; none in later ones
            return past(rows(message.trades, _old_deal, self.old)) if message.trades else ALIVE
        if message.type == "heartbeat":
            return ALIVE
        if message.id is not None:
            return (self.answer(message),)
        if message.type:
            return (Unknown(f"type {message.type[:40]}"),)
        raise BadMessage(str(error)[:200]) from error

    def old(self, row: OldDeal) -> Event:
        """A trade of the older socket, whose capitals may be the small letters that we asked for."""
        if row.side is None:
            return Excluded("auction or block, which has no aggressor")
        symbol = row.symbol if self.instruments.get(row.symbol) is not None else row.symbol.lower()
        return self.trade(symbol, row.timestamp, row.price, row.quantity, row.side == "buy", row.event_id)

    def answer(self, message: Message) -> Event:
        """The answer to a request, whose id may come back as text. A refusal may name one topic of several."""
        topics = self._asked.pop(str(message.id), ())
        if message.error is None and message.status in (None, OK):
            return Acked(topics)
        reason = f"{message.error.code} {message.error.msg}" if message.error else f"status {message.status}"
        named = {*_topics.findall(reason)}
        return Rejected(tuple(topic for topic in topics if topic in named) or topics, reason[:160])

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            frames.append(self._ask("SUBSCRIBE", part))
            self._asked[str(self.request_id)] = tuple(part)
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("UNSUBSCRIBE", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def _ask(self, method: str, topics: Sequence[str]) -> Frame:
        return msgspec.json.encode({"method": method, "params": topics, "id": self.next_id()}).decode()


class Past(msgspec.Struct):
    """A row of history. `type` is the taker's side, or `auction` or `block`; `broken` trades were taken back."""

    timestampms: int
    tid: int
    price: float
    amount: float
    type: str
    broken: bool = False


class RiskStats(msgspec.Struct):
    """What is open of one perpetual, in coins and dollars."""

    open_interest: float
    open_interest_notional: float | None = None


_symbols = msgspec.json.Decoder(list[str])
_history = lax(list[Past])
_risk = lax(RiskStats)


class Gemini(Exchange):
    """https://gemini.com."""

    id: ClassVar[str] = "GEMINI"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            name="market",
            url="wss://ws.gemini.com/?snapshot=-1",
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
        "Its funding is published as an amount whose sign is not documented, and is not asked for.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return GeminiDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, f"{instrument.symbol.lower()}@trade", instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/v1/symbols"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        names = _symbols.decode(body)
        if not names:
            raise BadMessage("an empty list of symbols")
        return Page([self.assume(name.lower()) for name in names])

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        base, quote, perpetual = _parts(symbol.upper())
        asset, multiplier = base_asset(base)
        return Instrument(
            self.id,
            symbol.lower(),
            symbol,
            "perp" if perpetual else "spot",
            asset,
            quote,
            "market",
            multiplier=multiplier,
        )

    def recover(self, gap: Gap) -> Call[Trade]:
        if isinstance(gap.after_id, int):
            return self._history(gap, f"since_tid={gap.after_id}", gap.after_id)
        return self._history(gap, f"timestamp={gap.after_ms - 1}", -1)  # trades *after* this time, says the manual

    def _history(self, gap: Gap, query: str, after_id: int) -> Call[Trade]:
        url = f"{self.url('rest')}/v1/trades/{gap.instrument.symbol.lower()}?limit_trades={PAGE_ROWS}&{query}"
        return Call(Request(url), partial(self._read_history, gap, after_id))

    def _read_history(self, gap: Gap, after_id: int, body: bytes) -> Page[Trade]:
        """A page of the trades next after one, newest first; the last id leads to the following page."""
        found = sorted(_history.decode(body), key=lambda row: row.tid)
        make = GeminiDecoder({gap.instrument.symbol: gap.instrument}, gap.instrument.endpoint).trade
        trades = gap.missing(
            make(gap.instrument.symbol, row.timestampms, row.price, row.amount, row.type == "buy", row.tid)
            for row in found
            if row.type in ("buy", "sell") and not row.broken
        )
        if len(found) < PAGE_ROWS or found[-1].tid <= after_id or _reached(gap, found[-1]):
            return Page(trades)
        return Page(trades, self._history(gap, f"since_tid={found[-1].tid}", found[-1].tid))

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [
            Call(Request(f"{self.url('rest')}/v1/riskstats/{of.symbol.lower()}"), partial(_read_risk, of))
            for of in instruments
            if of.kind == "perp"
        ]


def _parts(name: str) -> tuple[str, str, bool]:
    """Base, quote and whether it is a perpetual, of a name in capitals.

    >>> _parts("PAXGUSD"), _parts("BTCGUSDPERP")
    (('PAXG', 'USD', False), ('BTC', 'GUSD', True))
    """
    pair = name.removesuffix(PERPETUAL)
    perpetual = pair != name
    against_gusd = pair.removesuffix("GUSD")
    if against_gusd != pair and (perpetual or against_gusd in AGAINST_GUSD):
        return against_gusd, "GUSD", perpetual
    return *split_pair(pair, QUOTES), perpetual


def _reached(gap: Gap, last: Past) -> bool:
    if isinstance(gap.before_id, int):
        return last.tid >= gap.before_id - 1
    return last.timestampms > gap.before_ms


def _read_risk(of: Instrument, body: bytes) -> Page[OpenInterest]:
    row = _risk.decode(body)
    return Page([OpenInterest(of, None, row.open_interest, row.open_interest_notional)])
