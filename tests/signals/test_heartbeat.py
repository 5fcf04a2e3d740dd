"""Redis goes away and comes back while there is no signal: the heartbeat notices, and health and the log are told."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from sqfd.clock import SystemClock
from sqfd.journal import JournaledSignal
from sqfd.signals.redis import RedisPublisher
from sqfd.signals.settings import RedisSettings
from tests.waiting import eventually


class Server:
    """Refuses while it is away."""

    def __init__(self) -> None:
        self.away = False

    async def publish(self, channel: str, line: bytes) -> int:
        if self.away:
            raise ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused.")
        return 0

    async def aclose(self) -> None:
        """Nothing to close."""


class Journal:
    """Has no signals."""

    async def unpublished(self, sink: str, limit: int = 1_000) -> list[JournaledSignal]:
        return []

    async def mark(self, sink: str, outcomes: dict[str, str]) -> None:
        raise AssertionError("nothing was published")


async def test_the_heartbeat_tells_that_redis_is_away_and_back() -> None:
    """Without any signal, `status` is honest within a heartbeat."""
    server = Server()
    publisher = RedisPublisher(
        RedisSettings(heartbeat_s=0.1), cast(Any, Journal()), SystemClock(), redis=cast(Redis, server)
    )
    running = asyncio.create_task(publisher.run())

    async def until(state: str) -> None:
        await eventually(lambda: publisher.status()["state"] == state and publisher.counters["heartbeats"], state)

    await until("ok")
    server.away = True
    await until("retry")
    assert "Connection refused" in publisher.status()["why"]
    server.away = False
    await until("ok")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
