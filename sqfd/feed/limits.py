"""Exchanges count attempts whether or not we were restarted in between: what was used of each limit is kept on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sqfd.feed.backoff import RateLimit

FILE_NAME = "limits.json"
KEPT = 10_000
"""Attempts that one limit keeps on disk."""


class Used(msgspec.Struct):
    """One limit: attempts as (epoch ms, weight), and until when the exchange asked to be left alone."""

    taken: list[tuple[float, float]]
    closed_until_ms: float = 0.0


class LimitsFile:
    """The limits of all exchanges, by name, in one small file that is replaced as a whole."""

    def __init__(self, path: Path, limits: Mapping[str, RateLimit], log: Any) -> None:
        self._path, self._limits, self._log = path, limits, log
        self._written: bytes | None = None
        self._failed = False

    def restore(self, now_ms: float) -> None:
        """Take up what an earlier run used. A file that cannot be read is told, and everything counts as unused."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Used])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            self._log.warning("limits of the last run are not known", file=str(self._path), error=str(error))
            return
        for name, used in found.items():
            if name in self._limits:
                self._limits[name].restore(used.taken, used.closed_until_ms, now_ms)

    def dump(self, now_ms: float) -> bytes | None:
        """What to write; None where nothing changed since the last call."""
        used = {name: Used(*limit.used(now_ms)) for name, limit in self._limits.items()}
        for one in used.values():
            del one.taken[:-KEPT]
        data = msgspec.json.encode(
            {name: one for name, one in used.items() if one.taken or one.closed_until_ms > now_ms}
        )
        if data == self._written:
            return None
        self._written = data
        return data

    def write(self, data: bytes) -> None:
        """Replace the file (on a thread). A disk that refuses is told once; it costs only this file."""
        part = self._path.with_suffix(".part")
        try:
            part.write_bytes(data)
            os.replace(part, self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._log.warning("limits are not kept for the next start", error=str(error))
            self._failed = True
