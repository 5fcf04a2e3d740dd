"""The tables, their migrations, and opening a file that may be damaged.

Rows are keyed by tick, the order in which they are written, so that inserts append to the end of the trees. A bar whose tick
is `second + 1` came in time; the others are revisions, few, and have an index of their own. So reads by second need no index
over all bars, which would double the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqfd.journal import gaps
from sqfd.model import BAR_FIELDS

FILE_NAME = "journal.sqlite"

Migration = Callable[[sqlite3.Connection], None]

_FLOW_V1 = [
    "price",
    "high",
    "low",
    "spot_delta",
    "perp_delta",
    "spot_volume",
    "perp_volume",
    "liq_buy",
    "liq_sell",
    "open_interest",
    "coverage_ppm",
]

_V1 = f"""
CREATE TABLE market (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, exchange TEXT NOT NULL, pair TEXT NOT NULL,
    kind TEXT NOT NULL, base TEXT NOT NULL, quote TEXT NOT NULL, multiplier REAL NOT NULL);
CREATE TABLE symbol (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE bar (tick INTEGER NOT NULL, market INTEGER NOT NULL, second INTEGER NOT NULL,
    {", ".join(f'"{name}"' for name in BAR_FIELDS)}, PRIMARY KEY (tick, market, second)) WITHOUT ROWID;
CREATE INDEX bar_revision ON bar (second) WHERE tick <> second + 1;
CREATE TABLE flow (symbol INTEGER NOT NULL, tick INTEGER NOT NULL, second INTEGER NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in _FLOW_V1)}, PRIMARY KEY (symbol, tick, second)) WITHOUT ROWID;
CREATE TABLE flow_block (symbol INTEGER NOT NULL, hour INTEGER NOT NULL, rows INTEGER NOT NULL, columns TEXT NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (symbol, hour));
CREATE TABLE signal (signal_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, tick INTEGER NOT NULL, second INTEGER NOT NULL,
    symbol TEXT NOT NULL, valid_until_s INTEGER NOT NULL, line BLOB NOT NULL, cvd BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX signal_order ON signal (seq);
CREATE INDEX signal_tick ON signal (tick);
CREATE TABLE published (sink TEXT NOT NULL, signal_id TEXT NOT NULL, outcome TEXT NOT NULL,
    PRIMARY KEY (sink, signal_id)) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, tick INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cursor (sink TEXT PRIMARY KEY, tick INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE run (run INTEGER PRIMARY KEY, first_second INTEGER NOT NULL, last_second INTEGER NOT NULL);
CREATE TABLE coverage (run INTEGER NOT NULL, market INTEGER NOT NULL, second INTEGER NOT NULL, whole INTEGER NOT NULL,
    PRIMARY KEY (run, market, second)) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


def _first(db: sqlite3.Connection) -> None:
    for statement in _V1.split(";"):
        if statement.strip():
            db.execute(statement)


def _third(db: sqlite3.Connection) -> None:
    """History from files: which runs are imported rather than lived through, and which files are in."""
    db.execute("ALTER TABLE run ADD COLUMN imported INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "CREATE TABLE imported_file (market INTEGER NOT NULL, digest TEXT NOT NULL, name TEXT NOT NULL, "
        "first_second INTEGER NOT NULL, last_second INTEGER NOT NULL, trades INTEGER NOT NULL, malformed INTEGER NOT NULL, "
        "PRIMARY KEY (market, digest)) WITHOUT ROWID"
    )


def _fourth(db: sqlite3.Connection) -> None:
    """Funding beside open interest; packed hours of earlier versions name their columns and lack this one."""
    db.execute("ALTER TABLE flow ADD COLUMN funding_ppb INTEGER NOT NULL DEFAULT 0")


def _fifth(db: sqlite3.Connection) -> None:
    """Packed hours of flow take as few bytes as their values need, which earlier versions cannot read. Those of before stay as they are."""


MIGRATIONS: tuple[Migration, ...] = (_first, gaps.create, _third, _fourth, _fifth)
"""Migration *n* takes a file of version *n* to *n + 1*. Never change one that was released: add another."""
VERSION = len(MIGRATIONS)


class JournalTooNew(Exception):
    """The file was written by a newer sqfd; this one would not understand it. It is left as it is."""


def migrate(db: sqlite3.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring the file to the newest version, each step in one transaction; raises JournalTooNew."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise JournalTooNew(f"the journal has version {version}, this sqfd knows up to {len(migrations)}")
    for number, step in enumerate(migrations[version:], start=version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            step(db)
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has rolled back already
                db.execute("ROLLBACK")
            raise


def connect(path: Path, *, bulk: bool = False) -> sqlite3.Connection:
    """Open for writing.

    `synchronous = NORMAL`: a commit does not wait for the disk. It outlives the process at once, and a power cut once the log
    is synced, which `JournalStore.keep_house` does after each tick, when nobody waits any more. `bulk` (replay, import:
    thousands of ticks a second that can be repeated) leaves that to the checkpoints. Neither can damage the file.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table: lets a file shrink to a lower limit
        db.execute("PRAGMA journal_mode = WAL")
        # While the daemon runs, the journal's housekeeping does it: inside a commit it would hold up the signals of its tick.
        db.execute(f"PRAGMA wal_autocheckpoint = {500 if bulk else 4000}")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -1024")  # KiB; appends touch the ends of trees, and history is read once
        _check(db)
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open for reading beside a daemon that writes; raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"no journal at {path}")
    db = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version != VERSION:
        db.close()
        raise JournalTooNew(
            f"the journal has version {version}, this sqfd reads version {VERSION}: start `sqfd run` once"
        )
    return db


def _check(db: sqlite3.Connection) -> None:
    """Raise DatabaseError where the ends of the trees cannot be read. A full integrity check of 20 GB would take minutes."""
    tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        db.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchall()
    if "bar" in tables:
        db.execute("SELECT * FROM bar ORDER BY tick DESC LIMIT 1").fetchall()


DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file's content is at fault, rather than the disk or a lock."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in DAMAGE


def set_aside(path: Path, stamp: str) -> Path:
    """Rename a damaged journal and its companions to `*.damaged-STAMP`; gives the new name of the main file."""
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    return target
