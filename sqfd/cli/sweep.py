"""`sqfd sweep`."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqfd import __version__
from sqfd.cli.backtest import (
    configured,
    from_option,
    journal,
    known_keys,
    plain_errors,
    set_option,
    shown_progress,
    split,
    symbol_option,
    timeframe_option,
    to_option,
)
from sqfd.cli.config import file_option
from sqfd.cli.data import state_option
from sqfd.cli.stopping import clean_up_on_sigterm

if TYPE_CHECKING:
    from sqfd.backtest.sweep import Row, Verdict
    from sqfd.backtest.trials import Axis

BEST = 10


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--vary", "axes", multiple=True, required=True, metavar="KEY=V,V|LOW..HIGH", help="A setting and its values."
)
@click.option("--random", "draws", type=click.IntRange(1), help="Draw so many combinations instead of trying all.")
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option(
    "--windows", type=click.IntRange(0, 1000), default=0, help="Walk forward: choose in one part, test in the next."
)
@click.option(
    "--metric",
    default="sharpe",
    show_default=True,
    help="sharpe sortino total_return expectancy_bps profit_factor win_rate",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the results; resumes."
)
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one per core.")
@click.option(
    "--dask", "cluster", metavar="ADDRESS", help="Run on this Dask cluster (tcp://…), which sees the same folders."
)
@symbol_option
@from_option
@to_option
@timeframe_option
@state_option
@file_option
@set_option
def sweep(
    axes: tuple[str, ...],
    draws: int | None,
    seed: int,
    windows: int,
    metric: str,
    out: Path,
    workers: int | None,
    cluster: str | None,
    symbols: str | None,
    from_s: int | None,
    to_s: int | None,
    timeframe: str,
    state: Path | None,
    path: Path | None,
    assignments: tuple[str, ...],
) -> None:
    """Backtest many settings in parallel, and say how much of the best is luck.

    \b
    Results are kept as they come (results.jsonl in --out): the same command again goes on where
    it was stopped. At the end: results.csv, sweep.html, and results.parquet where pyarrow is.

    \b
    Example: sqfd sweep --state S --vary strategy.min_entry_score=3,4,5 --vary backtest.latency_s=1,5 --out sweep/
    """
    from sqfd.backtest import sweep as sweeps
    from sqfd.backtest.coarse import TIMEFRAMES
    from sqfd.backtest.run import planned
    from sqfd.backtest.trials import axis_of, key_of, parts_of, trials_of
    from sqfd.config import state_folder, with_flags

    loaded = configured(path, assignments)
    config = loaded.config
    with plain_errors():
        if metric not in sweeps.METRICS:
            raise ValueError(f"--metric {metric}: known are {', '.join(sweeps.METRICS)}")
        varied = [axis_of(text) for text in axes]
        known_keys("--vary", [axis.key for axis in varied])
        trials = trials_of(varied, draws, seed)
        if draws is not None and len(trials) < draws:
            click.echo(f"--random {draws}: there are only {len(trials)} different combinations", err=True)
        configs = {key_of(trial): (trial, with_flags(loaded, trial, "--vary")) for trial in trials}
        with journal(state, config) as store:
            plan = planned(store, config, split(symbols), from_s, to_s, bar_s=TIMEFRAMES[timeframe])
        parts = parts_of(plan.first, plan.last, windows)
        results = sweeps.Results(out, sweeps.fingerprint(plan, parts, config))
        folder = (state or state_folder(config)).resolve()
        runs = len(configs) * len(parts)
        if kept := results.kept(configs):
            click.echo(f"{kept} of {runs} runs are in {out} already", err=True)
        with (
            _stopped(lambda: f"{results.kept(configs)} of {runs} runs are kept in {out}"),
            _executor(workers, cluster, runs) as (executor, cores, share),
        ):
            waiting = sweeps.units(folder, plan, parts, configs, results.done, cores)
            started = sweeps.start(executor, list(waiting))
            from sqfd.backtest.picture import write_picture  # imported now, while there is nothing to do but wait

            _parquet()
            with shown_progress("sweep") as progress:
                sweeps.collect(started, results, progress, share)
    rows = [row for row in results.rows if key_of(row.trial) in configs]
    found = sweeps.verdict(rows, metric, len(parts))
    write_csv(out / "results.csv", rows, varied)
    _write_parquet(out / "results.parquet", out / "results.csv", varied)
    write_picture(out / "sweep.html", len(rows), varied, metric, found)
    _tell(found, metric, out)


@contextmanager
def _stopped(kept: Callable[[], str]) -> Iterator[None]:
    """What to say where it ends early: what is finished is kept."""
    from concurrent.futures.process import BrokenProcessPool

    clean_up_on_sigterm()
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"stopped; {kept()}: the same command goes on from there", err=True)
        sys.exit(130)
    except BrokenProcessPool as error:
        why = "a worker was killed, for its memory perhaps (--workers 1 needs less)"
        raise click.ClickException(f"{why}; {kept()}: the same command goes on from there") from error


@contextmanager
def _executor(
    workers: int | None, cluster: str | None, runs: int
) -> Iterator[tuple[Executor, int, Callable[[int], float]]]:
    """Processes of this machine, or a Dask cluster; how many work at once; how much of a running unit is done, where that is known."""
    if cluster is not None:
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            raise click.ClickException("--dask needs the optional packages: pip install 'sqfd[sweep]'") from error
        with distributed.Client(cluster) as client:
            _same_version(client)
            yield client.get_executor(), sum(client.ncores().values()) or 1, lambda unit: 0.0
        return
    from sqfd.backtest.workers import Workers

    count = min(workers or os.cpu_count() or 1, runs)
    with Workers(count, runs) as pool:
        yield pool, count, pool.share


def _same_version(client: Any) -> None:
    """Raises ClickException where the cluster's scheduler or a worker has no sqfd, or another one: it could not read what it is given."""
    from pydoc import locate

    asked = locate, "sqfd.__version__"  # of the standard library: they can find it whatever they lack
    found: dict[str, str | None] = {"the scheduler": client.run_on_scheduler(*asked), **client.run(*asked)}
    other = [f"{place} has {version or 'none'}" for place, version in found.items() if version != __version__]
    if other:
        needed = f"the cluster's scheduler and workers need sqfd {__version__}, as here (pip install sqfd)"
        raise click.ClickException(f"--dask: {needed}: {', '.join(other[:5])}{' …' if len(other) > 5 else ''}")


