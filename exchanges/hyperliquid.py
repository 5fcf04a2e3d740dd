"""Hyperliquid perpetuals.

Sources: the exchange's API documentation (websocket subscriptions, info endpoint, rate limits), autumn 2026.
Each subscription starts with a push of some 30 past trades that nothing marks but its being the first of its coin.
Coins are case-sensitive: `kPEPE` is a thousand PEPE. Liquidations are ordinary trades that nothing tells apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
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
    Time,
    Trade,
    Unknown,
    base_asset,
    rows,
)
from exchanges.image import past
from exchanges.numbers import lax, rate

TRADES = "trades:"
INFO_WEIGHT = 20


class Row(msgspec.Struct, gc=False):
    """A trade; the same in pushes and in `recentTrades`. `B` means that the taker bought, `A` that it sold."""

    coin: str
    side: Literal["B", "A"]
    px: float
    sz: float
    time: int
    tid: int


class Usual(Bounded):
    """A trade."""

    symbol: str = msgspec.field(name="coin")
    side: Literal["B", "A"]
    price: Price = msgspec.field(name="px")
    quantity: Quantity = msgspec.field(name="sz")
    time: Time
    id: Id = msgspec.field(name="tid")


class Traded(msgspec.Struct, gc=False, tag_field="channel", tag="trades"):
    """Nearly every frame."""

    data: list[Usual]


class Trades(msgspec.Struct, gc=False, tag_field="channel", tag="trades"):
    data: list[Row]


class Subscription(msgspec.Struct, gc=False):
    type: str = ""
    coin: str = ""


class Response(msgspec.Struct, gc=False):
    method: str
    subscription: Subscription


class Answer(msgspec.Struct, gc=False, tag_field="channel", tag="subscriptionResponse"):
    data: Response


class Pong(msgspec.Struct, gc=False, tag_field="channel", tag="pong"):
    pass


class Error(msgspec.Struct, gc=False, tag_field="channel", tag="error"):
    data: str


class Envelope(msgspec.Struct, gc=False):
    """A message whose rows are read one by one."""

    channel: str
    data: msgspec.Raw = msgspec.Raw(b"[]")


_message: msgspec.json.Decoder[Trades | Answer | Pong | Error] = msgspec.json.Decoder(
    Trades | Answer | Pong | Error, strict=False
)
_traded = lax(Traded)
_envelope = lax(Envelope)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_row = lax(Row)
_COIN = re.compile(r'"coin"\s*:\s*"([^"]{1,40})"')


class HyperliquidDecoder(QuickDecoder):
    """Trades and answers. Knows which coins have had their first push on this connection.

    Each coin that ever traded has an image, so the first push is taken for one whether or not its subscription was seen.
    """

    buy = "B"

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._live: set[str] = set()

    def quick(self, frame: Buffer) -> Quick | None:
        found = _traded.decode(frame).data
        return (None, found) if found and found[0].symbol in self._live else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(frame)
        if type(message) is Trades:
            return self.live_or_past([self.traded(row) for row in message.data])
        if type(message) is Answer:
            return self.answered(message.data)
        return (self.failed(message.data),) if type(message) is Error else ALIVE

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        envelope = _envelope.decode(frame)
        if envelope.channel != "trades":
            return (Unknown(f"channel {envelope.channel[:40]}"),)
        return self.live_or_past(rows(_raw_rows.decode(envelope.data), _row, self.traded))

    def traded(self, row: Row) -> Event:
        return self.trade(row.coin, row.time, row.px, row.sz, row.side == "B", row.tid)

    def live_or_past(self, events: list[Event]) -> Sequence[Event]:
        """The first push of each coin is over already; a push is of one coin."""
        first = next((e.instrument.symbol for e in events if type(e) is Trade), "")
        if not first or first in self._live:
            return events
        self._live.add(first)
        return past(events)

    def answered(self, response: Response) -> Sequence[Event]:
        if response.method != "subscribe":
            return ALIVE
        return (Acked((f"{response.subscription.type}:{response.subscription.coin}",)),)

    def failed(self, reason: str) -> Event:
        """A refusal, which quotes the subscription. A repeated one is refused as well, and brings no history."""
        named = _COIN.search(reason)
        topics = (TRADES + named[1],) if named else ()
        if named is not None and named[1] in self.instruments and reason.lower().startswith("already subscribed"):
            self._live.add(named[1])
            return Acked(topics)
        return Rejected(topics, reason[:160])

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._live.difference_update(topic.removeprefix(TRADES) for topic in topics)
        return [_ask("subscribe", topic) for topic in topics]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("unsubscribe", topic) for topic in topics]

    def ping(self, now_ms: int) -> Frame:
        return '{"method":"ping"}'


def _ask(method: str, topic: str) -> Frame:
    kind, _, coin = topic.partition(":")
    return msgspec.json.encode({"method": method, "subscription": {"type": kind, "coin": coin}}).decode()


class Asset(msgspec.Struct):
    name: str
    isDelisted: bool = False


class Universe(msgspec.Struct):
    """Answer of `meta`."""

    universe: list[Asset]


class Context(msgspec.Struct):
    """What `metaAndAssetCtxs` says of one asset, in the order of the universe."""

    openInterest: float
    markPx: float | None = None
    funding: float | str | None = None


_universe = lax(Universe)
_contexts: msgspec.json.Decoder[tuple[Universe, list[Context]]] = msgspec.json.Decoder(
    tuple[Universe, list[Context]], strict=False
)
_recent = lax(list[Row])


class Hyperliquid(Exchange):
    """https://hyperliquid.xyz, the perpetuals of its own book (not spot, not those that builders list)."""

    id: ClassVar[str] = "HYPERLIQUID"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "perp",
            "wss://api.hyperliquid.xyz/ws",
            streams_per_connection=200,
            topics_per_frame=1,
            frames=Rate(20, 1),
            ping_s=30,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.hyperliquid.xyz"}
    limits: ClassVar[Limits] = Limits(connects=Rate(30, 60), rest=Rate(1200, 60), connections=10)
    kinds: ClassVar[tuple[Kind, ...]] = ("perp",)
    usual: ClassVar[tuple[str, ...]] = ("{base}",)
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "the newest few trades of a coin"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    funding_s: ClassVar[float] = 3_600.0
    notes: ClassVar[tuple[str, ...]] = (
        "The first push of each subscription repeats about 30 past trades without saying so: it is not counted as live.",
        "Liquidations are traded like any order and cannot be told apart: they are in the volume, not in lbuy and lsell.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return HyperliquidDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        return (Stream(instrument.endpoint, TRADES + instrument.symbol, instrument),)

    def _info(self, **query: str) -> Request:
        return Request(f"{self.url('rest')}/info", "POST", msgspec.json.encode(query), weight=INFO_WEIGHT)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(self._info(type="meta"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        return Page([self._instrument(row.name, not row.isDelisted) for row in _universe.decode(body).universe])

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        return self._instrument(symbol)

    def _instrument(self, coin: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(coin)
        return Instrument(self.id, coin, coin, "perp", asset, "USDC", "perp", multiplier=multiplier, active=active)

    def recover(self, gap: Gap) -> Call[Trade]:
        instrument = gap.instrument
        make = HyperliquidDecoder({instrument.symbol: instrument}, instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            made = [make(row) for row in _recent.decode(body)]
            trades = gap.missing(made)
            return Page(sorted(trades, key=lambda trade: trade.ts_ms))

        return Call(self._info(type="recentTrades", coin=instrument.symbol), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted = {instrument.symbol: instrument for instrument in instruments}

        def read(body: bytes) -> Page[OpenInterest]:
            listed, contexts = _contexts.decode(body)
            if len(listed.universe) != len(contexts):
                raise BadMessage(f"{len(listed.universe)} assets but {len(contexts)} contexts")
            return Page(
                [
                    _open_interest(instrument, row)
                    for asset, row in zip(listed.universe, contexts, strict=True)
                    if (instrument := wanted.get(asset.name)) is not None
                ]
            )

        return (Call(self._info(type="metaAndAssetCtxs"), read),) if wanted else ()


def _open_interest(instrument: Instrument, row: Context) -> OpenInterest:
    """Coins, what they are worth, and the rate of an hour."""
    usd = row.markPx and row.openInterest * row.markPx
    return OpenInterest(instrument, None, row.openInterest, usd, rate(row.funding))
