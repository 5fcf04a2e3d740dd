"""Rows of every layout that archives have, and rows that none has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.archives import LAYOUTS, Layout
from exchanges.archives import layout_of as found_layout
from sqfd.history import formats
from sqfd.history.columns import columns_of
from sqfd.history.formats import read_block

LINES = [
    ("binance", b"4000,61234.50000000,0.00100000,61.23450000,1723075200123,True,True", False, 1),
    ("binance", b"4000,61234.50,0.001,61.2345,1735689600123456,False,True", True, 1),
    ("binance", b"5,61234.5,0.001,61.2345,1723075200123,true", False, 1),
    ("binance", b"9,61234.5,0.001,100,104,1723075200123,false", True, 5),
    ("binance", b"9,61234.50000000,0.00100000,100,100,1735689600123456,True,True", False, 1),
    ("tardis", b"binance,BTCUSDT,1723075200123456,1723075200200000,77,buy,61234.5,0.001", True, 1),
    ("tardis", b"binance,btcusdt,1723075200123456,,,sell,61234.5,1e-3", False, 1),
    ("aggr", b"1723075200123 61234.5 0.001 1", True, 1),
    ("aggr", b"1723075200123 61234.5 1e-3 0 0", False, 1),
]


def layout_of(origin: str, line: bytes) -> Layout:
    """The layout that the line must have."""
    found = found_layout(origin, line)
    assert found is not None
    return found


@pytest.mark.parametrize(("origin", "line", "buy", "count"), LINES)
def test_every_layout_is_read(origin, line, buy, count):
    """Trades and aggTrades of spot and futures, ms and µs, Tardis, aggr-server: time, price, size, side, matches."""
    block = read_block(layout_of(origin, line), line + b"\r\n" + line + b"\n", 1, "BTCUSDT", "trades")
    assert block.bad == []
    assert len(block.trades) == 2
    row = block.trades[1]
    assert row["ts_ms"] in (1_723_075_200_123, 1_735_689_600_123)
    assert (row["price"], row["size"], row["buy"], row["count"], row["forced"]) == (61234.5, 0.001, buy, count, False)


@pytest.mark.parametrize(
    "bad",
    [
        b"4000,nan,0.001,61,1723075200123,True,True",
        b"4000,61234.5,-1,61,1723075200123,True,True",
        b"4000,1_0,0.001,61,1723075200123,True,True",
        b"4000,61234.5,1e999,61,1723075200123,True,True",
        b"4000,61234.5,0,61,1723075200123,True,True",
        b"4000,61234.5,0.001,61,1723075200123,maybe,True",
        b"4000,61234.5,0.001,61,17230752001231723075200123,True,True",
        b"4000,61234.5,0.00",
        b"<html>",
        "4000,6１234.5,0.001,61,1723075200123,True,True".encode(),
    ],
)
def test_a_bad_row_costs_only_itself(bad):
    """It is named by its line; the rows before and after it are read."""
    good = LINES[0][1]
    layout = layout_of("binance", good)
    block = read_block(layout, b"\n".join([good, b"", bad, good]), 101, "BTCUSDT", "trades")
    assert len(block.trades) == 2
    assert [row.line for row in block.bad] == [103]


def test_rows_that_are_not_ours_are_counted_apart():
    """Other symbols of a grouped file, and rows without an aggressor, are neither trades nor malformed."""
    line = b"okex,%s,1723075200123456,1723075200123456,1,%s,5,1"
    rows = [line % pair for pair in ((b"BTC-USDT", b"buy"), (b"ETH-USDT", b"buy"), (b"BTC-USDT", b"unknown"))]
    block = read_block(layout_of("tardis", rows[0]), b"\n".join(rows), 1, "BTC-USDT", "trades")
    assert (len(block.trades), block.others, block.sideless, block.bad) == (1, 1, 1, [])


def test_liquidations_are_no_volume():
    """Tardis' liquidation files and aggr-server's marked rows are forced orders with their side."""
    line = b"binance,BTCUSDT,1723075200123456,1723075200200000,,sell,61234.5,0.5"
    (row,) = read_block(layout_of("tardis", line), line, 1, "BTCUSDT", "liquidations").trades
    assert (row["forced"], row["buy"]) == (True, False)
    line = b"1723075200123 61234.5 0.5 1 1"
    (row,) = read_block(layout_of("aggr", line), line, 1, "", "trades").trades
    assert (row["forced"], row["buy"]) == (True, True)


ODD = [
    b"",
    b" ",
    b"nan",
    b"-1",
    b"1e5",
    b".5",
    b"5.",
    b"1.2.3",
    b"1_0",
    b"0",
    b"x\n",
    b"BTC",
    b"unknown",
    b"True",
    b"17",
    b"9" * 18,
]


@settings(max_examples=200, deadline=None)
@given(
    given_line=st.sampled_from([(origin, line) for origin, line, _, _ in LINES if b"," in line]),
    rows=st.integers(1, 6),
    edits=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(ODD)), max_size=3),
    joints=st.lists(st.sampled_from([b"\n", b"\r\n", b",", b",\n", b"\n,", b"\n\n"]), min_size=6, max_size=6),
    usual=st.booleans(),
)
def test_columns_read_what_the_pattern_reads(given_line, rows, edits, joints, usual):
    """Whatever is edited into good lines: reading by columns gives the trades and the bad lines that the pattern gives, or leaves it."""
    origin, which = given_line
    cells = [cell for _ in range(rows) for cell in which.split(b",")]
    for at, cell in edits:
        cells[at % len(cells)] = cell
    width = which.count(b",") + 1
    lines = [b",".join(cells[at : at + width]) for at in range(0, len(cells), width)]
    block = b"".join(line + (b"\n" if usual else joint) for line, joint in zip(lines, joints, strict=False))
    with pytest.MonkeyPatch.context() as patch:
        quick = read_block(layout_of(origin, which), block, 1, "BTCUSDT", "trades")
        patch.setattr(formats, "columns_of", lambda layout, text: None)
        slow = read_block(layout_of(origin, which), block, 1, "BTCUSDT", "trades")
    assert quick.trades.tobytes() == slow.trades.tobytes()
    assert (quick.bad, quick.others, quick.sideless) == (slow.bad, slow.others, slow.sideless)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.cells])
def test_good_lines_are_read_by_columns(layout):
    """The quick way is taken for every layout with commas, and names the same groups as the pattern."""
    (line,) = [line for _, line, _, _ in LINES if layout.line.fullmatch(line)][-1:]
    found = columns_of(layout, line + b"\n" + line + b"\n")
    assert found is not None
    assert set(found) == set(layout.groups)
    assert isinstance(found["price"], np.ndarray)
    assert columns_of(layout, line + b"\r\n") is None
