"""The contract between an exchange and everything that uses one.

An exchange is described by one `Exchange` subclass (what it lists, which sockets it has, what it allows) and one
`Decoder` subclass (what the frames of one connection mean). Both are pure: they take bytes and times and give values;
they open no socket, read no clock and log nothing. The same decoder therefore serves live feeds, replays and tests.

Units: prices in the quote currency, sizes in *base coin*, times in integer milliseconds since the epoch (the
exchange's own trade time). `buy` says that the aggressor (taker) bought.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec

from exchanges.specialised import copy_for

Frame = str | bytes
"""A frame to send: `str` goes out as text, `bytes` as binary."""

Buffer = bytes | memoryview
"""A received frame's payload. A memoryview is valid only until `decode` returns."""

Kind = Literal["spot", "perp", "future"]

PRICE_MAX = 1e12
SIZE_MAX = 1e15
NOTIONAL_MAX = 1e13
COUNT_MAX = 1_000_000
ID_MAX = 1 << 63
ID_MIN = -ID_MAX
ID_MAX_CHARS = 64
TIME_MIN_MS = 0  # documentation has examples in 1970; what is merely too old is late, and the bars count it
TIME_MAX_MS = 4_102_444_800_000  # 2100-01-01

# What `Decoder.trade` demands of its values, for rows that msgspec decodes: it checks them at no cost. A row that is refused is
# read again without bounds, so that its reason is the one that `Decoder.trade` gives.
Price = Annotated[float, msgspec.Meta(gt=0.0, lt=PRICE_MAX)]
Quantity = Annotated[float, msgspec.Meta(gt=0.0, lt=SIZE_MAX)]
Signed = Annotated[float, msgspec.Meta(gt=-SIZE_MAX, lt=SIZE_MAX)]
"""A quantity whose sign is the side."""
Time = Annotated[int, msgspec.Meta(gt=TIME_MIN_MS, lt=TIME_MAX_MS)]
TimeNs = Annotated[int, msgspec.Meta(ge=(TIME_MIN_MS + 1) * 1_000_000, lt=TIME_MAX_MS * 1_000_000)]
Id = Annotated[int, msgspec.Meta(ge=ID_MIN, le=ID_MAX - 1)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=ID_MAX - 1)]
TextId = Annotated[str, msgspec.Meta(max_length=ID_MAX_CHARS)]


class BadMessage(ValueError):
    """A frame that cannot be read as a message of this exchange. It costs only itself."""


# --- what is traded -------------------------------------------------------------------------------------------------


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """One market of an exchange, as its listing describes it."""

    exchange: str
    """Exchange id, e.g. `BINANCE`."""
    pair: str
    """Our name of the market on that exchange (what users know), e.g. `btcusdt`."""
    symbol: str
    """The exchange's own spelling in messages, e.g. `BTCUSDT`."""
    kind: Kind
    base: str
    """Normalised base asset: XBT is BTC, 1000PEPE is PEPE."""
    quote: str
    endpoint: str
    """Name of the `Endpoint` that carries its trades."""
    contract_size: float = 1.0
    """One unit of wire quantity in base coins, or in quote units when `inverse`. 1 where the wire says base coins."""
    inverse: bool = False
    multiplier: float = 1.0
    """Coins of `base` in one traded unit: 1000 for 1000PEPE. Sizes and prices stay in traded units."""
    quanto: bool = False
    price_scale: int = 0
    """Decimal places of integer prices on the wire, where the exchange sends integers."""
    value_scale: int = 0
    """Decimal places of integer quantities on the wire, where the exchange sends integers."""
    active: bool = True

    @property
    def market(self) -> str:
        """The market's full name, `EXCHANGE:pair`."""
        return f"{self.exchange}:{self.pair}"


_ALIASES = {"XBT": "BTC", "XDG": "DOGE", "BCC": "BCH"}
_MULTIPLIED = re.compile(r"(1000000|100000|10000|1000)([A-Z]\w*)|(1M)([A-Z]\w+)|(k)([A-Z]+)")


