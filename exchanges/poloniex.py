"""Poloniex spot and USDT-margined perpetuals (v3).

Sources: the exchange's API documentation (spot websocket, futures v3 websocket and REST, fundingRate), published probes of its v3
socket of autumn 2026. Spot rows say `amount` for the quote and `quantity` for the base amount; futures count contracts.
`createTime` (`cT`) is the trade's time, `ts` that of the push. The socket closes after 30 s without a frame of ours.
"""

from __future__ import annotations

from collections import deque
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
    Funding,
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
    by_channel,
    rows,
)
from exchanges.numbers import HOUR_MS, hours_s, lax, rate

Side = Literal["buy", "sell", "BUY", "SELL"]

TRADES, LIQUIDATIONS = "trades", "liquidation_orders"
TOPICS_PER_FRAME = 100
HISTORY_ROWS = 1000
UNANSWERED_MAX = 1000


class Spot(msgspec.Struct, gc=False):
    """A spot trade, pushed or (without `symbol`) by REST."""

    quantity: float
    takerSide: Side
    createTime: int
    price: float
    id: int
    symbol: str = ""


class UsualSpot(Bounded):
    """A spot trade."""

    symbol: str
    quantity: Quantity
    side: Literal["buy", "sell"] = msgspec.field(name="takerSide")
    time: Time = msgspec.field(name="createTime")
    price: Price
    id: Id


class SpotTraded(msgspec.Struct, gc=False):
    """Nearly every frame of spot."""

    channel: Literal["trades"]
    data: list[UsualSpot]


class Contract(msgspec.Struct, gc=False):
    """A futures trade, pushed or (without `s`) by REST."""

    id: int
    side: Side
    px: float
    qty: float
    cT: int
    s: str = ""


class Forced(msgspec.Struct, gc=False):
    """A liquidation; `side` is that of the order, `bkPx` the bankruptcy price."""

    s: str
    side: Side
    sz: float
    bkPx: float
    uTime: int


class SpotPush(msgspec.Struct, gc=False):
    channel: str
    data: list[Spot]


class ContractPush(msgspec.Struct, gc=False):
    channel: str
    data: list[Contract]


class Control(msgspec.Struct, gc=False):
    """An answer, or a push whose rows are read one by one."""

    channel: str = ""
    data: list[msgspec.Raw] | None = None
    event: str = ""
    symbols: list[str] = []
    message: str = ""


_spot_traded = lax(SpotTraded)
_spot_push, _contract_push, _control = lax(SpotPush), lax(ContractPush), lax(Control)
_spot, _contract, _forced = lax(Spot), lax(Contract), lax(Forced)