def _table(rows: Sequence[Row], varied: Sequence[Axis]) -> tuple[list[str], list[list[Any]]]:
    from sqfd.backtest.sweep import COLUMNS

    keys = [axis.key for axis in varied]
    body = [[*(row.trial[key] for key in keys), row.part, *(_cell(row, name) for name in COLUMNS)] for row in rows]
    return [*keys, "part", *COLUMNS], sorted(body, key=lambda line: [str(value) for value in line[: len(keys) + 1]])


def _cell(row: Row, name: str) -> float | int | None:
    value = row.stats[name]
    return int(value) if name == "trades" and value is not None else value


def write_csv(path: Path, rows: Sequence[Row], varied: Sequence[Axis]) -> None:
    """One line for each trial and part."""
    columns, body = _table(rows, varied)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(["" if value is None else value for value in line] for line in body)


def _parquet() -> tuple[Any, Any, Any] | None:
    """pyarrow and what of it is needed; None where it is not installed."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.csv"), import_module("pyarrow.parquet")
    except ImportError:
        return None


def _write_parquet(path: Path, table: Path, varied: Sequence[Axis]) -> None:
    """The same as Parquet, from the CSV `table`: columns of Python's values would make pyarrow import pandas, a third of a second."""
    from sqfd.backtest.sweep import COLUMNS

    if (found := _parquet()) is None:
        return
    pyarrow, read, parquet = found
    kinds = dict.fromkeys((axis.key for axis in varied), pyarrow.string()) | {"part": pyarrow.int64()}
    kinds |= {name: pyarrow.int64() if name == "trades" else pyarrow.float64() for name in COLUMNS}
    parquet.write_table(read.read_csv(table, convert_options=read.ConvertOptions(column_types=kinds)), path)


def _tell(found: Verdict, metric: str, out: Path) -> None:
    from sqfd.backtest.trials import key_of

    for trial, value in found.ranked[:BEST]:
        click.echo(f"{_number(value):>12}  {key_of(trial)}")
    for chosen in found.forward:
        if chosen.train is None:
            click.echo(
                f"part {chosen.part + 1}: no trial has a {metric} here (too few trades or returns): nothing to choose by"
            )
            continue
        click.echo(
            f"part {chosen.part + 1}: best was {key_of(chosen.trial)}, {metric} {_number(chosen.train)}, "
            f"then in the next part {_number(chosen.test)}"
        )
    click.echo(f"{found.trials} trials; results and picture in {out}")
    if found.deflated is None:
        click.echo("too few trials or hours to tell skill from luck")
        return
    luck = "no evidence of more than luck" if found.deflated < 0.95 else "unlikely to be luck alone"
    click.echo(
        f"deflated Sharpe ratio of the best of {found.trials}: {found.deflated:.3f} ({luck}; 0.95 is the usual bar)"
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
