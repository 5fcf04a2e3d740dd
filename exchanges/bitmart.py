"""BitMart: spot and futures.

Sources: the exchange's documentation (spot public trade channel, futures trade channel, symbols, contract details, market
trades, open interest), autumn 2026. Spot data comes as raw deflate in binary frames, everything else as text. Spot trades
have no ids. Futures count contracts of `contract_size` coins, of dollars where the quote is USD; liquidations are marks on
ordinary trades.
"""

from __future__ import annotations

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
    Excluded,
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
from exchanges.numbers import hours_s, inflate, iso_ms, lax, rate, usual_ms

Side = Literal["buy", "sell"]

SPOT, FUTURES = "spot/trade", "futures/trade"
TOPICS_PER_FRAME = 20
HISTORY_ROWS = {"spot": 50, "futures": 100}
LIQUIDATION, NORMAL = 1, 8
"""Types of futures trades; the others are no market trades."""
PERPETUAL = 1


class SpotRow(msgspec.Struct, gc=False):
    """A spot trade; old frames have whole seconds only."""

    symbol: str
    price: float
    size: float
    side: Side
    ms_t: int = 0
    s_t: int = 0


class FuturesRow(msgspec.Struct, gc=False):
    """A futures trade. `m`: the buyer is the maker; old rows say it by `way`, 1 to 4 of which are buys."""

    symbol: str
    deal_price: float
    deal_vol: float
    created_at: str
    trade_id: str | int | None = None
    m: bool | None = None
    way: int = 0
    type: int = NORMAL


class UsualSpot(Bounded):
    """A spot trade."""

    id: ClassVar[None] = None
    symbol: str
    price: Price
    quantity: Quantity = msgspec.field(name="size")
    side: Side
    time: Time = msgspec.field(name="ms_t")
    s_t: int = 0


class UsualFutures(Bounded):
    """A futures trade, and no liquidation."""

    symbol: str
    price: Price = msgspec.field(name="deal_price")
    quantity: Quantity = msgspec.field(name="deal_vol")
    time: str = msgspec.field(name="created_at")
    id: TextId = msgspec.field(name="trade_id")
    side: bool = msgspec.field(name="m")
    way: int = 0
    type: Literal[8] = 8


class SpotTraded(msgspec.Struct, gc=False):
    """Nearly every frame of spot,"""

    table: Literal["spot/trade"]
    data: list[UsualSpot]


class FuturesTraded(msgspec.Struct, gc=False):
    """…and of futures."""

    group: str
    data: list[UsualFutures]


class SpotMessage(msgspec.Struct, gc=False):
    table: str
    data: list[SpotRow]


class FuturesMessage(msgspec.Struct, gc=False):
    group: str
    data: list[FuturesRow]


class Asked(msgspec.Struct, gc=False):
    """Our request, as an answer repeats it."""

    args: list[str] = msgspec.field(default_factory=list)


class Control(msgspec.Struct, gc=False):
    """An answer: spot says `event` and `topic`, futures `action` and `group`."""

    event: str = ""
    topic: str = ""
    action: str = ""
    group: str = ""
    success: bool = True
    request: Asked | None = None
    error: str = ""
    message: str = ""
    errorMessage: str = ""
    errorCode: str | int = ""


class Envelope(msgspec.Struct, gc=False):
    """Any message; where it has rows, they are read one by one."""

    table: str = ""
    group: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


_spot_traded, _futures_traded = lax(SpotTraded), lax(FuturesTraded)
_spot, _futures = lax(SpotMessage), lax(FuturesMessage)
_control, _envelope = lax(Control), lax(Envelope)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_spot_row, _futures_row = lax(SpotRow), lax(FuturesRow)


