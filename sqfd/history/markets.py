"""The instrument that a market's name stands for, without asking its exchange."""

from __future__ import annotations

from typing import Any

import msgspec

import exchanges
from exchanges.api import BadMessage, Exchange, Instrument
from sqfd.model import speakable


class NoSuchMarket(ValueError):
    """A name from which the instrument cannot be told; the text says what to do."""


def instrument_of(name: str, **known: Any) -> Instrument:
    """The instrument of `EXCHANGE:pair` by the exchange's naming rules, with what is `known` better put in its place.

    `known`: kind, base, quote, contract_size, inverse, symbol; None where it is not given. Raises NoSuchMarket.
    """
    exchange_id, colon, pair = name.partition(":")
    if not (exchange_id and colon and pair):
        raise NoSuchMarket(f"{name!r} is not a market: write EXCHANGE:pair, for example BINANCE:btcusdt")
    given = {key: value for key, value in known.items() if value is not None}
    found = _assumed(exchanges.get(exchange_id), pair) if exchange_id in exchanges.IDS else None
    if found is None:
        if missing := [key for key in ("kind", "base", "quote") if key not in given]:
            options = " ".join(f"--{key}" for key in missing)
            raise NoSuchMarket(f"what {name} is cannot be told from its name: say {options}")
        found = Instrument(exchange_id, pair, pair, given["kind"], given["base"], given["quote"], "")
    made = msgspec.structs.replace(found, **given)
    if not speakable(made):
        raise NoSuchMarket(f"{name!r} cannot be the name of a market: it would not be one tag, label or line")
    return made


def _assumed(exchange: Exchange, pair: str) -> Instrument | None:
    """Symbols are the pair in the exchange's spelling: as it is, in capitals, or without a mark of its kind."""
    for symbol in dict.fromkeys((pair, pair.upper(), pair.removesuffix("-SPOT"))):
        for kind in (None, *exchange.kinds):
            try:
                found = exchange.assume(symbol, kind)
            except (BadMessage, ValueError, KeyError, IndexError):
                continue
            if found.pair == pair and found.base and found.quote:
                return found
    return None
