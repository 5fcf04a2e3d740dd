"""Bitget: spot, USDT, USDC and coin-margined futures.

Sources: the exchange's documentation of the unified account, v3 (publicTrade and liquidation topics, instruments,
open-interest) and of v2 (fills-history, current-fund-rate), autumn 2026. Spot and futures share symbols, so spot pairs end in `-SPOT` here
and have a connection of their own. Quantities are base coins, on coin-margined futures dollars; those end in `_CM` on the
wire. Frames of v2 and v1 are read too, but for coin-margined ones, whose quantity meant something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    Funding,
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
    Time,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
    split_pair,
)
from exchanges.image import past
from exchanges.numbers import hours_s, lax, rate

Side = Literal["buy", "sell"]

TRADES, LIQUIDATIONS = "publicTrade", "liquidation"
TOPICS_PER_FRAME = 40
"""The exchange takes messages of 4096 bytes."""
PAGE_ROWS = 1000
HISTORY_MS = 7 * 24 * 3_600_000
COIN_MARGINED = "_CM"


class Row(msgspec.Struct, gc=False):
    """A trade."""

    i: str
    p: float
    v: float
    S: Side
    T: int


class Usual(Bounded):
    """A trade."""

    id: TextId = msgspec.field(name="i")
    price: Price = msgspec.field(name="p")
    quantity: Quantity = msgspec.field(name="v")
    side: Side = msgspec.field(name="S")
    time: Time = msgspec.field(name="T")


class TradesArg(msgspec.Struct, gc=False):
    instType: str
    topic: Literal["publicTrade"]
    symbol: str


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    action: Literal["update"]
    arg: TradesArg
    data: list[Usual]


class RowV2(msgspec.Struct, gc=False):
    """A trade in v2, and in REST history."""

    tradeId: str
    price: float
    size: float
    side: Literal["buy", "sell", "Buy", "Sell"]
    ts: int


class RowV1(msgspec.Struct, gc=False, array_like=True):
    """A trade in v1."""

    ts: int
    price: float
    size: float
    side: Side


class Forced(msgspec.Struct, gc=False):
    """A liquidation: `side` is that of the position, `amount` is quote coin."""

    symbol: str
    side: Literal["buy", "sell", "long", "short"]
    price: float
    amount: float
    ts: int


class Arg(msgspec.Struct, gc=False):
    """What a message is about; v1 and v2 say `channel` and `instId`."""

    instType: str = ""
    topic: str = ""
    symbol: str = ""
    channel: str = ""
    instId: str = ""

    @property
    def name(self) -> str:
        """Our name of the topic."""
        return ":".join(part for part in (self.instType.lower(), self.topic, self.symbol) if part)


class Message(msgspec.Struct, gc=False):
    """A push of trades, or an answer."""

    action: str = ""
    arg: Arg | None = None
    data: list[Row] | None = None
    event: str = ""
    code: str | int = ""
    msg: str = ""


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    arg: Arg
    data: list[msgspec.Raw]
    action: str = ""


_traded = lax(Traded)
_message, _envelope = lax(Message), lax(Envelope)
_row, _row_v2, _row_v1, _forced = lax(Row), lax(RowV2), lax(RowV1), lax(Forced)


class BitgetDecoder(QuickDecoder):
    """Trades, liquidations, answers."""

    def quick(self, frame: Buffer) -> Quick | None:
        push = _traded.decode(frame)
        return push.arg.symbol, push.data

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        if len(frame) == 4 and bytes(frame) == b"pong":
            return ALIVE
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            return self.one_by_one(frame)
        if message.event or message.data is None or message.arg is None:
            return self.control(message)
        if message.arg.topic != TRADES:
            return self.one_by_one(frame)
        make = self.maker(message.arg.symbol)
        return _live_or_past(message.action, [make(row) for row in message.data])

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """Liquidations, older formats, and the slow path of trades: at least one row is not as documented."""
        envelope = _envelope.decode(frame)
        arg = envelope.arg
        if arg.topic == TRADES:
            events = rows(envelope.data, _row, self.maker(arg.symbol))
        elif arg.topic == LIQUIDATIONS:
            events = rows(envelope.data, _forced, self.liquidated)
        elif arg.channel == "trade":
            return self.old(envelope)
        else:
            return (Unknown(f"topic {(arg.topic or arg.channel)[:40]}"),)
        return _live_or_past(envelope.action, events)

    def old(self, envelope: Envelope) -> Sequence[Event]:
        """Trades of v1 (rows are lists) and v2 (rows are objects)."""
        arg = envelope.arg
        if arg.instType.upper() in ("COIN-FUTURES", "DMCBL") or arg.instId.endswith("USD"):
            return (Unknown("coin-margined trades of an older API"),)
        symbol = self.symbol_v1(arg.instId) if arg.instType == "mc" else arg.instId

        def make_v2(row: RowV2) -> Event:
            return self.trade(symbol, row.ts, row.price, row.size, row.side in ("buy", "Buy"), row.tradeId)

        def make_v1(row: RowV1) -> Event:
            return self.trade(symbol, row.ts, row.price, row.size, row.side == "buy")

        if envelope.data and bytes(envelope.data[0]).lstrip().startswith(b"["):
            return _live_or_past(envelope.action, rows(envelope.data, _row_v1, make_v1))
        return _live_or_past(envelope.action, rows(envelope.data, _row_v2, make_v2))

    def symbol_v1(self, name: str) -> str:
        """v1 called `BTCUSDT` in messages what its listing called `BTCUSDT_UMCBL`."""
        listed = name + ("_CMCBL" if name.endswith("PERP") else "_UMCBL")
        return listed if listed in self.instruments or name not in self.instruments else name

    def maker(self, symbol: str) -> Callable[[Row], Event]:
        """What makes trades of rows of this symbol."""
        trade = self.trade

        def make(row: Row) -> Event:
            return trade(symbol, row.T, row.p, row.v, row.S == "buy", row.i)

        return make

    def liquidated(self, row: Forced) -> Event:
        """A position that was bought is closed by a sell. What it is worth is in dollars on every market."""
        instrument = self.instruments.get(row.symbol)
        quantity = row.amount if instrument is not None and instrument.inverse else row.amount / row.price
        return self.liquidation(row.symbol, row.ts, row.price, quantity, row.side in ("sell", "short"))

    def control(self, message: Message) -> Sequence[Event]:
        """Answers to our requests; each argument is answered on its own."""
        topics = (message.arg.name,) if message.arg is not None and message.arg.topic else ()
        if message.event == "subscribe":
            return (Acked(topics),)
        if message.event == "error":
            return (Rejected(topics, f"{message.code} {message.msg}"[:160]),)
        if message.event == "unsubscribe":
            return ALIVE
        return (Unknown(f"event {message.event[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("subscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [_ask("unsubscribe", part) for part in chunks(topics, TOPICS_PER_FRAME)]

    def ping(self, now_ms: int) -> Frame:
        return "ping"


def _live_or_past(action: str, events: list[Event]) -> Sequence[Event]:
    return past(events) if action == "snapshot" else events


def _ask(op: str, topics: Sequence[str]) -> Frame:
    args = [dict(zip(("instType", "topic", "symbol"), topic.split(":"), strict=False)) for topic in topics]
    return msgspec.json.encode({"op": op, "args": args}).decode()


class Listed(msgspec.Struct):
    """A row of v3 instruments; futures say whether they are perpetual."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str
    type: str = "perpetual"


