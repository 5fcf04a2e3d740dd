"""Phemex: spot, contracts with integer prices (coin-margined and dollar-settled), contracts settled in USDT.

Sources: the exchange's API documentation (market data websocket, products, scales), autumn 2026. All share one socket.
Spot and the older contracts send integers with scales from the listing (`trade`), the newer ones text (`trade_p`); times
are nanoseconds; `snapshot` is an image. Case matters: `sOLUSDT` is spot OL, `SOLUSDT` a contract on SOL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    PRICE_MAX,
    SIZE_MAX,
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
    by_channel,
    rows,
    split_pair,
)
from exchanges.image import past
from exchanges.numbers import lax, rate

INTEGERS, TEXTS = "trade:", "trade_p:"
TOPICS_PER_FRAME = 20
NS_PER_MS = 1_000_000
SPOT_SCALE = 8
PRICE_SCALE = 4
SCALE_MAX = 18

Scaled = Annotated[float, msgspec.Meta(gt=0.0)]


class Row(msgspec.Struct, gc=False, array_like=True):
    """A trade: time in ns, the taker's side, price and quantity (scaled integers in `trades`)."""

    ts_ns: int
    side: Literal["Buy", "Sell"]
    price: float
    quantity: float


class Usual(Bounded, array_like=True):
    """A trade."""

    id: ClassVar[None] = None
    time: TimeNs
    side: Literal["Buy", "Sell"]
    price: Price
    quantity: Quantity


class UsualScaled(Bounded, array_like=True):
    """A trade of scaled integers."""

    id: ClassVar[None] = None
    time: TimeNs
    side: Literal["Buy", "Sell"]
    price: Scaled
    quantity: Scaled


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    type: Literal["incremental"]
    symbol: str
    trades: list[UsualScaled] | None = None
    trades_p: list[Usual] | None = None


