"""Which markets simulated exchanges list, and how a symbol's volume is shared among them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from exchanges.api import Exchange, Instrument, Kind
from sqfd.sim.tape import Listing

QUOTES = ("USDT", "USD", "USDC")

_OTHER_NAMES = {"BTC": ("XBT",), "DOGE": ("XDG",)}

_SPELLINGS: dict[Kind, tuple[str, ...]] = {
    "spot": ("{b}{q}", "{b}-{q}", "{b}_{q}", "{b}/{q}", "{b}{q}-SPOT", "s{b}{q}", "t{b}{q}", "{lb}{lq}", "{lb}-{lq}"),
    "perp": (
        "{b}{q}",
        "{b}{q}_PERP",
        "{b}-{q}-SWAP",
        "{b}-PERP-INTX",
        "{b}{q}-PERP",
        "{b}_{q}",
        "{b}-{q}",
        "{b}-PERPETUAL",
        "PF_{b}{q}",
        "PI_{b}{q}",
        "{b}{q}M",
        "{b}F0:{q}F0",
        "{b}",
    ),
}
"""How exchanges spell a pair, most common first. `Exchange.assume` decides which of them mean something there."""


def listed(exchange: Exchange, symbols: Sequence[str]) -> list[Instrument]:
    """The usual markets of these symbols on an exchange, as far as its naming rules tell: spot, linear and inverse perp.

    Spellings are tried through `Exchange.assume`; one counts when the exchange reads the symbol, the kind and a dollar
    quote out of it and has a stream for it.
    """
    quotes = (exchange.usual_quote, *(quote for quote in QUOTES if quote != exchange.usual_quote))
    found = [
        instrument
        for symbol in symbols
        for kind, inverse in (("spot", False), ("perp", False), ("perp", True))
        if kind in exchange.kinds and (instrument := _usual(exchange, symbol, kind, inverse, quotes)) is not None
    ]
    return list({instrument.market: instrument for instrument in found}.values())


def _usual(exchange: Exchange, symbol: str, kind: Kind, inverse: bool, quotes: Sequence[str]) -> Instrument | None:
    """The first spelling, by quote, that means such a market."""
    names = (symbol, *_OTHER_NAMES.get(symbol, ()))
    for quote, name, spelling in product(quotes, names, _SPELLINGS[kind]):
        text = spelling.format(b=name, q=quote, lb=name.lower(), lq=quote.lower())
        found = _read(exchange, text, kind)
        if found is not None and found.base == symbol and found.quote in QUOTES and found.inverse == inverse:
            return found
    return None


def _read(exchange: Exchange, text: str, kind: Kind) -> Instrument | None:
    """What the exchange reads out of a spelling; None where it is none of its own."""
    try:
        instrument = exchange.assume(text, kind)
        streams = exchange.streams(instrument, False)
    except (ValueError, LookupError):
        return None
    return instrument if instrument.kind == kind and streams else None


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
