"""Lines that InfluxDB refuses for ever: kept in a file for a human, so that nothing is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path

from sqfd.lean import structlog

MAX_BYTES = 10_000_000
FILE_NAME = "influx-quarantine.jsonl"

log = structlog.get_logger("influx")


class Quarantine:
    """Appends one JSON object per line to a file that is renamed to `*.1` when it has grown to MAX_BYTES."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.count = 0
        self.unwritten = 0
        """Lines that the disk refused to take; their content is in the log."""

    def add(self, line: bytes, why: str) -> None:
        """Keep one refused line; never raises for a full disk."""
        self.count += 1
        text = line.decode(errors="replace")
        log.error("InfluxDB refuses a line", line=text[:200], why=why[:200], file=str(self.path))
        try:
            self._rotate()
            with self.path.open("a") as file:
                file.write(json.dumps({"line": text, "why": why[:500]}) + "\n")
        except OSError as error:
            self.unwritten += 1
            log.error("quarantine cannot be written", line=text, error=str(error))

    def _rotate(self) -> None:
        if self.path.exists() and self.path.stat().st_size > MAX_BYTES:
            self.path.rename(self.path.with_name(FILE_NAME + ".1"))
