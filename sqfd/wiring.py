"""What the daemon, replays and backtests wire alike: engines of a configuration, signals for the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import exchanges
from exchanges.api import Exchange
from sqfd.config import Config
from sqfd.engine import Engine
from sqfd.journal import JournaledSignal
from sqfd.signals.signal import Signal, cvd_record, encode
from sqfd.strategy.api import Strategy
from sqfd.strategy.squeezeflow import SqueezeFlow


def symbols_of(config: Config) -> tuple[str, ...]:
    """The symbols that signals are given on, in their order."""
    return config.symbols.symbols[: config.symbols.limit or None]


def engine_for(config: Config, markets: Mapping[str, Sequence[str]]) -> Engine:
    """The engine of a configuration; `markets`: per symbol, the names of the markets behind it."""
    return Engine(symbols_of(config), strategy_of(config), config.strategy, config.instance, markets)


def strategy_of(config: Config) -> Strategy:
    """The strategy with its settings, for the configured symbols."""
    return SqueezeFlow(config.strategy, symbols_of(config))


def journaled(signal: Signal, seq: int = 0) -> JournaledSignal:
    """A signal as the journal keeps it and publishers take it; `seq` 0: not numbered yet."""
    return JournaledSignal(
        signal_id=signal.signal_id,
        tick=signal.second + 1,
        second=signal.second,
        seq=seq,
        symbol=signal.symbol,
        valid_until_s=signal.second + 1 + signal.ttl,
        line=encode(signal),
        cvd=cvd_record(signal),
    )


def exchanges_of(config: Config) -> dict[str, Exchange]:
    """The exchanges that the configuration speaks of, by id."""
    wanted = config.symbols.exchanges or exchanges.IDS
    if config.symbols.markets:
        wanted = tuple(dict.fromkeys(market.partition(":")[0] for market in config.symbols.markets))
    return {id: exchanges.get(id, config.feed.addresses.get(id)) for id in wanted}
