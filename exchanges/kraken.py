"""Kraken: spot (websocket v2) and futures (websocket v1 of Kraken Futures).

Sources: the exchange's documentation (spot websocket v2 and v1 `trade`, REST `AssetPairs` and `Trades`; futures websocket
`trade`, REST `instruments`, `history`, `tickers`), autumn 2026.

Spot v2 and REST history share `trade_id`, a sequence number of the book. v2 says BTC and DOGE where v1 says XBT and XDG; our
names are v1's (`XBT/USD`), symbols v2's. Frames of spot v1 are read too (older captures). Both sockets send an image after
subscribing. Futures: `PI_`, `FI_` are inverse and count dollars, `PF_`, `FF_` linear and count base coins; a row of type
`liquidation` is itself the forced order; `assignment`, `termination` and `block` are no trades of the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    Acked,
    BadMessage,
    Bounded,
    Buffer,
    Call,
    Closing,
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
    TextId,
    Time,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
)
from exchanges.image import past
from exchanges.numbers import iso, iso_ms, lax, rate, usual_ms

TOPICS_PER_FRAME = 100
CONNECTION = ("heartbeat", "status")
"""Channels of spot that speak of the connection; nobody subscribes to them."""
SPOT_ROWS, FUTURES_ROWS = 1000, 100
_TO_V1 = {"BTC": "XBT", "DOGE": "XDG"}
_TO_V2 = {"XBT": "BTC", "XDG": "DOGE"}
_CONTRACTS = ("PI_", "PF_", "PV_", "FI_", "FF_", "FV_")
"""How contracts begin; indices and reference rates are listed beside them."""
_MAX_S = Decimal(10**11)

Side = Literal["buy", "sell"]


class SpotRow(msgspec.Struct, gc=False):
    """A trade of spot v2."""

    symbol: str
    side: Side
    price: float
    qty: float
    timestamp: str
    trade_id: int | None = None


class UsualSpot(Bounded):
    """A trade of spot v2."""

    symbol: str
    side: Side
    price: Price
    quantity: Quantity = msgspec.field(name="qty")
    time: str = msgspec.field(name="timestamp")
    id: Id | None = msgspec.field(name="trade_id", default=None)


class SpotTraded(msgspec.Struct, gc=False):
    """Nearly every frame of spot."""

    channel: Literal["trade"]
    type: Literal["update"]
    data: list[UsualSpot]


class FuturesRow(msgspec.Struct, gc=False):
    """A trade of futures; old frames have no uid."""

    product_id: str
    side: Side
    time: int
    qty: float
    price: float
    type: str = "fill"
    seq: int | None = None
    uid: str | None = None


class FuturesTraded(Bounded):
    """Nearly every frame of futures: a trade."""

    feed: Literal["trade"]
    product_id: str
    id: TextId = msgspec.field(name="uid")
    side: Side
    type: Literal["fill"]
    time: Time
    quantity: Quantity = msgspec.field(name="qty")
    price: Price
    seq: int | None = None


class OldRow(msgspec.Struct, gc=False, array_like=True):
    """A trade of spot v1; `time` in seconds with decimals."""

    price: float
    volume: float
    time: Decimal
    side: Literal["b", "s"]


class OldPush(msgspec.Struct, gc=False, array_like=True):
    channel_id: int
    data: list[OldRow]
    channel: str
    pair: str


class Result(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = ""


class Message(msgspec.Struct, gc=False):
    """What is no trade of futures: a push of spot, the image of futures, or an answer of either."""

    channel: str = ""
    type: str = ""
    data: list[SpotRow] | None = None
    feed: str = ""
    trades: list[FuturesRow] | None = None
    method: str = ""
    success: bool | None = None
    error: str = ""
    symbol: str = ""
    result: Result | None = None
    event: str = ""
    status: str = ""
    pair: str = ""
    message: str = ""
    errorMessage: str = ""
    product_ids: list[str] = []


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")
    feed: str = ""
    trades: msgspec.Raw = msgspec.Raw(b"[]")


class OldEnvelope(msgspec.Struct, gc=False, array_like=True):
    channel_id: int
    data: list[msgspec.Raw]
    channel: str
    pair: str


_spot_traded, _futures_traded = lax(SpotTraded), lax(FuturesTraded)
_message = lax(Message)
_envelope = lax(Envelope)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_spot_row = lax(SpotRow)
_futures_row = lax(FuturesRow)
_old_push = lax(OldPush)
_old_envelope = lax(OldEnvelope)
_old_row = lax(OldRow)


class KrakenDecoder(QuickDecoder):
    """Trades of both products, images, answers."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self.ms = usual_ms if endpoint == "spot" else None
        self._products = {symbol: symbol for symbol in instruments} | {symbol.lower(): symbol for symbol in instruments}
        """Futures' symbols, as messages may write them."""

    def quick(self, frame: Buffer) -> Quick | None:
        if self.endpoint == "spot":
            return None, _spot_traded.decode(frame).data
        row = _futures_traded.decode(frame)
        return self._products[row.product_id], (row,)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        old = frame[:1] == b"["
        try:
            return self.old(frame) if old else self.whole(frame)
        except (msgspec.ValidationError, ValueError, ArithmeticError):
            return self.old_one_by_one(frame) if old else self.one_by_one(frame)

    def whole(self, frame: Buffer) -> Sequence[Event]:
        """The fast path: everything is as documented, or this raises."""
        message = _message.decode(frame)
        if message.channel == "trade" and message.data is not None:
            return live_or_past(message.type, [self.spot(row) for row in message.data])
        if message.feed == "trade" and not message.event:
            return (self.future(_futures_row.decode(frame)),)
        if message.feed == "trade_snapshot" and message.trades is not None:
            return live_or_past("snapshot", [self.future(row) for row in message.trades])
        return self.control(message)

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        envelope = _envelope.decode(frame)
        if envelope.channel == "trade":
            return live_or_past(envelope.type, rows(_raw_rows.decode(envelope.data), _spot_row, self.spot))
        if envelope.feed == "trade_snapshot":
            return live_or_past("snapshot", rows(_raw_rows.decode(envelope.trades), _futures_row, self.future))
        if envelope.channel in CONNECTION:
            return ALIVE
        if envelope.feed == "trade":
            return rows([msgspec.Raw(bytes(frame))], _futures_row, self.future)
        if envelope.channel or envelope.feed:
            return (Unknown(f"channel {envelope.channel}{envelope.feed}"[:60]),)
        raise BadMessage("no message of this exchange")

    def old(self, frame: Buffer) -> Sequence[Event]:
        """A push of spot v1, which has no image."""
        push = _old_push.decode(frame)
        make = self.old_maker(push.channel, push.pair)
        return [make(row) for row in push.data] if make else (Unknown(f"channel {push.channel[:40]}"),)

    def old_one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path of spot v1."""
        push = _old_envelope.decode(frame)
        make = self.old_maker(push.channel, push.pair)
        return rows(push.data, _old_row, make) if make else (Unknown(f"channel {push.channel[:40]}"),)

    def old_maker(self, channel: str, pair: str) -> Callable[[OldRow], Event] | None:
        """What makes trades of the rows of a push, by v2's symbol where v1's is none of ours."""
        if channel != "trade":
            return None
        symbol = pair if self.instruments.get(pair) is not None else _renamed(pair, _TO_V2)
        return lambda row: self.trade(symbol, _seconds_ms(row.time), row.price, row.volume, row.side == "b")

    def spot(self, row: SpotRow) -> Event:
        return self.trade(row.symbol, iso_ms(row.timestamp), row.price, row.qty, row.side == "buy", row.trade_id)

    def future(self, row: FuturesRow) -> Event:
        """`uid` is the id: history has it too, but not `seq`."""
        if row.type not in ("fill", "liquidation"):
            return Excluded(f"type {row.type[:20]}")
        buy = row.side == "buy"
        forced = buy if row.type == "liquidation" else None
        id = row.seq if row.uid is None else row.uid
        return self.trade(row.product_id.upper(), row.time, row.price, row.qty, buy, id, forced=forced)

    def control(self, message: Message) -> Sequence[Event]:
        """Answers, by the generation of the protocol that they belong to."""
        if message.channel in CONNECTION or message.method == "pong":
            return ALIVE
        if message.method == "unsubscribe":
            return ALIVE
        if message.success is False:
            return (Rejected((message.symbol,) if message.symbol else (), message.error[:160]),)
        if message.method == "subscribe" and message.result is not None:
            return (Acked((message.result.symbol,)),)
        return self.event(message)

    def event(self, message: Message) -> Sequence[Event]:
        """Messages with `event`: of futures, and of spot v1."""
        match message.event:
            case "subscribed":
                return (Acked(tuple(message.product_ids)),)
            case "subscribed_failed":
                return (Rejected(tuple(message.product_ids), "subscribed_failed"),)
            case "alert" | "error":
                return (Rejected((), (message.message or message.errorMessage)[:160]),)
            case "subscriptionStatus" if message.status == "subscribed":
                return (Acked((_renamed(message.pair, _TO_V2),)),)
            case "subscriptionStatus" if message.status == "error":
                return (Rejected((_renamed(message.pair, _TO_V2),), message.errorMessage[:160]),)
            case "heartbeat" | "systemStatus" | "info" | "pong" | "unsubscribed" | "subscriptionStatus":
                return ALIVE
            case "unsubscribed_failed":
                return ALIVE
            case "closing":
                return (Closing("announced"),)
        return (Unknown(f"event {message.event}{message.feed}{message.channel}{message.method}"[:60]),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("subscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("unsubscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def _ask(self, what: str, topics: Sequence[str]) -> Frame:
        if self.endpoint == "futures":
            return msgspec.json.encode({"event": what, "feed": "trade", "product_ids": topics}).decode()
        params: dict[str, object] = {"channel": "trade", "symbol": topics}
        if what == "subscribe":
            params["snapshot"] = True  # the newest 50 trades: they fill a short hole at once
        return msgspec.json.encode({"method": what, "params": params, "req_id": self.next_id()}).decode()

    def ping(self, now_ms: int) -> Frame | None:
        return None if self.endpoint == "futures" else '{"method":"ping"}'


def live_or_past(type_: str, events: list[Event]) -> Sequence[Event]:
    """An image holds what was over before the subscription."""
    if type_ == "update":
        return events
    if type_ != "snapshot":
        return (Unknown(f"type {type_[:40]}"),)
    return past(events)


def _renamed(pair: str, names: Mapping[str, str]) -> str:
    """A pair with both its coins in the other generation's spelling."""
    base, slash, quote = pair.partition("/")
    return names.get(base, base) + slash + names.get(quote, quote)


