"""HTX (formerly Huobi): spot, coin-margined futures, inverse and linear swaps.

Sources: the exchange's API documentation (spot; coin-margined futures, coin-margined swaps, USDT-margined contracts:
`trade.detail`, `liquidation_orders`, contract info, open interest,
swap_batch_funding_rate), autumn 2026. Every frame is gzip in a binary frame.
The first push of each channel repeats the last trade, which may be minutes old. Derivatives count both sides of a trade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    ID_MAX,
    ID_MAX_CHARS,
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
    Reply,
    Request,
    Stream,
    Time,
    Trade,
    Unknown,
    base_asset,
    rows,
    split_pair,
)
from exchanges.image import past
from exchanges.numbers import inflate, lax, rate

GZIP = 31
MAGIC = b"\x1f\x8b"
TRADES = re.compile(r"market\.([^.]{1,64})\.trade\.detail")
LIQUIDATIONS = re.compile(r"public\.([^.]{1,64})\.liquidation_orders")
SIDES = 2.0
"""Derivatives report the sum of what was bought and what was sold, which is twice what was traded."""
HISTORY_ROWS = 2000
CHANNELS_MAX = 10_000


class Row(msgspec.Struct, gc=False):
    """A trade. Spot's `id` has more than 64 bits, so `tradeId` (by REST `trade-id`) stands for it."""

    ts: int
    price: float
    amount: float
    direction: Literal["buy", "sell", ""]
    id: msgspec.Raw = msgspec.Raw(b"null")
    tradeId: int | None = None
    trade_id: int | None = msgspec.field(default=None, name="trade-id")


class UsualSpot(Bounded):
    """A spot trade."""

    time: Time = msgspec.field(name="ts")
    price: Price
    quantity: Quantity = msgspec.field(name="amount")
    side: Literal["buy", "sell"] = msgspec.field(name="direction")
    id: Id = msgspec.field(name="tradeId")


class UsualContract(Bounded):
    """A trade of a contract, which has no `tradeId`."""

    time: Time = msgspec.field(name="ts")
    price: Price
    amount: Quantity
    side: Literal["buy", "sell"] = msgspec.field(name="direction")
    written: msgspec.Raw = msgspec.field(name="id")
    tradeId: None = None
    trade_id: None = msgspec.field(default=None, name="trade-id")

    @property
    def quantity(self) -> float:
        return self.amount / SIDES

    @property
    def id(self) -> int | str | None:
        return _written(self.written)


class SpotTick(msgspec.Struct, gc=False):
    data: list[UsualSpot]


class ContractTick(msgspec.Struct, gc=False):
    data: list[UsualContract]


class SpotTraded(msgspec.Struct, gc=False):
    """Nearly every frame of spot,"""

    ch: str
    tick: SpotTick


class ContractTraded(msgspec.Struct, gc=False):
    """…and of contracts."""

    ch: str
    tick: ContractTick


class Tick(msgspec.Struct, gc=False):
    data: list[Row]


class Push(msgspec.Struct, gc=False):
    """A push of trades."""

    ch: str
    tick: Tick


class Forced(msgspec.Struct, gc=False):
    """A liquidation; `direction` is that of the order, `amount` (coins) is missing in older frames."""

    contract_code: str
    direction: Literal["buy", "sell"]
    volume: float
    price: float
    created_at: int
    amount: float | None = None


class Other(msgspec.Struct, gc=False):
    """Everything that is no readable push of trades, of both kinds of socket: `op` marks the notification sockets."""

    op: str = ""
    ping: int | None = None
    ts: int | str | None = None
    topic: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")
    status: str = ""
    subbed: str = ""
    unsubbed: str = ""
    id: str | int | None = None
    code: int | str | None = msgspec.field(default=None, name="err-code")
    message: str = msgspec.field(default="", name="err-msg")
    ch: str = ""
    tick: msgspec.Raw = msgspec.Raw(b"{}")


class RawTick(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]


