"""Files of trades → bars, coverage and flow in a journal.

A file is read in blocks; trades of the newest seconds wait (`LATE_S`), because archives are ordered by id or by arrival, not by
trade time. A file is noted as done, together with its coverage and flow, when all its bars are written: an import that is killed
and repeated skips what is done and writes the rest again, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from exchanges.api import Instrument
from exchanges.archives import Layout, layout_of
from sqfd.history.derive import derive
from sqfd.history.files import Span, Unreadable, blocks, digest, named_span
from sqfd.history.formats import Bad, Data, Trades, read_block
from sqfd.history.seconds import bars_of, notional
from sqfd.journal import JournalStore
from sqfd.journal.imports import ImportedFile, MarketImport
from sqfd.model import market_of

LATE_S = 60
"""A trade may stand this much behind a newer one. What comes later still is counted, not imported."""
PEEK_BYTES = 65_536
PEEK_LINES = 50


class Peek(NamedTuple):
    """What the beginning of a file tells."""

    path: Path
    layout: Layout
    first_s: int
    """Second of the first row."""


class Counts(msgspec.Struct):
    """Of a whole import. rows = trades + malformed + others + sideless + late."""

    files: int = 0
    skipped: int = 0
    """Files that were in already."""
    rows: int = 0
    trades: int = 0
    """Rows that are in bars, liquidations included."""
    malformed: int = 0
    others: int = 0
    """Rows of other symbols."""
    sideless: int = 0
    """Rows that do not say who was the aggressor."""
    late: int = 0
    bars: int = 0
    kept: int = 0
    """Bars of seconds that the journal knew already."""
    flow: int = 0
    unreadable: list[str] = []


class _Open(msgspec.Struct):
    """A file that was read and whose last seconds are not written yet."""

    peek: Peek
    first_s: int = 0
    last_s: int = -1
    trades: int = 0
    malformed: int = 0
    complete: bool = True


class Importer:
    """Imports files of one market."""

    def __init__(
        self,
        store: JournalStore,
        instrument: Instrument,
        origin: str,
        data: Data = "trades",
        *,
        bad: Callable[[Path, Bad], None] = lambda path, row: None,
        read: Callable[[Path, int], None] = lambda path, at: None,
    ) -> None:
        """`bad` is told each malformed row, `read` how many bytes of a file are behind us."""
        self._store, self._instrument, self._origin, self._data = store, instrument, origin, data
        self._tell_bad, self._tell_read = bad, read
        self._into = MarketImport(store, market_of(instrument))
        self._waiting: list[Trades] = []
        self._newest_s = -1
        self._written_to_s = -1
        """Seconds before this are written."""
        self._open: list[_Open] = []
        self.counts = Counts()

    def run(self, paths: Sequence[Path], *, again: bool = False) -> Counts:
        """Import files in the order of their first trades. `again`: those too that are in already.

        A file that cannot be read to its end is told in `counts.unreadable`; what it held before is in.
        """
        done = set() if again else self._into.files()
        fresh = [path for path in dict.fromkeys(paths) if digest(path) not in done]
        self.counts.skipped = len(paths) - len(fresh)
        for peek in sorted(filter(None, map(self._peek, fresh)), key=lambda peek: peek.first_s):
            if peek.first_s < self._newest_s - LATE_S:  # another kind of time: not the continuation of the last
                self._flush(None)
                self._written_to_s = self._newest_s = -1
            self._file(peek)
        self._flush(None)
        return self.counts

    def _peek(self, path: Path) -> Peek | None:
        try:
            for lines in islice(blocks(path, size=PEEK_BYTES), 1):
                for line in lines.text.split(b"\n")[:PEEK_LINES]:
                    layout = layout_of(self._origin, line)
                    if layout is not None:
                        block = read_block(layout, line, 1, self._instrument.symbol, self._data)
                        first = int(block.trades["ts_ms"][0]) // 1000 if len(block.trades) else 0
                        return Peek(path, layout, first)
                raise Unreadable(
                    f"{path}: none of its first {PEEK_LINES} lines is a row of {self._origin} {self._data}"
                )
            raise Unreadable(f"{path}: is empty")
        except Unreadable as error:
            self.counts.unreadable.append(str(error))
            return None

    def _file(self, peek: Peek) -> None:
        file = _Open(peek)
        self._open.append(file)
        try:
            for lines in blocks(peek.path, lambda at: self._tell_read(peek.path, at)):
                self._block(file, lines.first, lines.text)
        except Unreadable as error:
            self.counts.unreadable.append(str(error))
            file.complete = False
        self.counts.files += 1

    def _block(self, file: _Open, first_line: int, text: bytes) -> None:
        if first_line == 1 and text[:1].isalpha() and layout_of(self._origin, text.partition(b"\n")[0]) is None:
            _, _, text = text.partition(b"\n")  # a header
            first_line = 2
        block = read_block(file.peek.layout, text, first_line, self._instrument.symbol, self._data)
        counts = self.counts
        counts.rows += len(block.trades) + len(block.bad) + block.others + block.sideless
        counts.malformed += len(block.bad)
        counts.others += block.others
        counts.sideless += block.sideless
        file.malformed += len(block.bad)
        for bad in block.bad:
            self._tell_bad(file.peek.path, bad)
        if len(block.trades):
            self._take(file, block.trades)

    def _take(self, file: _Open, trades: Trades) -> None:
        seconds = trades["ts_ms"] // 1000
        late = seconds < self._written_to_s
        if late.any():
            self.counts.late += int(np.count_nonzero(late))
            trades, seconds = trades[~late], seconds[~late]
            if not len(seconds):
                return
        first, last = int(seconds.min()), int(seconds.max())
        file.first_s = first if file.last_s < 0 else min(file.first_s, first)
        file.last_s = max(file.last_s, last)
        file.trades += len(trades)
        self.counts.trades += len(trades)
        self._waiting.append(trades)
        self._newest_s = max(self._newest_s, last)
        if self._newest_s - LATE_S > self._written_to_s:
            self._flush(self._newest_s - LATE_S)

    def _flush(self, before_s: int | None) -> None:
        """Write the seconds before `before_s`, or all, and finish the files that are then complete."""
        if self._waiting:
            trades = np.concatenate(self._waiting)
            over = np.ones(len(trades), bool) if before_s is None else trades["ts_ms"] < before_s * 1000
            self._waiting = [trades[~over]] if before_s is not None else []
            self._write(trades[over], self._open[0].peek.layout.collected)
        self._written_to_s = self._newest_s + 1 if before_s is None else before_s
        for file in [file for file in self._open if before_s is None or file is not self._open[-1]]:
            if before_s is None or file.last_s < before_s:
                self._open.remove(file)
                self._finish(file)

    def _write(self, trades: Trades, base_coins: bool) -> None:
        if not len(trades):
            return
        instrument = self._instrument
        if base_coins:
            worth = notional(trades, 1.0, False)
        else:
            worth = notional(trades, instrument.contract_size, instrument.inverse)
        written = self._into.write(bars_of(trades, worth))
        self.counts.bars += written.written
        self.counts.kept += written.kept

    def _finish(self, file: _Open) -> None:
        """A file that ended too early stays unfinished, so that its better copy is not skipped; its bars are in."""
        if file.last_s < 0:
            return
        path = file.peek.path
        name = digest(path) if file.complete else f"cut short: {path.name}"
        done = ImportedFile(name, path.name, file.first_s, file.last_s, file.trades, file.malformed)
        whole = self._whole(file) if self._data == "trades" else None
        with self._into.finish(done, *([whole] if whole else [])):
            span = whole or Span(file.first_s, file.last_s + 1)
            symbol = self._instrument.base
            from_s, to_s = min(span[0], file.first_s), max(span[1], file.last_s + 1)
            self.counts.flow += derive(self._store, self._into, symbol, from_s, to_s)

    def _whole(self, file: _Open) -> Span:
        """What its name says, if its trades bear that out; else all but its first and last second, which may be cut."""
        named = named_span(file.peek.path, file.first_s, local_time=file.peek.layout.collected)
        inside = Span(file.first_s + 1, max(file.last_s, file.first_s + 1))
        if named is None or not (named.from_s <= file.first_s and file.last_s < named.to_s):
            return inside
        return named if file.complete else Span(named.from_s, max(file.last_s, named.from_s))
