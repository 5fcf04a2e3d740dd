"""Many backtests over one journal: in parallel, resumable, and judged with the number of trials in mind.

A unit of work is some trials in one part of the range. They read the flow once and share what does not depend on what differs
between them: features, the phases whose settings are equal, and signals where only `[backtest]` differs. Units run in processes
of this machine, or on a Dask cluster that sees the same folder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from sqfd.backtest.coarse import config_in_bars
from sqfd.backtest.run import Backtest, Plan, Result, alike, told_by
from sqfd.backtest.statistics import HOUR_S, period_returns
from sqfd.backtest.trials import Moments, Trial, deflated_sharpe, key_of, moments
from sqfd.backtest.workers import tell
from sqfd.config import Config
from sqfd.engine import reach_of
from sqfd.heap import keep_freed
from sqfd.journal import JournalStore
from sqfd.strategy.shared import read_of
from sqfd.wiring import strategy_of

T = TypeVar("T")
METRICS = ("sharpe", "sortino", "total_return", "expectancy_bps", "profit_factor", "win_rate")
COLUMNS = (*METRICS, "trades", "max_drawdown", "exposure", "net", "cost_share")
"""Statistics that a row of results holds."""
RESULTS = "results.jsonl"
FEW, MOST, MOST_TICKS = 24, 64, 100_000_000
"""Trials of a unit where that leaves no worker idle; at most; and how many times its ticks at most: a minute or so of one core, and
100 MB for the curves."""
LOOK_S = 0.2
"""How often the progress of running units is looked at."""


class Row(msgspec.Struct, frozen=True):
    """One trial in one part of the range."""

    trial: Trial
    part: int
    stats: dict[str, float | None]
    moments: Moments
    """Of hourly returns."""

    @property
    def key(self) -> tuple[str, int]:
        return key_of(self.trial), self.part


class Unit(NamedTuple):
    """What one process runs at once."""

    number: int
    state: str
    plan: Plan
    part: int
    trials: tuple[Trial, ...]
    configs: tuple[Config, ...]
    """By trial; their strategies read the same history."""


class _Head(msgspec.Struct):
    fingerprint: str


def units(
    state: Path,
    plan: Plan,
    parts: Sequence[tuple[int, int]],
    configs: Mapping[str, tuple[Trial, Config]],
    done: set[tuple[str, int]],
    workers: int = 1,
) -> Iterator[Unit]:
    """Work that is left: by part, and within it by what strategies may share. `configs` by `key_of` the trial.

    Units are as many for each worker: what trials share is made once for each unit, so there are no more than that needs.
    """
    pieces, number = workers // math.gcd(len(parts), workers), 0
    groups: dict[Hashable, list[tuple[str, Trial, Config]]] = {}
    for key, (trial, config) in sorted(configs.items(), key=lambda one: _nearness(one[1][1])):
        reach = reach_of(strategy_of(config_in_bars(config, plan.bar_s), plan.symbols))
        groups.setdefault(reach, []).append((key, trial, config))
    for part, (first, last) in enumerate(parts):
        for group in groups.values():
            left = [(trial, config) for key, trial, config in group if (key, part) not in done]
            for piece in balanced(left, pieces, min(MOST, max(1, MOST_TICKS // (last - first)))):
                trials, chosen = zip(*piece, strict=True)
                yield Unit(number, str(state), plan._replace(first=first, last=last), part, trials, chosen)
                number += 1


def _nearness(config: Config) -> bytes:
    """Sorts what shares more next to each other: those with equal columns, then equal phases, then equal signals."""
    read = read_of(config.strategy)
    return msgspec.json.encode([read.columns, read.reset, read.divergence, read.score, config.strategy])


def balanced(group: Sequence[T], pieces: int, most: int) -> list[Sequence[T]]:
    """`pieces` of equal size, or a multiple of that: each a stretch from the front and one from the back.

    Costs mostly rise or fall along what is varied (lower bars let more through), and so each piece has cheap and dear ones.
    """
    if not group:
        return []
    count = min(len(group), pieces * max(-(-len(group) // (pieces * most)), len(group) // (pieces * FEW), 1))
    found, front, back = list[Sequence[T]](), 0, len(group)
    for size in (len(group) // count + (at < len(group) % count) for at in range(count)):
        middle = back - size // 2
        found.append([*group[front : front + size - size // 2], *group[middle:back]])
        front, back = front + size - size // 2, middle
    return found


def work(unit: Unit) -> list[Row]:
    """Run one unit: in a process of its own, possibly on another machine."""
    keep_freed()
    store = JournalStore(Path(unit.state), read_only=True)
    rows: list[Row] = []
    try:
        for trials, configs in _together(store, unit):
            before, share = len(rows) / len(unit.trials), len(trials) / len(unit.trials)
            told = partial(_tell, unit.number, before, share)
            results = Backtest(store, configs[0], unit.plan, also=configs[1:], brief=True).run_all(told)
            rows += [_row(trial, unit.part, result) for trial, result in zip(trials, results, strict=True)]
    finally:
        store.close()
    return rows


def _tell(unit: int, before: float, share: float, done: int, total: int) -> None:
    tell(unit, before + share * done / total)


def _together(store: JournalStore, unit: Unit) -> list[tuple[list[Trial], list[Config]]]:
    """What can run in step: a trial with the settings of a live run starts where that one did, by itself."""
    told = told_by(store)
    groups: dict[bytes, tuple[list[Trial], list[Config]]] = {}
    for trial, config in zip(unit.trials, unit.configs, strict=True):
        lived = any(alike(run, unit.plan, config.strategy) for run in told)
        group = groups.setdefault(msgspec.json.encode(config.strategy) if lived else b"", ([], []))
        group[0].append(trial)
        group[1].append(config)
    return list(groups.values())


def _row(trial: Trial, part: int, result: Result) -> Row:
    stats, samples = result.stats(), result.curve.samples()
    returns = period_returns(samples.tick, samples.equity, result.curve.capital, HOUR_S)
    numbers = {name: None if stats[name] is None else float(stats[name]) for name in COLUMNS}  # as they are read again
    return Row(trial, part, numbers, moments(returns))


class Results:
    """Finished rows in a folder; a sweep that was stopped goes on from there."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Raises ValueError where the folder holds another sweep."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.rows = folder / RESULTS, list[Row]()
        if self.path.exists():
            self._read(fingerprint)
        else:
            self.path.write_bytes(msgspec.json.encode(_Head(fingerprint)) + b"\n")

    def _read(self, fingerprint: str) -> None:
        head, *lines = self.path.read_bytes().splitlines(keepends=True)
        if msgspec.json.decode(head, type=_Head).fingerprint != fingerprint:
            raise ValueError(f"{self.path} holds a sweep of other data or settings: name another folder")
        whole = [line for line in lines if line.endswith(b"\n")]
        self.rows = [msgspec.json.decode(line, type=Row) for line in whole]
        if len(whole) < len(lines):  # it was stopped in the midst of a line
            self.path.write_bytes(head + b"".join(whole))

    @property
    def done(self) -> set[tuple[str, int]]:
        return {row.key for row in self.rows}

    def kept(self, trials: Container[str]) -> int:
        """How many runs of these trials, by `key_of`, are finished."""
        return sum(trial in trials for trial, _ in self.done)

    def add(self, rows: Iterable[Row]) -> None:
        """Keep finished rows, on disk first."""
        rows = list(rows)
        with self.path.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        self.rows += rows