class PoloniexDecoder(QuickDecoder):
    """Trades of both kinds, liquidations, answers."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._unanswered: deque[tuple[str, ...]] = deque(maxlen=UNANSWERED_MAX)
        """Topics of each request that has no answer yet, oldest first."""

    def quick(self, frame: Buffer) -> Quick | None:
        return (None, _spot_traded.decode(frame).data) if self.endpoint == "spot" else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            if self.endpoint == "spot":
                push = _spot_push.decode(frame)
                return self.one_by_one(frame) if push.channel != TRADES else [self.spot(row) for row in push.data]
            futures = _contract_push.decode(frame)
            return self.one_by_one(frame) if futures.channel != TRADES else [self.contract(r) for r in futures.data]
        except msgspec.ValidationError:
            return self.one_by_one(frame)

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """Answers, liquidations, trades of the other kind, and the slow path: a row is not as documented."""
        message = _control.decode(frame)
        if message.event or message.data is None:
            return self.control(message)
        if message.channel == LIQUIDATIONS:
            return rows(message.data, _forced, self.forced)
        if message.channel != TRADES:
            return (Unknown(f"channel {message.channel[:40]}"),)
        return [event for raw in message.data for event in self.traded(raw)]

    def traded(self, raw: msgspec.Raw) -> Sequence[Event]:
        """One row of either kind, by a key that only futures have."""
        if b'"px"' in bytes(raw):
            return rows((raw,), _contract, self.contract)
        return rows((raw,), _spot, self.spot)

    def spot(self, row: Spot) -> Event:
        return self.trade(row.symbol, row.createTime, row.price, row.quantity, row.takerSide in ("buy", "BUY"), row.id)

    def contract(self, row: Contract) -> Event:
        return self.trade(row.s, row.cT, row.px, row.qty, row.side in ("buy", "BUY"), row.id)

    def forced(self, row: Forced) -> Event:
        return self.liquidation(row.s, row.uTime, row.bkPx, row.sz, row.side in ("buy", "BUY"))

    def control(self, message: Control) -> Sequence[Event]:
        """Pongs and answers, in the order of the requests. A refusal names neither channel nor symbol."""
        if message.event == "pong":
            return ALIVE
        asked = self._unanswered.popleft() if self._unanswered else ()
        if message.event == "subscribe":
            return (Acked(tuple(f"{message.channel}:{symbol}" for symbol in message.symbols)),)
        if message.event == "error":
            return (Rejected(asked, message.message[:160]),)
        if message.event == "unsubscribe":
            return ALIVE
        return (Unknown(f"event {message.event[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        parts = by_channel(topics, TOPICS_PER_FRAME)
        self._unanswered.extend(tuple(part) for part in parts)
        return [_ask("subscribe", part) for part in parts]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        parts = by_channel(topics, TOPICS_PER_FRAME)
        self._unanswered.extend(() for _ in parts)
        return [_ask("unsubscribe", part) for part in parts]

    def ping(self, now_ms: int) -> Frame:
        return '{"event":"ping"}'


def _ask(event: str, topics: Sequence[str]) -> Frame:
    """Topics of one channel, in one frame."""
    channel = topics[0].partition(":")[0]
    symbols = [topic.partition(":")[2] for topic in topics]
    return msgspec.json.encode({"event": event, "channel": [channel], "symbols": symbols}).decode()


class Market(msgspec.Struct):
    """A row of spot's markets."""

    symbol: str
    baseCurrencyName: str
    quoteCurrencyName: str
    state: str


class Product(msgspec.Struct):
    """A row of futures' allInstruments; one contract is `ctVal` coins."""

    symbol: str
    bCcy: str
    qCcy: str
    ctVal: float
    status: str
    ctType: str = "LINEAR"
    alias: str = ""


class Interest(msgspec.Struct):
    """Open interest in contracts."""

    s: str
    oInterest: float
    ts: int | None = None


class Rates(msgspec.Struct):
    """Answer of fundingRate: the rate that was settled last, the one to come, and when."""

    fT: int
    nFT: int
    nFR: float | str | None = None


class Answer(msgspec.Struct):
    """What futures' REST answers are wrapped in; also errors come with status 200."""

    code: int
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_markets, _products, _answer = lax(list[Market]), lax(list[Product]), lax(Answer)
_spots, _contracts, _interest = lax(list[Spot]), lax(list[Contract]), lax(Interest)
_rates = lax(Rates)


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.code != 200:
        raise BadMessage(f"{answer.code} {answer.msg}"[:160])
    return answer.data


_CONTRACT_COINS = {
    **dict.fromkeys(("ETH", "LTC", "BCH"), 0.01),
    **dict.fromkeys(("BNB", "SOL", "AVAX", "LINK"), 0.1),
    **dict.fromkeys(("XRP", "ADA"), 10.0),
    **dict.fromkeys(("TRX", "DOGE", "1000SHIB"), 100.0),
    "BTC": 0.001,
    "1000PEPE": 1000.0,
}
"""Coins in a contract, autumn 2026, where it is not one."""


def _endpoint(name: str, url: str) -> Endpoint:
    return Endpoint(
        name,
        url,
        streams_per_connection=200,
        topics_per_frame=TOPICS_PER_FRAME,
        frames=Rate(10, 1),
        ping_s=15,
    )