def base_asset(name: str) -> tuple[str, float]:
    """Split an exchange's base name into (normalised asset, coins per traded unit).

    >>> base_asset("XBT"), base_asset("1000PEPE"), base_asset("kPEPE"), base_asset("1INCH")
    (('BTC', 1.0), ('PEPE', 1000.0), ('PEPE', 1000.0), ('1INCH', 1.0))
    """
    match = _MULTIPLIED.fullmatch(name)
    if match is None:
        return _ALIASES.get(name.upper(), name.upper()), 1.0
    prefix, rest = (group for group in match.groups() if group is not None)
    factor = {"1M": 1e6, "k": 1e3}.get(prefix) or float(prefix)
    return _ALIASES.get(rest, rest), factor


def split_pair(symbol: str, quotes: Iterable[str]) -> tuple[str, str]:
    """Split a symbol without a separator into base and quote by the quotes in use; an unknown one leaves the quote empty.

    Of quotes that end alike the longer goes first.

    >>> split_pair("BTCUSDT", ("USDT", "USD")), split_pair("USDT", ("USDT",))
    (('BTC', 'USDT'), ('USDT', ''))
    """
    for quote in quotes:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol, ""


# --- what frames mean -------------------------------------------------------------------------------------------------


class Trade(msgspec.Struct, gc=False):
    """One live trade (or one aggregate of matches at one price, where the exchange aggregates)."""

    instrument: Instrument
    ts_ms: int
    price: float
    size: float
    """Base coin."""
    buy: bool
    id: int | str | None = None
    """The exchange's id; monotonic per market where `Endpoint.ids` says so."""
    count: int = 1
    """Matches that this row stands for; 1 where the exchange does not say."""
    forced: bool | None = None
    """None: no liquidation. Else this trade *is* a forced order, which bought (True) or sold (False)."""


class Liquidation(msgspec.Struct, gc=False):
    """A forced order from a liquidation feed. Its fill is in the trade feed too: never add it to volume."""

    instrument: Instrument
    ts_ms: int
    price: float
    size: float
    """Base coin."""
    buy: bool
    """Side of the forced order: True closes a short, False closes a long."""
    id: int | str | None = None


class Past(msgspec.Struct, gc=False):
    """Trades that were over before the subscription (an image): not live, but good for recovery by id."""

    trades: list[Trade]


class Stream(msgspec.Struct, frozen=True, gc=False):
    """Something to subscribe to on one endpoint."""

    endpoint: str
    topic: str
    """What the exchange calls it, unique on the endpoint, e.g. `btcusdt@aggTrade`."""
    instrument: Instrument | None = None
    """The one market that it carries; None where one subscription covers many."""


class Acked(msgspec.Struct, gc=False):
    """The exchange accepted these subscriptions (which proves nothing: live is what trades)."""

    topics: tuple[str, ...]


class Rejected(msgspec.Struct, gc=False):
    """The exchange refused these subscriptions. No topic where it did not say which: then all unanswered ones.

    Where it names one of several that were asked for in one frame, the others stay unanswered: ask for them again.
    """

    topics: tuple[str, ...]
    reason: str


class Reply(msgspec.Struct, gc=False):
    """A frame that the client must send at once (answer to the exchange's heartbeat)."""

    frame: Frame


class Alive(msgspec.Struct, gc=False):
    """Heartbeat, pong, greeting: the connection works, which says nothing about any market."""


class Closing(msgspec.Struct, gc=False):
    """The exchange announced that it will close, or asked to reconnect."""

    reason: str


class Malformed(msgspec.Struct, gc=False):
    """One row that could not be read, in a frame that otherwise could."""

    reason: str
    symbol: str = ""


class Excluded(msgspec.Struct, gc=False):
    """Rows that are not market trades of a subscribed instrument (insurance fund, ADL, other symbols…)."""

    reason: str
    count: int = 1


class Unknown(msgspec.Struct, gc=False):
    """A well-formed message of a type that we do not know. Counted, so that a changed API is seen."""

    kind: str


Event = Trade | Liquidation | Past | Acked | Rejected | Reply | Alive | Closing | Malformed | Excluded | Unknown