_spot_traded, _contract_traded = lax(SpotTraded), lax(ContractTraded)
_push, _other, _raw_tick, _row, _forced = lax(Push), lax(Other), lax(RawTick), lax(Row), lax(Forced)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])


class HuobiDecoder(QuickDecoder):
    """Trades, liquidations, heartbeats and answers of all sockets. Knows which channels have made their first push.

    Unlike elsewhere the first push of a channel is an image whether or not its subscription was seen: on derivatives it
    comes before the acknowledgement. Only what is newer than an acknowledgement that came before it is live.
    """

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._live: dict[str, str] = {}
        """Symbols of channels that made their first push."""
        self._acked_ms: dict[str, int] = {}
        """Channels that were acknowledged before their first push, with the exchange's time."""

    def quick(self, frame: Buffer) -> Quick | None:
        text = inflate(frame, GZIP)
        push = _spot_traded.decode(text) if self.endpoint == "spot" else _contract_traded.decode(text)
        symbol = self._live[push.ch]
        return (symbol, push.tick.data) if _is_spot(symbol) == (self.endpoint == "spot") else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        text = inflate(frame, GZIP) if bytes(frame[:2]) == MAGIC else frame
        try:
            push = _push.decode(text)
        except msgspec.ValidationError:
            return self.other(text)
        symbol = _symbol(push.ch)
        if symbol is None:
            return (Unknown(f"channel {push.ch[:40]}"),)
        return self.live_or_past(push.ch, symbol, [self.traded(symbol, row) for row in push.tick.data])

    def traded(self, symbol: str, row: Row) -> Event:
        if not row.direction:
            return Excluded("no aggressor's side")
        quantity = row.amount if _is_spot(symbol) else row.amount / SIDES
        return self.trade(symbol, row.ts, row.price, quantity, row.direction == "buy", _identity(row))

    def live_or_past(self, channel: str, symbol: str, events: list[Event]) -> Sequence[Event]:
        if channel in self._live:
            return events
        if len(self._live) < CHANNELS_MAX:
            self._live[channel] = symbol
        acked_ms = self._acked_ms.pop(channel, None)
        if acked_ms is None:
            return past(events)
        old = [event for event in events if type(event) is Trade and event.ts_ms <= acked_ms]
        new = [event for event in events if type(event) is not Trade or event.ts_ms > acked_ms]
        return [*past(old), *new] if old else new

    def other(self, text: Buffer) -> Sequence[Event]:
        message = _other.decode(text)
        if message.ping is not None:
            return (Reply(msgspec.json.encode({"pong": message.ping}).decode()),)
        if message.op:
            return self.notification(message)
        if message.ch:
            return self.one_by_one(message)
        return (self.answered(message),)

    def one_by_one(self, message: Other) -> Sequence[Event]:
        """The slow path: at least one row is not as documented."""
        symbol = _symbol(message.ch)
        if symbol is None:
            return (Unknown(f"channel {message.ch[:40]}"),)
        raw = _raw_tick.decode(message.tick).data
        return self.live_or_past(message.ch, symbol, rows(raw, _row, lambda row: self.traded(symbol, row)))

    def answered(self, message: Other) -> Event:
        """Answers of the market sockets; we send the topic as the request's id."""
        if message.status == "ok" and message.subbed:
            if isinstance(message.ts, int) and message.subbed not in self._live and len(self._acked_ms) < CHANNELS_MAX:
                self._acked_ms[message.subbed] = message.ts
            return Acked((message.subbed,))
        if message.status == "ok" and message.unsubbed:
            return ALIVE[0]
        if message.status == "error":
            topics = (str(message.id),) if message.id is not None else ()
            return Rejected(topics, f"{message.code} {message.message}"[:160])
        return Unknown(f"status {message.status[:40]}")

    def notification(self, message: Other) -> Sequence[Event]:
        """Messages of the sockets that carry liquidations."""
        if message.op == "ping":
            return (Reply(msgspec.json.encode({"op": "pong", "ts": message.ts}).decode()),)
        if message.op == "notify" and LIQUIDATIONS.fullmatch(message.topic):
            return rows(_raw_rows.decode(message.data), _forced, self.forced)
        if message.op == "close":
            return (Closing("the exchange closes the connection"),)
        if message.op == "sub":
            if message.code in (0, "0", None):
                return (Acked((message.topic,)),)
            return (Rejected((message.topic,), f"{message.code} {message.message}"[:160]),)
        if message.op == "error":
            return (Rejected((), f"{message.code} {message.message}"[:160]),)
        return ALIVE if message.op in ("unsub", "pong") else (Unknown(f"op {message.op[:40]}"),)

    def forced(self, row: Forced) -> Event:
        """A liquidation, whose contracts are counted once. Coins are taken where given."""
        instrument = self.instruments.get(row.contract_code)
        quantity = row.volume
        if row.amount is not None and instrument is not None:
            quantity = row.amount / instrument.contract_size * (row.price if instrument.inverse else 1.0)
        return self.liquidation(row.contract_code, row.created_at, row.price, quantity, row.direction == "buy")

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        for topic in topics:
            self._live.pop(topic, None)
            self._acked_ms.pop(topic, None)
        return [self._ask("sub", topic) for topic in topics]

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return [self._ask("unsub", topic) for topic in topics]

    def _ask(self, verb: str, topic: str) -> Frame:
        if topic.startswith("public."):
            return msgspec.json.encode({"op": verb, "cid": topic, "topic": topic}).decode()
        return msgspec.json.encode({verb: topic, "id": topic}).decode()


