"""One eventful live run that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqfd.settings import toml_value
from tests.backtest.live import SECONDS, SYMBOLS, Live, config, lived
from tests.test_engine import SHORT_WINDOWS


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Half an hour of two symbols: late trades, holes in feeds, two restarts, each after a minute's outage."""
    run = lived(tmp_path_factory.mktemp("live"), config(), SECONDS, 1, restarts=(900, 1400), down_s=60)
    yield run
    run.store.close()


@pytest.fixture(scope="session")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of that run as a file."""
    path = tmp_path_factory.mktemp("config") / "sqfd.toml"
    fields = {name: getattr(SHORT_WINDOWS, name) for name in SHORT_WINDOWS.__struct_fields__}
    plain = [
        f"{name} = {toml_value(value)}" for name, value in fields.items() if isinstance(value, int | float | tuple)
    ]
    path.write_text(f"[symbols]\nsymbols = {toml_value(SYMBOLS)}\n[strategy]\n" + "\n".join(plain) + "\n")
    return path
