"""BitMEX: perpetuals, dated futures and spot.

Sources: the exchange's API documentation (websocket tables `trade` and `liquidation`, REST `trade`, `instrument/active`), autumn
2026. `size` counts contracts, `homeNotional` base coins. Inverse contracts are converted by the price, which is exact where
`homeNotional` is rounded; all others by `homeNotional`, which alone knows what a quanto contract is worth. Liquidations count
contracts only: of quanto contracts they are converted as the newest trade was. They have no time, so the time of receipt stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    SIZE_MAX,
    Acked,
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
    TextId,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
)
from exchanges.image import past
from exchanges.numbers import iso, iso_ms, lax, rate, usual_ms

TOPICS_PER_FRAME = 20
PAGE_ROWS = 1000
XBT_SATOSHIS = 1e8
_TOO_MANY, _ALREADY_SUBSCRIBED = 429, "You are already subscribed"
_NO_TRADE = ("Settlement", "Referential")


class Row(msgspec.Struct, gc=False):
    """A trade, on the socket and in history, or (without time) a liquidation order. The image has all fields or some."""

    symbol: str
    side: Literal["Buy", "Sell", ""] | None = None
    price: float | None = None
    timestamp: str = ""
    size: float | None = None
    homeNotional: float | None = None
    trdMatchID: str | None = None
    trdType: str | None = None
    orderID: str | None = None
    leavesQty: float | None = None


class Asked(msgspec.Struct, gc=False):
    op: str = ""
    args: list[str] | str = []


class Message(msgspec.Struct, gc=False):
    """A push of a table, or an answer."""

    table: str = ""
    action: str = ""
    data: list[Row] | None = None
    success: bool | None = None
    subscribe: str = ""
    unsubscribe: str = ""
    status: int = 0
    error: str = ""
    request: Asked | None = None
    info: str = ""


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    table: str
    action: str
    data: list[msgspec.Raw]


_message = lax(Message)
_envelope = lax(Envelope)
_row = lax(Row)


class Usual(Bounded):
    """A trade; `quick` makes of `quantity`, which are coins on the wire, what the wire's unit is of that market."""

    time: str = msgspec.field(name="timestamp")
    symbol: str
    side: Literal["Buy", "Sell"]
    size: Quantity
    price: Price
    id: TextId | None = msgspec.field(name="trdMatchID", default=None)
    quantity: float | None = msgspec.field(name="homeNotional", default=None)
    trdType: str | None = None


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    table: Literal["trade"]
    action: Literal["insert"]
    data: list[Usual]


_traded = lax(Traded)


