"""P1, P3, P14: no bar is lost, none is stored twice or altered, through any mix of faults. More rounds: SQFD_NEMESIS_ROUNDS=500."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.real.nemesis import FAULTS, Round
from tests.real.servers import Influx

ROUNDS = int(os.environ.get("SQFD_NEMESIS_ROUNDS", "30"))
FIRST_SEED = int(os.environ.get("SQFD_NEMESIS_SEED", "1"))
EACH = 3
"""Faults of a round."""
_happened: Counter[str] = Counter()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    influxd = Influx(tmp_path_factory.mktemp("nemesis-influxd"))
    influxd.start()
    yield influxd
    influxd.stop()


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
def test_nothing_is_lost_and_nothing_is_added(server: Influx, tmp_path: Path, seed: int):
    """Whatever befalls writer, network, InfluxDB and disk: in the end InfluxDB and the journal are equal, both ways."""
    one = Round(seed, server, tmp_path)
    try:
        one.run(EACH)
    finally:
        if not server.answers():
            server.stop()
            server.start()
    _happened.update(one.faults)


def test_every_fault_happened():
    """The rounds above met each kind of fault."""
    if sum(_happened.values()) < 30 * EACH:
        pytest.skip("fewer than 30 rounds were run")
    assert _happened.keys() == set(FAULTS)
