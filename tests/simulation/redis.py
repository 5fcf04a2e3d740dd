"""Redis in memory: the commands that the publisher uses, with the ways in which they fail (FACTS: redis-server 7.0.15).

A command takes effect at one instant and is answered at a later one; between the two the connection may break, or the client
may die.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from sqfd.clock import Clock

Trouble = Literal[
    "well", "refused", "hangs", "lost before", "lost after", "login", "replica", "misconf", "full", "loading"
]
"""lost before, lost after: the connection breaks before the server did it, or after · replica: demoted, takes no writes, but
PUBLISH succeeds · misconf: cannot save, takes no writes · full: maxmemory."""
WRITES = frozenset({"xadd", "set", "lpush", "ltrim", "expire"})
_ERRORS: dict[str, Callable[[], Exception]] = {
    "login": lambda: AuthenticationError("WRONGPASS invalid username-password pair or user is disabled."),
    "replica": lambda: ReadOnlyError("You can't write against a read only replica."),
    "misconf": lambda: ResponseError("MISCONF Redis is configured to save RDB snapshots"),
    "full": lambda: OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    "loading": lambda: BusyLoadingError("Redis is loading the dataset in memory"),
}


class Entry(NamedTuple):
    """One entry of the stream, and when it came there."""

    id: tuple[int, int]
    signal_id: str
    line: dict[str, Any]
    at_ms: float
    process: str


class FakeRedis:
    """The server."""

    def __init__(self, random: Random, clock: Clock) -> None:
        self.random, self.clock = random, clock
        self.trouble: Trouble = "well"
        self.stream: list[Entry] = []
        self.every: list[Entry] = []
        """All entries that ever were, those that a crash took included."""
        self.published: dict[str, list[bytes]] = {}
        """Per channel, the messages of signals. Nobody else keeps them."""
        self.keys: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self._last = (0, 0)

    def forget(self, count: int) -> None:
        """A crash without an append-only file: the newest entries are gone, and the ids with them."""
        self.counts["entries forgotten"] += min(count, len(self.stream))
        del self.stream[max(0, len(self.stream) - count) :]
        self._last = self.stream[-1].id if self.stream else (0, 0)

    def do(self, command: str, *args: Any, **options: Any) -> Any:
        """One command at one instant; raises what the server answers instead."""
        trouble = self.trouble
        self.counts[command] += 1
        if trouble in ("login", "loading") or (trouble in _ERRORS and command in WRITES):
            raise _ERRORS[trouble]()
        return getattr(self, f"_{command}")(*args, **options)

    def _xadd(self, name: str, fields: dict[str, Any], id: str, maxlen: int, approximate: bool) -> bytes:
        at_ms = self.clock.now_ms()
        made = _id(id) if id != "*" else max((int(at_ms), 0), (self._last[0], self._last[1] + 1))
        if made <= self._last:
            raise ResponseError("The ID specified in XADD is equal or smaller than the target stream top item")
        entry = Entry(made, fields["signal_id"], msgspec.json.decode(fields["signal"]), at_ms, fields["process"])
        self._last = made
        self.stream.append(entry)
        self.every.append(entry)
        return f"{made[0]}-{made[1]}".encode()

    def _xrange(self, name: str, min: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        found = [entry for entry in self.stream if entry.id >= _id(min)]
        return [
            (f"{e.id[0]}-{e.id[1]}".encode(), {b"signal_id": e.signal_id.encode(), b"process": e.process.encode()})
            for e in found
        ]

    def _publish(self, channel: str, line: bytes) -> int:
        if channel != "sqfd:heartbeat":
            self.published.setdefault(channel, []).append(bytes(line))
        return 1

    def _set(self, key: str, value: bytes, ex: int) -> bool:
        self.keys[key] = value
        return True

    def _lpush(self, key: str, value: bytes) -> int:
        return 1

    def _ltrim(self, key: str, first: int, last: int) -> bool:
        return True

    def _expire(self, key: str, seconds: int) -> int:
        return 1


def _id(text: str) -> tuple[int, int]:
    ms, _, number = text.partition("-")
    return int(ms), int(number or 0)


Command = tuple[str, tuple[Any, ...], dict[str, Any]]


class RedisClient:
    """What redis-py's asyncio client is to the publisher, without retries of its own."""

    def __init__(self, server: FakeRedis, timeout_s: float) -> None:
        self._server, self._timeout_s = server, timeout_s

    async def _round_trip(self, commands: list[Command], keep_errors: bool) -> list[Any]:
        server = self._server
        trouble, random = server.trouble, server.random
        server.counts[f"asked while {trouble}"] += 1
        if trouble == "refused":
            raise ConnectionError("Error 111 connecting. Connection refused.")
        await asyncio.sleep(random.uniform(0.0002, 0.004))
        if trouble == "hangs":
            await asyncio.sleep(self._timeout_s)
            raise TimeoutError("Timeout reading from socket")
        if trouble == "lost before":
            raise ConnectionError("Connection closed by server.")
        answers = [self._answer(command) for command in commands]
        await asyncio.sleep(random.uniform(0.0002, 0.004))
        if trouble == "lost after":
            server.counts["done but reported failed"] += 1
            raise ConnectionError("Connection reset by peer")
        if not keep_errors and isinstance(answers[0], Exception):
            raise answers[0]
        return answers

    def _answer(self, command: Command) -> Any:
        name, args, options = command
        try:
            return self._server.do(name, *args, **options)
        except ResponseError as error:
            return error
        except ConnectionError as error:  # wrong login, loading: they come with a closed connection
            return error

    async def _one(self, name: str, *args: Any, **options: Any) -> Any:
        return (await self._round_trip([(name, args, options)], False))[0]

    async def xadd(self, *args: Any, **options: Any) -> Any:
        return await self._one("xadd", *args, **options)

    async def xrange(self, *args: Any, **options: Any) -> Any:
        return await self._one("xrange", *args, **options)

    async def publish(self, *args: Any) -> Any:
        return await self._one("publish", *args)

    def pipeline(self, transaction: bool) -> Pipeline:
        return Pipeline(self)

    async def aclose(self) -> None:
        """Nothing is kept open."""


class Pipeline:
    """Commands that travel together."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._commands: list[Command] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: self._commands.append((name, args, options))

    async def execute(self, raise_on_error: bool) -> list[Any]:
        return await self._client._round_trip(self._commands, not raise_on_error)
