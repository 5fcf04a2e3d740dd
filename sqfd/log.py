"""Logs: one line per event, for people on a terminal, for journald or for machines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
Form = Literal["auto", "console", "json", "logfmt"]


def configure(level: str, form: Form, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
    """Set up structlog for the process.

    `auto` is a coloured console on a terminal (`NO_COLOR` respected) and logfmt elsewhere. Under journald (`JOURNAL_STREAM`)
    lines carry their priority as `<N>` and no timestamp of their own.
    """
    out = stream or sys.stderr
    environment = os.environ if env is None else env
    journald = "JOURNAL_STREAM" in environment
    if form == "auto":
        form = "console" if out.isatty() else "logfmt"
    stages: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if not journald:
        stages.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    stages.append(structlog.processors.format_exc_info)
    stages.append(_renderer(form, out, environment))
    if journald:
        stages.append(_prefixed)
    structlog.configure(
        processors=stages,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )


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
    return structlog.get_logger().bind(logger=name)
