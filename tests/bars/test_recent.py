"""Recent bars: what was closed, amended and forgotten, as a dictionary by (second, market) has it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sqfd.bars.recent import NONE, Recent
from sqfd.model import BAR

KEPT = 5
MARKETS = st.integers(0, 6)


def bar(second: int, market: int, close: float) -> np.ndarray:
    row = np.zeros(1, BAR)
    row["second"], row["market"], row["close"] = second, market, close
    return row


@given(
    closed=st.lists(st.sets(MARKETS), min_size=1, max_size=12),
    late=st.lists(st.tuples(st.integers(0, 11), st.sets(MARKETS, min_size=1), st.floats(1, 9)), max_size=12),
)
def test_it_knows_the_newest_bar_of_each_second_that_is_kept(
    closed: list[set[int]], late: list[tuple[int, set[int], float]]
) -> None:
    """Seconds are closed one after the other; amendments of those that are kept are found again with their times."""
    recent, twin = Recent(KEPT), dict[tuple[int, int], tuple[float, int]]()
    for second, markets in enumerate(closed):
        rows = [bar(second, market, 1.0) for market in sorted(markets)]
        recent.put(second, np.concatenate(rows) if rows else NONE, np.full((len(rows), 2), second * 1000))
        twin |= {(second, market): (1.0, second * 1000) for market in markets}
        for at, changed, close in late:
            if second - KEPT < at <= second:
                amended = np.concatenate([bar(at, market, close) for market in sorted(changed)])
                recent.amend(amended, np.full((len(changed), 2), at * 1000 + 7))
                twin |= {(at, market): (close, at * 1000 + 7) for market in changed}
    newest = len(closed) - 1
    kept = {key: value for key, value in twin.items() if key[0] > newest - KEPT}
    found = recent.between(newest - KEPT + 1, newest)
    assert [(b["second"], b["market"]) for b in found.tolist() and found] == sorted(kept)
    for (second, market), (close, ms) in kept.items():
        bars, times = recent.find(second, market)
        assert (bars["close"].tolist(), times.tolist()) == ([close], [[ms, ms]])
    assert not len(recent.of(newest - KEPT))
