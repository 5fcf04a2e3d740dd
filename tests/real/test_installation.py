"""P1, P2, P6, P11, P13, P14 of the whole daemon between real servers. For longer: `make soak`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real.installation import Installation, Totals

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("installation"), 1, Totals()) as it:
        yield it


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_befalls_it_every_promise_holds(installation: Installation, seed: int) -> None:
    """Kills, stops, cuts, full disks, demotions under load: InfluxDB equals the journal, the journal what happened."""
    installation.round(seed)


def test_something_was_compared(installation: Installation) -> None:
    """The rounds above had bars, whole seconds and signals."""
    if installation.figures["rounds"] < len(SEEDS):
        pytest.skip("not all rounds were run")
    assert installation.figures["bars compared with what happened"] > 0
    assert installation.figures["signals"] > 5
    assert sum(count for name, count in installation.happened.items() if "met nobody" not in name) > 6
