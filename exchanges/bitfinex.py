"""Bitfinex: spot and perpetuals.

Sources: the exchange's API documentation (websocket v2 public `trades` and `status`, REST v2 `conf`, `trades/hist`,
`status/deriv`), autumn 2026. Frames are arrays that begin with a channel id, which the answer to a subscription assigns. `te` is
a trade at its execution, `tu` the same trade again; an array of rows is the image of the newest trades. The sign of an amount is
the aggressor's side, its size base coins, of perpetuals too. Arrays may grow at their end (sequence, timestamp): they are read from
the front. Liquidations come from one channel for all pairs; there the sign is that of the position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

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
    Quick,
    QuickDecoder,
    Rate,
    Recovery,
    Rejected,
    Request,
    Signed,
    Stream,
    Time,
    Trade,
    Unknown,
    base_asset,
    rows,
)
from exchanges.image import past
from exchanges.numbers import lax, rate

TRADES, LIQUIDATIONS = "trades:t", "status:liq:global"
"""Topics: the channel and, after a colon, its symbol or key."""
PAGE_ROWS = 10_000
CHANNELS_MAX = 1000
_RECONNECT = {20051: "the server restarts", 20061: "maintenance is over: subscribe again"}
_ALREADY_SUBSCRIBED = 10301
_NAMES = {
    "ALG": "ALGO",
    "ATO": "ATOM",
    "BAB": "BCH",
    "DAT": "DATA",
    "DSH": "DASH",
    "EUT": "EURT",
    "IOT": "IOTA",
    "MNA": "MANA",
    "QTM": "QTUM",
    "UDC": "USDC",
    "UST": "USDT",
}
"""Short names in use since long; the listing says the others."""


class Row(msgspec.Struct, gc=False, array_like=True):
    """A trade, on the socket and in history."""

    id: int
    mts: int
    amount: float
    price: float


class Push(msgspec.Struct, gc=False, array_like=True):
    """[channel, "te", trade], [channel, "hb"], [channel, [trade, …]]; further elements may follow."""

    channel: int
    what: str | list[Row]
    row: Row | int | None = None


class Usual(Bounded, array_like=True):
    """A trade."""

    id: Id
    time: Time
    amount: Signed
    price: Price

    @property
    def quantity(self) -> float:
        return abs(self.amount)

    @property
    def side(self) -> bool:
        return self.amount > 0


class Traded(msgspec.Struct, gc=False, array_like=True):
    """Nearly every frame: a trade as it happens (`te`), and again later (`tu`)."""

    channel: int
    what: str
    row: Usual


class ForcedRow(msgspec.Struct, gc=False, array_like=True):
    """A liquidation. `base_price` is the entry price of the position, `price` the fill's."""

    type: str
    id: int
    mts: int
    unused_3: msgspec.Raw
    symbol: str
    amount: float
    base_price: float | None
    unused_7: msgspec.Raw
    is_match: int
    is_market_sold: int
    unused_10: msgspec.Raw = msgspec.Raw(b"null")
    price: float | None = None


class RawPush(msgspec.Struct, gc=False, array_like=True):
    """A push whose rows are read one by one."""

    channel: int
    what: msgspec.Raw
    row: msgspec.Raw = msgspec.Raw(b"null")


class Message(msgspec.Struct, gc=False):
    """Answers and notices."""

    event: str
    channel: str = ""
    chanId: int | None = None
    symbol: str = ""
    key: str = ""
    code: int | None = None
    msg: str = ""

    @property
    def topic(self) -> str:
        """Our name of the channel that it speaks of; empty where it does not say."""
        return f"{self.channel}:{self.symbol or self.key}" if self.channel else ""


_traded = lax(Traded)
_push = lax(Push)
_raw_push = lax(RawPush)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_row = lax(Row)
_forced_row = lax(ForcedRow)
_message = lax(Message)


