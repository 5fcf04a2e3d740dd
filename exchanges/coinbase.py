"""Coinbase: spot (exchange feed) and the perpetuals of Coinbase International (INTX, advanced-trade feed).

Sources: the exchange feed's and the advanced-trade documentation, autumn 2026. Both feeds name the side of the *maker*,
REST too; only the direct feed of International names the aggressor (it needs credentials: its frames are read, its socket
is not used). `last_match` and snapshots are trades from before the subscription. Spot's trade ids count up by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    Acked,
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
    TextId,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
)
from exchanges.image import past
from exchanges.numbers import iso_ms, lax, rate, usual_ms

MATCHES, MARKET_TRADES, HEARTBEATS = "matches", "market_trades", "heartbeats"
TOPICS_PER_FRAME = 100
PAGE_ROWS = 1000
TICKER_ROWS = 100


class Match(msgspec.Struct, gc=False, tag_field="type", tag="match"):
    """A trade of the exchange feed. REST history has the same fields but the product."""

    trade_id: int
    side: Literal["buy", "sell"]
    size: float
    price: float
    time: str
    product_id: str = ""


class Matched(Bounded, tag_field="type", tag="match"):
    """Nearly every frame of the exchange feed."""

    symbol: str = msgspec.field(name="product_id")
    id: Id = msgspec.field(name="trade_id")
    side: Literal["buy", "sell"]
    quantity: Quantity = msgspec.field(name="size")
    price: Price
    time: str


class LastMatch(Match, gc=False, tag_field="type", tag="last_match"):
    """The trade before the subscription."""


class Channel(msgspec.Struct, gc=False):
    name: str
    product_ids: list[str] = []


class Subscriptions(msgspec.Struct, gc=False, tag_field="type", tag="subscriptions"):
    """All that we are subscribed to, not only what is new."""

    channels: list[Channel] = []


class Failure(msgspec.Struct, gc=False, tag_field="type", tag="error"):
    """A refusal; both feeds have it."""

    message: str = ""
    reason: str = ""


class Heartbeat(msgspec.Struct, gc=False, tag_field="type", tag="heartbeat"):
    pass


class MarketTrade(msgspec.Struct, gc=False):
    """A trade of the advanced-trade feed and of its REST ticker."""

    product_id: str
    trade_id: str
    price: float
    size: float
    side: Literal["BUY", "SELL"]
    time: str


class TradesEvent(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[MarketTrade]


class MarketTrades(msgspec.Struct, gc=False, tag_field="channel", tag=MARKET_TRADES):
    events: list[TradesEvent]


class Usual(Bounded):
    """A trade of the advanced-trade feed."""

    trade_id: TextId
    symbol: str = msgspec.field(name="product_id")
    price: Price
    quantity: Quantity = msgspec.field(name="size")
    side: Literal["BUY", "SELL"]
    time: str

    @property
    def id(self) -> int | str:
        return _number(self.trade_id)


class Update(msgspec.Struct, gc=False):
    type: Literal["update"]
    trades: list[Usual]


class Updates(msgspec.Struct, gc=False, tag_field="channel", tag=MARKET_TRADES):
    """Nearly every frame of the advanced-trade feed."""

    events: list[Update]


class SubscriptionsEvent(msgspec.Struct, gc=False):
    subscriptions: dict[str, list[str]] = {}


class AdvancedSubscriptions(msgspec.Struct, gc=False, tag_field="channel", tag="subscriptions"):
    events: list[SubscriptionsEvent] = []


class Heartbeats(msgspec.Struct, gc=False, tag_field="channel", tag=HEARTBEATS):
    pass


class DirectMatch(msgspec.Struct, gc=False, tag_field="channel", tag="MATCH"):
    """A trade of International's own feed, which names the aggressor."""

    product_id: str
    match_id: str
    trade_price: float
    trade_qty: float
    aggressor_side: Literal["BUY", "SELL"]
    time: str
    type: Literal["SNAPSHOT", "UPDATE"] = "UPDATE"


