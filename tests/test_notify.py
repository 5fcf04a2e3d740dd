"""systemd's notification protocol, against a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqfd.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, in the file system or in the abstract namespace."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@sqfd-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listener.settimeout(2)
        yield listener, name


def test_messages(manager: tuple[socket.socket, str]) -> None:
    """Each call is one datagram of lines."""
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("12 markets")
    notifier.alive("12/12 live")
    notifier.alive("too soon: at most twice a second")
    notifier.reloading()
    notifier.stopping()
    notifier.close()
    found = [listener.recv(1000).decode() for _ in range(4)]
    assert found == [
        "READY=1\nSTATUS=12 markets",
        "WATCHDOG=1\nSTATUS=12/12 live",
        "RELOADING=1\nSTATUS=reloading",
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    """No variable, or nobody behind it."""
    for env in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(env)
        notifier.ready("x")
        notifier.close()
        notifier.alive()
