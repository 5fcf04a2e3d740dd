"""The floor of every exchange: the simplest reading of its wire form that yields price, size, side, time and market of a trade.

A typed decode by msgspec of what is needed and nothing else (MEXC's spot by protobuf, what is packed by zlib first), and one call for
each trade. No checks, no ids, no counts of matches, no liquidations, no contract sizes, no images told from live trades, one form of
each message. Fields stand in the order of the wire. `Reader`s are what `benchmarks.ingest` puts beside the daemon, and
`benchmarks.decode` beside its decoders.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError

from exchanges.mexc_protobuf import Wrapper

Add = Callable[[str, int, float, float, bool], None]
"""(symbol, ts_ms, price, size on the wire, whether the taker sold)."""
Reader = Callable[[bytes], None]
"""Reads one frame. Raises what msgspec and zlib raise where it is none of trades."""
T = TypeVar("T")

GZIP, DEFLATE = 31, -15
NS_PER_MS = 1_000_000


class SlottedBar:
    """The least that a bar is: prices, and volume and number of both sides."""

    __slots__ = ("cbuy", "close", "csell", "high", "low", "open", "vbuy", "vsell")

    def __init__(self, price: float) -> None:
        self.open = self.high = self.low = self.close = price
        self.vbuy = self.vsell = 0.0
        self.cbuy = self.csell = 0


def lax(shape: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(shape, strict=False).decode


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


# --- rows that name their symbol -----------------------------------------------------------------------------------------


class AggTrade(msgspec.Struct, gc=False):
    s: str
    p: float
    q: float
    T: int
    m: bool


class Combined(msgspec.Struct, gc=False):
    data: AggTrade | None = None


def binance(add: Add) -> Reader:
    decode = lax(Combined)

    def read(frame: bytes) -> None:
        row = decode(frame).data
        if row is not None:
            add(row.s, row.T, row.p, row.q, row.m)

    return read


class BybitTrade(msgspec.Struct, gc=False):
    T: int
    s: str
    S: str
    v: float
    p: float


class BybitTrades(msgspec.Struct, gc=False):
    data: list[BybitTrade] = []


def bybit(add: Add) -> Reader:
    decode = lax(BybitTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).data:
            add(row.s, row.T, row.p, row.v, row.S == "Sell")

    return read


class OkexTrade(msgspec.Struct, gc=False):
    instId: str
    px: float
    sz: float
    side: str
    ts: int


class OkexTrades(msgspec.Struct, gc=False):
    data: list[OkexTrade] = []


def okex(add: Add) -> Reader:
    decode = lax(OkexTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).data:
            add(row.instId, row.ts, row.px, row.sz, row.side == "sell")

    return read


class HyperliquidTrade(msgspec.Struct, gc=False):
    coin: str
    side: str
    px: float
    sz: float
    time: int


class HyperliquidTrades(msgspec.Struct, gc=False):
    data: list[HyperliquidTrade] = []


def hyperliquid(add: Add) -> Reader:
    decode = lax(HyperliquidTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).data:
            add(row.coin, row.time, row.px, row.sz, row.side == "A")

    return read


class PoloniexTrade(msgspec.Struct, gc=False):
    symbol: str
    quantity: float
    takerSide: str
    createTime: int
    price: float


class PoloniexTrades(msgspec.Struct, gc=False):
    data: list[PoloniexTrade] = []


def poloniex(add: Add) -> Reader:
    decode = lax(PoloniexTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).data:
            add(row.symbol, row.createTime, row.price, row.quantity, row.takerSide == "sell")

    return read


class GateFuturesTrade(msgspec.Struct, gc=False):
    size: float
    create_time_ms: float
    price: float
    contract: str


class GateFuturesTrades(msgspec.Struct, gc=False):
    result: list[GateFuturesTrade] = []


def gate_futures(add: Add) -> Reader:
    decode = lax(GateFuturesTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).result:
            add(row.contract, int(row.create_time_ms), row.price, abs(row.size), row.size < 0)

    return read


class GateSpotTrade(msgspec.Struct, gc=False):
    create_time_ms: float
    side: str
    currency_pair: str
    amount: float
    price: float


class GateSpotPush(msgspec.Struct, gc=False):
    result: GateSpotTrade


def gate_spot(add: Add) -> Reader:
    decode = lax(GateSpotPush)

    def read(frame: bytes) -> None:
        row = decode(frame).result
        add(row.currency_pair, int(row.create_time_ms), row.price, row.amount, row.side == "sell")

    return read


class BitmartSpotTrade(msgspec.Struct, gc=False):
    symbol: str
    price: float
    size: float
    side: str
    ms_t: int


class BitmartSpotTrades(msgspec.Struct, gc=False):
    data: list[BitmartSpotTrade] = []


def bitmart_spot(add: Add) -> Reader:
    decode = lax(BitmartSpotTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame if frame[0] == 123 else zlib.decompress(frame, DEFLATE)).data:
            add(row.symbol, row.ms_t, row.price, row.size, row.side == "sell")

    return read


class BitmartFuturesTrade(msgspec.Struct, gc=False):
    symbol: str
    deal_price: float
    deal_vol: float
    m: bool
    created_at: datetime


class BitmartFuturesTrades(msgspec.Struct, gc=False):
    data: list[BitmartFuturesTrade] = []


def bitmart_futures(add: Add) -> Reader:
    decode = lax(BitmartFuturesTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame if frame[0] == 123 else zlib.decompress(frame, DEFLATE)).data:
            add(row.symbol, ms(row.created_at), row.deal_price, row.deal_vol, row.m)

    return read


class BitmexTrade(msgspec.Struct, gc=False):
    timestamp: datetime
    symbol: str
    side: str
    size: float
    price: float


class BitmexTrades(msgspec.Struct, gc=False):
    data: list[BitmexTrade] = []


def bitmex(add: Add) -> Reader:
    decode = lax(BitmexTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).data:
            add(row.symbol, ms(row.timestamp), row.price, row.size, row.side == "Sell")

    return read


class KrakenSpotTrade(msgspec.Struct, gc=False):
    symbol: str
    side: str
    price: float
    qty: float
    timestamp: datetime


class KrakenSpotTrades(msgspec.Struct, gc=False):
    data: list[KrakenSpotTrade] = []


def kraken_spot(add: Add) -> Reader:
    decode = lax(KrakenSpotTrades)

    def read(frame: bytes) -> None:
        for row in decode(frame).data:
            add(row.symbol, ms(row.timestamp), row.price, row.qty, row.side == "sell")

    return read


class KrakenFuturesTrade(msgspec.Struct, gc=False):
    product_id: str
    side: str
    time: int
    qty: float
    price: float


def kraken_futures(add: Add) -> Reader:
    decode = lax(KrakenFuturesTrade)

    def read(frame: bytes) -> None:
        row = decode(frame)
        add(row.product_id, row.time, row.price, row.qty, row.side == "sell")

    return read


class CoinbaseMatch(msgspec.Struct, gc=False):
    product_id: str
    side: str
    size: float
    price: float
    time: datetime


def coinbase_spot(add: Add) -> Reader:
    decode = lax(CoinbaseMatch)

    def read(frame: bytes) -> None:
        row = decode(frame)
        add(row.product_id, ms(row.time), row.price, row.size, row.side == "buy")

    return read


class CoinbaseTrade(msgspec.Struct, gc=False):
    product_id: str
    price: float
    size: float
    side: str
    time: datetime


class CoinbaseEvent(msgspec.Struct, gc=False):
    trades: list[CoinbaseTrade] = []


class CoinbaseEvents(msgspec.Struct, gc=False):
    events: list[CoinbaseEvent] = []


def coinbase_perp(add: Add) -> Reader:
    decode = lax(CoinbaseEvents)

    def read(frame: bytes) -> None:
        for event in decode(frame).events:
            for row in event.trades:
                add(row.product_id, ms(row.time), row.price, row.size, row.side == "BUY")

    return read


class DeribitTrade(msgspec.Struct, gc=False):
    timestamp: int
    price: float
    instrument_name: str
    direction: str
    amount: float


class DeribitParams(msgspec.Struct, gc=False):
    data: list[DeribitTrade]


class DeribitPush(msgspec.Struct, gc=False):
    params: DeribitParams


def deribit(add: Add) -> Reader:
    decode = lax(DeribitPush)

    def read(frame: bytes) -> None:
        for row in decode(frame).params.data:
            add(row.instrument_name, row.timestamp, row.price, row.amount, row.direction == "sell")

    return read


class GeminiTrade(msgspec.Struct, gc=False):
    E: int
    s: str
    p: float
    q: float
    m: bool


def gemini(add: Add) -> Reader:
    decode = lax(GeminiTrade)

    def read(frame: bytes) -> None:
        row = decode(frame)
        add(row.s, row.E // NS_PER_MS, row.p, row.q, row.m)

    return read


class KucoinSpotTrade(msgspec.Struct, gc=False):
    side: str
    price: float
    size: float
    time: int
    symbol: str


class KucoinSpotPush(msgspec.Struct, gc=False):
    data: KucoinSpotTrade


def kucoin_spot(add: Add) -> Reader:
    decode = lax(KucoinSpotPush)

    def read(frame: bytes) -> None:
        row = decode(frame).data
        add(row.symbol, row.time // NS_PER_MS, row.price, row.size, row.side == "sell")

    return read


class KucoinFuturesTrade(msgspec.Struct, gc=False):
    side: str
    price: float
    size: float
    ts: int
    symbol: str


class KucoinFuturesPush(msgspec.Struct, gc=False):
    data: KucoinFuturesTrade


def kucoin_futures(add: Add) -> Reader:
    decode = lax(KucoinFuturesPush)

    def read(frame: bytes) -> None:
        row = decode(frame).data
        add(row.symbol, row.ts // NS_PER_MS, row.price, row.size, row.side == "sell")

    return read


class UpbitTrade(msgspec.Struct, gc=False):
    code: str
    trade_timestamp: int
    trade_price: float
    trade_volume: float
    ask_bid: str


def upbit(add: Add) -> Reader:
    decode = lax(UpbitTrade)

    def read(frame: bytes) -> None:
        row = decode(frame)
        add(row.code, row.trade_timestamp, row.trade_price, row.trade_volume, row.ask_bid == "ASK")

    return read


# --- rows of the message's symbol ------------------------------------------------------------------------------------------


class BitgetArg(msgspec.Struct, gc=False):
    symbol: str


class BitgetTrade(msgspec.Struct, gc=False):
    p: float
    v: float
    S: str
    T: int


class BitgetTrades(msgspec.Struct, gc=False):
    arg: BitgetArg
    data: list[BitgetTrade] = []


def bitget(add: Add) -> Reader:
    decode = lax(BitgetTrades)

    def read(frame: bytes) -> None:
        push = decode(frame)
        symbol = push.arg.symbol
        for row in push.data:
            add(symbol, row.T, row.p, row.v, row.S == "sell")

    return read


class BitstampTrade(msgspec.Struct, gc=False):
    amount: float
    price: float
    type: int
    microtimestamp: int


class BitstampPush(msgspec.Struct, gc=False):
    data: BitstampTrade
    channel: str


def bitstamp(add: Add) -> Reader:
    decode = lax(BitstampPush)

    def read(frame: bytes) -> None:
        push = decode(frame)
        row = push.data
        add(push.channel, row.microtimestamp // 1000, row.price, row.amount, row.type == 1)

    return read


class BitunixTrade(msgspec.Struct, gc=False):
    t: datetime
    p: float
    v: float
    s: str


class BitunixTrades(msgspec.Struct, gc=False):
    symbol: str
    data: list[BitunixTrade]


def bitunix(add: Add) -> Reader:
    decode = lax(BitunixTrades)

    def read(frame: bytes) -> None:
        push = decode(frame)
        for row in push.data:
            add(push.symbol, ms(row.t), row.p, row.v, row.s == "sell")

    return read


class CryptocomTrade(msgspec.Struct, gc=False):
    s: str
    p: float
    q: float
    t: int


class CryptocomTrades(msgspec.Struct, gc=False):
    instrument_name: str
    data: list[CryptocomTrade]


class CryptocomPush(msgspec.Struct, gc=False):
    result: CryptocomTrades


def cryptocom(add: Add) -> Reader:
    decode = lax(CryptocomPush)

    def read(frame: bytes) -> None:
        push = decode(frame).result
        for row in reversed(push.data):
            add(push.instrument_name, row.t, row.p, row.q, row.s == "SELL")

    return read


class DydxTrade(msgspec.Struct, gc=False):
    side: str
    size: float
    price: float
    createdAt: datetime


class DydxContents(msgspec.Struct, gc=False):
    trades: list[DydxTrade] = []


class DydxPush(msgspec.Struct, gc=False):
    id: str
    contents: list[DydxContents]


def dydx(add: Add) -> Reader:
    decode = lax(DydxPush)

    def read(frame: bytes) -> None:
        push = decode(frame)
        for content in push.contents:
            for row in content.trades:
                add(push.id, ms(row.createdAt), row.price, row.size, row.side == "SELL")

    return read


class HitbtcTrade(msgspec.Struct, gc=False):
    t: int
    p: float
    q: float
    s: str


class HitbtcTrades(msgspec.Struct, gc=False):
    update: dict[str, list[HitbtcTrade]] = {}


def hitbtc(add: Add) -> Reader:
    decode = lax(HitbtcTrades)

    def read(frame: bytes) -> None:
        for symbol, trades in decode(frame).update.items():
            for row in trades:
                add(symbol, row.t, row.p, row.q, row.s == "sell")

    return read


class HuobiTrade(msgspec.Struct, gc=False):
    ts: int
    price: float
    amount: float
    direction: str


class HuobiTick(msgspec.Struct, gc=False):
    data: list[HuobiTrade]


class HuobiPush(msgspec.Struct, gc=False):
    ch: str
    tick: HuobiTick


def huobi(add: Add) -> Reader:
    decode = lax(HuobiPush)

    def read(frame: bytes) -> None:
        push = decode(zlib.decompress(frame, GZIP))
        for row in push.tick.data:
            add(push.ch, row.ts, row.price, row.amount, row.direction == "sell")

    return read


class MexcTrade(msgspec.Struct, gc=False):
    p: float
    v: float
    T: int
    t: int


class MexcTrades(msgspec.Struct, gc=False):
    symbol: str
    data: list[MexcTrade]


def mexc_futures(add: Add) -> Reader:
    decode = lax(MexcTrades)

    def read(frame: bytes) -> None:
        push = decode(frame)
        for row in push.data:
            add(push.symbol, row.t, row.p, row.v, row.T == 2)

    return read


def mexc_spot(add: Add) -> Reader:
    def read(frame: bytes) -> None:
        wrapper = Wrapper.FromString(frame)
        symbol = wrapper.symbol
        for row in wrapper.publicAggreDeals.deals:
            add(symbol, row.time, float(row.price), float(row.quantity), row.tradeType == 2)

    return read


class PhemexTrade(msgspec.Struct, gc=False, array_like=True):
    ts_ns: int
    side: str
    price: float
    quantity: float


class PhemexTrades(msgspec.Struct, gc=False):
    symbol: str
    trades: list[PhemexTrade] = []
    trades_p: list[PhemexTrade] = []


def phemex(add: Add) -> Reader:
    decode = lax(PhemexTrades)

    def read(frame: bytes) -> None:
        push = decode(frame)
        for row in push.trades_p or push.trades:
            add(push.symbol, row.ts_ns // NS_PER_MS, row.price, row.quantity, row.side == "Sell")

    return read


# --- channels by number ----------------------------------------------------------------------------------------------------


class BitfinexTrade(msgspec.Struct, gc=False, array_like=True):
    id: int
    mts: int
    amount: float
    price: float


class BitfinexPush(msgspec.Struct, gc=False, array_like=True):
    channel: int
    what: str
    row: BitfinexTrade


class BitfinexAnswer(msgspec.Struct, gc=False):
    chanId: int
    symbol: str


def bitfinex(add: Add) -> Reader:
    decode, answer = lax(BitfinexPush), lax(BitfinexAnswer)
    symbols: dict[int, str] = {}

    def read(frame: bytes) -> None:
        if frame[0] == 123:
            said = answer(frame)
            symbols[said.chanId] = said.symbol
            return
        push = decode(frame)
        if push.what == "te":
            row = push.row
            add(symbols[push.channel], row.mts, row.price, abs(row.amount), row.amount < 0)

    return read


READERS: dict[str, Callable[[Add], Reader]] = {
    "ASTER": binance,
    "BINANCE": binance,
    "BINANCE_FUTURES": binance,
    "BINANCE_US": binance,
    "BITFINEX": bitfinex,
    "BITGET": bitget,
    "BITHUMB": upbit,
    "BITMART spot": bitmart_spot,
    "BITMART futures": bitmart_futures,
    "BITMEX": bitmex,
    "BITSTAMP": bitstamp,
    "BITUNIX": bitunix,
    "BYBIT": bybit,
    "COINBASE spot": coinbase_spot,
    "COINBASE perp": coinbase_perp,
    "CRYPTOCOM": cryptocom,
    "DERIBIT": deribit,
    "DYDX": dydx,
    "GATEIO spot": gate_spot,
    "GATEIO usdt": gate_futures,
    "GATEIO btc": gate_futures,
    "GEMINI": gemini,
    "HITBTC": hitbtc,
    "HUOBI": huobi,
    "HYPERLIQUID": hyperliquid,
    "KRAKEN spot": kraken_spot,
    "KRAKEN futures": kraken_futures,
    "KUCOIN spot": kucoin_spot,
    "KUCOIN futures": kucoin_futures,
    "MEXC spot": mexc_spot,
    "MEXC futures": mexc_futures,
    "OKEX": okex,
    "PHEMEX": phemex,
    "POLONIEX": poloniex,
    "UPBIT": upbit,
}
"""By exchange, or by exchange and endpoint where the endpoints differ."""


def reader(exchange: str, endpoint: str, add: Add) -> Reader:
    """A new reader for one connection."""
    return (READERS.get(exchange) or READERS[f"{exchange} {endpoint}"])(add)


NO_TRADES: tuple[type[Exception], ...] = (msgspec.MsgspecError, zlib.error, DecodeError, LookupError)
"""What a reader raises where a frame is none of trades: answers, greetings, heartbeats."""
