"""Logs: one line per event, for people on a terminal, for journald or for machines elsewhere."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

from sqfd.lean import structlog

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}
REPEAT_S = 60.0
"""The same line is printed at most this often; what came in between is told as `repeated`."""
REPEAT_KEYS = (
    "logger",
    "event",
    "exchange",
    "endpoint",
    "connection",
    "market",
    "symbol",
    "second",
    "id",
    "key",
    "action",
    "verdict",
)
"""What makes two lines the same."""
MAX_REPEATS = 1_000
Form = Literal["auto", "console", "json", "logfmt"]


def configure(level: str, form: Form, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
    """Set up structlog for the process.

    The least level can be changed later with `set_level`. `auto` is a coloured console on a terminal (`NO_COLOR` respected) and logfmt elsewhere. Under journald (`JOURNAL_STREAM`)
    lines carry their priority as `<N>` and no timestamp of their own.
    """
    out = stream or sys.stderr
    environment = os.environ if env is None else env
    journald = "JOURNAL_STREAM" in environment
    if form == "auto":
        form = "console" if out.isatty() else "logfmt"
    set_level(level)
    stages: list[Any] = [
        _filter,
        _add_name,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        Repeats(),
    ]
    if not journald:
        stages.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    stages += [_printable, structlog.processors.format_exc_info]
    stages.append(_renderer(form, out, environment))
    if journald:
        stages.append(_prefixed)
    structlog.configure(
        processors=stages,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda name="sqfd": _Named(name, out),
    )


_least = [_LEVELS["info"]]


def set_level(level: str) -> None:
    """Log from this level on, for loggers that exist already, too."""
    _least[0] = _LEVELS[level]


def _filter(_: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _LEVELS.get(method, 20) < _least[0]:
        raise structlog.DropEvent
    return line


def _printable(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What exchanges say ends up in lines: no control character of theirs reaches a terminal."""
    for name, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            line[name] = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return line


class _Named(structlog.PrintLogger):
    """Writes to a stream and knows its name."""

    def __init__(self, name: str, out: TextIO) -> None:
        super().__init__(out)
        self.name = name


def _add_name(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line.setdefault("logger", getattr(logger, "name", "sqfd"))
    return line


class Repeats:
    """A stage that lets the same line through once in REPEAT_S, and then tells how often it was left out."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}

    def __call__(self, _: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        key = (method, *(line.get(name) for name in REPEAT_KEYS))
        now, (printed, count) = self._now(), self._seen.pop(key, (-math.inf, 0))
        if now - printed < REPEAT_S:
            self._seen[key] = printed, count + 1
            raise structlog.DropEvent
        self._seen[key] = now, 0
        while len(self._seen) > MAX_REPEATS:
            self._seen.pop(next(iter(self._seen)))
        if count:
            line["repeated"] = count
        return line


def _renderer(form: str, out: TextIO, env: Mapping[str, str]) -> Any:
    if form == "console":
        return structlog.dev.ConsoleRenderer(colors=out.isatty() and "NO_COLOR" not in env)
    if form == "json":
        return structlog.processors.JSONRenderer()
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "logger", "event"], drop_missing=True)


def _prefixed(_: Any, method: str, line: str | MutableMapping[str, Any]) -> str:
    """journald reads the priority from the line's start."""
    return f"<{_PRIORITY.get(method, 6)}>{line}"


def get(name: str) -> Any:
    """A logger that carries its name."""
    return structlog.get_logger(name)  # lazy: a logger may be made before `configure`
