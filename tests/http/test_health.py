"""P16: health is a table over component states, and each component says which, why and since when."""

from __future__ import annotations

import math

import pytest

from sqfd.http import health
from sqfd.http.health import Component, Feed, Since, judge

OK = {"seconds": "ok", "feed:A": "ok", "feed:B": "ok", "journal": "ok", "influx": "ok", "redis": "ok", "loop": "ok"}


@pytest.mark.parametrize(
    ("states", "overall", "status"),
    [
        ({}, "healthy", 200),
        ({"feed:A": "degraded"}, "degraded", 200),
        ({"feed:A": "down"}, "degraded", 200),
        ({"feed:A": "starting"}, "degraded", 200),
        ({"feed:A": "down", "feed:B": "down"}, "unhealthy", 503),
        ({"influx": "down"}, "degraded", 200),
        ({"influx": "starting"}, "degraded", 200),
        ({"redis": "down"}, "degraded", 200),
        ({"journal": "down"}, "degraded", 200),
        ({"journal": "down", "influx": "down", "redis": "down"}, "degraded", 200),
        ({"loop": "degraded"}, "degraded", 200),
        ({"seconds": "degraded"}, "degraded", 200),
        ({"seconds": "down"}, "unhealthy", 503),
        ({"seconds": "starting"}, "starting", 503),
        ({"seconds": "starting", "feed:A": "down", "feed:B": "starting"}, "starting", 503),
        ({"seconds": "starting", "feed:A": "down", "feed:B": "down"}, "unhealthy", 503),
    ],
)
def test_the_whole_follows_from_its_parts(states: dict[str, str], overall: str, status: int) -> None:
    """Ready only if every feed is fresh and every sink within its limits; what is not well is named."""
    parts = [Component(name, state, "because") for name, state in (OK | states).items()]  # type: ignore[arg-type]  # a table of words
    found = judge(parts)
    assert (found.state, found.status) == (overall, status)
    assert found.why == "; ".join(f"{name}: because" for name, state in (OK | states).items() if state != "ok")


@pytest.mark.parametrize(
    ("second", "lag_s", "state"),
    [(0, math.nan, "starting"), (9, 0.3, "ok"), (9, 3.1, "degraded"), (9, 15.1, "down")],
)
def test_seconds(second: int, lag_s: float, state: str) -> None:
    """Closed in time, late, or stuck."""
    assert health.seconds(second, lag_s).state == state


@pytest.mark.parametrize(
    ("feed", "state", "words"),
    [
        (Feed("A", 3, (), "", True, 0, 5), "ok", ""),
        (Feed("A", 0, (), "", True, 0, 500), "ok", "lists none"),
        (Feed("A", 3, ("A:x",), "silent", True, 0, 500), "degraded", "1 of 3 markets not live (A:x): silent"),
        (
            Feed("A", 9, tuple("abcde"), "lost", True, 2, 500),
            "degraded",
            "5 of 9 markets not live (a, b, c and 2 more)",
        ),
        (Feed("A", 2, ("A:x", "A:y"), "refused", True, 2, 500), "down", "2 of 2"),
        (Feed("A", 2, ("A:x", "A:y"), "not live yet", True, 2, 5), "starting", "2 of 2 markets have not traded yet"),
        (Feed("A", 3, ("A:x",), "not live yet", True, 1, 5), "starting", "1 of 3 markets have not traded yet"),
        (Feed("A", 3, ("A:x", "A:y"), "lost", True, 1, 5), "degraded", "2 of 3 markets not live"),
        (Feed("A", 0, (), "", False, 0, 5), "starting", "no instrument list"),
        (Feed("A", 0, (), "", False, 0, 61), "down", "no instrument list"),
    ],
)
def test_feeds(feed: Feed, state: str, words: str) -> None:
    """One market that is not fresh degrades its exchange; none fresh is down; the reason names markets."""
    found = health.feed(feed)
    assert found.state == state
    assert words in found.why


def test_sinks() -> None:
    """Each sink's own status decides, InfluxDB's lag included."""
    assert health.journal({"fault": None, "queued_rows": 0}).state == "ok"
    assert health.journal({"fault": "disk full", "queued_rows": 7}).state == "down"
    influx = {"state": "ok", "why": None, "lag_s": 3}
    assert health.influx(influx).state == "ok"
    assert health.influx(influx | {"lag_s": 61}).state == "degraded"
    assert health.influx(influx | {"lag_s": None}).state == "ok"
    assert health.influx(influx | {"state": "retry", "why": "503"}).why.startswith("503; 3 s of bars wait")
    assert health.influx(influx | {"state": "starting"}).state == "starting"
    assert health.redis({"state": "retry", "why": "refused", "pending": 2}).why == "refused; 2 signals wait"
    assert health.loop(1, 10.0, 0.5).state == "degraded"
    assert health.loop(1, 61.0, 0.5).state == health.loop(0, math.inf, 0.0).state == "ok"


def test_the_first_minute_is_not_worth_a_warning() -> None:
    """While all that is wrong is starting, nothing is told; anything else is."""
    starting = [Component("seconds", "ok"), Component("feed:A", "starting")]
    assert not judge(starting).settled
    assert judge([*starting, Component("redis", "down")]).settled
    assert judge([Component("seconds", "ok")]).settled


def test_since_is_when_the_state_changed() -> None:
    """The time stays while the state does, whatever its reason says."""
    since = Since()
    assert since.update([Component("x", "ok")], 100.0)[0].since_ms == 100.0
    assert since.update([Component("x", "ok", "other words")], 200.0)[0].since_ms == 100.0
    assert since.update([Component("x", "down")], 300.0)[0].since_ms == 300.0


def test_a_wrong_host_clock_is_degraded_and_names_the_remedy() -> None:
    """More than two seconds off either way is told with chrony; less, or no trade yet, is fine."""
    from sqfd.http.health import clock

    assert clock(None).state == clock(1900.0).state == clock(-1900.0).state == "ok"
    ahead, behind = clock(3200.0), clock(-3_600_000.0)
    assert ahead.state == behind.state == "degraded"
    assert "3.2 s ahead of" in ahead.why
    assert "chrony" in behind.why
