"""How the daemon reaches what lies beyond its process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from exchanges.api import Exchange
from sqfd.clock import Clock
from sqfd.feed.rest import Rest
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Connector, connect
from sqfd.influx.client import Client
from sqfd.influx.settings import InfluxSettings
from sqfd.signals.settings import RedisSettings
from sqfd.stalls import Stalls

if TYPE_CHECKING:
    from redis.asyncio import Redis


def _redis(settings: RedisSettings) -> Redis:
    from sqfd.signals.redis import connect as connect_redis  # redis-py takes 7 MB: only where it is needed

    return connect_redis(settings)


class Influx(Protocol):
    """Makes a client."""

    def __call__(self, settings: InfluxSettings, at_once: int = 1) -> Client: ...


class Outside(NamedTuple):
    """How the daemon reaches what lies beyond its process; a simulation puts its own world there."""

    connector: Connector = connect
    """Opens websockets to exchanges."""
    rest: Callable[[Exchange, FeedSettings, Clock], Rest] = Rest
    """One exchange's REST side."""
    influx: Influx = Client
    redis: Callable[[RedisSettings], Redis] = _redis
    stalls: Callable[[Any], Stalls] = Stalls
    """Watches the event loop by the host's clock; its argument is where it logs."""