class BitmexDecoder(QuickDecoder):
    """Trades, liquidations, images, answers. Remembers what a quanto contract was worth in the newest trade."""

    buy = "Buy"
    ms = staticmethod(usual_ms)

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._coins_per_contract: dict[str, float] = {}
        self._unanswered: dict[str, None] = {}
        """Topics asked for, in order, which is also the order of the answers."""

    def quick(self, frame: Buffer) -> Quick | None:
        found = _traded.decode(frame).data
        for row in found:
            instrument = self.instruments[row.symbol]
            if instrument.quanto or row.trdType in _NO_TRADE:  # quanto: what a contract is worth is remembered
                return None
            coins = row.quantity
            row.quantity = row.size if instrument.inverse or coins is None else coins / instrument.contract_size
            if not 0.0 < row.quantity < SIZE_MAX:
                return None
        return None, found

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        if frame == b"pong":
            return ALIVE
        try:
            return self.whole(frame, recv_ms)
        except (msgspec.ValidationError, ValueError):
            return self.one_by_one(frame, recv_ms)

    def whole(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        """The fast path: everything is as documented, or this raises."""
        message = _message.decode(frame)
        if message.data is None:
            return self.control(message)
        if message.table == "trade":
            return live_or_past(message.action, [self.traded(row) for row in message.data])
        if message.table != "liquidation":
            return (Unknown(f"table {message.table[:40]}"),)
        if message.action != "insert":
            return ALIVE  # orders that were open before, and what becomes of those announced
        return [self.forced(row, recv_ms) for row in message.data]

    def one_by_one(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        push = _envelope.decode(frame)
        if push.table == "trade":
            return live_or_past(push.action, rows(push.data, _row, self.traded))
        if push.table != "liquidation":
            return (Unknown(f"table {push.table[:40]}"),)
        if push.action != "insert":
            return ALIVE
        return rows(push.data, _row, lambda row: self.forced(row, recv_ms))

    def traded(self, row: Row) -> Event:
        if not row.side or row.trdType in _NO_TRADE:
            return Excluded(f"{row.trdType or 'print'} without aggressor"[:40])
        instrument = self.instruments.get(row.symbol)
        if instrument is None:
            return Excluded("not subscribed")
        if row.price is None or row.size is None:
            return Malformed("trade without price or size", row.symbol)
        quantity = row.size
        if not instrument.inverse and row.homeNotional is not None:
            quantity = row.homeNotional / instrument.contract_size
        elif instrument.quanto:
            return Malformed("quanto trade without homeNotional", row.symbol)
        buy = row.side == "Buy"
        made = self.trade(row.symbol, iso_ms(row.timestamp), row.price, quantity, buy, row.trdMatchID)
        if instrument.quanto and type(made) is Trade and row.size > 0:
            self._coins_per_contract[row.symbol] = made.size / row.size
        return made

    def forced(self, row: Row, recv_ms: int) -> Event:
        """A new liquidation order; `side` is the order's."""
        instrument = self.instruments.get(row.symbol)
        if instrument is None:
            return Excluded("not subscribed")
        if not row.side or row.price is None or row.leavesQty is None:
            return Malformed("liquidation without side, price or quantity", row.symbol)
        quantity = row.leavesQty
        if instrument.quanto:
            coins = self._coins_per_contract.get(row.symbol)
            if coins is None:
                return Excluded("quanto liquidation before the first trade: its worth is unknown")
            quantity *= coins / instrument.contract_size
        return self.liquidation(row.symbol, recv_ms, row.price, quantity, row.side == "Buy", row.orderID)

    def control(self, message: Message) -> Sequence[Event]:
        if message.success and message.subscribe:
            self._unanswered.pop(message.subscribe, None)
            return (Acked((message.subscribe,)),)
        if message.error:
            return self.refused(message)
        if message.unsubscribe or message.info:
            return ALIVE
        return (Unknown(f"message {message.table}"[:60]),)

    def refused(self, message: Message) -> Sequence[Event]:
        """An error repeats the request and names no topic: the first that is unanswered. Too many requests: all of it."""
        asked = message.request.args if message.request is not None else []
        args = [asked] if isinstance(asked, str) else asked
        topics = tuple(topic for topic in args if topic in self._unanswered) or (tuple(args) if len(args) == 1 else ())
        if message.status != _TOO_MANY:
            topics = topics[:1]
        for topic in topics:
            self._unanswered.pop(topic, None)
        if message.error.startswith(_ALREADY_SUBSCRIBED):
            return (Acked(topics),)
        return (Rejected(topics, message.error[:160]),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        self._unanswered.update(dict.fromkeys(topics))
        return [_ask("subscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("unsubscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def ping(self, now_ms: int) -> Frame:
        return "ping"


def live_or_past(action: str, events: list[Event]) -> Sequence[Event]:
    """`partial` is the image: the last trade, minutes to hours old."""
    if action == "insert":
        return events
    if action != "partial":
        return (Unknown(f"action {action[:40]}"),)
    return past(events)


def _ask(op: str, topics: Sequence[str]) -> Frame:
    return msgspec.json.encode({"op": op, "args": topics}).decode()


class Listed(msgspec.Struct):
    """A row of instrument/active. `multiplier` is in the smallest unit of the settlement currency."""

    symbol: str
    typ: str
    underlying: str = ""
    quoteCurrency: str = ""
    settlCurrency: str | None = None
    state: str = "Open"
    isInverse: bool = False
    isQuanto: bool = False
    multiplier: float | None = None
    underlyingToPositionMultiplier: float | None = None
    openInterest: float | None = None
    fundingRate: float | str | None = None
    lastPrice: float | None = None
    timestamp: str | None = None


_listing = lax(list[Listed])
_history = lax(list[Row])
_KINDS: Mapping[str, Kind] = {"FFWCSX": "perp", "FFWCSF": "perp", "FFCCSX": "future", "IFXXXP": "spot"}
"""Type codes of what is listed here; the others are indices, options and predictions."""
_CONTRACT = re.compile(r"([A-Z0-9]+?)([FGHJKMNQUVXZ]\d\d)?", re.ASCII)
_QUOTES = ("USDT", "USDC", "USD", "EUR", "XBT")


class Bitmex(Exchange):
    """https://bitmex.com."""

    id: ClassVar[str] = "BITMEX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "public",
            "wss://ws.bitmex.com/realtime",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(1, 1),
            ping_s=5,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://www.bitmex.com/api/v1"}
    limits: ClassVar[Limits] = Limits(connects=Rate(3, 1), rest=Rate(30, 60), connections=20)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{xbt}USD",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by time, all history; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "The image (partial) is the last trade before the subscription and not counted; another collector counts it.",
        "Prints without a side (settlement, referential) are no trades; two collectors count them.",
        "Size of inverse contracts is contracts ÷ price: homeNotional says the same, rounded.",
        "Liquidations have no time of their own: theirs is the time of receipt.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BitmexDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        tables = ("trade", "liquidation") if liquidations and instrument.kind != "spot" else ("trade",)
        return [Stream(instrument.endpoint, f"{table}:{instrument.symbol}", instrument) for table in tables]

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(self._active(), self._read_listing),)

    def _active(self) -> Request:
        return Request(self.url("rest") + "/instrument/active")

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        found = _listing.decode(body)
        if not found:
            raise BadMessage("an empty listing")
        return Page([self._listed(row) for row in found if row.typ in _KINDS])

    def _listed(self, row: Listed) -> Instrument:
        asset, multiplier = base_asset(row.underlying)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            _KINDS[row.typ],
            asset,
            base_asset(row.quoteCurrency)[0],
            "public",
            contract_size=_contract_size(row),
            inverse=row.isInverse,
            multiplier=multiplier,
            quanto=row.isQuanto,
            active=row.state == "Open",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """Of what is not inverse by its name, only trades tell what a contract is worth: it is taken for quanto."""
        base, spot, quote = symbol.partition("_")
        kind_of, inverse = "IFXXXP", False
        if not spot and (match := _CONTRACT.fullmatch(symbol)) is not None:
            pair, month = match.groups()
            kind_of, inverse = ("FFCCSX" if month else "FFWCSX"), pair in ("XBTUSD", "XBTEUR", "XBT")
            quote = next((q for q in _QUOTES if pair.endswith(q) and pair != q), "USD" if inverse else "XBT")
            base = pair.removesuffix(quote)
        return self._listed(Listed(symbol, kind_of, base, quote, isInverse=inverse, isQuanto=not inverse and not spot))

    def recover(self, gap: Gap) -> Call[Trade]:
        return self._history(gap, 0)

    def _history(self, gap: Gap, start: int) -> Call[Trade]:
        """Ascending; the pages of one span of time."""
        symbol = gap.instrument.symbol
        make = BitmexDecoder({symbol: gap.instrument}, gap.instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(body)
            made = [make(row) for row in found]
            trades = gap.missing(made)
            return Page(trades, self._history(gap, start + PAGE_ROWS) if len(found) >= PAGE_ROWS else None)

        span = f"startTime={iso(gap.after_ms)}&endTime={iso(gap.before_ms)}"
        query = f"symbol={symbol}&{span}&count={PAGE_ROWS}&start={start}"
        return Call(Request(f"{self.url('rest')}/trade?{query}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        """One answer for all contracts, in contracts; quanto ones are worth what XBT is at."""
        wanted = {instrument.symbol: instrument for instrument in instruments if instrument.kind != "spot"}

        def read(body: bytes) -> Page[OpenInterest]:
            found = _listing.decode(body)
            xbt = next((row.lastPrice for row in found if row.symbol == "XBTUSD"), None)
            items = [_interest(wanted[row.symbol], row, xbt) for row in found if row.symbol in wanted]
            return Page([item for item in items if item is not None])

        return (Call(self._active(), read),) if wanted else ()


def _contract_size(row: Listed) -> float:
    """Inverse: dollars; linear: coins; quanto: XBT for each dollar of the price, which the XBT price makes coins."""
    settled_in_xbt = (row.settlCurrency or "XBt") == "XBt"
    if (row.isInverse or row.isQuanto) and row.multiplier and settled_in_xbt:
        return abs(row.multiplier) / XBT_SATOSHIS
    if not row.isInverse and row.underlyingToPositionMultiplier:
        return 1 / row.underlyingToPositionMultiplier
    return 1.0


def _interest(instrument: Instrument, row: Listed, xbt: float | None) -> OpenInterest | None:
    """Contracts → base coins; None where a price for that is missing."""
    if row.openInterest is None:
        return None
    ts_ms = iso_ms(row.timestamp) if row.timestamp else None
    amount, funding = row.openInterest * instrument.contract_size, rate(row.fundingRate)
    if instrument.inverse:
        return OpenInterest(instrument, ts_ms, amount / row.lastPrice, None, funding) if row.lastPrice else None
    if not instrument.quanto:
        return OpenInterest(instrument, ts_ms, amount, None, funding)
    return OpenInterest(instrument, ts_ms, amount * xbt, None, funding) if xbt else None