class BitmartDecoder(QuickDecoder):
    """Trades, answers."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self.buy, self.ms = (
            ("buy", None) if endpoint == "spot" else (False, usual_ms)
        )  # futures: whether the buyer made

    def quick(self, frame: Buffer) -> Quick | None:
        body = frame if frame[0] in b"{p" else inflate(frame, -15)
        if self.endpoint == "spot":
            return None, _spot_traded.decode(body).data
        push = _futures_traded.decode(body)
        return (None, push.data) if _is_trade(push.group) else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        # No deflate stream of JSON can begin with `{` or `p`: their lowest three bits say "fixed codes, last block",
        # which then spells no opening brace, and "stored block" with padding that is not zero.
        body = frame if frame[0] in b"{p" else inflate(frame, -15)
        if bytes(body[:4]) == b"pong":
            return ALIVE
        try:
            if self.endpoint == "spot":
                spot = _spot.decode(body)
                return [self.spot(row) for row in spot.data] if spot.table == SPOT else self.other(body)
            futures = _futures.decode(body)
            return [self.futures(row) for row in futures.data] if _is_trade(futures.group) else self.other(body)
        except (ValueError, ArithmeticError):
            return self.other(body)

    def other(self, body: Buffer) -> Sequence[Event]:
        """Answers, messages of the other market, and the slow path: at least one row is not as documented."""
        envelope = _envelope.decode(body)
        if envelope.table == SPOT:
            return rows(_raw_rows.decode(envelope.data), _spot_row, self.spot)
        if _is_trade(envelope.group) and bytes(envelope.data):
            return rows(_raw_rows.decode(envelope.data), _futures_row, self.futures)
        return self.control(body)

    def spot(self, row: SpotRow) -> Event:
        return self.trade(row.symbol, row.ms_t or row.s_t * 1000, row.price, row.size, row.side == "buy")

    def futures(self, row: FuturesRow) -> Event:
        """Liquidations trade in the public book; deleveraging and settlement do not."""
        if row.type not in (LIQUIDATION, NORMAL):
            return Excluded(f"trade type {row.type}")
        if row.m is None and not 1 <= row.way <= 8:
            raise ValueError("no side")
        buy = row.way <= 4 if row.m is None else not row.m
        number = None if row.trade_id is None else str(row.trade_id)
        forced = buy if row.type == LIQUIDATION else None
        return self.trade(row.symbol, iso_ms(row.created_at), row.deal_price, row.deal_vol, buy, number, forced=forced)

    def control(self, body: Buffer) -> Sequence[Event]:
        """Answers to our requests; each topic is answered on its own."""
        answer = _control.decode(body)
        reason = answer.error or answer.errorMessage or answer.message
        asked = tuple(answer.request.args) if answer.request is not None else ()
        topics = tuple(filter(None, (answer.topic or answer.group,))) or asked
        if answer.errorCode or not answer.success or answer.event == "error":
            return (Rejected(topics or _named(reason), f"{answer.errorCode} {reason}".strip()[:160]),)
        if answer.group == "System" or answer.action in ("ping", "pong"):
            return ALIVE
        kind = answer.event or answer.action
        if kind == "subscribe":
            return (Acked(topics),)
        return ALIVE if kind == "unsubscribe" else (Unknown(f"event {kind[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("subscribe", topics)

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("unsubscribe", topics)

    def _ask(self, op: str, topics: Sequence[str]) -> Sequence[Frame]:
        verb = "op" if self.endpoint == "spot" else "action"
        return [
            msgspec.json.encode({verb: op, "args": list(part)}).decode() for part in chunks(topics, TOPICS_PER_FRAME)
        ]

    def ping(self, now_ms: int) -> Frame:
        return "ping" if self.endpoint == "spot" else '{"action":"ping"}'


def _is_trade(group: str) -> bool:
    return group.startswith(FUTURES)


def _named(reason: str) -> tuple[str, ...]:
    """The topics that an error's text names."""
    words = (word.strip("[]'\",.") for word in reason.split())
    return tuple(word for word in words if word.startswith((SPOT, FUTURES)))


