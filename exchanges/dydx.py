"""dYdX v4: perpetuals, by way of its indexer.

Sources: the indexer's documentation (websocket `v4_trades`, HTTP `/v4/perpetualMarkets` and `/v4/trades/perpetualMarket`),
autumn 2026. The answer to a subscription carries past trades. A trade of type `LIQUIDATED` is itself the forced order, which is
the taker; `DELEVERAGED` closes positions against each other outside of the book. Times are block times: many trades share
one, and history is paged by block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal
from urllib.parse import quote as url_quote

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
    Excluded,
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
    Trade,
    Unknown,
    base_asset,
    rows,
)
from exchanges.image import past
from exchanges.numbers import iso, iso_ms, lax, rate, usual_ms

CHANNEL = "v4_trades"
PAGE_ROWS = 1000
_NAMED = re.compile(rf"{CHANNEL}-([^\s()]+?)[).]*(?:\s|$)")
_ALREADY_SUBSCRIBED = "already subscribed"


class Row(msgspec.Struct, gc=False):
    """A trade, on the socket and in history; the socket leaves out the height at times."""

    id: str
    side: Literal["BUY", "SELL"]
    size: float
    price: float
    createdAt: str
    type: str = "LIMIT"
    createdAtHeight: int | None = None


class Usual(Bounded):
    """A trade, and no liquidation."""

    id: TextId
    side: Literal["BUY", "SELL"]
    quantity: Quantity = msgspec.field(name="size")
    price: Price
    time: str = msgspec.field(name="createdAt")
    type: Literal["LIMIT", "MARKET"] = "LIMIT"
    createdAtHeight: int | None = None


class TradedContents(msgspec.Struct, gc=False):
    trades: list[Usual] = []


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    type: Literal["channel_batch_data"]
    id: str
    channel: Literal["v4_trades"]
    contents: list[TradedContents]


class Contents(msgspec.Struct, gc=False):
    trades: list[Row] = []


class Message(msgspec.Struct, gc=False):
    """A push, with one content or, where batched, several; or an answer."""

    type: str
    channel: str = ""
    id: str = ""
    message: str = ""
    contents: Contents | list[Contents] | None = None


class RawContents(msgspec.Struct, gc=False):
    trades: list[msgspec.Raw] = []


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    type: str
    channel: str = ""
    id: str = ""
    contents: RawContents | list[RawContents] | None = None


_traded = lax(Traded)
_message = lax(Message)
_envelope = lax(Envelope)
_row = lax(Row)


class DydxDecoder(QuickDecoder):
    """Trades, past trades, answers."""

    buy = "BUY"
    ms = staticmethod(usual_ms)

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        return push.id, [row for content in push.contents for row in content.trades]

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            return self.whole(frame)
        except (msgspec.ValidationError, ValueError):
            return self.one_by_one(frame)

    def whole(self, frame: Buffer) -> Sequence[Event]:
        """The fast path: everything is as documented, or this raises."""
        message = _message.decode(frame)
        if message.channel != CHANNEL or message.contents is None:
            return self.control(message)
        contents = message.contents if isinstance(message.contents, list) else (message.contents,)
        events = [self.traded(message.id, row) for content in contents for row in content.trades]
        return self.live_or_past(message, events)

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        message = _envelope.decode(frame)
        if message.channel != CHANNEL or message.contents is None:
            return (Unknown(f"{message.type} {message.channel}"[:60]),)
        contents = message.contents if isinstance(message.contents, list) else (message.contents,)
        raw = [row for content in contents for row in content.trades]
        return self.live_or_past(message, rows(raw, _row, lambda row: self.traded(message.id, row)))

    def traded(self, symbol: str, row: Row) -> Event:
        if row.type == "DELEVERAGED":
            return Excluded("auto-deleveraging")
        buy = row.side == "BUY"
        forced = buy if row.type == "LIQUIDATED" else None
        return self.trade(symbol, iso_ms(row.createdAt), row.price, row.size, buy, row.id, forced=forced)

    def live_or_past(self, message: Message | Envelope, events: list[Event]) -> Sequence[Event]:
        """What comes with the acknowledgement is over."""
        if message.type in ("channel_data", "channel_batch_data"):
            return events
        if message.type != "subscribed":
            return (Unknown(f"type {message.type[:40]}"),)
        return [Acked((message.id,)), *past(events)]

    def control(self, message: Message) -> Sequence[Event]:
        if message.type in ("connected", "unsubscribed", "pong"):
            return ALIVE
        if message.type == "error":
            named = _NAMED.search(message.message)
            topics = (named[1],) if named else ()
            return (
                Acked(topics) if _ALREADY_SUBSCRIBED in message.message else Rejected(topics, message.message[:160]),
            )
        return (Unknown(f"{message.type} {message.channel}"[:60]),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask({"type": "subscribe", "channel": CHANNEL, "id": topic, "batched": True}) for topic in topics]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask({"type": "unsubscribe", "channel": CHANNEL, "id": topic}) for topic in topics]


def _ask(request: Mapping[str, object]) -> Frame:
    return msgspec.json.encode(request).decode()


class Market(msgspec.Struct):
    """A row of perpetualMarkets; open interest in base coins."""

    ticker: str
    status: str
    openInterest: float | None = None
    nextFundingRate: float | str | None = None


class Markets(msgspec.Struct):
    markets: dict[str, Market]


class History(msgspec.Struct):
    trades: list[Row]


_markets = lax(Markets)
_history = lax(History)


class Dydx(Exchange):
    """https://dydx.trade."""

    id: ClassVar[str] = "DYDX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "indexer",
            "wss://indexer.dydx.trade/v4/ws",
            streams_per_connection=30,
            topics_per_frame=1,
            frames=Rate(5, 1),
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://indexer.dydx.trade/v4"}
    limits: ClassVar[Limits] = Limits(connects=Rate(5, 1), rest=Rate(100, 10))
    kinds: ClassVar[tuple[Kind, ...]] = ("perp",)
    usual: ClassVar[tuple[str, ...]] = ("{base}-USD",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by block, all history, with liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    funding_s: ClassVar[float] = 3_600.0
    notes: ClassVar[tuple[str, ...]] = (
        "Trade times are block times, about one a second: many trades share a millisecond.",
        "Auto-deleveraging (type DELEVERAGED) happens outside of the book and is left out, as on other exchanges.",
        "A liquidation is a trade of type LIQUIDATED: it counts once in volume, and its side is the forced order's.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return DydxDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        """Liquidations are marks on trades."""
        return (Stream(instrument.endpoint, instrument.symbol, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(self._markets_request(), self._read_listing),)

    def _markets_request(self) -> Request:
        return Request(self.url("rest") + "/perpetualMarkets")

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        found = _markets.decode(body).markets.values()
        return Page([self._instrument(row.ticker, row.status == "ACTIVE") for row in found])

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        return self._instrument(symbol)

    def _instrument(self, symbol: str, active: bool = True) -> Instrument:
        """`BTC-USD`; markets that anyone may list have further names behind a comma (`NAME,POOL,ADDRESS-USD`)."""
        name, _, quote = symbol.rpartition("-")
        asset, multiplier = base_asset(name.partition(",")[0])
        return Instrument(
            self.id, symbol, symbol, "perp", asset, quote, "indexer", multiplier=multiplier, active=active
        )

    def recover(self, gap: Gap) -> Call[Trade]:
        return self._history(gap, f"createdBeforeOrAt={iso(gap.before_ms + 1)}", frozenset())

    def _history(self, gap: Gap, before: str, seen: frozenset[str]) -> Call[Trade]:
        """Newest first, from a time or block on. `seen` are the ids of that block which an earlier page gave."""
        symbol = gap.instrument.symbol
        make = DydxDecoder({symbol: gap.instrument}, gap.instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(body).trades
            made = [make(symbol, row) for row in reversed(found) if row.id not in seen]
            trades = gap.missing(made)
            if len(found) < PAGE_ROWS or iso_ms(found[-1].createdAt) < gap.after_ms:
                return Page(trades)
            return Page(trades, self._older(gap, found))

        query = f"limit={PAGE_ROWS}&{before}"
        path = f"/trades/perpetualMarket/{url_quote(symbol, safe='')}"
        return Call(Request(f"{self.url('rest')}{path}?{query}"), read)

    def _older(self, gap: Gap, found: Sequence[Row]) -> Call[Trade] | None:
        """From the oldest block of a full page, which may hold more; a block that fills a page cannot be read further."""
        edge = found[-1].createdAtHeight
        if edge is None:
            return None
        if found[0].createdAtHeight == edge:
            return self._history(gap, f"createdBeforeOrAtHeight={edge - 1}", frozenset())
        return self._history(
            gap, f"createdBeforeOrAtHeight={edge}", frozenset(row.id for row in found if row.createdAtHeight == edge)
        )

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        """One answer for all markets, without a time."""
        wanted = {instrument.symbol: instrument for instrument in instruments}

        def read(body: bytes) -> Page[OpenInterest]:
            found = _markets.decode(body).markets.values()
            return Page(
                [
                    OpenInterest(wanted[row.ticker], None, row.openInterest, None, rate(row.nextFundingRate))
                    for row in found
                    if row.ticker in wanted and row.openInterest is not None
                ]
            )

        return (Call(self._markets_request(), read),) if wanted else ()