class Interest(msgspec.Struct):
    symbol: str
    openInterest: float


class Interests(msgspec.Struct):
    """Answer of v3 open-interest."""

    interests: list[Interest] = msgspec.field(name="list")
    ts: int | None = None


class Rates(msgspec.Struct):
    """A row of current-fund-rate."""

    symbol: str
    fundingRate: float | str | None = None
    fundingRateInterval: float | str | None = None
    """Hours."""


class Answer(msgspec.Struct):
    """What every REST answer is wrapped in."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_answer = lax(Answer)
_listed = lax(list[Listed])
_history = lax(list[RowV2])
_interests, _rates = lax(Interests), lax(list[Rates])


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.code != "00000":
        raise BadMessage(f"{answer.code} {answer.msg}"[:160])
    return answer.data


def _endpoint(name: str) -> Endpoint:
    return Endpoint(
        name,
        "wss://ws.bitget.com/v3/ws/public",
        streams_per_connection=50,
        requests=Rate(240, 3600),
        topics_per_frame=TOPICS_PER_FRAME,
        ping_s=25,
        max_age_s=24 * 3600,
        ids="unique",
    )


QUOTES = ("USDT", "USDC", "BGB", "EUR", "BRL", "USD1", "BTC", "ETH")


class Bitget(Exchange):
    """https://bitget.com."""

    id: ClassVar[str] = "BITGET"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (_endpoint("spot"), _endpoint("futures"))
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.bitget.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(300, 300), rest=Rate(10, 1), connections=100)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}USDT-SPOT", "{base}USDT")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by time, 7 days; nothing for coin-margined futures, no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Of liquidations only the largest long and the largest short of each pair and second are published.",
        "The trades that come with a subscription are history and never enter a bar (some collectors count them).",
        "Coin-margined futures trade in dollars and are converted at the price of the trade.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BitgetDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        category = _category(instrument).lower()
        streams = [Stream(instrument.endpoint, f"{category}:{TRADES}:{instrument.symbol}", instrument)]
        if liquidations and instrument.kind != "spot":
            streams.append(Stream(instrument.endpoint, f"{category}:{LIQUIDATIONS}"))
        return streams

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing(category) for category in ("SPOT", "USDT-FUTURES", "COIN-FUTURES", "USDC-FUTURES")]

    def _listing(self, category: str) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            return Page([self._listed(row, category) for row in _listed.decode(_unwrap(body))])

        return Call(self._request("v3/market/instruments", f"category={category}"), read)

    def _listed(self, row: Listed, category: str) -> Instrument:
        kind: Kind = "perp" if row.type == "perpetual" else "future"
        coin = category == "COIN-FUTURES"
        symbol = row.symbol.removesuffix(COIN_MARGINED) + COIN_MARGINED if coin else row.symbol
        return self._instrument(
            symbol,
            "spot" if category == "SPOT" else kind,
            row.baseCoin,
            row.quoteCoin,
            coin,
            row.status == "online",
        )

    def _instrument(
        self, symbol: str, kind: Kind, base: str, quote: str, inverse: bool = False, active: bool = True
    ) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(
            self.id,
            f"{symbol}-SPOT" if kind == "spot" else symbol.partition("_")[0],
            symbol,
            kind,
            asset,
            quote,
            "spot" if kind == "spot" else "futures",
            inverse=inverse,
            multiplier=multiplier,
            active=active,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        if kind == "spot" or symbol.endswith("-SPOT"):
            symbol = symbol.removesuffix("-SPOT")
            return self._instrument(symbol, "spot", *split_pair(symbol, QUOTES))
        name = symbol.partition("_")[0]
        if name.endswith("USD") or symbol.endswith(COIN_MARGINED):
            base, _, month = name.partition("USD")
            coin = symbol if "_" in symbol else symbol + COIN_MARGINED
            return self._instrument(coin, "future" if month else "perp", base, "USD", inverse=True)
        base, quote = (name[:-4], "USDC") if name.endswith("PERP") else split_pair(name, QUOTES)
        return self._instrument(symbol, "perp", base, quote)

    def _request(self, path: str, query: str) -> Request:
        return Request(f"{self.url('rest')}/api/{path}?{query}")

    def recover(self, gap: Gap) -> Call[Trade] | None:
        """Newest first. Coin-margined history is left alone: v2 does not say in what its sizes are."""
        return None if gap.instrument.inverse else self._history(gap, "")

    def _history(self, gap: Gap, before: str) -> Call[Trade]:
        instrument = gap.instrument
        make = BitgetDecoder({instrument.symbol: instrument}, instrument.endpoint).trade

        def read(body: bytes) -> Page[Trade]:
            found = _history.decode(_unwrap(body))
            made = [
                make(instrument.symbol, row.ts, row.price, row.size, row.side in ("buy", "Buy"), row.tradeId)
                for row in reversed(found)
            ]
            trades = gap.missing(made)
            if len(found) < PAGE_ROWS or found[-1].ts < gap.after_ms:
                return Page(trades)
            return Page(trades, self._history(gap, f"&idLessThan={found[-1].tradeId}"))

        from_ms = max(gap.after_ms, gap.before_ms - HISTORY_MS + 60_000)
        query = f"symbol={instrument.symbol}&limit={PAGE_ROWS}&startTime={from_ms}&endTime={gap.before_ms + 1}{before}"
        if instrument.kind == "spot":
            return Call(self._request("v2/spot/market/fills-history", query), read)
        return Call(
            self._request("v2/mix/market/fills-history", f"productType={_category(instrument)}&{query}"),
            read,
        )

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(i) for i in instruments if i.kind != "spot"]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        """In base coins on every market."""

        def read(body: bytes) -> Page[OpenInterest]:
            answer = _interests.decode(_unwrap(body))
            return Page(
                [
                    OpenInterest(instrument, answer.ts, row.openInterest)
                    for row in answer.interests
                    if row.symbol == instrument.symbol
                ]
            )

        query = f"category={_category(instrument)}&symbol={instrument.symbol}"
        return Call(self._request("v3/market/open-interest", query), read)

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """One answer for each product."""
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind == "perp":
                wanted.setdefault(_category(instrument), {})[instrument.symbol] = instrument
        return [self._funding(category, by_symbol) for category, by_symbol in wanted.items()]

    def _funding(self, category: str, wanted: Mapping[str, Instrument]) -> Call[Funding]:
        def read(body: bytes) -> Page[Funding]:
            rows = [row for row in _rates.decode(_unwrap(body)) if row.symbol in wanted]
            found = [(wanted[row.symbol], rate(row.fundingRate), hours_s(row.fundingRateInterval)) for row in rows]
            return Page([Funding(of, said, interval_s) for of, said, interval_s in found if said is not None])

        return Call(self._request("v2/mix/market/current-fund-rate", f"productType={category}"), read)


def _category(instrument: Instrument) -> str:
    if instrument.kind == "spot":
        return "SPOT"
    if instrument.inverse:
        return "COIN-FUTURES"
    return "USDC-FUTURES" if instrument.quote == "USDC" else "USDT-FUTURES"
