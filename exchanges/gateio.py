"""Gate (id GATEIO): spot and perpetuals.

Sources: the exchange's v4 documentation (spot.trades, futures.trades, futures.public_liquidates, REST spot and futures),
autumn 2026. Spot and futures share symbols, so spot pairs end in `-SPOT` here. Futures count contracts of
`quanto_multiplier` coins and say the side by the sign of `size`; a contract settled in BTC is of one dollar where the
multiplier is 0. Prints marked internal (insurance fund, deleveraging) are no market trades.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

from exchanges.api import (
    ALIVE,
    TIME_MAX_MS,
    TIME_MIN_MS,
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
    Signed,
    Stream,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
)
from exchanges.numbers import lax, rate

SPOT, FUTURES, LIQUIDATIONS = "spot.trades", "futures.trades", "futures.public_liquidates"
TOPICS_PER_FRAME = 100
PAGE_ROWS = 1000
PAGES_MAX = 100
"""The exchange pages no deeper than this; then the window is moved."""
Number = int | float | str
SECONDS_MAX = 100_000_000_000
"""A time beyond this is in milliseconds."""
FRACTIONAL = (("X-Gate-Size-Decimal", "1"),)
"""Without this header, fractional contracts come rounded to whole ones."""


class SpotRow(msgspec.Struct, gc=False):
    """A spot trade, on the socket and in REST history."""

    id: int
    create_time_ms: Number
    side: Literal["buy", "sell"]
    currency_pair: str
    amount: float
    price: float


class UsualSpot(Bounded):
    """A spot trade."""

    id: Id
    time: str = msgspec.field(name="create_time_ms")
    side: Literal["buy", "sell"]
    symbol: str = msgspec.field(name="currency_pair")
    quantity: Quantity = msgspec.field(name="amount")
    price: Price


class FuturesRow(msgspec.Struct, gc=False):
    """A futures trade; old frames have whole seconds only, REST history has seconds with decimals in both fields."""

    id: int
    contract: str
    size: float
    price: float
    create_time: Number | None = None
    create_time_ms: Number | None = None
    is_internal: bool = False


class UsualFutures(Bounded):
    """A futures trade."""

    size: Signed
    id: Id
    time: Annotated[int, msgspec.Meta(gt=SECONDS_MAX, lt=TIME_MAX_MS)] = msgspec.field(name="create_time_ms")
    price: Price
    symbol: str = msgspec.field(name="contract")
    create_time: Number | None = None
    is_internal: bool = False

    @property
    def quantity(self) -> float:
        return abs(self.size)

    @property
    def side(self) -> str:
        return "buy" if self.size > 0 else "sell"


class Forced(msgspec.Struct, gc=False):
    """A liquidation; the sign of `size` is the side of the order."""

    contract: str
    size: float
    price: float
    time_ms: Number


class SpotPush(msgspec.Struct, gc=False):
    channel: str
    event: str
    result: SpotRow


class FuturesPush(msgspec.Struct, gc=False):
    channel: str
    event: str
    result: list[FuturesRow]


class SpotTraded(msgspec.Struct, gc=False):
    """Nearly every frame of spot,"""

    channel: Literal["spot.trades"]
    event: Literal["update"]
    result: UsualSpot


class FuturesTraded(msgspec.Struct, gc=False):
    """…and of futures."""

    channel: Literal["futures.trades"]
    event: Literal["update"]
    result: list[UsualFutures]


class Refusal(msgspec.Struct, gc=False):
    code: int | str = 0
    message: str = ""


class Envelope(msgspec.Struct, gc=False):
    """An answer, or a push whose rows are read one by one."""

    channel: str = ""
    event: str = ""
    id: int | None = None
    payload: list[msgspec.Raw] | None = None
    error: Refusal | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    method: str = ""


_spot_traded, _futures_traded = lax(SpotTraded), lax(FuturesTraded)
_spot, _futures, _envelope = lax(SpotPush), lax(FuturesPush), lax(Envelope)
_spot_row, _futures_row, _forced = lax(SpotRow), lax(FuturesRow), lax(Forced)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)


class GateDecoder(QuickDecoder):
    """Trades, liquidations, answers."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()
        self.ms = usual_ms if endpoint == "spot" else None

    def quick(self, frame: Buffer) -> Quick | None:
        if self.endpoint == "spot":
            return None, (_spot_traded.decode(frame).result,)
        found = _futures_traded.decode(frame).result
        return None if any(row.is_internal for row in found) else (None, found)

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            if self.endpoint == "spot":
                spot = _spot.decode(frame)
                if spot.channel == SPOT and spot.event == "update":
                    return (self.spot(spot.result),)
            else:
                futures = _futures.decode(frame)
                if futures.channel == FUTURES and futures.event == "update":
                    return [self.futures(row) for row in futures.result]
        except (ValueError, ArithmeticError):
            pass  # not a push of trades, or not as documented: below
        return self.other(_envelope.decode(frame))

    def other(self, envelope: Envelope) -> Sequence[Event]:
        """Answers, liquidations, and the slow path: at least one row is not as documented."""
        if envelope.event != "update":
            return self.control(envelope)
        if envelope.channel == SPOT:
            return rows([envelope.result], _spot_row, self.spot)
        if envelope.channel == FUTURES:
            return rows(_raw_rows.decode(envelope.result), _futures_row, self.futures)
        if envelope.channel == LIQUIDATIONS:
            listed = bytes(envelope.result).lstrip().startswith(b"[")
            return rows(_raw_rows.decode(envelope.result) if listed else [envelope.result], _forced, self.liquidated)
        return (Unknown(f"channel {envelope.channel[:40]}"),)

    def spot(self, row: SpotRow) -> Event:
        return self.trade(
            row.currency_pair, floor_ms(row.create_time_ms), row.price, row.amount, row.side == "buy", row.id
        )

    def futures(self, row: FuturesRow) -> Event:
        if row.is_internal:
            return Excluded("internal print")
        return self.trade(row.contract, futures_ms(row), row.price, abs(row.size), row.size > 0, row.id)

    def liquidated(self, row: Forced) -> Event:
        return self.liquidation(row.contract, floor_ms(row.time_ms), row.price, abs(row.size), row.size > 0)

    def control(self, envelope: Envelope) -> Sequence[Event]:
        """Pongs and answers to our requests, which name them by `id` and, of late, by `payload`."""
        if envelope.channel.endswith(".pong"):
            return ALIVE
        topics = self._asked.pop(envelope.id, ()) if envelope.id is not None else ()
        if not topics and envelope.payload:
            topics = tuple(f"{envelope.channel}:{_text.decode(symbol)}" for symbol in envelope.payload)
        if envelope.error is not None:
            reason = f"{envelope.error.code} {envelope.error.message}"
            named = tuple(topic for topic in topics if topic.partition(":")[2] in reason.split())
            return (Rejected(named or topics, reason[:160]),)
        if envelope.event == "subscribe":
            return (Acked(topics),)
        if envelope.event == "unsubscribe":
            return ALIVE
        return (Unknown(f"channel {(envelope.channel or envelope.method)[:40]}"),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("subscribe", topics, now_ms)

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        return self._ask("unsubscribe", topics, now_ms)

    def _ask(self, event: str, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        """One channel a frame."""
        by_channel: dict[str, list[str]] = {}
        for topic in topics:
            channel, _, symbol = topic.partition(":")
            by_channel.setdefault(channel, []).append(symbol)
        frames = []
        for channel, symbols in by_channel.items():
            for part in chunks(symbols, TOPICS_PER_FRAME):
                number = self.next_id()
                if event == "subscribe":
                    self._asked[number] = tuple(f"{channel}:{symbol}" for symbol in part)
                head = {"time": now_ms // 1000, "id": number, "channel": channel}
                frames.append(msgspec.json.encode(head | {"event": event, "payload": list(part)}).decode())
        return frames

    def ping(self, now_ms: int) -> Frame:
        channel = "spot.ping" if self.endpoint == "spot" else "futures.ping"
        return msgspec.json.encode({"time": now_ms // 1000, "channel": channel}).decode()


def floor_ms(time: Number) -> int:
    """Milliseconds with decimals, text or not → whole ones. Raises ValueError for what is no plain number."""
    return _whole(time)[0]


def usual_ms(time: str) -> int:
    """What `floor_ms` gives, sooner: of thirteen digits with decimals, within the limits of `Time`. ValueError for others."""
    if time[13:14] != "." or not time.isascii() or not time[14:].isdigit() or not time[:13].isdigit():
        raise ValueError(f"not in the usual form: {time[:40]!r}")
    ts_ms = int(time[:13])
    if not TIME_MIN_MS < ts_ms < TIME_MAX_MS:
        raise ValueError(f"out of range: {time[:40]!r}")
    return ts_ms


def futures_ms(row: FuturesRow) -> int:
    """The time of a futures trade, whichever of its fields there are and whatever their unit."""
    time = row.create_time if row.create_time_ms is None else row.create_time_ms
    if time is None:
        raise ValueError("no time")
    whole, decimals = _whole(time)
    return whole if whole > SECONDS_MAX else whole * 1000 + int(f"{decimals}000"[:3])


def _whole(time: Number) -> tuple[int, str]:
    """A number's whole part, and its decimals as they are written: through a float they could round up."""
    if isinstance(time, int):
        return time, ""
    whole, point, decimals = (time if isinstance(time, str) else repr(time)).partition(".")
    if not (whole + decimals).isascii() or not whole.isdigit() or (point and not decimals.isdigit()):
        raise ValueError(f"no plain number: {time!r:.40}")
    return int(whole), decimals


class Pair(msgspec.Struct):
    """A row of currency_pairs."""

    id: str
    base: str
    quote: str
    trade_status: str


class Contract(msgspec.Struct):
    """A row of contracts."""

    name: str
    quanto_multiplier: float
    in_delisting: bool = False


class Ticker(msgspec.Struct):
    """The open interest in a row of tickers: contracts."""

    contract: str
    total_size: float
    funding_rate: float | str | None = None


Listed = TypeVar("Listed")

_pairs, _contracts, _tickers = lax(list[Pair]), lax(list[Contract]), lax(list[Ticker])
_spot_history, _futures_history = lax(list[SpotRow]), lax(list[FuturesRow])
_DATED = re.compile(r".+_\d{8}")
_USUAL_SIZES = {"BTC": 0.0001, "ETH": 0.01}
"""Coins in a contract, of assets where it is not 1."""


def _endpoint(name: str, url: str) -> Endpoint:
    headers = () if name == "spot" else FRACTIONAL
    return Endpoint(
        name, url, streams_per_connection=100, topics_per_frame=TOPICS_PER_FRAME, ping_s=15, headers=headers
    )


class Gateio(Exchange):
    """https://gate.com."""

    id: ClassVar[str] = "GATEIO"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        _endpoint("spot", "wss://api.gateio.ws/ws/v4/"),
        _endpoint("usdt", "wss://fx-ws.gateio.ws/v4/ws/usdt"),
        _endpoint("btc", "wss://fx-ws.gateio.ws/v4/ws/btc"),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://api.gateio.ws"}
    limits: ClassVar[Limits] = Limits(connects=Rate(10, 1), rest=Rate(200, 10), connections=300)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp")
    usual: ClassVar[tuple[str, ...]] = ("{base}_USDT-SPOT", "{base}_USDT")
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by time and id; recovered rows carry no liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Prints marked internal (insurance fund, deleveraging) are left out; some collectors count them.",
        "Trades are timed by their milliseconds; old frames without them by their whole seconds.",
        "Since August 2026 liquidations are published without loss, before that at most one per contract and second.",
        "Contracts settled in BTC other than BTC_USD are not offered: their size in coins cannot be told from a trade.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return GateDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        channels = (SPOT,) if instrument.kind == "spot" else (FUTURES, LIQUIDATIONS) if liquidations else (FUTURES,)
        return [Stream(instrument.endpoint, f"{channel}:{instrument.symbol}", instrument) for channel in channels]

    def listings(self) -> Sequence[Call[Instrument]]:
        spot = Call(Request(self._url("spot/currency_pairs")), self._read_pairs)
        return (spot, self._contracts("usdt"), self._contracts("btc"))

    def _read_pairs(self, body: bytes) -> Page[Instrument]:
        found = _pairs.decode(body)
        if not found:
            raise BadMessage("an empty listing")
        return Page([self._pair(row.id, row.base, row.quote, row.trade_status == "tradable") for row in found])

    def _contracts(self, settle: str) -> Call[Instrument]:
        """Contracts that settle in one currency: there may be none of the older, inverse ones."""

        def read(body: bytes) -> Page[Instrument]:
            return Page([self._contract(row, settle) for row in _contracts.decode(body)])

        return Call(Request(self._url(f"futures/{settle}/contracts")), read)

    def _pair(self, symbol: str, base: str, quote: str, active: bool = True) -> Instrument:
        asset, multiplier = base_asset(base)
        pair = f"{symbol}-SPOT"
        return Instrument(self.id, pair, symbol, "spot", asset, quote, "spot", multiplier=multiplier, active=active)

    def _contract(self, row: Contract, settle: str) -> Instrument:
        base, quote, *_ = row.name.split("_")
        asset, multiplier = base_asset(base)
        inverse = settle == "btc" and row.quanto_multiplier == 0
        quanto = settle == "btc" and not inverse
        return Instrument(
            self.id,
            row.name,
            row.name,
            "future" if _DATED.fullmatch(row.name) else "perp",
            asset,
            quote,
            settle,
            contract_size=row.quanto_multiplier or 1.0,
            inverse=inverse,
            multiplier=multiplier,
            quanto=quanto,
            active=not (row.in_delisting or quanto),
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """Sizes of contracts differ: only the listing has them all."""
        if kind == "spot" or symbol.endswith("-SPOT"):
            symbol = symbol.removesuffix("-SPOT")
            base, _, quote = symbol.partition("_")
            return self._pair(symbol, base, quote)
        base, _, rest = symbol.partition("_")
        if rest.partition("_")[0] == "USD":
            return self._contract(Contract(symbol, 0.0), "btc")
        name = symbol if rest else f"{symbol}_"
        return self._contract(Contract(name, _USUAL_SIZES.get(base, 1.0)), "usdt")

    def _url(self, path: str) -> str:
        return f"{self.url('rest')}/api/v4/{path}"

    def recover(self, gap: Gap) -> Call[Trade]:
        return self._history(gap, gap.before_ms // 1000 + 1, 0, None)

    def _history(self, gap: Gap, to_s: int, page: int, below: int | None) -> Call[Trade]:
        """Newest first. Pages shift while the market trades: only ids `below` the last page's are new."""
        instrument = gap.instrument

        def read(body: bytes) -> Page[Trade]:
            found = _past(instrument, body)
            made = [event for event in reversed(found) if type(event) is Trade]
            trades = [t for t in made if gap.covers(t) and (below is None or _number(t) < below)]
            if len(found) < PAGE_ROWS or not made or _before(gap, made[0]):
                return Page(trades)
            oldest = min(map(_number, made))
            if page + 1 < PAGES_MAX:
                return Page(trades, self._history(gap, to_s, page + 1, oldest))
            return Page(trades, self._history(gap, made[0].ts_ms // 1000, 0, oldest))

        window = f"from={gap.after_ms // 1000}&to={to_s}&limit={PAGE_ROWS}"
        if instrument.kind == "spot":
            query = f"spot/trades?currency_pair={instrument.symbol}&{window}&page={page + 1}"
        else:
            query = (
                f"futures/{instrument.endpoint}/trades?contract={instrument.symbol}&{window}&offset={page * PAGE_ROWS}"
            )
        return Call(Request(self._url(query)), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind != "spot":
                wanted.setdefault(instrument.endpoint, {})[instrument.symbol] = instrument
        return [self._open_interest(settle, by_symbol) for settle, by_symbol in wanted.items()]

    def _open_interest(self, settle: str, wanted: Mapping[str, Instrument]) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            items = []
            for row in _tickers.decode(body):
                if (instrument := wanted.get(row.contract)) is not None:
                    amount = row.total_size * instrument.contract_size
                    base, usd = (None, amount) if instrument.inverse else (amount, None)
                    items.append(OpenInterest(instrument, None, base, usd, rate(row.funding_rate)))
            return Page(items)

        return Call(Request(self._url(f"futures/{settle}/tickers")), read)


def _past(instrument: Instrument, body: bytes) -> Sequence[Event]:
    """The rows of a page of history, in its order."""
    decoder = GateDecoder({instrument.symbol: instrument}, instrument.endpoint)
    if instrument.kind == "spot":
        return [decoder.spot(row) for row in _spot_history.decode(body)]
    return [decoder.futures(row) for row in _futures_history.decode(body)]


def _number(trade: Trade) -> int:
    assert isinstance(trade.id, int)
    return trade.id


def _before(gap: Gap, trade: Trade) -> bool:
    """Whether a trade, the oldest of its page, is before the hole or its very first."""
    if isinstance(gap.after_id, int):
        return _number(trade) <= gap.after_id + 1
    return trade.ts_ms < gap.after_ms