def _symbol(channel: str) -> str | None:
    match = TRADES.fullmatch(channel)
    return None if match is None else match[1]


def _is_spot(symbol: str) -> bool:
    """Spot alone writes symbols in small letters."""
    return symbol.islower()


def _identity(row: Row) -> int | str | None:
    """The trade's id; text where it is a number beyond 64 bits, none where it is written as a fraction."""
    number = row.tradeId if row.tradeId is not None else row.trade_id
    return _written(row.id) if number is None else number


def _written(id: msgspec.Raw) -> int | str | None:
    written = bytes(id).strip(b'"')
    if not written.isdigit() or len(written) > ID_MAX_CHARS:
        return None
    return int(written) if int(written) < ID_MAX else written.decode()


class Symbol(msgspec.Struct):
    """A row of spot's symbols: names, base and quote as written, state."""

    symbol: str
    bc: str
    qc: str
    state: str


class Contract(msgspec.Struct):
    """A row of contract info, with what the three kinds of derivatives have."""

    symbol: str
    contract_code: str
    contract_size: float
    contract_status: int
    contract_type: str = "swap"


class Interest(msgspec.Struct):
    """Open interest of a contract: in contracts, coins and quote."""

    contract_code: str
    volume: float
    amount: float | None = None
    value: float | None = None


class Rates(msgspec.Struct):
    """A row of swap_batch_funding_rate, brought up to date each minute."""

    contract_code: str
    funding_rate: float | str | None = None


class Batch(msgspec.Struct):
    data: list[Row]


class Answer(msgspec.Struct):
    """What REST answers are wrapped in."""

    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    ts: int | None = None
    code: int | str | None = msgspec.field(default=None, name="err-code")
    message: str = msgspec.field(default="", name="err-msg")


_answer, _symbols, _contracts = lax(Answer), lax(list[Symbol]), lax(list[Contract])
_interests, _batches, _rates = lax(list[Interest]), lax(list[Batch]), lax(list[Rates])


def _unwrap(body: bytes) -> Answer:
    answer = _answer.decode(body)
    if answer.status != "ok":
        raise BadMessage(f"{answer.code} {answer.message}"[:160])
    return answer