class Refusal(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


class Message(msgspec.Struct, gc=False):
    """A push of trades, or an answer to a request."""

    type: str = ""
    symbol: str = ""
    trades: list[Row] | None = None
    trades_p: list[Row] | None = None
    id: int | None = None
    error: Refusal | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    type: str = ""
    symbol: str = ""
    trades: list[msgspec.Raw] | None = None
    trades_p: list[msgspec.Raw] | None = None


_traded = lax(Traded)
_message, _envelope, _row = lax(Message), lax(Envelope), lax(Row)


class PhemexDecoder(QuickDecoder):
    """Trades of all kinds, answers."""

    buy = "Buy"
    per_ms = NS_PER_MS

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        if push.trades_p is not None:
            return push.symbol, push.trades_p
        if push.trades is None:
            return None
        instrument = self.instruments[push.symbol]
        units = 10.0**instrument.price_scale, 10.0**instrument.value_scale
        return push.symbol, [_unscaled(row, *units) for row in push.trades]

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(frame)
        symbol = message.symbol
        if message.trades_p is not None:
            return live_or_past(message.type, [self.text(symbol, row) for row in message.trades_p])
        if message.trades is not None:
            instrument = self.instruments.get(symbol)
            if instrument is None:
                return (Excluded("not subscribed", len(message.trades)),)
            return live_or_past(message.type, [self.scaled(instrument, row) for row in message.trades])
        return (self.control(message),)

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        envelope = _envelope.decode(frame)
        if envelope.trades_p is not None:
            return live_or_past(envelope.type, rows(envelope.trades_p, _row, lambda r: self.text(envelope.symbol, r)))
        instrument = self.instruments.get(envelope.symbol)
        if envelope.trades is not None and instrument is not None:
            return live_or_past(envelope.type, rows(envelope.trades, _row, lambda r: self.scaled(instrument, r)))
        return (Unknown(f"type {envelope.type[:40]}"),)

    def text(self, symbol: str, row: Row) -> Event:
        """A row of `trades_p`."""
        return self.trade(symbol, row.ts_ns // NS_PER_MS, row.price, row.quantity, row.side == "Buy")

    def scaled(self, instrument: Instrument, row: Row) -> Event:
        """A row of `trades`: both numbers and the powers of ten are exact as floats, so that the quotient is rounded once."""
        price = row.price / 10.0**instrument.price_scale
        quantity = row.quantity / 10.0**instrument.value_scale
        return self.trade(instrument.symbol, row.ts_ns // NS_PER_MS, price, quantity, row.side == "Buy")

    def control(self, message: Message) -> Event:
        """Answers to our requests. Which of several symbols is wrong is not said."""
        if message.id is None or message.type:
            return Unknown(f"type {message.type[:40]}")
        topics = self._asked.pop(message.id, ())
        if message.error is not None:
            return Rejected(topics, f"{message.error.code} {message.error.message}"[:160])
        return ALIVE[0] if bytes(message.result) == b'"pong"' else Acked(topics)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in by_channel(topics, TOPICS_PER_FRAME):
            self._asked[self.request_id + 1] = tuple(part)
            frames.append(self._ask("subscribe", part))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        """One symbol at a time: a frame without parameters would end all."""
        return [self._ask("unsubscribe", part) for part in by_channel(topics, TOPICS_PER_FRAME)]

    def _ask(self, verb: str, topics: Sequence[str]) -> Frame:
        """Topics of one channel, in one frame."""
        channel = topics[0].partition(":")[0]
        symbols = [topic.partition(":")[2] for topic in topics]
        return msgspec.json.encode({"id": self.next_id(), "method": f"{channel}.{verb}", "params": symbols}).decode()

    def ping(self, now_ms: int) -> Frame:
        return msgspec.json.encode({"id": self.next_id(), "method": "server.ping", "params": []}).decode()


def _unscaled(row: UsualScaled, price_unit: float, value_unit: float) -> Usual:
    """Raises ValueError where that is out of range."""
    price, quantity = row.price / price_unit, row.quantity / value_unit
    if price >= PRICE_MAX or quantity >= SIZE_MAX:
        raise ValueError("out of range")
    return Usual(row.time, row.side, price, quantity)


def live_or_past(kind: str, events: list[Event]) -> Sequence[Event]:
    """A snapshot is over already."""
    if kind == "incremental":
        return events
    return past(events) if kind == "snapshot" else (Unknown(f"trades of type {kind[:40]}"),)


class Product(msgspec.Struct):
    """A row of `products` (spot, older contracts) or `perpProductsV2`; scales and sizes only where the kind has them."""

    symbol: str
    type: str
    quoteCurrency: str
    status: str
    baseCurrency: str = ""
    contractUnderlyingAssets: str = ""
    indexSymbol: str = ""
    contractSize: float = 1.0
    priceScale: int = 0


class Currency(msgspec.Struct):
    currency: str
    valueScale: int


class Products(msgspec.Struct):
    products: list[Product] = []
    perpProductsV2: list[Product] = []
    currencies: list[Currency] = []


class Listing(msgspec.Struct):
    code: int
    data: Products
    msg: str = ""


class History(msgspec.Struct):
    """The newest trades, as in a snapshot."""

    trades: list[Row] | None = None
    trades_p: list[Row] | None = None


class Ticker(msgspec.Struct):
    """Open interest: of newer contracts in coins with a price, of older ones in contracts."""

    symbol: str
    openInterestRv: float | None = None
    fundingRateRr: float | str | None = None
    markPriceRp: float | None = None
    openInterest: float | None = None
    timestamp: int | None = None


class Answer(msgspec.Struct):
    """What market data by REST is wrapped in."""

    error: Refusal | None
    result: msgspec.Raw = msgspec.Raw(b"null")


_listing, _answer, _history, _tickers = lax(Listing), lax(Answer), lax(History), lax(list[Ticker])


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.error is not None:
        raise BadMessage(f"{answer.error.code} {answer.error.message}"[:160])
    return answer.result


_OLD = re.compile(r"(c?)([A-Z0-9]+?)USD")
QUOTES = ("USDT", "USDC", "BTC", "ETH", "USD", "EUR", "BRZ", "TRY")
_CONTRACT_COINS = {"ETH": 0.005, "LINK": 0.2, "XMR": 0.01, "XRP": 5.0, "XTZ": 0.5, "YFI": 0.0001}
"""Coins in a dollar-settled contract, where it is not one."""


class Phemex(Exchange):
    """https://phemex.com."""

    id: ClassVar[str] = "PHEMEX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "market",
            "wss://ws.phemex.com",
            streams_per_connection=20,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(10, 1),
            ping_s=5,
            ids="none",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.phemex.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(60, 60), rest=Rate(500, 300), connections=20)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("s{base}USDT", "{base}USDT")
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "newest 1000 trades, told apart by time, price, size and side as there are no ids"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Contracts settled in dollars (LINKUSD, XMRUSD…) have a contract size; some collectors report contracts as coins.",
        "Older markets send integers: price and quantity are scaled by the listing's decimal places (one collector leaves the quantity).",
        "Up to 1000 past trades come with each subscription, marked as a snapshot: they are not counted as live.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return PhemexDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channel = INTEGERS if instrument.price_scale else TEXTS
        return (Stream(instrument.endpoint, channel + instrument.symbol, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (Call(Request(self.url("rest") + "/public/products"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        listing = _listing.decode(body)
        if listing.code != 0:
            raise BadMessage(f"{listing.code} {listing.msg}"[:160])
        if not listing.data.products:
            raise BadMessage("an empty listing")
        value_scales = {row.currency: row.valueScale for row in listing.data.currencies}
        found = [self._instrument(row, value_scales) for row in listing.data.products]
        return Page([i for i in found if i is not None] + [self._newer(row) for row in listing.data.perpProductsV2])

    def _instrument(self, row: Product, value_scales: Mapping[str, int]) -> Instrument | None:
        """A row of `products`; None for kinds that are not traded by the socket's `trade` channel."""
        if not 0 <= row.priceScale <= SCALE_MAX:
            raise BadMessage(f"price scale {row.priceScale}")
        if row.type == "Spot":
            return self._spot(row, value_scales.get(row.baseCurrency, SPOT_SCALE))
        return self._older(row) if row.type == "Perpetual" else None

    def _spot(self, row: Product, value_scale: int) -> Instrument:
        asset, multiplier = base_asset(row.baseCurrency)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "spot",
            asset,
            row.quoteCurrency,
            "market",
            multiplier=multiplier,
            price_scale=row.priceScale,
            value_scale=value_scale,
            active=row.status == "Listed",
        )

    def _older(self, row: Product) -> Instrument:
        """A contract with integer prices: on dollars (inverse) or on coins."""
        base = row.baseCurrency or row.indexSymbol.lstrip(".") or row.symbol.removeprefix("c").removesuffix("USD")
        asset, multiplier = base_asset(base)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "perp",
            asset,
            row.quoteCurrency,
            "market",
            contract_size=row.contractSize,
            inverse=row.contractUnderlyingAssets == row.quoteCurrency,
            multiplier=multiplier,
            price_scale=row.priceScale,
            active=row.status == "Listed",
        )

    def _newer(self, row: Product) -> Instrument:
        """A contract whose prices and sizes are text, sizes in coins."""
        asset, multiplier = base_asset(row.baseCurrency or row.symbol.removesuffix(row.quoteCurrency))
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "perp",
            asset,
            row.quoteCurrency,
            "market",
            multiplier=multiplier,
            active=row.status == "Listed",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """Spot begins with a small `s`; what ends in USD has integer prices, and is inverse on BTC or with a small `c`."""
        if symbol.startswith("s") and symbol[1:2].isupper():
            base, quote = split_pair(symbol[1:], QUOTES)
            return self._spot(Product(symbol, "Spot", quote, "Listed", base, priceScale=SPOT_SCALE), SPOT_SCALE)
        if (older := _OLD.fullmatch(symbol)) is not None:
            base = older[2]
            inverse = bool(older[1]) or base == "BTC"
            coins = 1.0 if inverse else _CONTRACT_COINS.get(base, 1.0)
            under = "USD" if inverse else base
            row = Product(symbol, "Perpetual", "USD", "Listed", base, under, "", coins, PRICE_SCALE)
            return self._older(row)
        base, quote = split_pair(symbol, QUOTES)
        return self._newer(Product(symbol, "PerpetualV2", quote, "Listed", base))

    def recover(self, gap: Gap) -> Call[Trade]:
        instrument = gap.instrument
        decoder = PhemexDecoder({instrument.symbol: instrument}, instrument.endpoint)

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(_unwrap(body))
            made = [decoder.scaled(instrument, row) for row in found.trades or ()]
            made += [decoder.text(instrument.symbol, row) for row in found.trades_p or ()]
            trades = gap.missing(reversed(made))
            return Page(trades)

        path = "/md/trade" if instrument.price_scale else "/md/v2/trade"
        return Call(Request(f"{self.url('rest')}{path}?symbol={instrument.symbol}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        contracts = [i for i in instruments if i.kind != "spot"]
        older = {i.symbol: i for i in contracts if i.price_scale}
        newer = {i.symbol: i for i in contracts if not i.price_scale}
        paths = (("/md/v1/ticker/24hr/all", older), ("/md/v3/ticker/24hr/all", newer))
        return [self._open_interest(path, wanted) for path, wanted in paths if wanted]

    def _open_interest(self, path: str, wanted: Mapping[str, Instrument]) -> Call[OpenInterest]:
        """One answer for all contracts of a generation."""

        def read(body: bytes) -> Page[OpenInterest]:
            tickers = _tickers.decode(_unwrap(body))
            found = [_open_interest(wanted[row.symbol], row) for row in tickers if row.symbol in wanted]
            return Page([row for row in found if row is not None])

        return Call(Request(self.url("rest") + path), read)


def _open_interest(instrument: Instrument, row: Ticker) -> OpenInterest | None:
    ts_ms = row.timestamp and row.timestamp // NS_PER_MS
    if row.openInterestRv is not None:
        usd = None if row.markPriceRp is None else row.openInterestRv * row.markPriceRp
        return OpenInterest(instrument, ts_ms, row.openInterestRv, usd, rate(row.fundingRateRr))
    if row.openInterest is None:
        return None
    amount = row.openInterest * instrument.contract_size
    return (
        OpenInterest(instrument, ts_ms, None, amount) if instrument.inverse else OpenInterest(instrument, ts_ms, amount)
    )
