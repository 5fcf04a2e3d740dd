"""Flow of a symbol from the bars of all its markets in the journal.

An import brings one market; flow is of all. So whatever is imported, the flow of the hours that it touched is made again from
all bars of the symbol that are there then: after the last market of a symbol is imported, flow is what it would be had all been
imported together. What the daemon itself saw stays as it saw it.
"""

from __future__ import annotations

from sqfd.bars.blocks import FlowBlocks
from sqfd.journal import JournalStore
from sqfd.journal.imports import HOUR_S, MarketImport
from sqfd.model import NO_PRICE, USD_LIKE


def derive(store: JournalStore, into: MarketImport, symbol: str, from_s: int, to_s: int) -> int:
    """Make the flow of every hour that `from_s <= second < to_s` touches, within `MarketImport.finish`; gives its rows.

    An hour before is read so that weights and prices are known, and an hour after is made again if there is flow, because
    a market's weight is that of its last hour.
    """
    first, end = from_s // HOUR_S * HOUR_S, -(-to_s // HOUR_S) * HOUR_S
    if len(store.flow(symbol, end + 1, end + HOUR_S + 1).ticks):
        end += HOUR_S
    known = store.markets()
    ids = [index for index, market in enumerate(known) if market.base == symbol and market.quote in USD_LIKE]
    names = [known[index].name for index in ids]
    blocks = FlowBlocks([known[index] for index in ids], _price_before(store, symbol, first - HOUR_S))
    made = 0
    for hour in range(first - HOUR_S, end, HOUR_S):
        bars = store.bars(names, hour, hour + HOUR_S)
        rows = blocks.close(hour, bars, store.coverage(names, hour, hour + HOUR_S))
        if hour < first:
            continue
        imported, lived = into.seconds(ids, hour, hour + HOUR_S)
        rows = rows[imported & ~lived]
        into.derive(rows, lived, hour)
        made += len(rows)
    return made


def _price_before(store: JournalStore, symbol: str, second: int) -> int:
    """Log price that the symbol had before `second`, if the hour before says so."""
    before = store.flow(symbol, second - HOUR_S, second + 1).rows
    return int(before["price"][-1]) if len(before) else NO_PRICE
