"""What exchanges charge: maker and taker fee of the lowest tier in basis points, perpetuals where there are any.

From the exchanges' public fee schedules as of 2025; those of BITHUMB, GEMINI and UPBIT (markets in won) as of autumn 2026, from ccxt 4.5.90, and
of MEXC (BTC_USDT) as of October 2026, from the fee index of loweef.io, which reads the exchanges' own pages. What ccxt names for perpetuals is the
same but for three, where it is behind the exchanges: BYBIT 2 and 5.5 (its help centre, "Trading Fee Structure", as the same index read it in October
2026; ccxt 1 and 7.5), BITGET 2 and 6 (its support article 12560603820668 of January 2025; ccxt 4 and 6), GATEIO 2 and 5 (its announcement 50390
for 9 April 2026 leaves VIP 0 at a taker fee of 5; ccxt 0 and 5). Fees change, differ by region and fall with volume: `backtest.maker_fee_bps` and
`backtest.taker_fee_bps` replace them.
"""

from __future__ import annotations

from typing import NamedTuple

from sqfd.backtest.settings import BacktestSettings


class Fees(NamedTuple):
    """Basis points of notional; negative is a rebate."""

    maker: float
    taker: float


LOWEST_TIER: dict[str, Fees] = {
    "ASTER": Fees(1.0, 3.5),
    "BINANCE": Fees(10.0, 10.0),
    "BINANCE_FUTURES": Fees(2.0, 5.0),
    "BINANCE_US": Fees(38.0, 57.0),
    "BITFINEX": Fees(2.0, 6.5),
    "BITGET": Fees(2.0, 6.0),
    "BITHUMB": Fees(25.0, 25.0),
    "BITMART": Fees(2.0, 6.0),
    "BITMEX": Fees(5.0, 5.0),
    "BITSTAMP": Fees(30.0, 40.0),
    "BITUNIX": Fees(2.0, 6.0),
    "BYBIT": Fees(2.0, 5.5),
    "COINBASE": Fees(40.0, 60.0),
    "CRYPTOCOM": Fees(25.0, 50.0),
    "DERIBIT": Fees(0.0, 5.0),
    "DYDX": Fees(1.0, 5.0),
    "GATEIO": Fees(2.0, 5.0),
    "GEMINI": Fees(20.0, 40.0),
    "HITBTC": Fees(9.0, 9.0),
    "HUOBI": Fees(2.0, 5.0),
    "HYPERLIQUID": Fees(1.5, 4.5),
    "KRAKEN": Fees(2.0, 5.0),
    "KUCOIN": Fees(2.0, 6.0),
    "MEXC": Fees(0.0, 4.0),
    "OKEX": Fees(2.0, 5.0),
    "PHEMEX": Fees(1.0, 6.0),
    "POLONIEX": Fees(1.0, 5.0),
    "UPBIT": Fees(5.0, 5.0),
}


def fees_of(settings: BacktestSettings) -> Fees:
    """Maker and taker fee in force. Raises ValueError for an unknown exchange whose fees are not all given."""
    known = LOWEST_TIER.get(settings.exchange)
    maker, taker = settings.maker_fee_bps, settings.taker_fee_bps
    if known is None and (maker is None or taker is None):
        raise ValueError(
            f"backtest.exchange: no fees are known of {settings.exchange!r}; known: {', '.join(LOWEST_TIER)}"
        )
    default = known or Fees(0.0, 0.0)
    return Fees(default.maker if maker is None else maker, default.taker if taker is None else taker)