_REST = {
    "coin": ("/api/v1/contract_contract_info", "/market/history/trade?symbol", "/api/v1/contract_open_interest"),
    "swap": (
        "/swap-api/v1/swap_contract_info",
        "/swap-ex/market/history/trade?contract_code",
        "/swap-api/v1/swap_open_interest",
    ),
    "linear": (
        "/linear-swap-api/v1/swap_contract_info?business_type=all",
        "/linear-swap-ex/market/history/trade?contract_code",
        "/linear-swap-api/v1/swap_open_interest?business_type=all",
    ),
}
"""Contract info, history and open interest of each kind of derivative."""
_FUNDING = {
    "swap": "/swap-api/v1/swap_batch_funding_rate",
    "linear": "/linear-swap-api/v1/swap_batch_funding_rate",
}

QUOTES = ("usdt", "usdc", "usdd", "husd", "tusd", "usd", "eur", "btc", "eth", "trx", "ht")
_COIN_MARGINED = re.compile(r"([A-Z0-9]+?)(_CW|_NW|_CQ|_NQ|\d{6})")
_CONTRACT_COINS = {"BTC": 0.001, "ETH": 0.01}


def _endpoint(name: str, path: str) -> Endpoint:
    return Endpoint(
        name,
        path if path.startswith("wss:") else f"wss://api.hbdm.com{path}",
        streams_per_connection=100,
        topics_per_frame=1,
        frames=Rate(20, 1),
    )


