"""What can go wrong, one function per fault. `docs/promises.md` shows how to add one.

A fault is begun on a `Day` and returns what ends it, or None where it is over at once. Its name is its function's, its part is the
part of the world that it breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from sqfd.feed.transport import Closed
from tests.simulation.venue import CODES, Venue

if TYPE_CHECKING:
    from tests.simulation.day import Day
    from tests.simulation.disk import Trouble as DiskTrouble
    from tests.simulation.influx import Trouble as InfluxTrouble
    from tests.simulation.redis import Trouble as RedisTrouble

End = Callable[[], None]
Begin = Callable[["Day", Random], End | None]


@dataclass(frozen=True)
class Fault:
    """One way in which the world breaks."""

    name: str
    """`part: what`."""
    begin: Begin
    lengths_s: tuple[float, ...]
    """How long it lasts: one of these."""


FAULTS: dict[str, Fault] = {}
"""All faults, by name."""


def fault(part: str, *lengths_s: float) -> Callable[[Begin], Begin]:
    """Register a function as a fault that lasts one of `lengths_s` (none: it is over at once)."""

    def register(begin: Begin) -> Begin:
        name = f"{part}: {begin.__name__.strip('_').replace('_', ' ')}"
        FAULTS[name] = Fault(name, begin, lengths_s or (0.0,))
        return begin

    return register


# --- exchanges ------------------------------------------------------------------------------------------------------


def _venue(day: Day, random: Random) -> Venue:
    return random.choice(list(day.venues.values()))


def _end_all(venue: Venue, how: Closed) -> None:
    for wire in list(venue.wires):
        wire.end(how)


@fault("exchange")
def close(day: Day, random: Random) -> End | None:
    """All its connections end, with a code."""
    _end_all(_venue(day, random), Closed("the exchange closed", random.choice(CODES)))
    return None


@fault("exchange")
def half_open(day: Day, random: Random) -> End | None:
    """Nothing comes or goes any more, and nobody says so."""
    for wire in list(_venue(day, random).wires):
        wire.freeze()
    return None


@fault("exchange", 3.0, 20.0, 90.0)
def silent(day: Day, random: Random) -> End:
    """Acks and heartbeats go on, trades do not."""
    venue = _venue(day, random)
    venue.silent = True

    def end() -> None:
        venue.silent = False

    return end


@fault("exchange", 5.0, 40.0, 300.0)
def refuses(day: Day, random: Random) -> End:
    """Connections end and are refused, by 503, or by 429 with Retry-After."""
    venue = _venue(day, random)
    venue.refuse_status, venue.retry_after_s = random.choice([(503, None), (429, 15.0), (418, None)])
    _end_all(venue, Closed("connection lost"))

    def end() -> None:
        venue.refuse_status = None

    return end


@fault("exchange", 30.0, 200.0)
def rest_refuses(day: Day, random: Random) -> End:
    """Past trades and listings are not to be had, while connections end."""
    venue = _venue(day, random)
    venue.rest_status = random.choice([429, 500, 503])
    _end_all(venue, Closed("connection lost"))

    def end() -> None:
        venue.rest_status = None

    return end


@fault("exchange", 30.0, 100.0)
def rest_hangs(day: Day, random: Random) -> End:
    """Questions are not answered."""
    venue = _venue(day, random)
    venue.rest_hangs = True
    _end_all(venue, Closed("connection lost"))

    def end() -> None:
        venue.rest_hangs = False

    return end


@fault("exchange", 20.0, 60.0)
def replays(day: Day, random: Random) -> End:
    """Subscribing repeats the last seconds of trades as if they were live."""
    venue = _venue(day, random)
    venue.replay_s = random.uniform(1.0, 40.0)
    _end_all(venue, Closed("connection lost"))

    def end() -> None:
        venue.replay_s = 0.0

    return end


@fault("exchange", 10.0, 60.0)
def shuffles(day: Day, random: Random) -> End:
    """Trades come backwards, a second or so at a time."""
    venue = _venue(day, random)
    venue.shuffle_s = random.uniform(0.3, 3.0)

    def end() -> None:
        venue.shuffle_s = 0.0

    return end


@fault("exchange", 10.0, 60.0)
def late(day: Day, random: Random) -> End:
    """Trades come late, by up to two minutes."""
    venue = _venue(day, random)
    venue.late_s = random.uniform(0.5, 120.0)

    def end() -> None:
        venue.late_s = 0.0

    return end


@fault("exchange", 10.0, 60.0)
def drops(day: Day, random: Random) -> End:
    """Some trades never come."""
    venue = _venue(day, random)
    venue.drop = 0.05

    def end() -> None:
        venue.drop = 0.0

    return end


@fault("exchange", 10.0, 60.0)
def flaps(day: Day, random: Random) -> End:
    """Connections end moments after they opened."""
    venue = _venue(day, random)
    venue.flapping = True
    _end_all(venue, Closed("connection lost"))

    def end() -> None:
        venue.flapping = False

    return end


@fault("exchange")
def does_not_answer(day: Day, random: Random) -> End | None:
    """The first subscriptions of new connections get no answer."""
    venue = _venue(day, random)
    venue.unanswered = random.randrange(1, 4)
    _end_all(venue, Closed("connection lost"))
    return None


# --- InfluxDB -------------------------------------------------------------------------------------------------------


def _influx(name: str, trouble: InfluxTrouble, *lengths_s: float) -> None:
    def begin(day: Day, random: Random) -> End:
        day.influx.trouble = trouble

        def end() -> None:
            if day.influx.trouble == trouble:
                day.influx.trouble = "well"

        return end

    begin.__name__ = name
    fault("influx", *lengths_s)(begin)


_influx("refuses connections", "refused", 3.0, 60.0, 400.0)
_influx("breaks before it stores", "reset before", 3.0, 30.0)
_influx("stores and breaks", "reset after", 3.0, 30.0)
_influx("hangs before it stores", "timeout before", 15.0, 60.0)
_influx("stores and hangs", "timeout after", 15.0, 60.0)
_influx("answers 500", "500", 5.0, 60.0)
_influx("answers 503", "503", 5.0, 60.0)
_influx("is slow", "slow", 30.0, 120.0)
_influx("gets bodies cut short", "cut short", 5.0, 40.0)
_influx("refuses the login", "login", 20.0, 90.0)


@fault("influx", 20.0, 90.0)
def disk_is_full(day: Day, random: Random) -> End:
    """500; what was not acknowledged can be read, and vanishes with the restart."""
    day.influx.trouble = "disk full"

    def end() -> None:
        day.influx.restart()
        if day.influx.trouble == "disk full":
            day.influx.trouble = "well"

    return end


@fault("influx")
def loses_its_policies(day: Day, random: Random) -> End | None:
    """Somebody drops a retention policy, without its points."""
    if day.influx.policies:
        day.influx.policies.pop(random.choice(sorted(day.influx.policies)))
    return None


@fault("influx", 10.0, 60.0)
def conflicts_in_type(day: Day, random: Random) -> End:
    """Lines of one market are refused for good: 400 partial write."""
    day.influx.poison = random.choice(day.instruments).market

    def end() -> None:
        day.influx.poison = ""

    return end


# --- Redis ----------------------------------------------------------------------------------------------------------


def _redis(name: str, trouble: RedisTrouble, *lengths_s: float) -> None:
    def begin(day: Day, random: Random) -> End:
        day.redis.trouble = trouble

        def end() -> None:
            if day.redis.trouble == trouble:
                day.redis.trouble = "well"

        return end

    begin.__name__ = name
    fault("redis", *lengths_s)(begin)


_redis("refuses connections", "refused", 3.0, 60.0, 200.0)
_redis("hangs", "hangs", 5.0, 60.0)
_redis("breaks before it does", "lost before", 5.0, 40.0)
_redis("does and breaks", "lost after", 5.0, 40.0)
_redis("refuses the login", "login", 10.0, 60.0)
_redis("is demoted", "replica", 10.0, 60.0)
_redis("cannot save", "misconf", 10.0, 60.0)
_redis("is full", "full", 10.0, 60.0)
_redis("loads", "loading", 5.0, 20.0)


@fault("redis", 5.0)
def crashes(day: Day, random: Random) -> End:
    """It comes back without its newest entries: no append-only file."""
    day.redis.forget(random.randrange(1, 20))
    day.redis.trouble = "refused"

    def end() -> None:
        if day.redis.trouble == "refused":
            day.redis.trouble = "well"

    return end


# --- the disk -------------------------------------------------------------------------------------------------------


def _disk(name: str, trouble: DiskTrouble, *lengths_s: float) -> None:
    def begin(day: Day, random: Random) -> End:
        day.disk.trouble = trouble

        def end() -> None:
            if day.disk.trouble == trouble:
                day.disk.trouble = "well"

        return end

    begin.__name__ = name
    fault("disk", *lengths_s)(begin)


_disk("is full", "full", 2.0, 20.0, 90.0)
_disk("cannot be read", "read error", 1.0, 10.0)
_disk("commits and says it failed", "commit lost", 2.0, 20.0)
_disk("is locked", "locked", 2.0, 10.0)


@fault("disk", 20.0, 60.0)
def is_slow(day: Day, random: Random) -> End:
    """Each job of the journal takes up to a second."""
    day.slow_disk_s = random.uniform(0.05, 1.0)

    def end() -> None:
        day.slow_disk_s = 0.0

    return end


# --- the host -------------------------------------------------------------------------------------------------------


@fault("host")
def kill_9(day: Day, random: Random) -> End | None:
    """The process is gone, between any two of its steps."""
    day.kill()
    return None


@fault("host")
def kill_9_twice(day: Day, random: Random) -> End | None:
    """And again while the next one starts."""
    day.kill()
    asyncio.get_running_loop().call_later(random.uniform(0.5, 9.0), day.kill)
    return None


@fault("host", 20.0, 120.0)
def kill_9_with_a_signal(day: Day, random: Random) -> End:
    """A signal is on its way, and the disk takes a moment: it is in the journal, or in Redis, or in both, or in none."""
    day.kill_after_signal_s, day.slow_disk_s = random.uniform(0.0, 0.03), 0.02

    def end() -> None:
        day.kill_after_signal_s, day.slow_disk_s = None, 0.0

    return end


@fault("host")
def power_cut(day: Day, random: Random) -> End | None:
    """What was not synced is gone, in part or as a whole."""
    day.kill(power_cut=True)
    return None


@fault("host")
def sigterm(day: Day, random: Random) -> End | None:
    """It is stopped, and started again."""
    day.errands.append(asyncio.create_task(day.stop()))
    return None


@fault("host")
def killed_while_it_stops(day: Day, random: Random) -> End | None:
    """Somebody is impatient."""
    day.errands.append(asyncio.create_task(day.stop()))
    asyncio.get_running_loop().call_later(random.uniform(0.0, 0.3), day.kill)
    return None


def _stops(day: Day, seconds: float) -> None:
    """The exchanges do not stop: what they sent, they sent before anything else happens here."""
    day.loop.stall(seconds)
    day.orders.until(day.clock.now_ms())


@fault("host")
def stalls(day: Day, random: Random) -> End | None:
    """Nothing runs for some seconds: SIGSTOP, or a host that swaps."""
    _stops(day, random.choice([0.3, 1.0, 3.0, 12.0, 45.0]))
    return None


@fault("host")
def is_suspended(day: Day, random: Random) -> End | None:
    """Nothing runs for minutes, and what the exchanges sent meanwhile comes at once."""
    _stops(day, random.choice([70.0, 150.0, 400.0]))
    return None


@fault("host", 30.0, 300.0)
def clock_steps(day: Day, random: Random) -> End:
    """The wall clock steps, and is set right again."""
    day.clock.step_ms = random.choice([1e3, -1e3, 90e3, -90e3, 3600e3, -3600e3])

    def end() -> None:
        day.clock.step_ms = 0.0

    return end
