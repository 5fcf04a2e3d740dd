"""KuCoin spot and futures.

Sources: the exchange's API documentation (classic websocket: token, match and execution topics; REST symbols, contracts,
histories), autumn 2026. A token is asked for by REST before each connection. Times are nanoseconds. `sequence` is the one
number that the socket and REST share, so it is the id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    by_channel,
)
from exchanges.numbers import lax, rate

SPOT, FUTURES = "/market/match:", "/contractMarket/execution:"
TOPICS_PER_FRAME = 100
NS_PER_MS = 1_000_000
OK = "200000"


class Row(msgspec.Struct, gc=False):
    """A trade, pushed or (without `symbol`) by REST. Spot says `time`, futures `ts`."""

    side: Literal["buy", "sell"]
    price: float
    size: float
    sequence: int
    time: int | None = None
    ts: int | None = None
    symbol: str = ""


class Push(msgspec.Struct, gc=False, tag_field="type", tag="message"):
    topic: str
    data: Row


class UsualSpot(Bounded):
    """A spot trade."""

    side: Literal["buy", "sell"]
    price: Price
    quantity: Quantity = msgspec.field(name="size")
    id: Id = msgspec.field(name="sequence")
    time: TimeNs
    symbol: str


class UsualFutures(Bounded):
    """A futures trade."""

    side: Literal["buy", "sell"]
    price: Price
    quantity: Quantity = msgspec.field(name="size")
    id: Id = msgspec.field(name="sequence")
    time: TimeNs = msgspec.field(name="ts")
    symbol: str
    other_time: None = msgspec.field(default=None, name="time")


class SpotTraded(msgspec.Struct, gc=False, tag_field="type", tag="message"):
    """Nearly every frame of spot,"""

    topic: str
    data: UsualSpot


class FuturesTraded(msgspec.Struct, gc=False, tag_field="type", tag="message"):
    """…and of futures."""

    topic: str
    data: UsualFutures


class Ack(msgspec.Struct, gc=False, tag_field="type", tag="ack"):
    id: str


class Refusal(msgspec.Struct, gc=False, tag_field="type", tag="error"):
    id: str = ""
    code: int = 0
    data: str = ""


class Pong(msgspec.Struct, gc=False, tag_field="type", tag="pong"):
    pass


class Welcome(msgspec.Struct, gc=False, tag_field="type", tag="welcome"):
    pass


class Envelope(msgspec.Struct, gc=False):
    type: str
    topic: str = ""


_message: msgspec.json.Decoder[Push | Ack | Refusal | Pong | Welcome] = msgspec.json.Decoder(
    Push | Ack | Refusal | Pong | Welcome, strict=False
)
_spot_traded, _futures_traded = lax(SpotTraded), lax(FuturesTraded)
_envelope = lax(Envelope)


class KucoinDecoder(QuickDecoder):
    """Trades and answers; every push is one trade."""

    per_ms = NS_PER_MS

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()
        self._topics = {channel + symbol for channel in (SPOT, FUTURES) for symbol in instruments}
        self._traded: Callable[[Buffer], SpotTraded | FuturesTraded] = (
            _spot_traded.decode if endpoint == "spot" else _futures_traded.decode
        )

    def quick(self, frame: Buffer) -> Quick | None:
        push = self._traded(frame)
        return (None, (push.data,)) if push.topic in self._topics else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError as error:
            return self.unknown(frame, error)
        if type(message) is Push:
            if not message.topic.startswith((SPOT, FUTURES)):
                return (Unknown(f"topic {message.topic[:40]}"),)
            return (self.traded(message.data),)
        if type(message) is Ack:
            return (Acked(self._asked.pop(message.id, ())),)
        if type(message) is Refusal:
            return (self.refused(message),)
        return ALIVE

    def unknown(self, frame: Buffer, error: msgspec.ValidationError) -> Sequence[Event]:
        """A message of another topic or type; on ours it is unreadable."""
        envelope = _envelope.decode(frame)
        if envelope.topic.startswith((SPOT, FUTURES)) or (envelope.type in ("message", "ack") and not envelope.topic):
            raise BadMessage(str(error)[:200]) from error
        return (Unknown(f"{envelope.type[:40]} {envelope.topic[:40]}"),)

    def traded(self, row: Row) -> Event:
        ts_ns = row.time if row.time is not None else row.ts
        if ts_ns is None:
            raise BadMessage("trade without a time")
        return self.trade(row.symbol, ts_ns // NS_PER_MS, row.price, row.size, row.side == "buy", row.sequence)

    def refused(self, refusal: Refusal) -> Event:
        """One bad symbol has its whole frame refused."""
        topics = self._asked.pop(refusal.id, ())
        named = tuple(topic for topic in topics if topic.partition(":")[2] in refusal.data)
        return Rejected(named or topics, f"{refusal.code} {refusal.data}"[:160])

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in by_channel(topics, TOPICS_PER_FRAME):
            self._asked[str(self.request_id + 1)] = tuple(part)
            frames.append(self._ask("subscribe", part))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("unsubscribe", part) for part in by_channel(topics, TOPICS_PER_FRAME)]

    def _ask(self, kind: str, topics: Sequence[str]) -> Frame:
        """Topics of one channel, in one frame."""
        channel = topics[0].partition(":")[0]
        symbols = ",".join(topic.partition(":")[2] for topic in topics)
        body = {"id": str(self.next_id()), "type": kind, "topic": f"{channel}:{symbols}", "response": True}
        return msgspec.json.encode(body).decode()

    def ping(self, now_ms: int) -> Frame:
        return msgspec.json.encode({"id": str(now_ms), "type": "ping"}).decode()


class Symbol(msgspec.Struct):
    """A row of spot's symbols."""

    symbol: str
    baseCurrency: str
    quoteCurrency: str
    enableTrading: bool