class Huobi(Exchange):
    """https://htx.com."""

    id: ClassVar[str] = "HUOBI"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        _endpoint("spot", "wss://api.huobi.pro/ws"),
        _endpoint("coin", "/ws"),
        _endpoint("swap", "/swap-ws"),
        _endpoint("linear", "/linear-swap-ws"),
        _endpoint("coin-liquidations", "/notification"),
        _endpoint("swap-liquidations", "/swap-notification"),
        _endpoint("linear-liquidations", "/linear-swap-notification"),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.huobi.pro", "rest-derivatives": "https://api.hbdm.com"}
    limits: ClassVar[Limits] = Limits(connects=Rate(60, 60), rest=Rate(10, 1), connections=100)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{lower}usdt", "{base}-USDT", "{base}-USD")
    recovery: ClassVar[Recovery] = "recent"
    recovery_note: ClassVar[str] = "newest 2000 trades"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Derivatives publish the sum of both sides of each trade: it is halved here, so that a contract counts once as "
        "on every other exchange. Other collectors show twice as much.",
        "The first push of each market repeats its last trade, up to many minutes old: it is not counted as live.",
        "Liquidations count once; where a message lacks the amount in coins it is converted from contracts.",
        "Rows without an aggressor's side occur on derivatives and are not counted.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return HuobiDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        endpoint, symbol = instrument.endpoint, instrument.symbol
        trades = Stream(endpoint, f"market.{symbol}.trade.detail", instrument)
        if not liquidations or instrument.kind == "spot":
            return (trades,)
        if endpoint == "coin":  # by coin, for all its expiries
            coin = _COIN_MARGINED.fullmatch(symbol)
            topic = f"public.{symbol if coin is None else coin[1]}.liquidation_orders"
            return (trades, Stream(f"{endpoint}-liquidations", topic))
        return (trades, Stream(f"{endpoint}-liquidations", f"public.{symbol}.liquidation_orders", instrument))

    def listings(self) -> Sequence[Call[Instrument]]:
        spot = Call(Request(self.url("rest") + "/v1/settings/common/symbols"), self._read_symbols)
        return [spot, *(self._listing(endpoint) for endpoint in _REST)]

    def _read_symbols(self, body: bytes) -> Page[Instrument]:
        return Page(
            [
                self._spot(row.symbol, row.bc, row.qc, row.state == "online")
                for row in _symbols.decode(_unwrap(body).data)
            ]
        )

    def _listing(self, endpoint: str) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            return Page([self._contract(row, endpoint) for row in _contracts.decode(_unwrap(body).data)])

        return Call(Request(self.url("rest-derivatives") + _REST[endpoint][0]), read)

    def _spot(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base.upper())
        return Instrument(
            self.id, symbol, symbol, "spot", asset, quote.upper(), "spot", multiplier=multiplier, active=active
        )

    def _contract(self, row: Contract, endpoint: str) -> Instrument:
        asset, multiplier = base_asset(row.symbol)
        return Instrument(
            self.id,
            row.contract_code,
            row.contract_code,
            "perp" if row.contract_type == "swap" else "future",
            asset,
            "USDT" if endpoint == "linear" else "USD",
            endpoint,
            contract_size=row.contract_size,
            inverse=endpoint != "linear",
            multiplier=multiplier,
            active=row.contract_status == 1,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        if _is_spot(symbol):
            return self._spot(symbol, *split_pair(symbol, QUOTES))
        base, _, rest = symbol.partition("-")
        if rest.startswith("USDT"):
            expiry = "quarter" if "-" in rest else "swap"
            return self._contract(Contract(base, symbol, _CONTRACT_COINS.get(base, 1.0), 1, expiry), "linear")
        dollars = 100.0 if base.startswith("BTC") else 10.0
        if (coin := _COIN_MARGINED.fullmatch(symbol)) is not None:
            return self._contract(Contract(coin[1], symbol, dollars, 1, "quarter"), "coin")
        return self._contract(Contract(base, symbol, dollars, 1), "swap")

    def recover(self, gap: Gap) -> Call[Trade]:
        """The newest trades, in batches of those that were made at once; newest batch first."""
        instrument = gap.instrument
        decoder = HuobiDecoder({instrument.symbol: instrument}, instrument.endpoint)

        def read(body: bytes) -> Page[Trade]:
            found = [row for batch in _batches.decode(_unwrap(body).data) for row in batch.data]
            made = [decoder.traded(instrument.symbol, row) for row in found]
            trades = gap.missing(made)
            return Page(sorted(trades, key=lambda trade: trade.ts_ms))

        if instrument.kind == "spot":
            url = f"{self.url('rest')}/market/history/trade?symbol"
        else:
            url = self.url("rest-derivatives") + _REST[instrument.endpoint][1]
        return Call(Request(f"{url}={instrument.symbol}&size={HISTORY_ROWS}"), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind != "spot":
                wanted.setdefault(instrument.endpoint, {})[instrument.symbol] = instrument
        return [self._open_interest(endpoint, by_symbol) for endpoint, by_symbol in wanted.items()]

    def _open_interest(self, endpoint: str, wanted: Mapping[str, Instrument]) -> Call[OpenInterest]:
        """One answer for all contracts of a kind."""

        def read(body: bytes) -> Page[OpenInterest]:
            answer = _unwrap(body)
            found = [row for row in _interests.decode(answer.data) if row.contract_code in wanted]
            return Page([_open_interest(wanted[row.contract_code], row, answer.ts) for row in found])

        return Call(Request(self.url("rest-derivatives") + _REST[endpoint][2]), read)

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """One answer for all contracts of a kind."""
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind == "perp":
                wanted.setdefault(instrument.endpoint, {})[instrument.symbol] = instrument
        return [self._funding(endpoint, by_symbol) for endpoint, by_symbol in wanted.items()]

    def _funding(self, endpoint: str, wanted: Mapping[str, Instrument]) -> Call[Funding]:
        def read(body: bytes) -> Page[Funding]:
            rows = [row for row in _rates.decode(_unwrap(body).data) if row.contract_code in wanted]
            found = [(wanted[row.contract_code], rate(row.funding_rate)) for row in rows]
            return Page([Funding(of, said) for of, said in found if said is not None])

        return Call(Request(self.url("rest-derivatives") + _FUNDING[endpoint]), read)


def _open_interest(instrument: Instrument, row: Interest, ts_ms: int | None) -> OpenInterest:
    """Contracts are worth dollars on inverse contracts, coins on linear ones."""
    amount = row.volume * instrument.contract_size
    if instrument.inverse:
        return OpenInterest(instrument, ts_ms, row.amount, amount)
    return OpenInterest(instrument, ts_ms, amount, row.value)
