"""Ports for servers of tests that must know theirs before they listen, and keep it while they are killed and started again."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000
_given: set[int] = set()
_random = random.Random(os.getpid())


def free_port(neighbours: int = 0) -> int:
    """A port that nobody has, with so many `neighbours` after it that nobody has either; never given twice by this process.

    The kernel gives connections their own ports from a range of its own: a server of that range that is away for a moment may
    find a connection on its port when it comes back, even a client's that tried to reach it and so reached itself. Ports of
    here lie below that range.
    """
    while True:
        port = _random.randrange(LOWEST, _highest() - neighbours)
        wanted = range(port, port + 1 + neighbours)
        if _given.isdisjoint(wanted) and all(map(_free, wanted)):
            _given.update(wanted)
            return port


def _highest() -> int:
    """Where the kernel's own range begins."""
    first = 32_768
    with contextlib.suppress(OSError):
        first = int(_RANGE.read_text().split()[0])
    return first if first > LOWEST + 1_000 else 65_535


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