class Contract(msgspec.Struct):
    """A row of the active contracts. A negative multiplier is dollars, of an inverse contract."""

    symbol: str
    baseCurrency: str
    quoteCurrency: str
    multiplier: float
    status: str = "Open"
    expireDate: int | None = None
    openInterest: float | None = None
    fundingFeeRate: float | str | None = None


class Server(msgspec.Struct):
    endpoint: str


class Token(msgspec.Struct):
    token: str
    instanceServers: list[Server]


class Answer(msgspec.Struct):
    """What REST answers are wrapped in."""

    code: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    msg: str = ""


_answer, _token = lax(Answer), lax(Token)
_symbols, _contracts, _rows = lax(list[Symbol]), lax(list[Contract]), lax(list[Row])


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.code != OK:
        raise BadMessage(f"{answer.code} {answer.msg}"[:160])
    return answer.data


_LINEAR = re.compile(r"([A-Z0-9]+?)(USDT|USDC)M")
_INVERSE = re.compile(r"([A-Z0-9]+?)USDM")
_DATED = re.compile(r"([A-Z0-9]+?)M[FGHJKMNQUVXZ]\d\d")
_CONTRACT_COINS = {"XBT": 0.001, "ETH": 0.01}


class Kucoin(Exchange):
    """https://kucoin.com."""

    id: ClassVar[str] = "KUCOIN"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://ws-api-spot.kucoin.com",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(100, 10),
            ping_s=18,
            max_age_s=24 * 3600,
            settle_s=1,
        ),
        Endpoint(
            "futures",
            "wss://ws-api-futures.kucoin.com",
            streams_per_connection=200,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(100, 10),
            ping_s=18,
            max_age_s=24 * 3600,
            settle_s=1,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {
        "rest": "https://api.kucoin.com",
        "rest-futures": "https://api-futures.kucoin.com",
    }
    limits: ClassVar[Limits] = Limits(connects=Rate(30, 60), rest=Rate(500, 30), connections=100)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}-USDT", "{xbt}USDTM")
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "newest 100 trades"
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "After a gap only the newest 100 trades of a market can be asked for: on busy markets that is seconds.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return KucoinDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channel = SPOT if instrument.kind == "spot" else FUTURES
        return (Stream(instrument.endpoint, channel + instrument.symbol, instrument),)

    def connect(self, endpoint: str, now_ms: int) -> Call[str]:
        """Ask for a token and the server to use it at. An address of our own replaces that server's."""
        own = self.url(endpoint)

        def read(body: bytes) -> Page[str]:
            token = _token.decode(_unwrap(body))
            where = token.instanceServers[0].endpoint if own == self.endpoint(endpoint).url else own
            if not where.startswith(("wss://", "ws://")):
                raise BadMessage(f"not a websocket address: {where[:80]!r}")
            return Page([f"{where}?token={token.token}&connectId={now_ms}"])

        return Call(Request(self._rest(endpoint) + "/api/v1/bullet-public", "POST"), read)

    def _rest(self, endpoint: str) -> str:
        return self.url("rest" if endpoint == "spot" else "rest-futures")

    def listings(self) -> Sequence[Call[Instrument]]:
        return (
            Call(Request(self._rest("spot") + "/api/v2/symbols"), self._read_symbols),
            Call(Request(self._rest("futures") + "/api/v1/contracts/active"), self._read_contracts),
        )

    def _read_symbols(self, body: bytes) -> Page[Instrument]:
        return Page(
            [
                self._spot(row.symbol, row.baseCurrency, row.quoteCurrency, row.enableTrading)
                for row in _symbols.decode(_unwrap(body))
            ]
        )

    def _read_contracts(self, body: bytes) -> Page[Instrument]:
        return Page([self._contract(row) for row in _contracts.decode(_unwrap(body))])

    def _spot(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, "spot", asset, quote, "spot", multiplier=multiplier, active=active)

    def _contract(self, row: Contract) -> Instrument:
        asset, multiplier = base_asset(row.baseCurrency)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "perp" if row.expireDate is None else "future",
            asset,
            row.quoteCurrency,
            "futures",
            contract_size=abs(row.multiplier),
            inverse=row.multiplier < 0,
            multiplier=multiplier,
            active=row.status == "Open",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        if "-" in symbol:
            base, _, quote = symbol.partition("-")
            return self._spot(symbol, base, quote)
        if (linear := _LINEAR.fullmatch(symbol)) is not None:
            return self._contract(Contract(symbol, linear[1], linear[2], _CONTRACT_COINS.get(linear[1], 1.0)))
        if (inverse := _INVERSE.fullmatch(symbol)) is not None:
            return self._contract(Contract(symbol, inverse[1], "USD", -1.0))
        if (dated := _DATED.fullmatch(symbol)) is not None:
            return self._contract(Contract(symbol, dated[1], "USD", -1.0, expireDate=0))
        return self._contract(Contract(symbol, symbol, "", 1.0))

    def recover(self, gap: Gap) -> Call[Trade]:
        instrument = gap.instrument
        make = KucoinDecoder({"": instrument}, instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            found = _rows.decode(_unwrap(body))
            made = [make(msgspec.structs.replace(row, symbol="")) for row in sorted(found, key=lambda r: r.sequence)]
            return Page(gap.missing(made))

        path = "/api/v1/market/histories" if instrument.kind == "spot" else "/api/v1/trade/history"
        return Call(Request(f"{self._rest(instrument.endpoint)}{path}?symbol={instrument.symbol}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted = {instrument.symbol: instrument for instrument in instruments if instrument.kind != "spot"}

        def read(body: bytes) -> Page[OpenInterest]:
            return Page(
                [
                    _open_interest(wanted[row.symbol], row.openInterest, rate(row.fundingFeeRate))
                    for row in _contracts.decode(_unwrap(body))
                    if row.symbol in wanted and row.openInterest is not None
                ]
            )

        return (Call(Request(self._rest("futures") + "/api/v1/contracts/active"), read),) if wanted else ()


def _open_interest(instrument: Instrument, contracts: float, funding: float | None) -> OpenInterest:
    amount = contracts * instrument.contract_size
    base, usd = (None, amount) if instrument.inverse else (amount, None)
    return OpenInterest(instrument, None, base, usd, funding)
