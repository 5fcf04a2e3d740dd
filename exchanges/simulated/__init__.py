"""The exchanges' own side of their protocols, for simulation: what a server of theirs would answer and send.

`get(exchange)` gives the `SimulatedExchange` that speaks an exchange's wire formats. It is the inverse of the decoders:
decoding what it encodes gives the same trades (`tests/exchanges/test_roundtrip.py`). It is as pure as they are:
`sqfd.sim.venues` puts it behind real sockets.
"""

from __future__ import annotations

from importlib import import_module

from exchanges.api import Exchange
from exchanges.simulated.api import SimulatedExchange


def get(exchange: Exchange) -> SimulatedExchange:
    """The simulated side of `exchange`: class `Simulated` in the module of the same name here."""
    module = type(exchange).__module__.rpartition(".")[2]
    simulated: type[SimulatedExchange] = import_module(f"exchanges.simulated.{module}").Simulated
    return simulated(exchange)
