"""Libraries without the libraries that they load where those are installed, for something that nothing here uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(name: str) -> Iterator[None]:
    """While it lasts, importing `name` fails as if it were not installed; one that is imported already stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not installed"
    try:
        yield
    finally:
        del sys.modules[name]


with without("rich"):  # for tracebacks in colours: 3 MB
    import structlog

__all__ = ["structlog", "without"]
