"""Which streams go over which connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Stream
from exchanges.binance import Binance
from sqfd.feed.plan import spread, streams_by_endpoint


@given(st.integers(0, 300), st.integers(1, 50))
def test_the_fewest_connections_evenly_filled(streams: int, limit: int) -> None:
    """Each stream once, no connection over the limit, none more than one stream fuller than another."""
    every = [Stream("spot", str(n)) for n in range(streams)]
    plan = spread(every, limit)
    assert len(plan) == -(-streams // limit)
    assert sorted(stream.topic for part in plan for stream in part) == sorted(stream.topic for stream in every)
    assert all(len(part) <= limit for part in plan)
    assert max(map(len, plan), default=0) - min(map(len, plan), default=0) <= 1


def test_a_topic_is_asked_for_once() -> None:
    """A subscription that serves several markets stands once in the plan."""
    exchange = Binance()
    instrument = exchange.assume("BTCUSDT")
    assert streams_by_endpoint(exchange, [instrument, instrument], True) == {
        "spot": [Stream("spot", "btcusdt@aggTrade", instrument)]
    }
