"""The bitemporal journal: what traded, what was made of it, and how far each sink has come, in one SQLite file.

`JournalStore` is synchronous (commands, backtests, the journal's own thread). `Journal`, for the event loop, is imported from
`sqfd.journal.journal`, so that commands which have no loop start without one.
"""

from sqfd.journal.records import Batch, Extent, GapRecord, JournaledSignal, JournalSettings, LastTraded, Missed, Ticked
from sqfd.journal.schema import FILE_NAME, JournalTooNew
from sqfd.journal.store import JournalStore

__all__ = [
    "FILE_NAME",
    "Batch",
    "Extent",
    "GapRecord",
    "JournalSettings",
    "JournalStore",
    "JournalTooNew",
    "JournaledSignal",
    "LastTraded",
    "Missed",
    "Ticked",
]