def _seconds_ms(seconds: Decimal) -> int:
    """Seconds with decimals → ms, floored, without the rounding of floats."""
    if not 0 < seconds < _MAX_S:
        raise ValueError("time out of range")
    return int(seconds * 1000)


# --- REST of spot -------------------------------------------------------------------------------------------------------


class AssetPair(msgspec.Struct):
    """A row of AssetPairs; dark pools have no wsname."""

    wsname: str = ""
    status: str = "online"


class PastRow(msgspec.Struct, array_like=True):
    """A row of Trades."""

    price: float
    volume: float
    time: Decimal
    side: Literal["b", "s"]
    order: str
    misc: str
    trade_id: int | None = None


class SpotAnswer(msgspec.Struct):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_spot_answer = lax(SpotAnswer)
_asset_pair = lax(AssetPair)
_past_rows = lax(list[PastRow])
_last = lax(int)


def _spot_result(body: bytes) -> dict[str, msgspec.Raw]:
    answer = _spot_answer.decode(body)
    if answer.error:
        raise BadMessage(", ".join(answer.error)[:160])
    return answer.result


# --- REST of futures ----------------------------------------------------------------------------------------------------


class Listed(msgspec.Struct):
    """A row of instruments; older answers name the coins only within the symbol."""

    symbol: str
    tradeable: bool = False
    contractSize: float | None = None
    base: str = ""
    quote: str = ""


