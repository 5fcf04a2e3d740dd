"""What goes into the journal and what comes out of it, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from sqfd.model import Bars, Flow

DAY_S = 86_400


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The journal: what is kept on this host, whether or not InfluxDB and Redis are there."""

    state: Annotated[
        str,
        Meta(
            description="Folder of the journal; empty: /var/lib/sqfd for a configuration in /etc/sqfd, else the XDG directory."
        ),
    ] = ""
    retain_s: Annotated[
        int,
        Meta(description="Age in seconds after which rows leave; 0: 48 h where [influx] is named, else 7 d.", ge=0),
    ] = 0
    max_bytes: Annotated[
        int,
        Meta(description="Size that the journal stays under, its write-ahead log included.", ge=8_000_000),
    ] = 20_000_000_000
    queue_rows: Annotated[
        int,
        Meta(
            description="Rows that wait in memory while the disk refuses them; beyond, the oldest are lost.", ge=1_000
        ),
    ] = 500_000

    def retention_s(self, influx_named: bool) -> int:
        """Age in seconds after which rows leave the journal."""
        return self.retain_s or (2 * DAY_S if influx_named else 7 * DAY_S)


class JournaledSignal(msgspec.Struct, frozen=True):
    """A signal as the journal keeps it and the publishers take it."""

    signal_id: str
    """Unique; a second append of the same id changes nothing."""
    tick: int
    second: int
    seq: int
    """Number within this journal, rising by one; `Journal.number` gives it. 0: none yet."""
    symbol: str
    """As in keys: `BTCUSDT`."""
    valid_until_s: int
    """Epoch second after which it is not published any more."""
    line: bytes
    """The signal as one JSON object, deterministic: without `seq`, `published_at` and `latency_ms`."""
    cvd: bytes = b""
    """Ready JSON for the key `signal_cvd:{signal_id}`; empty: no such key is written."""


class LastTraded(NamedTuple):
    """What the last ticks of a journal know of a market."""

    second: int
    """The newest with a bar, before the one that was asked about."""
    seconds: int
    """How many had a trade that came in time."""


class Missed(NamedTuple):
    """A market that the last run collected in its last hour: what happened on it since the journal's last tick was missed."""

    second: int
    """In which it last traded before the seconds that are asked for again, or that hour's first."""
    traded: int
    """Of the seconds of that hour in which its feed was whole, how many had trades."""
    whole: int


class GapRecord(NamedTuple):
    """A stretch of a market's feed that was not simply live, as it is known at a tick."""

    market: int
    """Index of the run's markets on the way in, the journal's id on the way out."""
    from_ms: int
    until_ms: int | None
    """None: it goes on."""
    state: str
    """gap | recovered | partial | lost"""
    reason: str
    missed: int | None
    """Trades known to be missing still; None where nothing can tell."""
    recovered: int
    """Trades that were filled in."""
    note: str
    """Why something is still missing."""


class Ticked(NamedTuple):
    """Rows with the ticks at which they became known, ordered by (tick, second)."""

    ticks: NDArray[np.int64]
    rows: NDArray[np.void]


class Batch(NamedTuple):
    """What one tick appends, in one transaction."""

    tick: int
    bars: Bars
    flow: Flow
    signals: Sequence[JournaledSignal] = ()
    positions: bytes | None = None
    """The open positions as their owner encodes them; None: unchanged."""
    whole: NDArray[np.bool_] | None = None
    """Per registered market: its feed was whole throughout second `tick - 1`. None: not known."""
    gaps: Sequence[GapRecord] = ()
    """Gaps that began, ended or were resolved since the last tick."""

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.bars) + len(self.flow) + len(self.signals)


class Extent(NamedTuple):
    """What there is of one market."""

    market: str
    first_second: int
    last_second: int
    bars: int
    """Seconds that have a bar."""
