"""systemd's notification protocol (sd_notify(3)): lines to the datagram socket that `NOTIFY_SOCKET` names."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

EVERY_S = 0.5


class Notifier:
    """Tells the service manager; without one, every call does nothing."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        env = os.environ if env is None else env
        address = env.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):  # the abstract namespace
            address = "\0" + address[1:]
        self._address = address
        self._fed = float("-inf")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def send(self, *lines: str) -> None:
        """Send `NAME=value` lines in one message. A manager that does not read loses it: nothing here waits."""
        if self._socket is not None:
            with suppress(OSError):  # the manager's fault; the watchdog is its own alarm
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def ready(self, status: str) -> None:
        """The service has started, or has reloaded."""
        self.send("READY=1", f"STATUS={status}")

    def alive(self, status: str | None = None) -> None:
        """Feed the watchdog, at most once in EVERY_S."""
        now = time.monotonic()
        if now - self._fed >= EVERY_S:
            self._fed = now
            self.send("WATCHDOG=1", *(() if status is None else (f"STATUS={status}",)))

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it."""
        self.send("RELOADING=1", "STATUS=reloading")

    def stopping(self) -> None:
        """The service stops."""
        self.send("STOPPING=1", "STATUS=stopping")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