class Instruments(msgspec.Struct):
    instruments: list[Listed]


class PastFuture(msgspec.Struct):
    """A row of history."""

    time: str
    price: float
    size: float
    side: Side
    type: str = "fill"
    uid: str | None = None


class FuturesHistory(msgspec.Struct):
    history: list[PastFuture]


class Ticker(msgspec.Struct):
    """Open interest: dollars of inverse contracts, base coins of linear ones."""

    symbol: str = ""
    openInterest: float | None = None
    fundingRate: float | None = None
    """What a contract pays an hour: quote of linear contracts, coins of inverse ones."""
    markPrice: float | None = None


class Tickers(msgspec.Struct):
    tickers: list[Ticker]
    serverTime: str = ""


_instruments = lax(Instruments)
_futures_history = lax(FuturesHistory)
_tickers = lax(Tickers)


class Kraken(Exchange):
    """https://kraken.com spot and futures."""

    id: ClassVar[str] = "KRAKEN"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://ws.kraken.com/v2",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(2, 1),
            ping_s=30,
            gapless=True,
        ),
        Endpoint(
            "futures",
            "wss://futures.kraken.com/ws/v1",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(10, 1),
            ping_s=30,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {
        "rest": "https://api.kraken.com/0/public",
        "rest_futures": "https://futures.kraken.com/derivatives/api/v3",
    }
    limits: ClassVar[Limits] = Limits(connects=Rate(150, 600), rest=Rate(1, 1))
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}/USD", "PF_{xbt}USD", "PI_{xbt}USD")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "spot: all history by trade id; futures: 7 days by time, with liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    funding_s: ClassVar[float] = 3_600.0
    notes: ClassVar[tuple[str, ...]] = (
        "PF_ and FF_ contracts are linear and count base coins; a collector that divides by the price is wrong.",
        "A liquidation is a trade of type liquidation: it counts once in volume. One collector leaves out the mark.",
        "Futures prints of type assignment, termination and block are no trades of the book and are left out.",
        "The 50 (spot) or 100 (futures) trades sent on subscribing are history: they serve recovery only.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return KrakenDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        """Liquidations are marks on trades."""
        return (Stream(instrument.endpoint, instrument.symbol, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (
            Call(Request(self.url("rest") + "/AssetPairs"), self._read_pairs),
            Call(Request(self.url("rest_futures") + "/instruments"), self._read_contracts),
        )

    def _read_pairs(self, body: bytes) -> Page[Instrument]:
        pairs = [_asset_pair.decode(raw) for raw in _spot_result(body).values()]
        named = [pair for pair in pairs if "/" in pair.wsname]
        return Page([self._pair(_renamed(pair.wsname, _TO_V2), pair.status == "online") for pair in named])

    def _pair(self, symbol: str, active: bool = True) -> Instrument:
        """A spot market, by v2's symbol."""
        base, _, quote = _renamed(symbol, _TO_V2).partition("/")
        asset, multiplier = base_asset(base)
        name = _renamed(symbol, _TO_V1)
        return Instrument(self.id, name, symbol, "spot", asset, quote, "spot", multiplier=multiplier, active=active)

    def _read_contracts(self, body: bytes) -> Page[Instrument]:
        found = _instruments.decode(body).instruments
        return Page([self._contract(row) for row in found if row.symbol.upper().startswith(_CONTRACTS)])

    def _contract(self, row: Listed) -> Instrument:
        """`PI_XBTUSD`, `FI_XBTUSD_261225`: the first letter says perpetual or dated, the second inverse or linear."""
        symbol = row.symbol.upper()
        prefix, _, rest = symbol.partition("_")
        coins = rest.partition("_")[0]
        quote = row.quote or next((q for q in ("USDT", "USD", "EUR", "XBT") if coins.endswith(q)), "")
        asset, multiplier = base_asset(row.base or coins.removesuffix(quote))
        return Instrument(
            self.id,
            symbol,
            symbol,
            "future" if prefix.startswith("F") and "_" in rest else "perp",
            asset,
            base_asset(quote)[0],
            "futures",
            contract_size=row.contractSize or 1.0,
            inverse=prefix.endswith("I"),
            multiplier=multiplier,
            active=row.tradeable,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """`BTC/USD` and, of v1, `XBT/USD` are spot; anything else is a contract of futures."""
        if "/" in symbol:
            return self._pair(symbol)
        return self._contract(Listed(symbol, tradeable=True))

    def recover(self, gap: Gap) -> Call[Trade]:
        if gap.instrument.kind == "spot":
            return self._spot_history(gap, (gap.after_ms - 1) * 1_000_000)
        return self._futures_history(gap, gap.before_ms + 1, frozenset())

    def _spot_history(self, gap: Gap, since_ns: int) -> Call[Trade]:
        """Ascending, after a time in ns; each answer says after which to go on."""
        instrument = gap.instrument
        make = KrakenDecoder({instrument.symbol: instrument}, "spot").trade

        def read(body: bytes) -> Page[Trade]:
            result = _spot_result(body)
            last = _last.decode(result.pop("last"))
            found = [row for raw in result.values() for row in _past_rows.decode(raw)]
            made = [
                make(instrument.symbol, _seconds_ms(r.time), r.price, r.volume, r.side == "b", r.trade_id)
                for r in found
            ]
            trades = gap.missing(made)
            if not found or last <= since_ns or _seconds_ms(found[-1].time) > gap.before_ms:
                return Page(trades)
            return Page(trades, self._spot_history(gap, last))

        pair = instrument.pair.replace("/", "")
        return Call(Request(f"{self.url('rest')}/Trades?pair={pair}&since={since_ns}&count={SPOT_ROWS}"), read)

    def _futures_history(self, gap: Gap, before_ms: int, seen: frozenset[str]) -> Call[Trade]:
        """Newest first, before a time. `seen` are the ids that an earlier page gave of its oldest millisecond."""
        instrument = gap.instrument
        make = KrakenDecoder({instrument.symbol: instrument}, "futures").future

        def read(body: bytes) -> Page[Trade]:
            found = [(iso_ms(row.time), row) for row in _futures_history.decode(body).history]
            made = [
                make(FuturesRow(instrument.symbol, row.side, ts_ms, row.size, row.price, row.type, None, row.uid))
                for ts_ms, row in reversed(found)
                if row.uid not in seen
            ]
            trades = gap.missing(made)
            if len(found) < FUTURES_ROWS or found[-1][0] < gap.after_ms:
                return Page(trades)
            oldest = found[-1][0]
            if oldest == found[0][0]:  # a millisecond that fills a page cannot be read further
                return Page(trades, self._futures_history(gap, oldest, frozenset()))
            known = frozenset(row.uid for ts_ms, row in found if ts_ms == oldest and row.uid is not None)
            return Page(trades, self._futures_history(gap, oldest + 1, known))

        query = f"symbol={instrument.symbol}&lastTime={iso(before_ms)}"
        return Call(Request(f"{self.url('rest_futures')}/history?{query}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        """One answer for all contracts."""
        wanted = {instrument.symbol: instrument for instrument in instruments if instrument.kind != "spot"}

        def read(body: bytes) -> Page[OpenInterest]:
            answer = _tickers.decode(body)
            ts_ms = iso_ms(answer.serverTime) if answer.serverTime else None
            items = []
            for row in answer.tickers:
                instrument = wanted.get(row.symbol.upper())
                if instrument is not None and row.openInterest is not None:
                    amount = row.openInterest * instrument.contract_size
                    base, usd = (None, amount) if instrument.inverse else (amount, None)
                    items.append(OpenInterest(instrument, ts_ms, base, usd, _relative(instrument, row)))
            return Page(items)

        return (Call(Request(self.url("rest_futures") + "/tickers"), read),) if wanted else ()


def _relative(instrument: Instrument, row: Ticker) -> float | None:
    """Funding of an hour as a share of the position, from what one contract (a coin, or a dollar where inverse) pays."""
    if instrument.kind != "perp" or row.fundingRate is None or not row.markPrice:
        return None
    return rate(row.fundingRate * row.markPrice if instrument.inverse else row.fundingRate / row.markPrice)
