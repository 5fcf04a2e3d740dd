"""Everything that may befall an installation. A fault is a generator: it begins, yields whether it has struck, and ends.

To add one, write a function here; docs/promises.md shows how.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from sqfd.sim.faults import FaultKind
from tests.real.nemesis import MISSING, PROXY_FAULTS, full_disk, missing
from tests.real.whole import IDS
from tests.waiting import until

if TYPE_CHECKING:
    from tests.real.installation import Installation

Struck = Callable[[], object]
FAULTS: dict[str, Callable[[Installation], AbstractContextManager[Struck]]] = {}
ALONE: set[str] = set()
"""Those that nothing else may come together with: they ask a server, or turn the network off themselves."""


def fault(befall: Callable[[Installation], Iterator[Struck]]) -> None:
    """Enter a generator into the table, by its name."""
    FAULTS[befall.__name__.replace("_", " ")] = contextmanager(befall)


def part_of(name: str) -> str:
    """What a fault befalls: of two at a time, each has its own."""
    return name.split()[0].rstrip("s:")


def _at_once() -> bool:
    return True


# --- sqfd ---------------------------------------------------------------------------------------------------------------


@fault
def sqfd_is_killed(it: Installation) -> Iterator[Struck]:
    it.sqfd.kill()
    yield _at_once
    it.sqfd.start()


@fault
def sqfd_is_killed_while_it_starts(it: Installation) -> Iterator[Struck]:
    it.sqfd.kill()
    it.sqfd.start()
    yield _at_once
    it.sqfd.kill()
    it.sqfd.start()


@fault
def sqfd_is_restarted(it: Installation) -> Iterator[Struck]:
    it.sqfd.terminate()
    yield _at_once
    it.sqfd.start()


@fault
def sqfd_stands_still(it: Installation) -> Iterator[Struck]:
    it.sqfd.process.send_signal(signal.SIGSTOP)
    yield _at_once
    it.sqfd.process.send_signal(signal.SIGCONT)


@fault
def sqfd_has_a_full_disk(it: Installation) -> Iterator[Struck]:
    """P14: it says so, and signals go on."""
    it.sqfd.answer()
    it.sqfd.limit_files(1)
    yield it.sqfd.fault
    if not it.disturbed:  # else Redis may be away
        signals = it.redis.length()
        until(lambda: it.redis.length() > signals, "a signal leaves while the disk is full")
    it.sqfd.limit_files(None)
    until(lambda: not it.sqfd.fault(), "the journal is written again")


# --- InfluxDB -------------------------------------------------------------------------------------------------------------


@fault
def influxdb_is_killed(it: Installation) -> Iterator[Struck]:
    it.influxd.kill()
    yield _at_once
    it.influxd.start()


@fault
def influxdb_stands_still(it: Installation) -> Iterator[Struck]:
    it.influxd.send(signal.SIGSTOP)
    yield _at_once
    time.sleep(0.5)  # longer than a request may take
    it.influxd.send(signal.SIGCONT)


@fault
def influxdb_has_a_full_disk(it: Installation) -> Iterator[Struck]:
    with full_disk(it.influxd, it.database):
        yield _at_once


def _missing(what: str) -> Callable[[Installation], Iterator[Struck]]:
    def befall(it: Installation) -> Iterator[Struck]:
        """P1: it says that somebody has to do something, and heals once that was done, by whomever."""
        it.sqfd.answer()
        held = _held(it)
        with missing(it.influxd, it.proxies["InfluxDB"], it.database, what, it.creates) as back:
            yield lambda: _held(it) > held or back()

    return befall


def _held(it: Installation) -> int:
    """How often it said that it holds what InfluxDB does not take; 0 while it gives no answer."""
    told = it.sqfd.ask()
    return int(told["sinks"]["influx"]["counters"].get("writes_hold", 0)) if told is not None else 0


for _what in MISSING:
    FAULTS[f"influxdb has no {_what}"] = contextmanager(_missing(_what))
    ALONE.add(f"influxdb has no {_what}")


# --- Redis ----------------------------------------------------------------------------------------------------------------


@fault
def redis_is_killed(it: Installation) -> Iterator[Struck]:
    it.redis.kill()
    yield _at_once
    it.bars_go_on()
    it.redis.start()


@fault
def redis_stands_still(it: Installation) -> Iterator[Struck]:
    it.redis.send(signal.SIGSTOP)
    yield _at_once
    it.bars_go_on()
    it.redis.send(signal.SIGCONT)


@fault
def redis_is_demoted(it: Installation) -> Iterator[Struck]:
    """A read-only replica of a master that is not there."""
    before = it.redis.refused("READONLY")
    it.redis.ask("REPLICAOF", "127.0.0.1", "1")
    yield lambda: it.redis.refused("READONLY") > before
    it.bars_go_on()
    it.redis.ask("REPLICAOF", "NO", "ONE")


@fault
def redis_has_no_memory(it: Installation) -> Iterator[Struck]:
    before = it.redis.refused("OOM")
    it.redis.ask("CONFIG", "SET", "maxmemory", "1")
    yield lambda: it.redis.refused("OOM") > before
    it.bars_go_on()
    it.redis.ask("CONFIG", "SET", "maxmemory", "0")


# --- between them -----------------------------------------------------------------------------------------------------------


def _network(name: str, mode: int) -> Callable[[Installation], Iterator[Struck]]:
    def befall(it: Installation) -> Iterator[Struck]:
        proxy = it.proxies[name]
        hits = proxy.hits.value
        proxy.mode.value = mode
        yield lambda: proxy.hits.value > hits
        proxy.heal()

    return befall


for _sink in ("InfluxDB", "Redis"):
    for _name, _mode in PROXY_FAULTS.items():
        if _sink == "InfluxDB" or not _name.isdigit():  # statuses are HTTP's
            FAULTS[f"network to {_sink}: {_name}"] = contextmanager(_network(_sink, _mode))


# --- exchanges --------------------------------------------------------------------------------------------------------------


def _exchange(kind: FaultKind, *, cut: bool, more: dict[str, Any]) -> Callable[[Installation], Iterator[Struck]]:
    """`cut`: connections are closed once, too: the fault shows in what happens after that."""

    def befall(it: Installation) -> Iterator[Struck]:
        where = it.rng.choice(IDS)
        number = it.exchanges.add(kind, where, **more)
        if cut:
            it.exchanges.add(FaultKind.CLOSE, where, times=2)
        yield lambda: it.exchanges.fired(number)
        it.exchanges.remove(number)

    return befall


for _kind in FaultKind:
    _cut = _kind in (FaultKind.REFUSE_CONNECT, FaultKind.DUPLICATE, FaultKind.REFUSE_REST)
    _more: dict[str, Any] = {"seconds": 1.5} if _kind in (FaultKind.DELAY, FaultKind.DUPLICATE) else {}
    _more |= {"seconds": 0.0, "code": 503} if _cut and not _more else {}  # 429 would keep us away for a minute
    if _kind is not FaultKind.REFUSE_SYMBOL:  # takes a market away for an hour: tests/real/test_feeds.py
        FAULTS[f"exchange: {_kind}"] = contextmanager(_exchange(_kind, cut=_cut, more=_more))


@fault
def exchanges_are_killed(it: Installation) -> Iterator[Struck]:
    it.exchanges.kill()
    yield _at_once
    it.exchanges.start()


@fault
def exchanges_stand_still(it: Installation) -> Iterator[Struck]:
    it.exchanges.send(signal.SIGSTOP)
    yield _at_once
    it.exchanges.send(signal.SIGCONT)
