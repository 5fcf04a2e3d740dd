"""Packed hours of flow: every value survives, and they take the bytes that their values need."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sqfd.journal.flows import COLUMNS, pack, unpack
from sqfd.model import NO_PRICE

WHOLE = st.integers(-(1 << 63), (1 << 63) - 1)
NEAR = st.tuples(WHOLE, st.sampled_from((0, 1, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_0000_0000)))


def unpacked(columns: str, rows: int, data: bytes) -> np.ndarray:
    table = np.full((len(COLUMNS), rows), 7, np.int64)
    unpack(columns, rows, data, table)
    return table


@given(st.lists(st.lists(WHOLE, min_size=len(COLUMNS), max_size=len(COLUMNS)), min_size=1, max_size=5))
def test_any_values_survive(rows):
    """Whatever int64 the columns hold, also over the whole of its range: what is read is what was packed."""
    table = np.array(rows, np.int64).T
    assert (unpacked(*_packed(table)) == table).all()


@given(st.lists(NEAR, min_size=len(COLUMNS), max_size=len(COLUMNS)), st.integers(2, 9))
def test_values_at_the_edge_of_a_width_survive(ends, rows):
    """A column whose values lie just within or just beyond what 1, 2 or 4 bytes hold is read as it was packed."""
    table = np.array([[least] * (rows - 1) + [min(least + span, (1 << 63) - 1)] for least, span in ends], np.int64)
    assert (unpacked(*_packed(table)) == table).all()


def test_an_hour_takes_the_bytes_that_it_needs():
    """Values that are all alike take no byte each, prices within 1 % of each other four, one missing price eight."""
    table = np.zeros((len(COLUMNS), 3_600), np.int64)
    table[0], table[1] = 1_722_470_401 + np.arange(3_600), 1_722_470_400 + np.arange(3_600)
    table[COLUMNS.index("price")] = 11_000_000_000 + np.arange(3_600) * 2_700
    table[COLUMNS.index("high"), 5] = NO_PRICE
    columns, data = pack(table)
    widths = dict(column.split(":") for column in columns.split(","))
    assert (widths["tick"], widths["price"], widths["high"], widths["liq_buy"]) == ("2", "4", "8", "0")
    assert len(data) == 8 * len(COLUMNS) + 3_600 * (2 + 2 + 4 + 8)


def _packed(table: np.ndarray) -> tuple[str, int, bytes]:
    columns, data = pack(table)
    return columns, table.shape[1], data
