"""systemd's notification protocol, against a real datagram socket."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqfd.clock import ManualClock
from sqfd.config import Config
from sqfd.daemon import Daemon
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


class Fed(Notifier):
    """Remembers at which virtual second it was fed."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__({})
        self._clock, self.at = clock, list[int]()

    def alive(self, status: str | None = None) -> None:
        self.at.append(int(self._clock.now_ms() / 1e3))


class Collector:
    """Seconds that close, or do not, by script."""

    def __init__(self, clock: ManualClock, traded_s: float, stuck_s: float) -> None:
        self._clock, self._traded_s, self._stuck_s = clock, traded_s, stuck_s
        self._next = math.ceil(traded_s) + 1

    async def catch_up(self) -> bool:
        return True

    def take_changes(self) -> list[object]:
        return []

    def due(self) -> Iterator[int]:
        now_s = self._clock.now_ms() / 1e3
        while self._traded_s <= now_s < self._stuck_s and self._next <= now_s:
            self._next += 1
            yield self._next - 1

    def due_in_s(self) -> float | None:
        return None if self._clock.now_ms() / 1e3 < self._traded_s else 0.01


async def test_the_watchdog_is_fed_by_closed_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: before the first trade by the loop that waits for it, then by each second that closes; when seconds stop
    closing while the loop runs on, nothing feeds it."""
    clock = ManualClock(0.0)
    daemon = Daemon(Config(), tmp_path, clock=clock)
    fed = Fed(clock)
    monkeypatch.setattr(daemon, "_notifier", fed)
    monkeypatch.setattr(daemon, "_collector", Collector(clock, traded_s=3.0, stuck_s=8.0))
    monkeypatch.setattr(type(daemon), "_told", "")
    monkeypatch.setattr(daemon, "_tick", lambda *_: fed.alive())
    turns = 0

    async def sleep(seconds: float) -> None:
        nonlocal turns
        turns += 1
        clock.set(turns * 500.0)
        if turns > 40:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    monkeypatch.setattr(clock, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await daemon._close_seconds(None, None)  # type: ignore[arg-type]  # ticks are counted, not done
    assert fed.at == [0, 0, 1, 1, 2, 2, 4, 5, 6, 7]
