"""Lines of cells with commas between, read by whole columns. Pure.

The quick way for blocks in which every line is as it should be, which is nearly all of them: a fifth of what matching each line
costs. It gives what the layout's pattern gives (`tests/history/test_formats.py`), or nothing, where anything is unusual; then lines are
matched one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exchanges.archives import NUMBER, Layout

Column = Sequence[bytes] | NDArray[np.int64] | NDArray[np.float64]
"""Numbers as an array, everything else as it stands."""

_DIGITS = b"0123456789"
_TWO_POINTS = re.compile(rb"\.\d*\.")
_WITH_EXPONENTS = re.compile(rb",(?:" + NUMBER + rb",)*+")
_WORD = re.compile(rb"\w+", re.ASCII)
_TIME_DIGITS, _ID_DIGITS = (9, 17), (1, 18)
_WORDS: Mapping[str, frozenset[bytes]] = {
    "flag": frozenset({b"true", b"True", b"TRUE", b"false", b"False", b"FALSE"}),
    "side": frozenset({b"buy", b"sell", b"unknown"}),
}


def columns_of(layout: Layout, block: bytes) -> dict[str, Column] | None:
    """The named columns of whole lines; None where a line is not as the layout says, or only its pattern can tell."""
    text = block.removesuffix(b"\n")
    kinds, width = layout.cells, text.partition(b"\n")[0].count(b",") + 1
    if kinds and kinds[-1][1] == "word" and width == len(kinds) - 1:
        kinds = kinds[:-1]
    if width != len(kinds) or b"\r" in block:
        return None
    lines = text.count(b"\n") + 1
    cells = text.replace(b"\n", b",\n").split(b",")
    if len(cells) != width * lines or b",".join(cells[::width]).count(b",\n") != lines - 1:
        return None  # every line's first cell, and so no other, begins with the end of the line before
    found: dict[str, Column] = {}
    for place, (name, kind) in enumerate(kinds):
        column = _column(kind, cells[place::width])
        if column is None:
            return None
        if name:
            found[name] = column
    return found


def _column(kind: str, cells: Sequence[bytes]) -> Column | None:
    """The cells, as numbers where they are; None where one is not of that kind."""
    if kind == "any":
        return cells
    if kind in _WORDS:
        return cells if set(cells) <= _WORDS[kind] else None
    if kind == "word":
        return cells if all(map(_WORD.fullmatch, set(cells))) else None
    joined = b",".join(cells)
    if kind == "number":
        return _numbers(joined, len(cells))
    return _integers(kind, joined.replace(b"\n", b""), cells)


def _integers(kind: str, joined: bytes, cells: Sequence[bytes]) -> Column | None:
    """Digits only; `maybe` none at all; of `time` and `id` as many as fit, which become numbers."""
    if joined.translate(None, _DIGITS) != b"," * (len(cells) - 1):
        return None
    if kind == "maybe":
        return cells
    if kind == "digits":
        return cells if b",," not in b"," + joined + b"," else None
    shortest, longest = _TIME_DIGITS if kind == "time" else _ID_DIGITS
    lengths = [*map(len, cells)]
    if min(lengths) < shortest or max(lengths) > longest:
        return None
    return np.fromstring(joined, np.int64, sep=",")


def _numbers(joined: bytes, count: int) -> NDArray[np.float64] | None:
    """Digits with at most one point, which does not stand first; where there is more than that, the pattern of a number decides."""
    around = b"," + joined + b","
    if joined.translate(None, _DIGITS + b".") == b"," * (count - 1):
        right = b",," not in around and b",." not in around and not _TWO_POINTS.search(joined)
    else:
        right = _WITH_EXPONENTS.fullmatch(around) is not None
    return np.fromstring(joined, np.float64, sep=",") if right else None
