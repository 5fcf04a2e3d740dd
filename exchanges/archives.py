"""How trade archives write their rows. Pure.

Each layout is one regular expression over whole lines: it says exactly what is accepted (plain decimal numbers, known words).

Sources: Binance public data (README of binance-public-data: spot, USD-M and COIN-M `trades` and `aggTrades`; spot is in
microseconds since 2025), Tardis' downloadable CSV (`trades`, `liquidations`, microseconds), aggr-server's hourly files
(`timestamp price size side [liquidation]`, base coins, side 1 = buy).
"""

from __future__ import annotations

import re
from typing import NamedTuple

NUMBER = rb"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_NUMBER = rb"(" + NUMBER + rb")"
_FLAG = rb"([Tt]rue|TRUE|[Ff]alse|FALSE)"
_TIME = rb"(\d{9,17})"


class Layout(NamedTuple):
    """How lines of one kind of file read: the groups of `line`, by name."""

    origin: str
    line: re.Pattern[bytes]
    groups: tuple[str, ...]
    collected: bool
    """Written by a collector: sizes are base coins whatever the exchange's contracts are, files are named in local time."""
    cells: tuple[tuple[str, str], ...] = ()
    """(group or "", kind) of each cell of a line, where lines are cells with commas between: `line` said once more, so that whole
    columns can be checked at once (`sqfd.history.columns` knows the kinds). A last cell of kind `word` may be missing."""


def _layout(origin: str, line: bytes, groups: str, collected: bool = False, cells: str = "") -> Layout:
    parts = tuple((name, kind) for name, _, kind in (cell.partition(":") for cell in cells.split()))
    return Layout(origin, re.compile(rb"^" + line + rb"\r?$", re.MULTILINE), tuple(groups.split()), collected, parts)


LAYOUTS = (
    _layout(
        "binance",
        rb"\d+," + _NUMBER + rb"," + _NUMBER + rb"," + NUMBER + rb"," + _TIME + rb"," + _FLAG + rb"(?:,\w+)?",
        "price size time maker",
        cells=":digits price:number size:number :number time:time maker:flag :word",
    ),
    _layout(
        "binance",
        rb"\d+," + _NUMBER + rb"," + _NUMBER + rb",(-?\d{1,19}),(-?\d{1,19})," + _TIME + rb"," + _FLAG + rb"(?:,\w+)?",
        "price size first last time maker",
        cells=":digits price:number size:number first:id last:id time:time maker:flag :word",
    ),
    _layout(
        "tardis",
        rb"[^,\n]*,([^,\n]*)," + _TIME + rb",\d*,[^,\n]*,(buy|sell|unknown)," + _NUMBER + rb"," + _NUMBER,
        "symbol time side price size",
        cells=":any symbol:any time:time :maybe :any side:side price:number size:number",
    ),
    _layout(
        "aggr",
        _TIME + rb" " + _NUMBER + rb" " + _NUMBER + rb" ([01])(?: ([01])?)?",
        "time price size side forced",
        True,
    ),
)
"""Binance's trades and aggTrades are told apart by where the flag stands."""


def layout_of(origin: str, line: bytes) -> Layout | None:
    """The layout that a line has; None: it has none of this origin's."""
    for layout in LAYOUTS:
        if layout.origin == origin and layout.line.fullmatch(line):
            return layout
    return None


ORIGINS = tuple(dict.fromkeys(layout.origin for layout in LAYOUTS))
"""Where archives come from."""
