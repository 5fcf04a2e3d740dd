"""Deribit: perpetuals, dated futures and spot.

Sources: the exchange's API documentation (JSON-RPC over websocket, `trades.{instrument}.100ms`, market data methods), autumn
2026. `amount` is dollars on inverse contracts and base coins on all others, `direction` the taker's side. A trade with
`liquidation` is itself the forced order: `T` says that the taker was liquidated, `M` the maker, `MT` both (then the taker's
side is given). `trade_seq` counts up by one per instrument and is the id here, as history is asked by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from exchanges.api import (
    ALIVE,
    Acked,
    Asked,
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
    Reply,
    Request,
    Stream,
    Time,
    Trade,
    Unknown,
    base_asset,
    chunks,
    rows,
)
from exchanges.numbers import lax, rate

TRADES, SUFFIX = "trades.", ".100ms"
TOPICS_PER_FRAME = 500
PAGE_ROWS = 1000


class Row(msgspec.Struct, gc=False):
    """A trade, on the socket and in history."""

    trade_seq: int
    timestamp: int
    price: float
    amount: float
    direction: Literal["buy", "sell"]
    instrument_name: str
    liquidation: Literal["T", "M", "MT", "none"] | None = None


class Usual(Bounded):
    """A trade, and no liquidation."""

    id: Id = msgspec.field(name="trade_seq")
    time: Time = msgspec.field(name="timestamp")
    price: Price
    symbol: str = msgspec.field(name="instrument_name")
    side: Literal["buy", "sell"] = msgspec.field(name="direction")
    quantity: Quantity = msgspec.field(name="amount")
    liquidation: Literal["none"] | None = None


class TradedParams(msgspec.Struct, gc=False):
    channel: str
    data: list[Usual]


class Traded(msgspec.Struct, gc=False):
    """Nearly every frame."""

    method: Literal["subscription"]
    params: TradedParams


class Params(msgspec.Struct, gc=False):
    channel: str = ""
    data: list[Row] | None = None
    type: str = ""


class Fault(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


class Message(msgspec.Struct, gc=False):
    """A push (`method`, `params`) or an answer (`id`, `result` or `error`)."""

    method: str = ""
    params: Params | None = None
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: Fault | None = None


class RawParams(msgspec.Struct, gc=False):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class Envelope(msgspec.Struct, gc=False):
    """A push whose rows are read one by one."""

    params: RawParams


_traded = lax(Traded)
_message = lax(Message)
_envelope = lax(Envelope)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_row = lax(Row)
_topics = msgspec.json.Decoder(list[str])


class DeribitDecoder(QuickDecoder):
    """Trades, answers, and the heartbeat that must be answered."""

    def __init__(self, instruments: Mapping[str, Instrument], endpoint: str) -> None:
        super().__init__(instruments, endpoint)
        self._asked = Asked()

    def quick(self, frame: Buffer) -> Quick | None:
        params = _traded.decode(frame).params
        return (None, params.data) if params.channel.startswith(TRADES) else None

    def read(self, frame: Buffer, recv_ms: int) -> Sequence[Event]:
        try:
            return self.whole(frame)
        except (msgspec.ValidationError, ValueError):
            return self.one_by_one(frame)

    def whole(self, frame: Buffer) -> Sequence[Event]:
        """The fast path: everything is as documented, or this raises."""
        message = _message.decode(frame)
        params = message.params
        if params is None:
            return self.answer(message)
        if message.method == "heartbeat":
            return (Reply(self._test()),) if params.type == "test_request" else ALIVE
        if params.data is None or not params.channel.startswith(TRADES):
            return (Unknown(f"{message.method} {params.channel}"[:60]),)
        return [self.traded(row) for row in params.data]

    def one_by_one(self, frame: Buffer) -> Sequence[Event]:
        """The slow path: at least one row, or the message itself, is not as documented."""
        params = _envelope.decode(frame).params
        if not params.channel.startswith(TRADES):
            return (Unknown(f"subscription {params.channel}"[:60]),)
        return rows(_raw_rows.decode(params.data), _row, self.traded)

    def traded(self, row: Row) -> Event:
        buy, mark = row.direction == "buy", row.liquidation
        forced = None if mark is None or mark == "none" else buy if mark != "M" else not buy
        return self.trade(row.instrument_name, row.timestamp, row.price, row.amount, buy, row.trade_seq, forced=forced)

    def answer(self, message: Message) -> Sequence[Event]:
        """The answer to a subscription lists the channels that exist; those left out are refused."""
        topics = self._asked.pop(message.id, None) if message.id is not None else None
        if message.error is not None:
            return (Rejected(topics or (), f"{message.error.code} {message.error.message}"[:160]),)
        result = bytes(message.result)
        if not result:
            return (Unknown(f"method {message.method[:40]}"),)
        if topics == () or not result.startswith(b"["):
            return ALIVE  # the end of subscriptions, test
        accepted = tuple(_topics.decode(result))
        refused = tuple(topic for topic in topics or () if topic not in accepted)
        return (Acked(accepted), Rejected(refused, "no such channel")) if refused else (Acked(accepted),)

    def subscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            self._asked[self.request_id + 1] = tuple(part)
            frames.append(self._ask("public/subscribe", {"channels": part}))
        return frames

    def unsubscribe(self, topics: Sequence[str], now_ms: int) -> Sequence[Frame]:
        frames = []
        for part in chunks(topics, TOPICS_PER_FRAME):
            self._asked[self.request_id + 1] = ()
            frames.append(self._ask("public/unsubscribe", {"channels": part}))
        return frames

    def ping(self, now_ms: int) -> Frame:
        """`test` rather than `set_heartbeat`: it needs no state, and costs the same."""
        return self._test()

    def _test(self) -> Frame:
        return self._ask("public/test", {})

    def _ask(self, method: str, params: Mapping[str, object]) -> Frame:
        request = {"jsonrpc": "2.0", "id": self.next_id(), "method": method, "params": params}
        return msgspec.json.encode(request).decode()


class Listed(msgspec.Struct):
    """A row of get_instruments."""

    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    is_active: bool = True
    settlement_period: str = ""
    instrument_type: str = ""
    future_type: str = ""


class Summary(msgspec.Struct):
    """A row of get_book_summary_by_currency: dollars of inverse contracts, base coins of linear ones; funding of 8 h."""

    instrument_name: str
    open_interest: float | None = None
    funding_8h: float | str | None = None
    creation_timestamp: int | None = None


class Trades(msgspec.Struct):
    trades: list[Row]
    has_more: bool = False


class Answer(msgspec.Struct):
    result: msgspec.Raw


_answer = lax(Answer)
_listed = lax(list[Listed])
_summaries = lax(list[Summary])
_trades = lax(Trades)
_DATED = re.compile(r"([A-Z0-9]+)(?:_([A-Z0-9]+))?-(PERPETUAL|\d{1,2}[A-Z]{3}\d\d)", re.ASCII)


class Deribit(Exchange):
    """https://deribit.com."""

    id: ClassVar[str] = "DERIBIT"
    endpoints: ClassVar[tuple[Endpoint, ...]] = (
        Endpoint(
            "public",
            "wss://www.deribit.com/ws/api/v2",
            streams_per_connection=500,
            topics_per_frame=TOPICS_PER_FRAME,
            frames=Rate(3, 1),
            ping_s=30,
            gapless=True,
        ),
    )
    rest: ClassVar[Mapping[str, str]] = {"rest": "https://www.deribit.com/api/v2/public"}
    limits: ClassVar[Limits] = Limits(connects=Rate(5, 1), rest=Rate(5, 1), connections=32)
    kinds: ClassVar[tuple[Kind, ...]] = ("spot", "perp", "future")
    usual: ClassVar[tuple[str, ...]] = ("{base}-PERPETUAL",)
    recovery: ClassVar[Recovery] = "exact"
    recovery_note: ClassVar[str] = "by sequence number, with liquidation marks"
    has_liquidations: ClassVar[bool] = True
    has_open_interest: ClassVar[bool] = True
    has_funding: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "amount is dollars on inverse contracts, not contracts: one peer asserts ten times the size.",
        "A liquidation is a flag on its trade and counts once in volume; another collector gives the print twice.",
        "Where the maker was liquidated, the forced order is opposite to the trade's side.",
        "Block and combo trades are kept: the exchange publishes them as trades.",
    )

    def decoder(self, endpoint: str, instruments: Mapping[str, Instrument]) -> Decoder:
        return DeribitDecoder(instruments, endpoint)

    def streams(self, instrument: Instrument, liquidations: bool) -> Sequence[Stream]:
        """Liquidations are marks on trades."""
        return (Stream(instrument.endpoint, TRADES + instrument.symbol + SUFFIX, instrument),)

    def listings(self) -> Sequence[Call[Instrument]]:
        return [self._listing(kind) for kind in ("future", "spot")]

    def _listing(self, kind: str) -> Call[Instrument]:
        def read(body: bytes) -> Page[Instrument]:
            return Page([self._listed(row) for row in _listed.decode(_answer.decode(body).result)])

        return Call(self._request("get_instruments", f"currency=any&kind={kind}", weight=5), read)

    def _listed(self, row: Listed) -> Instrument:
        asset, multiplier = base_asset(row.base_currency)
        kind: Kind = "future"
        if row.kind == "spot":
            kind = "spot"
        elif row.settlement_period == "perpetual":
            kind = "perp"
        return Instrument(
            self.id,
            row.instrument_name,
            row.instrument_name,
            kind,
            asset,
            row.quote_currency,
            "public",
            inverse="reversed" in (row.instrument_type, row.future_type),
            multiplier=multiplier,
            active=row.is_active,
        )

    def assume(self, symbol: str, kind: Kind | None = None) -> Instrument:
        """`BTC-PERPETUAL` and `BTC-26MAR21` are inverse; a quote in the name (`BTC_USDC-PERPETUAL`) makes it linear."""
        match = _DATED.fullmatch(symbol)
        if match is None:
            base, _, quote = symbol.partition("_")
            return self._listed(Listed(symbol, "spot" if quote else "option", base.partition("-")[0], quote))
        inverse = match[2] is None
        period = "perpetual" if match[3] == "PERPETUAL" else "month"
        of = "reversed" if inverse else "linear"
        return self._listed(Listed(symbol, "future", match[1], match[2] or "USD", True, period, of))

    def _request(self, method: str, query: str, weight: float = 1.0) -> Request:
        return Request(f"{self.url('rest')}/{method}?{query}", weight=weight)

    def recover(self, gap: Gap) -> Call[Trade]:
        if isinstance(gap.after_id, int):
            return self._from_seq(gap, gap.after_id + 1)
        query = f"start_timestamp={gap.after_ms}&end_timestamp={gap.before_ms}"
        return self._history(gap, "get_last_trades_by_instrument_and_time", query)

    def _from_seq(self, gap: Gap, seq: int) -> Call[Trade]:
        """By sequence number, which neither repeats nor skips a row."""
        end = f"&end_seq={gap.before_id - 1}" if isinstance(gap.before_id, int) else ""
        return self._history(gap, "get_last_trades_by_instrument", f"start_seq={seq}{end}")

    def _history(self, gap: Gap, method: str, query: str) -> Call[Trade]:
        """Ascending."""
        symbol = gap.instrument.symbol
        make = DeribitDecoder({symbol: gap.instrument}, gap.instrument.endpoint).traded

        def read(body: bytes) -> Page[Trade]:
            found = _trades.decode(_answer.decode(body).result)
            made = [make(row) for row in found.trades]
            trades = gap.missing(made)
            if not found.has_more or not found.trades or found.trades[-1].timestamp > gap.before_ms:
                return Page(trades)
            return Page(trades, self._from_seq(gap, found.trades[-1].trade_seq + 1))

        query = f"instrument_name={symbol}&{query}&count={PAGE_ROWS}&sorting=asc"
        return Call(self._request(method, query), read)

    def open_interest(self, instruments: Iterable[Instrument]) -> Sequence[Call[OpenInterest]]:
        """One call for each currency that contracts are settled in."""
        wanted: dict[str, dict[str, Instrument]] = {}
        for instrument in instruments:
            if instrument.kind != "spot":
                settled_in = instrument.base if instrument.inverse else instrument.quote
                wanted.setdefault(settled_in, {})[instrument.symbol] = instrument
        return [self._open_interest(currency, by_symbol) for currency, by_symbol in wanted.items()]

    def _open_interest(self, currency: str, wanted: Mapping[str, Instrument]) -> Call[OpenInterest]:
        def read(body: bytes) -> Page[OpenInterest]:
            items = []
            for row in _summaries.decode(_answer.decode(body).result):
                instrument = wanted.get(row.instrument_name)
                if instrument is not None and row.open_interest is not None:
                    base, usd = (None, row.open_interest) if instrument.inverse else (row.open_interest, None)
                    items.append(OpenInterest(instrument, row.creation_timestamp, base, usd, rate(row.funding_8h)))
            return Page(items)

        return Call(self._request("get_book_summary_by_currency", f"currency={currency}&kind=future"), read)
