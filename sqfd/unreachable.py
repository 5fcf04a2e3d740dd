"""A server that cannot be reached, in the words that people use for it."""

from __future__ import annotations

import os


def unreachable(error: Exception) -> str:
    """An error of aiohttp or the system in one line: where, and why.

    >>> unreachable(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"))
    'Connection refused'
    """
    cause = getattr(error, "os_error", error)  # what aiohttp's connector met
    if not isinstance(cause, OSError) or cause.errno is None:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = f"{error.host}:{error.port}" if hasattr(error, "host") and hasattr(error, "port") else ""
    why = os.strerror(cause.errno) if cause.errno > 0 else cause.strerror or str(cause)  # negative: a name's look-up
    return f"{place}: {why}" if place else why
