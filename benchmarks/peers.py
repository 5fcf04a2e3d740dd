"""What sqfd's users could run instead, doing the same: trades of Binance frames into 1-second bars. Run by `benchmarks.ingest`.

It imports nothing of this project, because the peers' dependencies conflict with ours: they live in an environment of their own
(`pip install cryptofeed ccxt nautilus_trader`, the extra `peers`), whose interpreter `benchmarks.ingest --peers` names.

    PYTHON benchmarks/peers.py cryptofeed|nautilus_trader|ccxt ADDRESSES TRADES
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from typing import Any

SYMBOLS = ("BTC", "ETH", "SOL", "BNB")
SAMPLE = 16
"""Of so many trades one's delay is noted."""


class Bars:
    """The same slotted bars for all peers, and the books: CPU time from the first trade to the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.Event()
        self.begun = (0.0, 0.0)
        self.result: dict[str, Any] = {}
        self._count = count
        self._bars: dict[tuple[str, int], list[float]] = {}
        self._delays: list[float] = []

    def add(self, symbol: str, ts_s: float, price: float, size: float, buy: bool) -> None:
        """One trade."""
        if self.left == self._count:
            self.begun = time.process_time(), time.monotonic()
        key = (symbol, int(ts_s))
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = [price, price, price, price, 0.0, 0.0, 0]
        bar[1], bar[2], bar[3] = max(bar[1], price), min(bar[2], price), price
        bar[4 if buy else 5] += price * size
        bar[6] += 1
        if self.left % SAMPLE == 0:
            self._delays.append(time.time() - ts_s)
        self.left -= 1
        if self.left == 0:
            self.finish()

    def finish(self) -> None:
        """All trades that will come are there."""
        cpu_s, wall_s = time.process_time() - self.begun[0], time.monotonic() - self.begun[1]
        delays = sorted(self._delays)
        self.result = {
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "trades": self._count - self.left,
            "lag_ms": 1e3 * delays[int(0.99 * (len(delays) - 1))],
        }
        self.done.set()


async def cryptofeed(addresses: dict[str, str], bars: Bars) -> None:
    """Its FeedHandler with one trades callback."""
    from cryptofeed import FeedHandler, connection
    from cryptofeed.connection import WebsocketEndpoint
    from cryptofeed.defines import TRADES
    from cryptofeed.exchanges import Binance
    from cryptofeed.symbols import Symbols

    async def trade(one: Any, receipt_s: float) -> None:
        bars.add(one.symbol, one.timestamp, float(one.price), float(one.amount), one.side == "buy")

    # It refuses plain addresses, and opens them when it does not see them.
    opened = connection.connect
    connection.connect = lambda url, **options: opened(url.replace("wss://", "ws://"), **options)
    Binance.websocket_endpoints = [WebsocketEndpoint(addresses["spot"].rstrip("/").replace("ws://", "wss://"))]
    names = {f"{base}-USDT": f"{base}USDT" for base in SYMBOLS}
    Symbols.set(Binance.id, names, {"tick_size": {}, "instrument_type": dict.fromkeys(names, "spot")})
    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": False, "backend_multiprocessing": False})
    handler.add_feed(
        Binance(symbols=[f"{base}-USDT" for base in SYMBOLS], channels=[TRADES], callbacks={TRADES: trade})
    )
    handler.run(start_loop=False, install_signal_handlers=False)
    await bars.done.wait()


async def ccxt(addresses: dict[str, str], bars: Bars) -> None:
    """watchTradesForSymbols in a loop, as its manual has it. It keeps the newest `tradesLimit` trades: what it lost is told."""
    from ccxt.pro import binance

    exchange = binance({"newUpdates": True, "options": {"fetchMarkets": ["spot"], "tradesLimit": 100_000}})
    exchange.urls["api"]["ws"]["spot"] = addresses["spot"].rstrip("/")
    exchange.urls["api"]["public"] = addresses["rest"] + "/api/v3"
    names = [f"{base}/USDT" for base in SYMBOLS]
    exchange.set_markets([_ccxt_market(base) for base in SYMBOLS])
    try:
        while not bars.done.is_set():
            async with asyncio.timeout(3.0):
                for one in await exchange.watch_trades_for_symbols(names, params={"name": "aggTrade"}):
                    bars.add(one["symbol"], one["timestamp"] / 1e3, one["price"], one["amount"], one["side"] == "buy")
    except TimeoutError:
        bars.finish()
    finally:
        await exchange.close()


async def nautilus_trader(addresses: dict[str, str], bars: Bars) -> None:
    """A TradingNode with its Binance data client and one strategy that takes trade ticks. Instruments are put in, not asked for."""
    from nautilus_trader.adapters.binance import BINANCE, BinanceDataClientConfig, BinanceLiveDataClientFactory
    from nautilus_trader.common.config import LoggingConfig
    from nautilus_trader.config import TradingNodeConfig
    from nautilus_trader.live.node import TradingNode
    from nautilus_trader.model.enums import AggressorSide
    from nautilus_trader.trading.strategy import Strategy

    class Taker(Strategy):  # type: ignore[misc]
        def on_start(self) -> None:
            for one in self.cache.instruments():
                self.subscribe_trade_ticks(one.id)

        def on_trade_tick(self, tick: Any) -> None:
            buy = tick.aggressor_side == AggressorSide.BUYER
            bars.add(tick.instrument_id.symbol.value, tick.ts_event / 1e9, float(tick.price), float(tick.size), buy)

    client = BinanceDataClientConfig(
        api_key="none",
        api_secret="none",
        base_url_http=addresses["rest"],
        base_url_ws=addresses["spot"].rstrip("/"),
        use_agg_trade_ticks=True,
        update_instruments_interval_mins=None,
    )
    node = TradingNode(
        TradingNodeConfig(logging=LoggingConfig(log_level="OFF"), data_clients={BINANCE: client}),
        loop=asyncio.get_running_loop(),
    )
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.build()
    for base in SYMBOLS:
        node.cache.add_instrument(_nautilus_instrument(base))
    node.trader.add_strategy(Taker())
    running = asyncio.create_task(node.run_async())
    await bars.done.wait()
    running.cancel()


def _nautilus_instrument(base: str) -> Any:
    from nautilus_trader.model.identifiers import InstrumentId, Symbol
    from nautilus_trader.model.instruments import CurrencyPair
    from nautilus_trader.model.objects import Currency, Price, Quantity

    return CurrencyPair(
        instrument_id=InstrumentId.from_str(f"{base}USDT.BINANCE"),
        raw_symbol=Symbol(f"{base}USDT"),
        base_currency=Currency.from_str(base),
        quote_currency=Currency.from_str("USDT"),
        price_precision=2,
        size_precision=5,
        price_increment=Price.from_str("0.01"),
        size_increment=Quantity.from_str("0.00001"),
        ts_event=0,
        ts_init=0,
    )


def _ccxt_market(base: str) -> dict[str, Any]:
    names = {"id": f"{base}USDT", "lowercaseId": f"{base}usdt", "symbol": f"{base}/USDT", "base": base, "quote": "USDT"}
    kinds = {"type": "spot", "spot": True, "margin": False, "swap": False, "future": False, "option": False}
    rest = {"baseId": base, "quoteId": "USDT", "active": True, "contract": False, "linear": None, "inverse": None}
    return names | kinds | rest | {"precision": {"amount": 1e-8, "price": 1e-8}, "limits": {}, "info": {}}


PEERS = {"cryptofeed": cryptofeed, "nautilus_trader": nautilus_trader, "ccxt": ccxt}


async def main() -> None:
    """Run one and print its result as JSON; `{"absent": …}` where it is not installed."""
    name, addresses, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    if importlib.util.find_spec(name) is None:
        print(json.dumps({"absent": name}))
        return
    bars = Bars(count)
    await PEERS[name](addresses, bars)
    print(json.dumps(bars.result))


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass  # the peers' own loop, then
    asyncio.run(main())
