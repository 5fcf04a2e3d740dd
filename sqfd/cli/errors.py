"""What went wrong, in one line with what to do about it. Imported when something did."""

from __future__ import annotations

import errno
import sqlite3

OTHER_FOLDER = "name a folder that this user may write, with --state or journal.state"
FREE = "free space, or lower journal.max_bytes and journal.retain_s"
REMEDIES = {
    errno.EACCES: f"use sudo, or {OTHER_FOLDER}",
    errno.EPERM: f"use sudo, or {OTHER_FOLDER}",
    errno.EROFS: OTHER_FOLDER,
    errno.ENOENT: OTHER_FOLDER,
    errno.ENOTDIR: OTHER_FOLDER,
    errno.EEXIST: OTHER_FOLDER,
    errno.ENOSPC: FREE,
    errno.EDQUOT: FREE,
    errno.EFBIG: FREE,
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096, or LimitNOFILE=",
}
JOURNAL_REMEDIES = {
    sqlite3.SQLITE_FULL: FREE,
    sqlite3.SQLITE_IOERR: "look at the disk (dmesg, df)",
    sqlite3.SQLITE_CANTOPEN: OTHER_FOLDER,
    sqlite3.SQLITE_READONLY: OTHER_FOLDER,
    sqlite3.SQLITE_PERM: OTHER_FOLDER,
    sqlite3.SQLITE_NOTADB: "`sqfd run` sets a damaged journal aside and begins a new one",
    sqlite3.SQLITE_CORRUPT: "`sqfd run` sets a damaged journal aside and begins a new one",
    sqlite3.SQLITE_BUSY: "another program holds it: end that one",
}


def one_line(error: Exception) -> str:
    """An expected error as people read it. The texts of our own errors say what to do already."""
    if isinstance(error, sqlite3.Error):
        return _with_remedy(f"journal: {error}", JOURNAL_REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF))
    if isinstance(error, OSError) and error.strerror is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _with_remedy(f"{where}{error.strerror}", REMEDIES.get(error.errno or 0))
    return str(error)


def _with_remedy(text: str, remedy: str | None) -> str:
    return f"{text}: {remedy}" if remedy else text
