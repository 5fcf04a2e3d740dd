"""The disk under the state folder: real SQLite and real files, with faults in between, and what a power cut leaves.

Every SQLite connection that is opened while the disk is in place is one that asks it first. Files are copied for the next
process as they lie there (`kill -9`), or as they would after a power cut: SQLite's commits are synced, other files are not (a tick is synced right after its commit, in the same step of this loop).
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Literal
from unittest import mock

from tests.simulation.loop import PROCESS

Trouble = Literal["well", "full", "read error", "commit lost", "locked"]
"""commit lost: the commit is on the disk, and an I/O error is told."""
_CODES = {
    "full": (sqlite3.SQLITE_FULL, "database or disk is full"),
    "read error": (sqlite3.SQLITE_IOERR, "disk I/O error"),
    "commit lost": (sqlite3.SQLITE_IOERR, "disk I/O error"),
    "locked": (sqlite3.SQLITE_BUSY, "database is locked"),
}
_WRITES = ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "COMMIT")


class Disk:
    """One host's disk; its processes get a folder each, one after the other."""

    def __init__(self, random: Random, root: Path) -> None:
        self.random, self.root = random, root
        self.trouble: Trouble = "well"
        self.counts: Counter[str] = Counter()
        self._folders = 0
        self.folder = self._next()

    def _next(self) -> Path:
        self._folders += 1
        folder = self.root / f"state-{self._folders}"
        folder.mkdir()
        return folder

    # --- faults

    def ask(self, statement: str) -> None:
        """Raise what SQLite would. Only the daemon's own statements are asked about."""
        if self.trouble == "well" or PROCESS.get(None) is None:
            return
        words = statement.lstrip().upper()
        match self.trouble:
            case "full" if words.startswith(_WRITES):
                self._fail()
            case "read error" if not words.startswith("ROLLBACK"):
                self._fail()
            case "locked" if words.startswith("BEGIN"):
                self._fail()

    def committed(self) -> None:
        """The commit is done; is that told?"""
        if self.trouble == "commit lost" and PROCESS.get(None) is not None and self.random.random() < 0.5:
            self._fail()

    def _fail(self) -> None:
        self.counts[f"refused: {self.trouble}"] += 1
        code, words = _CODES[self.trouble]
        error = sqlite3.OperationalError(words)
        error.sqlite_errorcode = code
        raise error

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """SQLite and plain writes of this interpreter go through this disk."""
        connect, write_bytes, disk = sqlite3.connect, Path.write_bytes, self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                disk.ask(sql)
                done = super().execute(sql, *args)
                if sql == "COMMIT":
                    disk.committed()
                return done

            def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
                disk.ask(sql)
                return super().executemany(sql, *args)

        def written(path: Path, data: Any) -> int:
            if disk.trouble == "full" and path.is_relative_to(disk.root):
                disk.counts["refused: a file"] += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return write_bytes(path, data)

        def opened(*args: Any, **options: Any) -> sqlite3.Connection:
            return connect(*args, **{"factory": Connection, **options})

        with mock.patch.object(sqlite3, "connect", opened), mock.patch.object(Path, "write_bytes", written):
            yield

    # --- what is left for the next process

    def crash(self, power_cut: bool = False) -> None:
        """The process is gone: the next one finds the files as they are now."""
        before, self.folder = self.folder, self._next()
        for path in sorted(before.rglob("*")):
            if path.is_dir() or path.name in ("journal.lock", "journal.sqlite-shm"):
                continue
            target = self.folder / path.relative_to(before)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if power_cut:
                self._tear(target)
        _release(before)
        shutil.rmtree(before)

    def _tear(self, path: Path) -> None:
        """What was not synced may be there, in part, or not at all."""
        if path.name.endswith("-wal"):
            with path.open("ab") as log:
                log.write(self.random.randbytes(self.random.choice([0, 100, 4_120, 9_000])))
        elif path.suffix != ".sqlite" and self.random.random() < 0.5:
            os.truncate(path, self.random.choice([0, path.stat().st_size // 2]))
            self.counts["files torn"] += 1


def _release(folder: Path) -> None:
    """The kernel closes what a dead process had open: here only its lock, so that a thousand crashes do not leak."""
    for handle in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{handle}")
        except OSError:  # listdir's own
            continue
        if target == str(folder / "journal.lock"):
            os.close(int(handle))
