"""Recordings of received frames, in the form that `sqfd replay` reads. Written by a thread of their own, in blocks.

One file per connection: gzip, one JSON object per line (`recv_ms exchange endpoint conn frame`; binary frames as base64 with
`encoding`). Each block is a gzip member of its own, so that a crash costs at most the last block.
"""

from __future__ import annotations

import base64
import gzip
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from exchanges.api import Instrument

BLOCK_BYTES = 256 * 1024
"""Frames that wait are written when they are this large, or once a second."""
WAITING_BYTES = 32 * 1024 * 1024
"""Frames that wait for the disk; more are dropped and counted."""


class RecordedFrame(msgspec.Struct, omit_defaults=True):
    """One line of a recording."""

    recv_ms: float
    exchange: str
    frame: str
    endpoint: str = ""
    conn: int = 0
    encoding: str | None = None


class RecordFile:
    """The recording of one connection. `add` is called for each frame, in the event loop."""

    def __init__(self, recorder: Recorder, exchange: str, endpoint: str, connection: int) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.connection = connection
        self.waiting: list[tuple[float, bytes, bool]] = []
        self.waiting_bytes = 0
        self.part = 0
        self.written_bytes = 0
        self.ended = False
        self._recorder = recorder

    def add(self, recv_ms: float, frame: bytes, text: bool) -> None:
        """Keep one frame."""
        if not self._recorder.room_for(len(frame)):
            return
        self.waiting.append((recv_ms, frame, text))
        self.waiting_bytes += len(frame)
        if self.waiting_bytes >= BLOCK_BYTES:
            self._recorder.flush(self)

    def close(self) -> None:
        """The connection ended: nothing more is added."""
        self.ended = True

    def lines(self, frames: Iterable[tuple[float, bytes, bool]]) -> bytes:
        """Frames as JSON lines."""
        return b"".join(msgspec.json.encode(self._line(*frame)) + b"\n" for frame in frames)

    def _line(self, recv_ms: float, frame: bytes, text: bool) -> RecordedFrame:
        body = frame.decode() if text else base64.b64encode(frame).decode()
        encoding = None if text else "base64"
        return RecordedFrame(recv_ms, self.exchange, body, self.endpoint, self.connection, encoding)


class Recorder:
    """All files of a recording: rotated at `file_bytes`, the oldest removed above `total_bytes`."""

    def __init__(self, folder: Path, file_bytes: int, total_bytes: int, log: Any) -> None:
        """Makes the folder. Raises OSError when it cannot be written to."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file_bytes = file_bytes
        self._total_bytes = total_bytes
        self._log = log
        self._files: list[RecordFile] = []
        self._thread = ThreadPoolExecutor(1, "sqfd-record")
        self._kept: deque[Path] = deque(sorted(folder.glob("*.jsonl.gz"), key=lambda path: path.stat().st_mtime))
        self._failed = False
        # Each number is written by one side only: the event loop, or the thread.
        self._added_bytes = self._done_bytes = 0
        self._dropped_slow = self._dropped_failed = 0

    @property
    def dropped(self) -> int:
        """Frames that were not recorded because the disk was too slow or refused them."""
        return self._dropped_slow + self._dropped_failed

    def room_for(self, size: int) -> bool:
        """Take a frame's size into account; False when too much waits already."""
        if self._added_bytes - self._done_bytes > WAITING_BYTES:
            self._dropped_slow += 1
            return False
        self._added_bytes += size
        return True

    def instruments(self, instruments: Iterable[Instrument]) -> None:
        """Keep what the symbols meant (`instruments.json`), so that a replay is exact."""
        body = msgspec.json.encode(sorted(instruments, key=lambda instrument: instrument.market))
        (self._folder / "instruments.json").write_bytes(body)

    def file(self, exchange: str, endpoint: str, connection: int) -> RecordFile:
        """The file of a new connection."""
        made = RecordFile(self, exchange, endpoint, connection)
        self._files.append(made)
        return made

    def tick(self) -> None:
        """Once a second: hand what waits to the thread."""
        for file in self._files:
            self.flush(file)
        self._files = [file for file in self._files if not file.ended]

    def flush(self, file: RecordFile) -> None:
        """Hand one file's frames to the thread."""
        frames, file.waiting = file.waiting, []
        size, file.waiting_bytes = file.waiting_bytes, 0
        if frames:
            self._thread.submit(self._write, file, frames, size)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self.tick()
        self._thread.shutdown(wait=True)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _write(self, file: RecordFile, frames: list[tuple[float, bytes, bool]], size: int) -> None:
        try:
            self._append(file, gzip.compress(file.lines(frames), compresslevel=6))
            self._failed = False
        except OSError as error:
            self._dropped_failed += len(frames)
            if not self._failed:
                self._log.warning("recording failed", path=str(self._folder), reason=str(error))
            self._failed = True
        finally:
            self._done_bytes += size

    def _append(self, file: RecordFile, block: bytes) -> None:
        full = file.written_bytes + len(block) > self._file_bytes
        # A part that is gone was removed to make room.
        if file.part == 0 or (full and file.written_bytes) or not self._path(file).exists():
            self._begin(file)
        path = self._path(file)
        with path.open("ab") as out:
            out.write(block)
        file.written_bytes += len(block)

    def _begin(self, file: RecordFile) -> None:
        """The next part; parts of an earlier run under the same name are left alone."""
        file.part += 1
        while self._path(file).exists():
            file.part += 1
        file.written_bytes = 0
        self._make_room()
        self._kept.append(self._path(file))

    def _make_room(self) -> None:
        """Remove the oldest parts, never the newest, until one more part fits."""
        sizes = [path.stat().st_size if path.exists() else 0 for path in self._kept]
        total = sum(sizes) + self._file_bytes
        while len(self._kept) > 1 and total > self._total_bytes:
            total -= sizes.pop(0)
            self._kept.popleft().unlink(missing_ok=True)

    def _path(self, file: RecordFile) -> Path:
        name = f"{file.exchange}-{file.endpoint}-{file.connection:04d}-{file.part:04d}.jsonl.gz"
        return self._folder / name.replace("/", "_")
