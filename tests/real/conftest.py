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
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """A running influxd. A test that hurts it starts it again."""
    server = Influx(tmp_path_factory.mktemp("influxd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running redis-server, append-only. A test that hurts it starts it again."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(influxd: Influx) -> Iterator[str]:
    """The name of a database that no other test uses; dropped at the end."""
    name = f"test_{next(_numbers)}"
    yield name
    influxd.ask(f'DROP DATABASE "{name}"')
