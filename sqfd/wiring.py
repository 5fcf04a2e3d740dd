"""What the daemon, replays and backtests wire alike: engines of a configuration, signals for the journal.

Nothing here loads a network client: a backtest needs none, and its start is a third shorter without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

import exchanges
from exchanges.api import Exchange
from sqfd.bars.ring import HEADROOM_S
from sqfd.config import Config
from sqfd.engine import Engine
from sqfd.journal import JournaledSignal
from sqfd.signals.signal import Signal, cvd_record, encode
from sqfd.strategy.api import Strategy
from sqfd.strategy.position import CLOSE
from sqfd.strategy.registry import strategy_for

NEVER_S = 253_402_300_799
"""The last second of the year 9999."""


def symbols_of(config: Config) -> tuple[str, ...]:
    """The symbols that signals are given on, in their order."""
    return config.symbols.symbols[: config.symbols.limit or None]


def engine_for(
    config: Config,
    markets: Mapping[str, Sequence[str]],
    symbols: Sequence[str] = (),
    headroom_s: int = HEADROOM_S,
    bar_s: int = 1,
) -> Engine:
    """The engine of a configuration; `markets`: per symbol, the names of the markets behind it.

    `symbols` instead of the configured ones, blocks of up to `headroom_s` ticks at once, and rows of `bar_s` are for backtests.
    """
    chosen = tuple(symbols) or symbols_of(config)
    return Engine(
        chosen, strategy_of(config, chosen), config.strategy, config.instance, markets, headroom_s, bar_s=bar_s
    )


class EngineNote(msgspec.Struct, frozen=True):
    """What the engine of a live run was told at its start: what a backtest of its journal needs beside the flow."""

    instance: str
    symbols: tuple[str, ...]
    markets: dict[str, tuple[str, ...]]
    strategy: msgspec.Raw
    """Settings as JSON; another version may not know them."""
    state: msgspec.Raw
    """What it was restored from (`Engine.positions`), null where there was nothing."""


def engine_note(config: Config, markets: Mapping[str, Sequence[str]], state: bytes | None) -> bytes:
    """The note for the journal of an engine that `engine_for` made of the same arguments and `state` was restored to."""
    named = {symbol: tuple(names) for symbol, names in markets.items()}
    strategy, restored = msgspec.json.encode(config.strategy), state or b"null"
    return msgspec.json.encode(
        EngineNote(config.instance, symbols_of(config), named, msgspec.Raw(strategy), msgspec.Raw(restored))
    )


def strategy_of(config: Config, symbols: Sequence[str] = ()) -> Strategy:
    """The strategy with its settings, for these symbols or the configured ones."""
    return strategy_for(config.strategy, tuple(symbols) or symbols_of(config))


def journaled(signal: Signal, seq: int = 0) -> JournaledSignal:
    """A signal as the journal keeps it and publishers take it; `seq` 0: not numbered yet.

    A CLOSE is published however late: who holds the position must learn that it is over.
    """
    return JournaledSignal(
        signal_id=signal.signal_id,
        tick=signal.second + 1,
        second=signal.second,
        seq=seq,
        symbol=signal.symbol,
        valid_until_s=NEVER_S if signal.action == CLOSE else signal.second + 1 + signal.ttl,
        line=encode(signal),
        cvd=cvd_record(signal),
    )


def exchanges_of(config: Config) -> dict[str, Exchange]:
    """The exchanges that the configuration speaks of, by id."""
    wanted = config.symbols.exchanges or exchanges.IDS
    if config.symbols.markets:
        wanted = tuple(dict.fromkeys(market.partition(":")[0] for market in config.symbols.markets))
    return {id: exchanges.get(id, config.feed.addresses.get(id)) for id in wanted}