class BitfinexDecoder(QuickDecoder):
    """Trades, liquidations, images, answers. Remembers channel ids, and prices for liquidations that bring none."""

    buy = True

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._topics: dict[int, str] = {}
        self._symbols: dict[int, str] = {}
        """Of those channels that carry trades."""
        self._image_due: set[int] = set()
        self._prices: dict[str, float] = {}

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        symbol = self._symbols.get(push.channel)
        if symbol is None:
            return None
        if push.what != "te":
            return (None, ()) if push.what == "tu" else None
        self._prices[symbol] = push.row.price
        return symbol, (push.row,)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        if frame[:1] == b"{":
            return self.control(_message.decode(frame))
        try:
            push = _push.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(_raw_push.decode(frame))
        topic = self._topics.get(push.channel, "")
        if push.what == "hb":
            return ALIVE
        if not topic.startswith(TRADES):
            return self.one_by_one(_raw_push.decode(frame))
        if type(push.what) is list:
            return past([self.traded(topic, row) for row in push.what])
        if push.what == "te" and type(push.row) is Row:
            return (self.traded(topic, push.row),)
        return self.repeated(str(push.what))

    def traded(self, topic: str, row: Row) -> Event:
        symbol = topic[len(TRADES) :]
        made = self.trade(symbol, row.mts, row.price, abs(row.amount), row.amount > 0, row.id)
        if type(made) is Trade:
            self._prices[symbol] = made.price
        return made

    def repeated(self, what: str) -> Sequence[Event]:
        if what == "tu":
            return ()  # the trade came as `te`
        if what in ("fte", "ftu"):
            return (Excluded("funding"),)
        raise BadMessage(f"{what[:40]!r} without a trade")

    def one_by_one(self, push: RawPush) -> Sequence[Event]:
        """Liquidations, and the slow path of trades: at least one row, or the message itself, is not as documented."""
        topic = self._topics.get(push.channel)
        if topic is None:
            return (Unknown("channel without subscription"),)
        what, trades = bytes(push.what), topic.startswith(TRADES)

        def make(row: Row) -> Event:
            return self.traded(topic, row)

        if what[:1] == b"[" and topic == LIQUIDATIONS:
            return self.liquidations(push.channel, _raw_rows.decode(what))
        if what[:1] == b"[" and trades:
            return past(rows(_raw_rows.decode(what), _row, make))
        if what == b'"te"' and trades:
            return rows([push.row], _row, make)
        if what[:1] == b'"' and trades:
            return self.repeated(what[1:-1].decode())
        return (Unknown(f"{topic} {what[:20].decode('utf-8', 'replace')}"[:60]),)

    def liquidations(self, channel: int, raw: Sequence[msgspec.Raw]) -> Sequence[Event]:
        """The first array after subscribing is an image."""
        if channel in self._image_due:
            self._image_due.discard(channel)
            return (Excluded("liquidations before the subscription", max(1, len(raw))),)
        return rows(raw, _forced_row, self.forced)

    def forced(self, row: ForcedRow) -> Event:
        """A position that was long is closed by a sell. Each comes twice: announced, and as a match; it counts once."""
        if row.type != "pos" or row.is_match:
            return Excluded("match of a liquidation already announced")
        symbol = row.symbol.removeprefix("t")
        price = row.price or self._prices.get(symbol) or row.base_price or 0.0
        return self.liquidation(symbol, row.mts, price, abs(row.amount), row.amount < 0, row.id)

    def control(self, message: Message) -> Sequence[Event]:
        match message.event:
            case "subscribed":
                return self.subscribed(message)
            case "unsubscribed":
                self._topics.pop(message.chanId or 0, None)
                self._symbols.pop(message.chanId or 0, None)
                return ALIVE
            case "info" if message.code in _RECONNECT:
                return (Closing(_RECONNECT[message.code]),)
            case "info" | "conf" | "pong":
                return ALIVE
            case "error" if message.code == _ALREADY_SUBSCRIBED:
                return (Acked((message.topic,)),)
            case "error":
                topics = (message.topic,) if message.topic else ()
                return (Rejected(topics, f"{message.code} {message.msg}"[:160]),)
        return (Unknown(f"event {message.event[:40]}"),)

    def subscribed(self, message: Message) -> Sequence[Event]:
        if message.chanId is None or len(self._topics) >= CHANNELS_MAX:
            raise BadMessage("no channel id, or one too many")
        self._topics[message.chanId] = message.topic
        self._symbols.pop(message.chanId, None)
        if message.topic.startswith(TRADES):
            self._symbols[message.chanId] = message.topic[len(TRADES) :]
        if message.topic == LIQUIDATIONS:
            self._image_due = {message.chanId}
        return (Acked((message.topic,)),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask(topic) for topic in topics]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        """By channel id: of topics that were acknowledged."""
        channels = [channel for channel, topic in self._topics.items() if topic in topics]
        return [msgspec.json.encode({"event": "unsubscribe", "chanId": channel}).decode() for channel in channels]


def _ask(topic: str) -> Frame:
    channel, _, name = topic.partition(":")
    of = {"key": name} if channel == "status" else {"symbol": name}
    return msgspec.json.encode({"event": "subscribe", "channel": channel} | of).decode()