class Poloniex(Exchange):
    """https://poloniex.com."""

    id: ClassVar[str] = "POLONIEX"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        _endpoint("spot", "wss://ws.poloniex.com/ws/public"),
        _endpoint("futures", "wss://ws.poloniex.com/ws/v3/public"),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.poloniex.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(60, 60), rest=Rate(100, 1), connections=100)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}_USDT",)
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "newest 1000 trades"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Time is when the trade was made, not when it was pushed; size is the base amount, not the quote amount.",
        "Liquidations carry the bankruptcy price, at most one per market and second.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return PoloniexDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channels = (TRADES, LIQUIDATIONS) if liquidations and instrument.kind != "spot" else (TRADES,)
        return [Stream(instrument.endpoint, f"{channel}:{instrument.symbol}", instrument) for channel in channels]

    def listings(self) -> Sequence[Call[Instrument]]:
        rest = self.url("rest")
        return (
            Call(Request(f"{rest}/markets"), self._read_markets),
            Call(Request(f"{rest}/v3/market/allInstruments"), self._read_products),
        )

    def _read_markets(self, body: bytes) -> Page[Instrument]:
        markets = _markets.decode(body)
        if not markets:
            raise BadMessage("an empty listing")
        return Page(
            [
                self._spot(row.symbol, row.baseCurrencyName, row.quoteCurrencyName, row.state == "NORMAL")
                for row in markets
            ]
        )

    def _read_products(self, body: bytes) -> Page[Instrument]:
        return Page([self._product(row) for row in _products.decode(_unwrap(body))])

    def _spot(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        return Instrument(self.id, symbol, symbol, "spot", asset, quote, "spot", multiplier=multiplier, active=active)

    def _product(self, row: Product) -> Instrument:
        asset, multiplier = base_asset(row.bCcy)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "future" if row.alias else "perp",
            asset,
            row.qCcy,
            "futures",
            contract_size=row.ctVal,
            inverse=row.ctType == "INVERSE",
            multiplier=multiplier,
            active=row.status == "OPEN",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        base, _, quote = symbol.partition("_")
        if not quote.endswith("_PERP"):
            return self._spot(symbol, base, quote)
        coins = _CONTRACT_COINS.get(base, 1.0)
        return self._product(Product(symbol, base, quote.removesuffix("_PERP"), coins, "OPEN"))

    def recover(self, gap: Gap) -> Call[Trade]:
        instrument = gap.instrument
        rest, symbol = self.url("rest"), instrument.symbol
        if instrument.kind == "spot":
            url = f"{rest}/markets/{symbol}/trades?limit={HISTORY_ROWS}"
        else:
            url = f"{rest}/v3/market/trades?symbol={symbol}&limit={HISTORY_ROWS}"
        return Call(Request(url), lambda body: _read_history(gap, body))

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(instrument) for instrument in instruments if instrument.kind != "spot"]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            row = _interest.decode(_unwrap(body))
            amount = row.oInterest * instrument.contract_size
            if instrument.inverse:
                return Page([OpenInterest(instrument, row.ts, None, amount)])
            return Page([OpenInterest(instrument, row.ts, amount)])

        return Call(Request(f"{self.url('rest')}/v3/market/openInterest?symbol={instrument.symbol}"), read)

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """A question for each market: no answer has all."""
        return [self._funding(instrument) for instrument in instruments if instrument.kind == "perp"]

    def _funding(self, instrument: Instrument) -> Call[Funding]:
        def read(body: bytes) -> Page[Funding]:
            row = _rates.decode(_unwrap(body))
            said, interval_s = rate(row.nFR), hours_s((row.nFT - row.fT) / HOUR_MS)
            return Page([] if said is None else [Funding(instrument, said, interval_s)])

        return Call(Request(f"{self.url('rest')}/v3/market/fundingRate?symbol={instrument.symbol}"), read)


def _read_history(gap: Gap, body: bytes) -> Page[Trade]:
    """Newest first, no pages, without the symbol."""
    instrument = gap.instrument
    decoder = PoloniexDecoder({"": instrument}, instrument.endpoint)
    made: Iterable[Event]
    if instrument.kind == "spot":
        made = [decoder.spot(msgspec.structs.replace(row, symbol="")) for row in _spots.decode(body)]
    else:
        made = [decoder.contract(msgspec.structs.replace(row, s="")) for row in _contracts.decode(_unwrap(body))]
    trades = gap.missing(made)
    return Page(sorted(trades, key=lambda trade: (trade.ts_ms, trade.id)))
