"""Which markets simulated exchanges list, and how a symbol's volume is shared among them."""

from __future__ import annotations

from collections.abc import Sequence

from exchanges.api import Exchange, Instrument, Kind
from sqfd.sim.tape import Listing

QUOTES = frozenset({"USDT", "USD", "USDC"})
"""A simulated market has one price for all of its listings, in dollars."""


def listed(exchange: Exchange, symbols: Sequence[str]) -> list[Instrument]:
    """The usual markets of these symbols on an exchange that a strategy could use: in dollars, and not quanto."""
    usual = [i for symbol in symbols for i in exchange.usual_markets(symbol)]
    return [i for i in usual if i.quote in QUOTES and not i.quanto]


def shared(instruments: Sequence[Instrument], symbol: str) -> list[Listing]:
    """The listings of one symbol. The first exchange named is the largest; second markets of an exchange are small."""
    mine = [i for i in instruments if i.base == symbol]
    rank = {name: nth for nth, name in enumerate(dict.fromkeys(i.exchange for i in instruments))}
    seen: set[tuple[str, Kind]] = set()
    listings: list[Listing] = []
    for nth, instrument in enumerate(mine):
        weight = (1 + rank[instrument.exchange]) ** -0.8
        if (instrument.exchange, instrument.kind) in seen:
            weight *= 0.15
        seen.add((instrument.exchange, instrument.kind))
        listings.append(Listing(instrument, weight, 1e-4 * ((nth * 7) % 5 - 2) / 2))
    return listings