_listing = lax(tuple[list[str], list[str], list[tuple[str, str]]])
_history = lax(list[Row])
_deriv = msgspec.json.Decoder(list[list[float | str | None]])
_FUNDING, _OPEN_INTEREST = 12, 18


class Bitfinex(Exchange):
    """https://bitfinex.com."""

    id: ClassVar[str] = "BITFINEX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "public",
            "wss://api-pub.bitfinex.com/ws/2",
            streams_per_connection=25,
            topics_per_frame=1,
            frames=Rate(10, 1),
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api-pub.bitfinex.com/v2"}
    limits: ClassVar[Limits] = Limits(connects=Rate(20, 60), rest=Rate(15, 60))
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}USD", "{base}F0:USTF0")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by time, all history; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "The array of trades sent on subscribing is history and not counted; another collector counts it.",
        "Only te counts; tu is the same trade again. fte and ftu are funding.",
        "Liquidations: the sign is that of the position, so a positive amount is a sell; rows with IS_MATCH are repeats.",
        "Price of a liquidation: the fill's where given, else the last trade's, else the entry price of the position.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BitfinexDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        trades = Stream(instrument.endpoint, TRADES + instrument.symbol, instrument)
        if liquidations and instrument.kind == "perp":
            return (trades, Stream(instrument.endpoint, LIQUIDATIONS))
        return (trades,)

    def listings(self) -> Sequence[Call[Instrument]]:
        keys = "pub:list:pair:exchange,pub:list:pair:futures,pub:map:currency:sym"
        return (Call(Request(f"{self.url('rest')}/conf/{keys}"), self._read_listing),)

    def _read_listing(self, body: bytes) -> Page[Instrument]:
        """Names of pairs, and what the short names of coins stand for."""
        spot, futures, names = _listing.decode(body)
        known = {short: long.upper() for short, long in names} | _NAMES
        items = [self._instrument(symbol, "spot", known) for symbol in spot]
        return Page(items + [self._instrument(symbol, "perp", known) for symbol in futures])

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        return self._instrument(symbol, "perp" if "F0:" in symbol else "spot", _NAMES)

    def _instrument(self, symbol: str, kind: Kind, names: Mapping[str, str]) -> Instrument:
        """`BTCUSD`, `DOGE:USD`, `BTCF0:USTF0`; paper money (`TESTBTC:TESTUSD`) is listed and not active."""
        base, colon, quote = symbol.partition(":")
        if not colon:
            base, quote = symbol[:-3], symbol[-3:]
        base, quote = base.removesuffix("F0"), quote.removesuffix("F0")
        asset, multiplier = base_asset(names.get(base, base))
        return Instrument(
            self.id,
            symbol,
            symbol,
            kind,
            asset,
            names.get(quote, quote),
            "public",
            multiplier=multiplier,
            active=not base.startswith("TEST"),
        )

    def recover(self, gap: Gap) -> Call[Trade]:
        return self._history(gap, gap.after_ms, frozenset())

    def _history(self, gap: Gap, from_ms: int, seen: frozenset[int]) -> Call[Trade]:
        """Ascending, by time. `seen` are the ids of the first millisecond which an earlier page gave."""
        symbol = gap.instrument.symbol
        make = BitfinexDecoder({symbol: gap.instrument}, gap.instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(body)
            made = [make(TRADES + symbol, row) for row in found if row.id not in seen]
            trades = gap.missing(made)
            if len(found) < PAGE_ROWS:
                return Page(trades)
            last = found[-1].mts
            if found[0].mts == last:  # a millisecond that fills a page cannot be read further
                return Page(trades, self._history(gap, last + 1, frozenset()))
            return Page(trades, self._history(gap, last, frozenset(row.id for row in found if row.mts == last)))

        query = f"start={from_ms}&end={gap.before_ms}&limit={PAGE_ROWS}&sort=1"
        return Call(Request(f"{self.url('rest')}/trades/t{symbol}/hist?{query}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        """One answer for all perpetuals: [key, time in ms, …], open interest in base coins at its place."""
        wanted = {f"t{instrument.symbol}": instrument for instrument in instruments if instrument.kind == "perp"}

        def read(body: bytes) -> Page[OpenInterest]:
            items = []
            for row in _deriv.decode(body):
                if len(row) <= _OPEN_INTEREST:
                    continue
                key, when, amount = row[0], row[1], row[_OPEN_INTEREST]
                if key in wanted and isinstance(when, float) and isinstance(amount, float):
                    items.append(OpenInterest(wanted[str(key)], int(when), amount, None, rate(row[_FUNDING])))
            return Page(items)

        return (Call(Request(self.url("rest") + "/status/deriv?keys=ALL"), read),) if wanted else ()
