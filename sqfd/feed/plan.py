"""Which streams go over which connection. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from exchanges.api import Exchange, Instrument, Stream


def streams_by_endpoint(
    exchange: Exchange, instruments: Iterable[Instrument], liquidations: bool
) -> dict[str, list[Stream]]:
    """All subscriptions for these markets, each topic once, in the order of the markets."""
    found: dict[str, dict[str, Stream]] = {}
    for instrument in instruments:
        for stream in exchange.streams(instrument, liquidations):
            found.setdefault(stream.endpoint, {}).setdefault(stream.topic, stream)
    return {endpoint: list(topics.values()) for endpoint, topics in found.items()}


def spread(streams: Sequence[Stream], per_connection: int) -> list[list[Stream]]:
    """The fewest connections that hold the streams, filled evenly: busy markets often stand side by side."""
    connections = math.ceil(len(streams) / per_connection)
    return [list(streams[first::connections]) for first in range(connections)]