class Contract(msgspec.Struct):
    """A row of contract details."""

    symbol: str
    base_currency: str
    quote_currency: str
    contract_size: float
    product_type: int = PERPETUAL
    status: str = "Trading"
    expected_funding_rate: float | str | None = None
    """Of the interval that runs."""
    funding_interval_hours: float | str | None = None


class Contracts(msgspec.Struct):
    symbols: list[Contract]


class Pair(msgspec.Struct):
    """A row of spot symbols."""

    symbol: str
    base_currency: str
    quote_currency: str
    trade_status: str = "trading"


class Pairs(msgspec.Struct):
    symbols: list[Pair]


class SpotPast(msgspec.Struct, array_like=True):
    """A row of spot trades."""

    symbol: str
    ts: int
    price: float
    size: float
    side: Side


class FuturesPast(msgspec.Struct):
    """A row of futures market trades."""

    price: float
    qty: float
    time: int
    is_buyer_maker: bool


class Interest(msgspec.Struct):
    """Contracts, and what they are worth in the quote."""

    symbol: str
    open_interest: float
    timestamp: int
    open_interest_value: float | None = None


class Answer(msgspec.Struct):
    """What every REST answer is wrapped in."""

    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_answer = lax(Answer)
_pairs, _contracts, _interest = lax(Pairs), lax(Contracts), lax(Interest)
_spot_past, _futures_past = lax(list[SpotPast]), lax(list[FuturesPast])


def _unwrap(body: bytes) -> msgspec.Raw:
    answer = _answer.decode(body)
    if answer.code != 1000:
        raise BadMessage(f"{answer.code} {answer.message}"[:160])
    return answer.data


QUOTES = ("USDT", "USDC", "USD")
"""Of contracts; spot pairs have a separator."""


