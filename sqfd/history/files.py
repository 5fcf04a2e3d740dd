"""Archives as blocks of whole lines: plain, gzip or zip, never more than a block in memory."""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 512 * 1024
DIGEST_BYTES = 1_000_000
DAY_S, HOUR_S = 86_400, 3_600
_NAMED = re.compile(r"(\d{4})[-_](\d{2})(?:[-_](\d{2})(?:-(\d{2})(?![\d-]))?)?(?!\d)")


class Unreadable(Exception):
    """A file that is not what it should be; the text names it."""


class Lines(NamedTuple):
    """Whole lines, and the number of the first, counted from 1."""

    first: int
    text: bytes


def blocks(path: Path, read: Callable[[int], None] = lambda at: None, size: int = BLOCK_BYTES) -> Iterator[Lines]:
    """The file's lines in blocks of about `size`; `read` is told how far the (packed) file was read, in bytes.

    Raises Unreadable where the file is damaged or cut short, after the lines before.
    """
    line = 1
    rest = b""
    for text in _pieces(path, read, size):
        if isinstance(text, Unreadable):
            raise Unreadable(f"{path}: {text} after line {line - 1 + bool(rest)}")
        text = rest + text
        cut = text.rfind(b"\n") + 1
        rest = text[cut:]
        if cut:
            yield Lines(line, text[:cut])
            line += text.count(b"\n")
        elif len(rest) > 2 * size:
            raise Unreadable(f"{path}:{line}: a line of more than {2 * size} bytes")
    if rest:
        yield Lines(line, rest)


def _pieces(path: Path, read: Callable[[int], None], size: int) -> Iterator[bytes | Unreadable]:
    """The unpacked file in pieces of about `size`; in the end, why it ends too early, if it does."""
    pieces: list[bytes] = []
    held = 0
    why: Unreadable | None = None
    try:
        with path.open("rb") as raw, _unpacked(path, raw) as stream:
            while piece := stream.read1(size):  # not `read`: where the file is damaged, that keeps what it has
                pieces.append(piece)
                held += len(piece)
                if held >= size:
                    read(raw.tell())
                    yield b"".join(pieces)
                    pieces, held = [], 0
            read(raw.tell())
    except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
        why = Unreadable(f"damaged or cut short ({error})")
    except OSError as error:
        why = Unreadable(error.strerror or str(error))
    if pieces:
        yield b"".join(pieces)
    if why is not None:
        yield why


@contextmanager
def _unpacked(path: Path, raw: BufferedReader) -> Iterator[BufferedIOBase]:
    start = raw.read(4)
    raw.seek(0)
    if start[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked
    elif start == b"PK\x03\x04":
        with zipfile.ZipFile(raw) as archive:
            inside = [name for name in archive.namelist() if not name.endswith("/")]
            if len(inside) != 1:
                raise Unreadable(f"{path}: holds {len(inside)} files, not one")
            with archive.open(inside[0]) as member:
                yield member  # type: ignore[misc]  # typeshed's IO[bytes] is a ZipExtFile here
    else:
        yield raw


def digest(path: Path) -> str:
    """A name for the file's content, from its size, beginning and end: cheap for archives of gigabytes."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as raw:
        found.update(raw.read(DIGEST_BYTES))
        raw.seek(max(0, size - DIGEST_BYTES))
        found.update(raw.read(DIGEST_BYTES))
    return found.hexdigest()


class Span(NamedTuple):
    """Seconds `from_s <= second < to_s`."""

    from_s: int
    to_s: int


def named_span(path: Path, first_s: int, *, local_time: bool = False) -> Span | None:
    """The month, day or hour (UTC) that the file's name says it holds whole; None where it says none.

    `local_time`: names are in the zone of the host that wrote them (aggr-server): only their length counts, and the span is
    the one around the file's first trade, because hours and days are cut in UTC.
    """
    found = _NAMED.findall(path.name)
    if not found:
        return None
    year, month, day, hour = (int(part) if part else 0 for part in found[-1])
    try:
        start = datetime(year, month, day or 1, hour, tzinfo=UTC)
    except ValueError:
        return None
    from_s = int(start.timestamp())
    if not day:
        after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        return None if local_time else Span(from_s, int(after.timestamp()))
    length = HOUR_S if found[-1][3] else DAY_S
    if local_time:
        from_s = first_s // length * length
    return Span(from_s, from_s + length)
