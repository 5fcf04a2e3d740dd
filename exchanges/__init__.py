"""What 25 exchanges send and mean: pure decoders, one file each, imported when asked for.

`get("BINANCE")` gives the `Exchange`; everything that it promises is in `exchanges.api`. `docs/add-an-exchange.md` walks
through adding one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from exchanges.api import Exchange

_REGISTRY: dict[str, str] = {
    "BINANCE": "binance:Binance",
}

IDS: tuple[str, ...] = tuple(_REGISTRY)
"""All exchange ids, in alphabetical order."""


def get(exchange_id: str, addresses: Mapping[str, str] | None = None) -> Exchange:
    """The exchange of that id, with published addresses replaced by `addresses`. KeyError when there is none."""
    module, _, name = _REGISTRY[exchange_id].partition(":")
    exchange: type[Exchange] = getattr(import_module(f"exchanges.{module}"), name)
    return exchange(addresses)
