"""Copies of a loop for kinds of values that differ in type."""

from __future__ import annotations

import exchanges
from exchanges.api import QuickDecoder
from exchanges.specialised import copy_for


def added(left: int, right: int = 2) -> int:
    return left + right


def test_each_kind_has_a_copy_of_its_own_that_does_the_same() -> None:
    """A copy shares no instructions with another kind's, and is made once for each kind."""
    first, second = copy_for("first", added), copy_for("second", added)
    assert first is copy_for("first", added)
    assert first is not second
    assert first.__code__ is not second.__code__  # type: ignore[attr-defined]  # of functions
    assert first(1) == second(1) == added(1)
    assert first(1, right=5) == 6


def test_endpoints_whose_rows_differ_do_not_share_the_loop_that_reads_them() -> None:
    """Each exchange's endpoint reads by instructions of its own; a new connection to it goes on with the same ones."""
    loops = {}
    for name in exchanges.IDS:
        exchange = exchanges.get(name)
        for endpoint in exchange.endpoints:
            made, again = (exchange.decoder(endpoint.name, {}) for _ in range(2))
            if isinstance(made, QuickDecoder) and isinstance(again, QuickDecoder):
                loops[name, endpoint.name] = made._loop.__code__  # type: ignore[attr-defined]  # a function's
                assert again._loop is made._loop
    assert len(loops) > 25
    assert len(set(map(id, loops.values()))) == len(loops)