Run = list[Trade]
"""Trades of one market in their order, at least one."""


def sorted_runs(events: Iterable[Event]) -> list[Run | Event]:
    """Trades by market; what is no trade keeps its place among the trades before and after it."""
    found: list[Run | Event] = []
    runs: dict[str, Run] = {}
    for event in events:
        if type(event) is not Trade:
            runs.clear()
            found.append(event)
            continue
        symbol = event.instrument.symbol
        if symbol not in runs:
            runs[symbol] = []
            found.append(runs[symbol])
        runs[symbol].append(event)
    return found


ALIVE: Sequence[Event] = (Alive(),)
"""The one answer to heartbeats and pongs."""


UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading a frame of the wrong shape can raise, BadMessage included."""


def unreadable(error: BaseException) -> str:
    """In one short line, why a frame could not be read."""
    return str(error) if isinstance(error, BadMessage) else f"{type(error).__name__}: {error}"[:200]


class Decoder(ABC):
    """What the frames of *one connection* mean. Stateful only where the protocol is (channel ids, first images).

    A decoder reads whatever its exchange sends on any of its sockets; `endpoint` decides only what it subscribes to and
    what it tries first. Where the first push after subscribing is history and nothing in it says so, `subscribe` and the
    exchange's acknowledgement tell the decoder to expect it: a decoder that has seen neither takes every push as live.
    """

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        """`instruments` by the exchange's own symbol: those that trade on this endpoint and are wanted."""
        self.instruments = instruments
        self.endpoint = endpoint
        self.request_id = 0

    def decode(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        """Read one frame. `recv_ms` is local time, used only where the exchange sends none.

        Raises BadMessage, and nothing else, when the frame cannot be read at all.
        """
        try:
            return self.read(frame, recv_ms)
        except BadMessage:
            raise
        except UNREADABLE as error:
            raise BadMessage(unreadable(error)) from error

    @abstractmethod
    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        """As `decode`, but free to raise what parsing raises."""

    def read_all(self, frames: Sequence[Buffer], recv_ms: int) -> Sequence[Run | Event]:
        """Read frames that arrived together, as `sorted_runs` has their events. One that cannot be read gives one `Malformed`."""
        return sorted_runs(event for frame in frames for event in self.slowly(frame, recv_ms))

    def slowly(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        """Read one frame, of any kind."""
        try:
            return self.read(frame, recv_ms)
        except UNREADABLE as error:
            return (Malformed(unreadable(error)),)

    @abstractmethod
    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        """Frames that subscribe to these topics, few and full (at most `Endpoint.topics_per_frame` in each)."""

    @abstractmethod
    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        """Frames that end these subscriptions."""

    def ping(self, now_ms: int) -> Frame | None:
        """The keep-alive frame that the client owes each `Endpoint.ping_s`; None: a websocket ping."""
        return None

    def next_id(self) -> int:
        self.request_id += 1
        return self.request_id

    # The two below are the only way in which exchanges make trades and liquidations: checks and conversion to base
    # coin stand here once.

    def trade(
        self,
        symbol: str,
        ts_ms: int,
        price: float,
        quantity: float,
        buy: bool,
        id: int | str | None = None,
        count: int = 1,
        forced: bool | None = None,
    ) -> Trade | Malformed | Excluded:
        """Make a trade from wire values; `quantity` in the wire's unit (see `Instrument.contract_size`)."""
        instrument = self.instruments.get(symbol)
        if instrument is None:
            return Excluded("not subscribed")
        # Chained comparisons are false for NaN, so that this also refuses it.
        if not (0.0 < price < PRICE_MAX and 0.0 < quantity < SIZE_MAX and TIME_MIN_MS < ts_ms < TIME_MAX_MS):
            return _out_of_range(symbol, ts_ms, price, quantity)
        # Ids are kept to tell trades apart: what a hostile frame can make us keep is bounded.
        if not (ID_MIN <= id < ID_MAX if type(id) is int else id is None or len(id) <= ID_MAX_CHARS):  # type: ignore[arg-type]  # a str
            return _strange(symbol, count, id)
        if count != 1 and not 0 < count < COUNT_MAX:
            return _strange(symbol, count, id)
        size = quantity * instrument.contract_size
        if instrument.inverse:
            size /= price
        if 0.0 < size * price < NOTIONAL_MAX:
            return Trade(instrument, ts_ms, price, size, buy, id, count, forced)
        return _out_of_range(symbol, ts_ms, price, quantity)

    def liquidation(
        self,
        symbol: str,
        ts_ms: int,
        price: float,
        quantity: float,
        buy: bool,
        id: int | str | None = None,
    ) -> Liquidation | Malformed | Excluded:
        """Make a liquidation from wire values; `buy` is the side of the forced order."""
        made = self.trade(symbol, ts_ms, price, quantity, buy, id)
        if type(made) is Trade:
            return Liquidation(made.instrument, made.ts_ms, made.price, made.size, made.buy, made.id)
        assert not isinstance(made, Trade)
        return made


class Bounded(msgspec.Struct, gc=False):
    """A usual trade whose values are in range, as `QuickDecoder` takes it: fields, in the order of the wire, under common names.

    `time` (in ms, or what `QuickDecoder` makes ms of), `price`, `quantity` (in the wire's unit), `side`, `id`, and `symbol` where rows
    name it.
    """


Quick = tuple[str | None, Iterable[Any]]
"""The symbol of all rows, None where each names its own; the rows."""


class Hurried(Decoder):
    """One that has a shorter way for the one kind of frame that nearly all are."""

    def read_all(self, frames: Sequence[Buffer], recv_ms: int) -> Sequence[Run | Event]:
        """As any decoder's: the long way for frames that have no shorter one, and for no others."""
        found: list[Run | Event] = []
        at = 0
        while at < len(frames):
            count, runs = self.quickly(frames[at:] if at else frames)
            found += runs
            at += count
            if at < len(frames):
                found += sorted_runs(self.slowly(frames[at], recv_ms))
                at += 1
        return found

    @abstractmethod
    def quickly(self, frames: Sequence[Buffer]) -> tuple[int, Iterable[Run]]:
        """(how many frames could be read before the first that needs the long way, their trades by market).

        The trades are those that `read` gives. It changes nothing in the decoder that reading the frames again would change.
        """


class QuickDecoder(Hurried):
    """One whose usual frames give rows that decoding has checked already (`Bounded`)."""

    buy: object = "buy"
    """What `side` is where the taker bought."""
    ms: Callable[[Any], int] | None = None
    """What makes milliseconds within the limits of `Time` of a row's time, or raises ValueError; None: it is a number already,"""
    per_ms: int = 1
    """…so many of which are a millisecond."""
    counted: bool = False
    """Whether rows say for how many matches they stand, as `count`."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._loop = copy_for((type(self), endpoint), QuickDecoder._read_quickly)

    @abstractmethod
    def quick(self, frame: Buffer) -> Quick | None:
        """The rows of such a frame; None, or one of `UNREADABLE`, for any other.

        Their trades are those that `read` gives. It changes nothing in the decoder that reading the frame again would change.
        """

    def quickly(self, frames: Sequence[Buffer]) -> tuple[int, Iterable[Run]]:
        return self._loop(self, frames)

    def _read_quickly(self, frames: Sequence[Buffer]) -> tuple[int, Iterable[Run]]:
        """What stands here as one loop were three calls for each trade. Each endpoint has its own copy (`copy_for`)."""
        runs: dict[str, Run] = {}
        quick, instruments, symbol, at = self.quick, self.instruments, None, 0
        buy, ms, per_ms, counted = self.buy, self.ms, self.per_ms, self.counted
        try:
            for at, frame in enumerate(frames):
                found = quick(frame)
                if found is None:
                    return at, runs.values()
                of_all, rows = found
                for row in rows:
                    named = of_all or row.symbol
                    if named != symbol:
                        instrument, symbol = instruments[named], named
                        run = runs.get(named) or runs.setdefault(named, [])
                    price, size = row.price, row.quantity * instrument.contract_size
                    if instrument.inverse:
                        size /= price
                    if not 0.0 < price * size < NOTIONAL_MAX:
                        raise ValueError("out of range")
                    ts_ms = row.time if ms is None else ms(row.time)
                    if per_ms != 1:
                        ts_ms //= per_ms
                    count = row.count if counted else 1
                    run.append(Trade(instrument, ts_ms, price, size, row.side == buy, row.id, count))
        except UNREADABLE:
            # Some of its rows may be among the runs: the frames before it are read again.
            return at, self.quickly(frames[:at])[1] if at else ()
        return len(frames), runs.values()


def _strange(symbol: str, count: int, id: int | str | None) -> Malformed:
    return Malformed(f"out of range: count={count!r:.40} id={id!r:.80}", symbol[:ID_MAX_CHARS])


def _out_of_range(symbol: str, ts_ms: int, price: float, quantity: float) -> Malformed:
    return Malformed(f"out of range: {price=!r:.40} {quantity=!r:.40} {ts_ms=!r:.40}", symbol[:ID_MAX_CHARS])


class Asked(dict[int | str, tuple[str, ...]]):
    """Topics of requests that have no answer yet, by the request's id; beyond LIMIT the oldest are forgotten."""

    LIMIT = 1000

    def __setitem__(self, id: int | str, topics: tuple[str, ...]) -> None:
        super().__setitem__(id, topics)
        if len(self) > self.LIMIT:
            del self[next(iter(self))]


Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Split into pieces of at most `size`, in order."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def by_channel(topics: Sequence[str], size: int) -> list[Sequence[str]]:
    """Split topics `channel:symbol` by channel, then into pieces of at most `size`: one frame names one channel."""
    found: dict[str, list[str]] = {}
    for topic in topics:
        found.setdefault(topic.partition(":")[0], []).append(topic)
    return [part for of_one in found.values() for part in chunks(of_one, size)]


Row = TypeVar("Row")


def rows(raw: Sequence[msgspec.Raw], decoder: msgspec.json.Decoder[Row], make: Callable[[Row], Event]) -> list[Event]:
    """Read the rows of a batch one by one, so that a bad row costs only itself.

    This is the slow path: exchanges decode a whole batch in one typed call and come here when that call refuses it.
    """
    events: list[Event] = []
    for text in raw:
        try:
            events.append(make(decoder.decode(text)))
        except UNREADABLE as error:
            events.append(Malformed(str(error)[:160]))
    return events


# --- asking by REST -----------------------------------------------------------------------------------------------------

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True):
    """One REST request."""

    url: str
    method: Literal["GET", "POST"] = "GET"
    body: bytes = b""
    weight: float = 1.0
    """What it costs of the exchange's `Limits.rest` budget."""


class Page(msgspec.Struct, Generic[T]):
    """What one answer held, and how to get the rest."""

    items: list[T]
    next: Call[T] | None = None


class Call(msgspec.Struct, Generic[T]):
    """A request together with the pure function that reads its answer.

    `read(body)` raises BadMessage, and nothing else, when the answer is not what the exchange documents.
    """

    request: Request
    read: Callable[[bytes], Page[T]]

    def __post_init__(self) -> None:
        self.read = _guarded(self.read)


def _guarded(read: Callable[[bytes], Page[T]]) -> Callable[[bytes], Page[T]]:
    """Turn whatever parsing raises into BadMessage."""

    def guarded(body: bytes) -> Page[T]:
        try:
            return read(body)
        except BadMessage:
            raise
        except UNREADABLE as error:
            raise BadMessage(unreadable(error)) from error

    return guarded


class Gap(msgspec.Struct, frozen=True):
    """Trades of one market that are missing: after `after_ms`/`after_id`, before `before_ms`/`before_id`."""

    instrument: Instrument
    after_ms: int
    before_ms: int
    after_id: int | str | None = None
    """Id of the last trade before the hole."""
    before_id: int | str | None = None
    """Id of the first trade after it."""
    before_count: int = 1
    """`Trade.count` of that trade: where ids count matches, an aggregate holds the ids up to its own."""

    def covers(self, trade: Trade) -> bool:
        """Whether a trade belongs into the hole: by number where ids are numbers, else by time.

        By time the edges belong to it, but for the two trades that are known: what else happened in those
        milliseconds may have been seen or not, and `Trade.id` tells.
        """
        number, after, before = trade.id, self.after_id, self.before_id
        if isinstance(number, int) and isinstance(after, int):
            late_enough = number > after
        else:
            late_enough = trade.ts_ms >= self.after_ms and (number is None or number != after)
        if isinstance(number, int) and isinstance(before, int):
            return late_enough and number < before
        return late_enough and trade.ts_ms <= self.before_ms and (number is None or number != before)

    def missing(self, events: Iterable[Event]) -> list[Trade]:
        """The trades among these that belong into the hole, in their order."""
        return [event for event in events if type(event) is Trade and self.covers(event)]


class OpenInterest(msgspec.Struct, frozen=True):
    """Open interest of one market."""

    instrument: Instrument
    ts_ms: int | None
    """The exchange's time; None where it does not say."""
    base: float | None
    """In base coins; None where the exchange says only what it is worth (divide `usd` by the price)."""
    usd: float | None = None
    """In US dollars; None where the exchange says only coins. One of the two is always given."""
    funding: float | None = None
    """Rate of one funding interval as a fraction, positive where longs pay; None where this answer does not say."""
    funding_s: float | None = None
    """That interval, where the answer says it; else it is the exchange's usual one."""


class Funding(msgspec.Struct, frozen=True):
    """What the longs of one perpetual pay its shorts, where a request of its own asks for it."""

    instrument: Instrument
    rate: float
    """Of one interval as a fraction, positive where longs pay."""
    interval_s: float | None = None
    """None: the exchange's usual one, `Exchange.funding_s`."""


# --- what is allowed ----------------------------------------------------------------------------------------------------


class Rate(msgspec.Struct, frozen=True):
    """At most `count` in any `seconds`."""

    count: float
    seconds: float


Ids = Literal["monotonic", "unique", "none"]


class Endpoint(msgspec.Struct, frozen=True):
    """One kind of socket that an exchange has."""

    name: str
    url: str
    """Published address. Users and simulations may name another: see `Exchange.url`."""
    streams_per_connection: int
    """The exchange's limit, or less where full connections were seen to lag."""
    topics_per_frame: int = 100
    frames: Rate = Rate(5, 1)
    """Client messages per connection."""
    requests: Rate | None = None
    """Subscriptions and unsubscriptions per connection, where they have a limit of their own beside `frames`."""
    ping_s: float | None = None
    """The client owes `Decoder.ping` this often; None: the server pings, or nobody."""
    max_age_s: float | None = None
    """The exchange closes connections after this long: replace them before."""
    ids: Ids = "monotonic"
    """How trades are told apart: growing ids per market, unique ids in no order, or none at all."""
    gapless: bool = False
    """Ids count up by one per market, so that a hole is seen at once."""
    deflate: bool = False
    """permessage-deflate is worth asking for."""
    headers: tuple[tuple[str, str], ...] = ()
    settle_s: float = 0.0
    """Wait this long after connecting before the first frame."""


class Limits(msgspec.Struct, frozen=True):
    """What an exchange allows one IP address."""

    connects: Rate
    rest: Rate
    connections: int = 100
    """At once."""


Recovery = Literal["exact", "recent", "none"]


class Exchange(ABC):
    """One exchange. Instances are immutable; `addresses` replaces published addresses by name (simulation, mirrors)."""

    id: ClassVar[str]
    endpoints: ClassVar[tuple[Endpoint, ...]]
    rest: ClassVar[Mapping[str, str]]
    """Published REST base addresses by name (`rest`, or one per product), without a trailing slash."""
    limits: ClassVar[Limits]
    kinds: ClassVar[tuple[Kind, ...]] = ("spot",)
    usual: ClassVar[tuple[str, ...]]
    """Its busiest markets of a coin, as symbols that `assume` reads: `{base}` stands for BTC, `{lower}` for btc, `{xbt}` for
    XBT (and for the coin itself where it is another)."""
    recovery: ClassVar[Recovery] = "none"
    """How far `recover` reaches: exact by id or time and deep, the newest few only, or not at all."""
    recovery_note: ClassVar[str] = ""
    has_liquidations: ClassVar[bool] = False
    has_open_interest: ClassVar[bool] = False
    has_funding: ClassVar[bool] = False
    """Whether it publishes the funding rate of its perpetuals, with open interest or by `funding`."""
    funding_s: ClassVar[float] = 28_800.0
    """How long its usual funding interval is."""
    notes: ClassVar[tuple[str, ...]] = ()
    """What a trader should know of its data, and how disputed readings were decided: one short sentence each."""

    def __init__(self, addresses: Mapping[str, str] | None = None) -> None:
        """`addresses`: endpoint or REST name → base address to use instead. Raises ValueError on an unknown name."""
        self._addresses = {e.name: e.url for e in self.endpoints} | dict(self.rest)
        for name, url in (addresses or {}).items():
            if name not in self._addresses:
                raise ValueError(f"{self.id} has no address {name!r}; it has {', '.join(self._addresses)}")
            self._addresses[name] = url.rstrip("/") if name in self.rest else url

    def url(self, name: str) -> str:
        """The address in force of an endpoint or REST base."""
        return self._addresses[name]

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of that name; KeyError when there is none."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise KeyError(name)

    def connect(self, endpoint: str, now_ms: int) -> str | Call[str]:
        """Where to connect: an address, or the call that asks for one (a token by REST)."""
        return self.url(endpoint)

    @abstractmethod
    def listings(self) -> Sequence[Call[Instrument]]:
        """The calls that list what is traded (each may have further pages)."""

    @abstractmethod
    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """The instrument that a symbol stands for by the exchange's naming rules alone.

        For decoding without a listing (captures, `sqfd decode`). Contract sizes are the documented usual ones.
        """

    def usual_markets(self, base: str) -> list[Instrument]:
        """The busiest markets of a coin by the naming rules alone, whether or not they trade: the listing knows that."""
        names = {"base": base, "lower": base.lower(), "xbt": "XBT" if base == "BTC" else base}
        return [self.assume(template.format_map(names)) for template in self.usual]

    @abstractmethod
    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        """What to subscribe to for one market: its trades, and its liquidations where asked for and published."""

    @abstractmethod
    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        """A decoder for a new connection to that endpoint; `instruments` by the exchange's own symbol."""

    def recover(self, gap: Gap) -> Call[Trade] | None:
        """The call that asks for the missing trades (pages follow); None where the exchange offers none.

        Only trades that `gap.covers`, none twice, oldest first within a page. Exchanges that page backwards give the
        newest page first. The first page may hold nothing although later ones do: follow `Page.next`.
        """
        return None

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        """The calls that ask for open interest of these markets; few, where one answer covers many."""
        return ()

    def funding(self, instruments: Iterable[Instrument]) -> Sequence[Call[Funding]]:
        """The calls that ask for the funding rate of these markets, where the answers about open interest do not say it."""
        return ()


class Assumed(dict[str, Instrument]):
    """Instruments by symbol, made by `Exchange.assume` as they are met. Starts with those that are `known`."""

    LIMIT = 100_000

    def __init__(self, exchange: Exchange, kind: Kind | None = None, known: Iterable[Instrument] = ()) -> None:
        super().__init__({instrument.symbol: instrument for instrument in known})
        self._exchange, self._kind = exchange, kind

    def __missing__(self, symbol: str) -> Instrument:
        if len(symbol) > ID_MAX_CHARS or len(self) >= self.LIMIT:
            raise BadMessage(f"not a symbol, or one too many: {symbol[:ID_MAX_CHARS]!r}")
        instrument = self[symbol] = self._exchange.assume(symbol, self._kind)
        return instrument

    def get(self, symbol: str, default: object = None) -> Instrument:
        return self[symbol]
