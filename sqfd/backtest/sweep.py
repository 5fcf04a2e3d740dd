"""Many backtests over one journal: in parallel, resumable, and judged with the number of trials in mind.

A unit of work is some trials in one part of the range. They read the flow once and share what does not depend on what differs
between them: features, the phases whose settings are equal, and signals where only `[backtest]` differs. Units run in processes
of this machine, or on a Dask cluster that sees the same folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from sqfd.backtest.coarse import config_in_bars
from sqfd.backtest.run import Backtest, Plan, Result, alike, told_by
from sqfd.backtest.statistics import HOUR_S, period_returns
from sqfd.backtest.trials import Moments, Trial, deflated_sharpe, key_of, moments
from sqfd.config import Config
from sqfd.engine import reach_of
from sqfd.heap import keep_freed
from sqfd.journal import JournalStore
from sqfd.wiring import strategy_of

METRICS = ("sharpe", "sortino", "total_return", "expectancy_bps", "profit_factor", "win_rate")
COLUMNS = (*METRICS, "trades", "max_drawdown", "exposure", "net", "cost_share")
"""Statistics that a row of results holds."""
RESULTS = "results.jsonl"
EACH, MOST = 2, 64
"""Units for each worker at least, and trials of one unit at most."""


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

    Each worker has `EACH` units at least, where there are enough trials: sharing is worth less than an idle core.
    """
    for number, (first, last) in enumerate(parts):
        groups: dict[Hashable, list[tuple[Trial, Config]]] = {}
        for key, (trial, config) in configs.items():
            if (key, number) not in done:
                groups.setdefault(reach_of(strategy_of(config_in_bars(config, plan.bar_s), plan.symbols)), []).append(
                    (trial, config)
                )
        for group in groups.values():
            group.sort(key=lambda one: msgspec.json.encode(one[1].strategy))  # the same signals stay in one unit
            size = min(MOST, -(-len(group) // -(-workers * EACH // len(parts))))
            for start in range(0, len(group), size):
                trials, chosen = zip(*group[start : start + size], strict=True)
                yield Unit(str(state), plan._replace(first=first, last=last), number, trials, chosen)


def work(unit: Unit) -> list[Row]:
    """Run one unit: in a process of its own, possibly on another machine."""
    keep_freed()
    store = JournalStore(Path(unit.state), read_only=True)
    rows: list[Row] = []
    try:
        for trials, configs in _together(store, unit):
            results = Backtest(store, configs[0], unit.plan, also=configs[1:]).run_all()
            rows += [_row(trial, unit.part, result) for trial, result in zip(trials, results, strict=True)]
    finally:
        store.close()
    return rows


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
    return Row(trial, part, {name: stats[name] for name in COLUMNS}, moments(returns))


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


def sweep(executor: Executor, waiting: Sequence[Unit], results: Results, progress: Callable[[int, int], None]) -> None:
    """Run all units; each is kept when it is finished. The first that fails stops the sweep with its error."""
    total = len(results.rows) + sum(len(unit.trials) for unit in waiting)
    futures = [executor.submit(work, unit) for unit in waiting]
    try:
        for future in as_completed(futures):
            results.add(future.result())
            progress(len(results.rows), total)
    finally:
        for future in futures:
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
