"""Servers for the tests of this folder: one of each per session, a fresh database for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.servers import Influx, RedisServer

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def one_influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """The influxd of this run."""
    server = Influx(tmp_path_factory.mktemp("influxd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def one_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The redis-server of this run, append-only."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def influxd(one_influxd: Influx) -> Iterator[Influx]:
    """A running influxd, whatever was done to it."""
    yield one_influxd
    one_influxd.heal()


@pytest.fixture
def redis_server(one_redis_server: RedisServer) -> Iterator[RedisServer]:
    """A running redis-server without a key, whatever was done to it."""
    yield one_redis_server
    one_redis_server.heal()
    one_redis_server.ask("REPLICAOF", "NO", "ONE")
    one_redis_server.ask("CONFIG", "SET", "maxmemory", "0")
    one_redis_server.ask("FLUSHALL")


@pytest.fixture
def database(influxd: Influx) -> Iterator[str]:
    """The name of a database that no other test uses; dropped at the end."""
    name = f"test_{next(_numbers)}"
    yield name
    influxd.heal()
    influxd.ask(f'DROP DATABASE "{name}"')