class RawEvent(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[msgspec.Raw]


class Envelope(msgspec.Struct, gc=False):
    """What is left of a message that is not as documented."""

    type: str = ""
    channel: str = ""
    events: list[RawEvent] = []


Feed = Match | LastMatch | Subscriptions | Failure | Heartbeat
Advanced = MarketTrades | Heartbeats | AdvancedSubscriptions | DirectMatch
_feed: msgspec.json.Decoder[Feed] = msgspec.json.Decoder(Feed, strict=False)
_advanced: msgspec.json.Decoder[Advanced] = msgspec.json.Decoder(Advanced, strict=False)
_matched, _updates = lax(Matched), lax(Updates)
_failure = lax(Failure)
_envelope = lax(Envelope)
_market_trade = lax(MarketTrade)
_FEED_TYPES = frozenset({"match", "last_match", "subscriptions", "error", "heartbeat"})
_ADVANCED_CHANNELS = frozenset({MARKET_TRADES, HEARTBEATS, "subscriptions", "MATCH"})


class CoinbaseDecoder(QuickDecoder):
    """Messages of both feeds; the endpoint says which to try first."""

    ms = staticmethod(usual_ms)

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self.buy = "sell" if endpoint == "spot" else "SELL"  # the maker's

    def quick(self, frame: Buffer) -> Quick | None:
        if self.endpoint == "spot":
            return None, (_matched.decode(frame),)
        return None, [row for update in _updates.decode(frame).events for row in update.trades]

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        first, second = (
            (self.of_feed, self.of_advanced) if self.endpoint == "spot" else (self.of_advanced, self.of_feed)
        )
        try:
            return first(frame)
        except (msgspec.ValidationError, ValueError):
            pass  # a message of the other feed, or one with an unreadable part
        try:
            return second(frame)
        except (msgspec.ValidationError, ValueError):
            return self.one_by_one(frame)

    def of_feed(self, frame: Buffer) -> Sequence[Event]:
        """Exchange feed."""
        message = _feed.decode(frame)
        if type(message) is Match:
            return (self.matched(message, message.product_id),)
        if type(message) is LastMatch:
            return past([self.matched(message, message.product_id)])
        if type(message) is Subscriptions:
            return (Acked(tuple(f"{c.name}:{product}" for c in message.channels for product in c.product_ids)),)
        return self.refused(message) if type(message) is Failure else ALIVE

    def of_advanced(self, frame: Buffer) -> Sequence[Event]:
        """Advanced-trade feed, and International's own."""
        message = _advanced.decode(frame)
        if type(message) is MarketTrades:
            return self.batches(message.events)
        if type(message) is DirectMatch:
            return self.direct(message)
        if type(message) is AdvancedSubscriptions:
            return (Acked(tuple(_topics(message.events))),)
        return ALIVE

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: a part of the message is not as documented, or it is of a type that we do not know."""
        message = _envelope.decode(frame)
        if message.channel == MARKET_TRADES:
            events: list[Event] = []
            for batch in message.events:
                made = rows(batch.trades, _market_trade, self.traded)
                events += made if batch.type == "update" else past(made)
            return events
        if message.type in _FEED_TYPES or message.channel in _ADVANCED_CHANNELS:
            raise ValueError(f"unreadable {message.channel or message.type}")
        return (Unknown(f"message {(message.channel or message.type)[:40]}"),)

    def matched(self, row: Match, product: str) -> Event:
        """A match; `side` is the maker's."""
        return self.trade(product, iso_ms(row.time), row.price, row.size, row.side == "sell", row.trade_id)

    def batches(self, batches: Iterable[TradesEvent]) -> Sequence[Event]:
        """Updates are live, snapshots past."""
        events: list[Event] = []
        for batch in batches:
            made = [self.traded(row) for row in batch.trades]
            events += made if batch.type == "update" else past(made)
        return events

    def traded(self, row: MarketTrade) -> Event:
        """A market trade; `side` is the maker's."""
        buy = row.side == "SELL"
        return self.trade(row.product_id, iso_ms(row.time), row.price, row.size, buy, _number(row.trade_id))

    def direct(self, row: DirectMatch) -> Sequence[Event]:
        """A match whose aggressor is named."""
        buy = row.aggressor_side == "BUY"
        match = _number(row.match_id)
        made = self.trade(row.product_id, iso_ms(row.time), row.trade_price, row.trade_qty, buy, match)
        return (made,) if row.type == "UPDATE" else past([made])

    def refused(self, failure: Failure) -> Sequence[Event]:
        """One unknown product refuses the whole request; the text names it."""
        text = f"{failure.message}: {failure.reason}"
        channel = MATCHES if self.endpoint == "spot" else MARKET_TRADES
        named = tuple(f"{channel}:{product}" for product in re.findall(r"[A-Z0-9]+(?:-[A-Z0-9]+)+", text[:1000]))
        return (Rejected(named, text[:160]),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("subscribe", topics)

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("unsubscribe", topics)

    def _ask(self, verb: str, topics: Sequence[str]) -> Sequence[Frame]:
        """The exchange feed takes several channels in a message, the advanced feed one."""
        by_channel: dict[str, list[str]] = {}
        for topic in topics:
            channel, _, product = topic.partition(":")
            by_channel.setdefault(channel, []).extend([product] if product else [])
        return [
            self._request(verb, channel, part)
            for channel, products in by_channel.items()
            for part in chunks(products, TOPICS_PER_FRAME) or [[]]
        ]

    def _request(self, verb: str, channel: str, products: Sequence[str]) -> Frame:
        body: dict[str, object] = {"type": verb}
        if self.endpoint == "spot":
            body["channels"] = [{"name": channel, "product_ids": products}]
        else:
            body |= {"channel": channel} | ({"product_ids": products} if products else {})
        return msgspec.json.encode(body).decode()


def _topics(events: Iterable[SubscriptionsEvent]) -> Iterable[str]:
    for event in events:
        for channel, products in event.subscriptions.items():
            if channel == HEARTBEATS:
                yield HEARTBEATS
            else:
                yield from (f"{channel}:{product}" for product in products)


def _number(text: str) -> int | str:
    """Ids are numbers in text, as far as seen; kept as they are where not."""
    return int(text) if len(text) < 19 and text.isascii() and text.isdigit() else text


class Contract(msgspec.Struct):
    """What a perpetual's product says of its contract."""

    open_interest: float = 0.0
    funding_rate: float | str | None = None


class FutureDetails(msgspec.Struct):
    venue: str = ""
    perpetual_details: Contract | None = None


class Product(msgspec.Struct):
    """A product of the advanced-trade listing. `alias` names the product whose order book this one shares."""

    product_id: str
    status: str = ""
    alias: str = ""
    base_currency_id: str = ""
    quote_currency_id: str = ""
    is_disabled: bool = False
    trading_disabled: bool = False
    future_product_details: FutureDetails | None = None


class Products(msgspec.Struct):
    products: list[Product]


class Ticker(msgspec.Struct):
    trades: list[MarketTrade]


class Old(msgspec.Struct):
    """A row of the exchange feed's REST history."""

    trade_id: int
    side: Literal["buy", "sell"]
    size: float
    price: float
    time: str


_products, _ticker, _old = lax(Products), lax(Ticker), lax(list[Old])

_SPOT_QUERY = "product_type=SPOT"
_PERP_QUERY = "product_type=FUTURE&contract_expiry_type=PERPETUAL"
_INTX = "-PERP-INTX"
_PRODUCTS = "/api/v3/brokerage/market/products"
PRODUCTS_PER_PAGE = 500


class Coinbase(Exchange):
    """https://coinbase.com: spot and International's perpetuals. US futures (CDE) are not listed."""

    id: ClassVar[str] = "COINBASE"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://ws-feed.exchange.coinbase.com",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(8, 1),
            gapless=True,
        ),
        Endpoint(
            "perp",
            "wss://advanced-trade-ws.coinbase.com",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(8, 1),
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {
        "exchange": "https://api.exchange.coinbase.com",
        "brokerage": "https://api.coinbase.com",
    }
    limits: ClassVar[Limits] = Limits(connects=Rate(8, 1), rest=Rate(10, 1))
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}-USD", "{base}-PERP-INTX")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "spot by id, all history; perpetuals: newest 100 of a period"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    funding_s: ClassVar[float] = 3_600.0
    notes: ClassVar[tuple[str, ...]] = (
        "Both feeds name the maker's side, so it is turned round: some collectors show buys as sells.",
        "The last trade before a subscription is history and never enters a bar.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return CoinbaseDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        """The perpetuals' socket is closed when quiet, unless heartbeats are subscribed to."""
        if instrument.kind == "spot":
            return [Stream("spot", f"{MATCHES}:{instrument.symbol}", instrument)]
        return [Stream("perp", f"{MARKET_TRADES}:{instrument.symbol}", instrument), Stream("perp", HEARTBEATS)]

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing(_SPOT_QUERY), self._listing(_PERP_QUERY)]

    def _listing(self, query: str, offset: int = 0) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            products = _products.decode(body).products
            items = [self._listed(product) for product in products if _wanted(product)]
            more = len(products) == PRODUCTS_PER_PAGE
            return Page(items, self._listing(query, offset + PRODUCTS_PER_PAGE) if more else None)

        page = f"limit={PRODUCTS_PER_PAGE}&offset={offset}"
        return Call(Request(f"{self.url('brokerage')}{_PRODUCTS}?{query}&{page}"), read)

    def _listed(self, product: Product) -> Instrument:
        base, _, quote = product.product_id.partition("-")
        if product.product_id.endswith(_INTX):
            quote = product.quote_currency_id or "USDC"
        active = product.status == "online" and not (product.is_disabled or product.trading_disabled)
        return self._instrument(product.product_id, base, quote, active)

    def _instrument(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        kind: Kind = "perp" if symbol.endswith((_INTX, "-PERP")) else "spot"
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, kind, asset, quote, kind, multiplier=multiplier, active=active)

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        base, _, quote = symbol.partition("-")
        return self._instrument(symbol, base, "USDC" if quote.startswith("PERP") else quote)

    def recover(self, gap: Gap) -> Call[Trade]:
        if gap.instrument.kind == "spot":
            return self._history(gap, gap.before_id if isinstance(gap.before_id, int) else None)
        return self._ticker(gap)

    def _history(self, gap: Gap, after: int | None) -> Call[Trade]:
        """Newest first; `after` means older than that id."""
        instrument = gap.instrument
        make = CoinbaseDecoder({instrument.symbol: instrument}, "spot").trade

        def read(body: bytes) -> Page[Trade]:
            found = _old.decode(body)
            trades = _covered(
                gap,
                (
                    make(instrument.symbol, iso_ms(r.time), r.price, r.size, r.side == "sell", r.trade_id)
                    for r in reversed(found)
                ),
            )
            if not found or _before(gap, found[-1]):
                return Page(trades)
            return Page(trades, self._history(gap, found[-1].trade_id))

        query = f"limit={PAGE_ROWS}" + (f"&after={after}" if after is not None else "")
        return Call(Request(f"{self.url('exchange')}/products/{instrument.symbol}/trades?{query}"), read)

    def _ticker(self, gap: Gap) -> Call[Trade]:
        """The newest trades of a period; there is no way to page."""
        instrument = gap.instrument
        make = CoinbaseDecoder({instrument.symbol: instrument}, "perp").traded

        def read(body: bytes) -> Page[Trade]:
            return Page(_covered(gap, (make(row) for row in reversed(_ticker.decode(body).trades))))

        period = f"start={gap.after_ms // 1000}&end={gap.before_ms // 1000 + 1}"
        path = f"{_PRODUCTS}/{instrument.symbol}/ticker?limit={TICKER_ROWS}&{period}"
        return Call(Request(self.url("brokerage") + path), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted = {i.symbol: i for i in instruments if i.kind == "perp"}
        if not wanted:
            return ()

        def read(body: bytes) -> Page[OpenInterest]:
            return Page([*_interest(_products.decode(body).products, wanted)])

        return (Call(Request(f"{self.url('brokerage')}{_PRODUCTS}?{_PERP_QUERY}"), read),)


def _covered(gap: Gap, events: Iterable[Event]) -> list[Trade]:
    return gap.missing(events)


def _before(gap: Gap, row: Old) -> bool:
    """Whether a row, the oldest of its page, is before the hole or its very first trade."""
    if isinstance(gap.after_id, int):
        return row.trade_id <= gap.after_id + 1
    return iso_ms(row.time) < gap.after_ms


def _wanted(product: Product) -> bool:
    """Spot, but not the second names of order books, and International's perpetuals."""
    if product.future_product_details is not None:
        return product.product_id.endswith(_INTX)
    return not product.alias


def _interest(products: Iterable[Product], wanted: Mapping[str, Instrument]) -> Iterable[OpenInterest]:
    for product in products:
        details = product.future_product_details
        if product.product_id in wanted and details is not None and details.perpetual_details is not None:
            said = details.perpetual_details
            yield OpenInterest(wanted[product.product_id], None, said.open_interest, None, rate(said.funding_rate))
