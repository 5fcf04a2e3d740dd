"""Honest health: which part is not well, why, and since when. Pure; `judge` is a table over component states.

healthy: every feed is fresh and every sink is within its limits · degraded: it works, and says what does not ·
unhealthy: nothing useful happens · starting: no second has been closed yet. The first two answer 200, the others 503.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

State = Literal["ok", "starting", "degraded", "down"]
Overall = Literal["healthy", "degraded", "unhealthy", "starting"]

LATE_S = 3.0
"""Seconds usually close `grace_s` after their end; later than this is degraded,"""
STUCK_S = 15.0
"""…and later than this nothing useful happens any more."""
START_S = 60.0
"""A feed that has not traded yet is starting for this long, then it is down."""
INFLUX_LAG_S = 60
"""P1: what is closed is in InfluxDB within this time."""
STALLS_S = 60.0
"""A stalled loop is mentioned for this long."""
NAMED = 3
"""Markets named in a reason; the others are counted."""

SECONDS, CLOCK, JOURNAL, INFLUX, REDIS, LOOP = "seconds", "clock", "journal", "influx", "redis", "loop"
ALERTS = "alerts"
CLOCK_OFF_MS = 2000.0
"""A host clock that is off by more is degraded: signals would carry wrong times."""
FEED = "feed:"


class Component(NamedTuple):
    """One part of the daemon."""

    name: str
    state: State
    why: str = ""
    since_ms: float = 0.0
    """When it came into this state."""


class Feed(NamedTuple):
    """What health needs of one exchange."""

    exchange: str
    markets: int
    stale: tuple[str, ...]
    """Its markets that are not live."""
    reason: str
    """Of the first stale one."""
    listed: bool
    """Whether its instrument list is known."""
    never: int
    """How many of the stale ones have not traded yet."""
    age_s: float
    """How long the daemon has run."""


class Health(NamedTuple):
    """The whole answer."""

    state: Overall
    why: str
    components: tuple[Component, ...]

    @property
    def settled(self) -> bool:
        """Whether anything but starting is wrong: the first minute is not worth a warning."""
        return self.state == "healthy" or any(one.state not in ("ok", "starting") for one in self.components)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return 200 if self.state in ("healthy", "degraded") else 503


def judge(components: Sequence[Component]) -> Health:
    """The state of the whole. Sinks and single feeds degrade; closed seconds and all feeds together decide."""
    bad = [one for one in components if one.state != "ok"]
    why = "; ".join(f"{one.name}: {one.why}" if one.why else one.name for one in bad)
    feeds = [one for one in components if one.name.startswith(FEED)]
    ticking = next((one.state for one in components if one.name == SECONDS), "starting")
    if ticking == "down" or (feeds and all(one.state == "down" for one in feeds)):
        state: Overall = (
            "unhealthy"  # also where no trade ever came: after START_S a feed is down, and nobody has to wait
        )
    elif ticking == "starting":
        state = "starting"
    else:
        state = "degraded" if bad else "healthy"
    return Health(state, why, tuple(components))


def seconds(second: int, lag_s: float) -> Component:
    """Are seconds closed, and in time? `second` 0: none yet."""
    if second <= 0:
        return Component(SECONDS, "starting", "no trade has come yet")
    if lag_s > STUCK_S:
        return Component(SECONDS, "down", f"the last second was closed {lag_s:.0f} s ago")
    if lag_s > LATE_S:
        return Component(SECONDS, "degraded", f"seconds are closed {lag_s:.1f} s after their end")
    return Component(SECONDS, "ok")


def feed(feed: Feed) -> Component:
    """Is every market of an exchange fresh?"""
    name = FEED + feed.exchange
    early = feed.age_s < START_S
    if not feed.listed:
        return Component(name, "starting" if early else "down", "no instrument list yet: the exchange does not answer")
    if not feed.stale:
        return Component(name, "ok", "" if feed.markets else "lists none of the configured symbols")
    if early and len(feed.stale) == feed.never:
        return Component(name, "starting", f"{feed.never} of {feed.markets} markets have not traded yet")
    named = ", ".join(feed.stale[:NAMED]) + (f" and {len(feed.stale) - NAMED} more" if len(feed.stale) > NAMED else "")
    why = f"{len(feed.stale)} of {feed.markets} markets not live ({named}): {feed.reason}"
    return Component(name, "down" if len(feed.stale) == feed.markets else "degraded", why)


def journal(status: Mapping[str, Any]) -> Component:
    """Does the disk take what happens?"""
    if status["fault"]:
        waiting = f"{status['queued_rows']} rows wait in memory"
        return Component(JOURNAL, "down", f"cannot be written ({status['fault']}); {waiting}: free space, check rights")
    return Component(JOURNAL, "ok")


def influx(status: Mapping[str, Any]) -> Component:
    """Does InfluxDB take bars, and how far is it behind?"""
    state, lag_s = status["state"], status["lag_s"] or 0
    if state == "starting":
        return Component(INFLUX, "starting", status["why"] or "not reached yet")
    if state != "ok":
        return Component(INFLUX, "down", f"{status['why']}; {lag_s} s of bars wait in the journal")
    if lag_s > INFLUX_LAG_S:
        return Component(INFLUX, "degraded", f"{lag_s} s behind")
    return Component(INFLUX, "ok")


def redis(status: Mapping[str, Any]) -> Component:
    """Does Redis take signals?"""
    if status["state"] != "ok":
        return Component(REDIS, "down", f"{status['why']}; {status['pending']} signals wait")
    return Component(REDIS, "ok")


def alerts(status: Mapping[str, Any]) -> Component:
    """Do the webhook and Telegram take messages? One that was given up is told until the next one arrives."""
    return Component(ALERTS, "ok" if status["state"] == "ok" else "degraded", status["why"] or "")


def loop(stalls: int, last_ago_s: float, longest_s: float) -> Component:
    """Is the event loop on time? `last_ago_s`: since the last stall, inf where there was none."""
    if last_ago_s <= STALLS_S:
        return Component(
            LOOP, "degraded", f"stalled {last_ago_s:.0f} s ago ({stalls} times, longest {longest_s:.2f} s)"
        )
    return Component(LOOP, "ok")


def clock(error_ms: float | None) -> Component:
    """Is the host's clock right? `error_ms`: ahead of the exchanges' by this; None before any trade."""
    if error_ms is None or abs(error_ms) <= CLOCK_OFF_MS:
        return Component(CLOCK, "ok")
    way = "ahead of" if error_ms > 0 else "behind"
    why = f"this host's clock is {abs(error_ms) / 1e3:.1f} s {way} the exchanges': run chrony (chronyc tracking)"
    return Component(CLOCK, "degraded", why)


class Since:
    """Remembers when each component came into its state."""

    def __init__(self) -> None:
        self._known: dict[str, Component] = {}

    def update(self, components: Iterable[Component], now_ms: float) -> tuple[Component, ...]:
        """The same components with `since_ms`."""
        known = self._known
        self._known = {one.name: one._replace(since_ms=_since(known.get(one.name), one, now_ms)) for one in components}
        return tuple(self._known.values())


def _since(before: Component | None, now: Component, now_ms: float) -> float:
    return before.since_ms if before is not None and before.state == now.state else now_ms