class Bitmart(Exchange):
    """https://bitmart.com."""

    id: ClassVar[str] = "BITMART"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "spot",
            "wss://ws-manager-compress.bitmart.com/api?protocol=1.1",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            ping_s=15,
            ids="none",
        ),
        Endpoint(
            "futures",
            "wss://openapi-ws-v2.bitmart.com/api?protocol=1.1",
            streams_per_connection=100,
            topics_per_frame=TOPICS_PER_FRAME,
            ping_s=15,
            ids="unique",
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {
        "rest": "https://api-cloud.bitmart.com",
        "rest-v2": "https://api-cloud-v2.bitmart.com",
    }
    limits: ClassVar[Limits] = Limits(connects=Rate(20, 60), rest=Rate(10, 2), connections=20)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}_USDT", "{base}USDT")
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = (
        "newest 50 trades of a spot pair, newest 100 of a contract (those without ids: strictly between the known trades)"
    )
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Spot trades are timed by their milliseconds, where a frame lacks them by its whole seconds; one collector always does that.",
        "Liquidations are ordinary trades with a mark and already in the volume; deleveraging and settlement are left out.",
        "A contract is of dollars when its quote is USD; others take any contract of more than one coin for that.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return BitmartDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channel = SPOT if instrument.kind == "spot" else FUTURES
        return (Stream(instrument.endpoint, f"{channel}:{instrument.symbol}", instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return (
            Call(Request(self.url("rest") + "/spot/v1/symbols/details"), self._read_pairs),
            Call(Request(self.url("rest-v2") + "/contract/public/details"), self._read_contracts),
        )

    def _read_pairs(self, body: bytes) -> Page[Instrument]:
        return Page([self._pair(row) for row in _pairs.decode(_unwrap(body)).symbols])

    def _read_contracts(self, body: bytes) -> Page[Instrument]:
        """Perpetuals; the exchange documents dated contracts and lists none."""
        found = _contracts.decode(_unwrap(body)).symbols
        return Page([self._contract(row) for row in found if row.product_type == PERPETUAL])

    def _pair(self, row: Pair) -> Instrument:
        asset, multiplier = base_asset(row.base_currency)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "spot",
            asset,
            row.quote_currency,
            "spot",
            multiplier=multiplier,
            active=row.trade_status == "trading",
        )

    def _contract(self, row: Contract) -> Instrument:
        asset, multiplier = base_asset(row.base_currency)
        return Instrument(
            self.id,
            row.symbol,
            row.symbol,
            "perp",
            asset,
            row.quote_currency,
            "futures",
            contract_size=row.contract_size,
            inverse=row.quote_currency == "USD",
            multiplier=multiplier,
            active=row.status == "Trading",
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """A contract is usually a thousandth of BTC or ETH; others differ: only the listing has them all."""
        if "_" in symbol:
            base, _, quote = symbol.partition("_")
            return self._pair(Pair(symbol, base, quote))
        base, quote = split_pair(symbol, QUOTES)
        return self._contract(
            Contract(symbol, base, quote, 0.001 if base in ("BTC", "ETH") and quote != "USD" else 1.0)
        )

    def recover(self, gap: Gap) -> Call[Trade]:
        instrument = gap.instrument
        make = BitmartDecoder({instrument.symbol: instrument}, instrument.endpoint).trade

        def read_spot(body: bytes) -> Page[Trade]:
            found = _spot_past.decode(_unwrap(body))
            return _page(gap, [make(instrument.symbol, r.ts, r.price, r.size, r.side == "buy") for r in found])

        def read_futures(body: bytes) -> Page[Trade]:
            found = _futures_past.decode(_unwrap(body))
            return _page(gap, [make(instrument.symbol, r.time, r.price, r.qty, not r.is_buyer_maker) for r in found])

        query = f"symbol={instrument.symbol}&limit={HISTORY_ROWS[instrument.endpoint]}"
        if instrument.kind == "spot":
            return Call(Request(f"{self.url('rest')}/spot/quotation/v3/trades?{query}"), read_spot)
        return Call(Request(f"{self.url('rest-v2')}/contract/public/market-trade?{query}"), read_futures)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        return [self._open_interest(i) for i in instruments if i.kind != "spot"]

    def _open_interest(self, instrument: Instrument) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            row = _interest.decode(_unwrap(body))
            amount = row.open_interest * instrument.contract_size
            if instrument.inverse:
                return Page([OpenInterest(instrument, row.timestamp, None, amount)])
            return Page([OpenInterest(instrument, row.timestamp, amount, row.open_interest_value)])

        url = f"{self.url('rest-v2')}/contract/public/open-interest?symbol={instrument.symbol}"
        return Call(Request(url, weight=5), read)

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """The contract details again, which list every contract."""
        wanted = {instrument.symbol: instrument for instrument in instruments if instrument.kind == "perp"}

        def read(body: bytes) -> Page[Funding]:
            rows = [row for row in _contracts.decode(_unwrap(body)).symbols if row.symbol in wanted]
            found = [
                (wanted[row.symbol], rate(row.expected_funding_rate), hours_s(row.funding_interval_hours))
                for row in rows
            ]
            return Page([Funding(of, said, interval_s) for of, said, interval_s in found if said is not None])

        return (Call(Request(self.url("rest-v2") + "/contract/public/details"), read),) if wanted else ()


def _page(gap: Gap, made: Sequence[Event]) -> Page[Trade]:
    """What belongs into the gap, oldest first; the exchange's order within a page is not documented.

    Live trades of contracts have ids and their history has none: nothing tells which trades of the edge milliseconds were
    received, and they are left out, not counted twice. Spot has ids nowhere: there, contents are compared.
    """
    trades = gap.missing(made)
    if gap.instrument.kind != "spot":
        trades = [trade for trade in trades if gap.after_ms < trade.ts_ms < gap.before_ms]
    if len(trades) > 1 and trades[0].ts_ms > trades[-1].ts_ms:
        trades.reverse()  # keeps the order of trades of one millisecond
    return Page(sorted(trades, key=lambda trade: trade.ts_ms))
