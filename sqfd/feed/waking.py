"""From how many bytes on a socket wakes the event loop: a calm connection's frames wait in the kernel until they are looked at."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial

HELD_BYTES = 32_768
"""What may wait: more is no calm connection, and far from filling what TCP offers the exchange (64 KB at the least)."""
CAN_WAIT = sys.platform.startswith("linux")
"""Linux wakes by itself, too, when the receive window or its memory runs short, when the peer closes, and (from 4.18 on)
when the limit is lowered: tcp_set_rcvlowat, tcp_epollin_ready in net/ipv4. Elsewhere frames are read as they come."""


def waker(transport: asyncio.BaseTransport) -> Callable[[int], None]:
    """What has `transport` read when so many bytes wait (socket(7), SO_RCVLOWAT). Without effect once it is closed."""
    peer = transport.get_extra_info("socket")
    if not CAN_WAIT or peer is None:
        return as_it_comes
    return partial(_wake_at, peer.setsockopt)


def _wake_at(setsockopt: Callable[[int, int, int], None], size: int) -> None:
    try:
        setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    except (OSError, ValueError):
        return  # the loop closed its socket already, and tells so in its next turn: there is nothing to read


def as_it_comes(size: int) -> None:
    """Nothing waits."""
