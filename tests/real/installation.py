"""A whole installation, rounds of faults upon it, and what must hold after each: P1, P2, P6, P11, P13.

`python -m tests.real.installation --minutes 30` goes on for so long; a round that fails is named by its seed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import orjson

from sqfd.journal import JournalStore
from tests.real.faults import ALONE, FAULTS, part_of
from tests.real.nemesis import Proxy, assert_equal_both_ways, make
from tests.real.servers import Influx, RedisServer
from tests.real.whole import Exchanges, Sqfd, whole_seconds_are_as_they_happened
from tests.waiting import PATIENCE_S, until

STREAM = "sqfd:signals"
STRIKE_S = 15.0
"""One of two faults that has met nobody after so long is not counted: the other one is in its way."""
AFTER_S = 5.0
"""A round goes on for so long after all is well."""


class Redis(RedisServer):
    """A redis-server that tells of itself."""

    def length(self) -> int:
        """Signals in the stream."""
        return int(self.ask("XLEN", STREAM) or 0)

    def refused(self, word: str) -> int:
        """How many commands it refused with that word."""
        for line in self.ask("INFO", "errorstats").splitlines():
            if line.startswith(f"errorstat_{word}:"):
                return int(line.partition("count=")[2])
        return 0


class Totals:
    """What happened in all rounds, and what was compared."""

    def __init__(self) -> None:
        self.happened: Counter[str] = Counter()
        self.figures: Counter[str] = Counter()

    def print(self) -> None:
        faults = sum(count for name, count in self.happened.items() if "met nobody" not in name)
        print(f"{faults} faults in {self.figures['rounds']} rounds:", dict(sorted(self.happened.items())))
        print(dict(self.figures), flush=True)


class Installation:
    """Servers that outlive rounds, and in each round a new `sqfd` between faulty networks."""

    def __init__(self, folder: Path, seed: int, totals: Totals) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        for name in ("influxd", "redis"):
            (folder / name).mkdir(parents=True)
        self.exchanges = Exchanges(seed)
        self.influxd, self.redis = Influx(folder / "influxd"), Redis(folder / "redis")
        self.proxies = {"InfluxDB": Proxy(self.influxd.port), "Redis": Proxy(self.redis.port)}
        self.sqfd: Sqfd
        self.database = ""
        self.creates = True
        """sqfd makes again what is missing in InfluxDB; otherwise somebody else has to."""
        self.disturbed = False
        """More than one fault is on: what one of them promises may wait for the other."""
        self.told: list[str] = []
        """The faults of this round."""
        self.happened, self.figures = totals.happened, totals.figures

    def __enter__(self) -> Installation:
        self.exchanges.start()
        self.influxd.start()
        self.redis.start()
        for proxy in self.proxies.values():
            proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies.values():
            proxy.stop()
        self.redis.stop()
        self.influxd.stop()
        self.exchanges.kill()

    def round(self, seed: int, faults: int = 3) -> None:
        """Faults by seed under load, time to heal, a clean stop, and then every promise by query."""
        self.rng, self.told, self.database = random.Random(seed), [], f"round_{seed}"
        self.redis.ask("FLUSHALL")
        ports = self.proxies["InfluxDB"].port, self.proxies["Redis"].port
        self.creates = seed % 2 == 0
        if not self.creates:
            make(self.influxd, self.database)
        self.sqfd = Sqfd(self.folder / self.database, self.exchanges.addresses, *ports, self.database, self.creates)
        self.sqfd.start()
        try:
            time.sleep(self.rng.uniform(0.0, 3.0))
            while len(self.told) < faults:
                self._befall(self._draw())
            until(self.sqfd.well, f"all is well again after {self.told}")
            time.sleep(AFTER_S)
            self.sqfd.assert_conserved()
            self.sqfd.terminate()
            self._check()
        finally:
            self.sqfd.end()
        self.influxd.ask(f'DROP DATABASE "{self.database}"')
        self.figures["rounds"] += 1

    def _draw(self) -> list[str]:
        """A fault, and in every third case another one of another part."""
        first = self.rng.choice(sorted(FAULTS))
        if first in ALONE:
            return [first]
        others = [name for name in sorted(FAULTS) if part_of(name) != part_of(first) and name not in ALONE]
        return [first, *self.rng.sample(others, self.rng.choice((0, 0, 1)))]

    def _befall(self, names: list[str]) -> None:
        """One fault, or two at a time."""
        self.told += names
        self.disturbed = len(names) > 1
        with ExitStack() as all_of_them:
            pending = {name: all_of_them.enter_context(FAULTS[name](self)) for name in names}
            deadline = time.monotonic() + (STRIKE_S if self.disturbed else PATIENCE_S)
            while pending and time.monotonic() < deadline:
                time.sleep(0.02)
                pending = {name: struck for name, struck in pending.items() if not struck()}
            time.sleep(self.rng.uniform(0.0, 0.7))
        assert self.disturbed or not pending, f"{names} met nobody"
        self.happened.update(f"{name} (met nobody)" if name in pending else name for name in names)

    def bars_go_on(self) -> None:
        """P13: whatever Redis does, seconds are closed."""
        told = self.sqfd.ask()
        if told is not None and told["second"] and not self.disturbed:
            until(lambda: (self.sqfd.ask() or told)["second"] > told["second"], "seconds close without Redis")

    # --- what must hold

    def _check(self) -> None:
        store = JournalStore(self.sqfd.state, read_only=True)
        self.figures["bars"] += assert_equal_both_ways(store, self.influxd, self.database, self.told)
        self.figures["bars compared with what happened"] += whole_seconds_are_as_they_happened(
            store, self.exchanges.truth, ordered="exchange: out_of_order" not in self.told
        )
        self._check_signals(store)
        store.close()
        log = self.sqfd.log.read_text()
        assert "Traceback" not in log, log[-4000:]

    def _check_signals(self, store: JournalStore) -> None:
        """P13: at most once, in order, within their time (a CLOSE however late); each one is there or has expired."""
        lines = self.redis.ask("XRANGE", STREAM, "-", "+").splitlines()
        sent = [orjson.loads(line) for line in lines if line.startswith("{")]
        ids = [one["signal_id"] for one in sent]
        assert len(ids) == len(set(ids)), f"a signal twice: {self.told}"
        assert [one["second"] for one in sent] == sorted(one["second"] for one in sent), self.told
        for one in sent:
            assert one["action"] == "CLOSE" or one["published_at"] <= one["valid_until"].replace("+", ".000+"), (
                one,
                self.told,
            )
        journaled = {signal.signal_id: signal for signal in store.signals(limit=100_000)}
        outcomes = dict(store.connection.execute("SELECT signal_id, outcome FROM published"))
        missing = {id for id in journaled.keys() - set(ids) if outcomes.get(id) != "expired"}
        assert not missing, (missing, [outcomes.get(id) for id in missing], self.told)
        for one in sent:  # what left in the instant of a crash may be in the stream alone
            if one["signal_id"] not in journaled:
                assert any(tick < one["second"] + 1 <= tick + 2 for tick in self.sqfd.crashes), (one, self.told)
                self.figures["signals that a crash left to Redis alone"] += 1
        self.figures["signals"] += len(ids)
        self.figures["signals expired"] += len(journaled.keys() - set(ids))


def main() -> int:
    """Rounds until the time is over; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each next one is 1 higher")
    parser.add_argument("--rounds", type=int, default=1_000_000, help="at most")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end, seed, total = time.monotonic() + given.minutes * 60, given.seed, Totals()
    while time.monotonic() < end and seed < given.seed + given.rounds:
        folder = Path(tempfile.mkdtemp(prefix="sqfd-nemesis-"))
        try:
            with Installation(folder, seed, total) as it:
                while time.monotonic() < end and seed < given.seed + given.rounds:
                    it.round(seed)
                    print(f"round {seed}: {', '.join(it.told)}", flush=True)
                    seed += 1
            shutil.rmtree(folder)
        except (AssertionError, OSError, subprocess.SubprocessError):
            traceback.print_exc(file=sys.stdout)
            print(f"round {seed} FAILED after {it.told}; what it left: {folder}\n"
                  f"again: python -m tests.real.installation --rounds 1 --seed {seed}", flush=True)  # fmt: skip
            total.figures["failed rounds"] += 1
            seed += 1
        total.print()
    return 1 if total.figures["failed rounds"] else 0


if __name__ == "__main__":
    sys.exit(main())