def fingerprint(plan: Plan, parts: Sequence[tuple[int, int]], config: Config) -> str:
    """What must be the same for results to belong together."""
    text = msgspec.json.encode([plan, parts, config.strategy, config.backtest, config.bars])
    return hashlib.sha256(text).hexdigest()[:16]


Started = Mapping[Future[list[Row]], Unit]


def start(executor: Executor, waiting: Sequence[Unit]) -> Started:
    """Give out all units."""
    return {executor.submit(work, unit): unit for unit in waiting}


def collect(
    started: Started, results: Results, progress: Callable[[int, int], None], share: Callable[[int], float]
) -> None:
    """Keep each unit when it is finished. The first that fails stops the sweep with its error.

    `share`: how much of a running unit is done, by its number. `progress` is told thousandths of trials.
    """
    total, pending = len(results.rows) + sum(len(unit.trials) for unit in started.values()), set(started)
    try:
        while pending:
            finished, pending = wait(pending, LOOK_S, FIRST_COMPLETED)
            for future in finished:
                results.add(future.result())
            running = sum(share(started[future].number) * len(started[future].trials) for future in pending)
            progress(round(1_000 * (len(results.rows) + running)), 1_000 * total)
    finally:
        for future in started:
            future.cancel()


class Chosen(NamedTuple):
    """Walk-forward: the best trial of one part, and what it did in the next."""

    part: int
    trial: Trial
    train: float | None
    test: float | None


class Verdict(NamedTuple):
    """What a sweep found."""

    ranked: list[tuple[Trial, float | None]]
    """Trials by their mean metric over all parts, best first."""
    deflated: float | None
    """Of the best by Sharpe ratio: probability that it is more than luck. See `deflated_sharpe`."""
    trials: int
    forward: list[Chosen]


def verdict(rows: Sequence[Row], metric: str, parts: int) -> Verdict:
    """Rank trials, walk forward, and deflate the best."""
    by_key = {row.key: row for row in rows}
    trials = {key_of(row.trial): row.trial for row in rows}
    means = {key: _mean([by_key[key, part].stats[metric] for part in range(parts)]) for key in trials}
    ranked = sorted(trials, key=lambda key: _worth(means[key]), reverse=True)
    pooled = {key: _pooled([by_key[key, part] for part in range(parts)]) for key in trials}
    best = max(pooled.values(), key=lambda one: one.sharpe)
    deflated = deflated_sharpe(best, [one.sharpe for one in pooled.values()])
    forward = []
    for part in range(parts - 1):
        worth = {key: _worth(by_key[key, part].stats[metric]) for key in trials}
        key = max(worth.items(), key=itemgetter(1))[0]
        train, test = by_key[key, part].stats[metric], by_key[key, part + 1].stats[metric]
        forward.append(Chosen(part, trials[key], train, test))
    return Verdict([(trials[key], means[key]) for key in ranked], deflated, len(trials), forward)


def _pooled(rows: Sequence[Row]) -> Moments:
    """One trial over all parts, which are about equally long."""
    sharpe, skew, kurtosis, periods = zip(*(row.moments for row in rows), strict=True)
    count = len(rows)
    return Moments(sum(sharpe) / count, sum(skew) / count, sum(kurtosis) / count, sum(periods))


def _worth(value: float | None) -> float:
    return float("-inf") if value is None else value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
