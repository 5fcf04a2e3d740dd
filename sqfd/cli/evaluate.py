"""`sqfd evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqfd.cli.backtest import configured, set_option, shown_progress
from sqfd.cli.config import file_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sqfd.sim.evaluate import Run
    from sqfd.sim.verdict import Verdict
    from sqfd.strategy.settings import StrategySettings

SEEDS = "1000-1003"
"""Held back: rules and points were never tuned on these (`sqfd.sim.verdict.TUNED_ON`)."""


class Seeds(click.ParamType[tuple[int, ...]]):
    """`3`, `1000-1003`, or several with commas."""

    name = "seeds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        seeds: list[int] = []
        for part in str(value).split(","):
            first, _, last = part.strip().partition("-")
            if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
                self.fail(f"{part!r} is no seed or range of seeds such as 1000-1003", param, ctx)
            seeds += range(int(first), int(last or first) + 1)
        return tuple(dict.fromkeys(seeds))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=Seeds(), default=SEEDS, show_default=True, help="Markets to make.")
@click.option("--days", type=click.FloatRange(0.25, 30), default=2.0, show_default=True, help="Days of each market.")
@click.option("--scenario", "names", multiple=True, help="null, squeeze-medium, gap …; default: all.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Processes; default: one per processor.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--markdown", is_flag=True, help="Print the table of docs/strategy.md.")
@click.option(
    "--plot", "folder", type=click.Path(path_type=Path, file_okay=False), help="Draw an episode of each kind."
)
@file_option
@set_option
def evaluate(
    seeds: tuple[int, ...],
    days: float,
    names: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
    markdown: bool,
    folder: Path | None,
    path: Path | None,
    assignments: tuple[str, ...],
) -> None:
    """Measure the strategy on markets with planted squeezes and decoys.

    \b
    Each scenario and seed makes a market of its own; the strategy sees its flow, never its
    plan. Exit code 1: a target of the strategy's definition was missed.

    \b
    Example: sqfd evaluate --seeds 1000-1009 --set strategy.min_entry_score=5
    """
    import os

    from sqfd.sim.verdict import as_json as to_json
    from sqfd.sim.verdict import as_markdown, missed_targets, verdicts

    settings = configured(path, assignments).config.strategy
    tasks = [(name, seed, days, settings) for name in _chosen(names) for seed in seeds]
    runs: list[Run] = []
    with _started(tasks, jobs or os.cpu_count() or 1) as finished, shown_progress("evaluate") as progress:
        for run in finished:
            runs.append(run)
            progress(len(runs), len(tasks))
    runs.sort(key=lambda run: (_chosen(names).index(run.scenario), run.seed))
    found = verdicts(runs)
    if as_json:
        about = {"seeds": seeds, "days": days, "settings": settings}
        click.echo(to_json(found, runs, about))
    elif markdown:
        click.echo(as_markdown(found, seeds, days))
    else:
        _print(found)
    if folder is not None:
        _draw(folder, _chosen(names), seeds[0], days, settings)
    sys.exit(1 if missed_targets(found) else 0)


def _chosen(names: Sequence[str]) -> list[str]:
    from sqfd.sim.evaluate import SCENARIOS

    for name in names:
        if name not in SCENARIOS:
            raise click.BadParameter(f"no scenario {name}; known: {', '.join(SCENARIOS)}", param_hint="--scenario")
    return list(names) or list(SCENARIOS)


FEW, WIDEST = 7, 1_000
"""So many columns of figures fit 80 characters, the first as well as the others; characters that a whole table may want."""
Task = tuple[str, int, float, "StrategySettings"]


@contextmanager
def _started(tasks: Sequence[Task], jobs: int) -> Iterator[Iterator[Run]]:
    """Runs as they are done, in processes of their own where there is more than one to use: forked before the bar has its thread."""
    from concurrent.futures import as_completed

    from sqfd.backtest.workers import Workers

    if jobs == 1:
        yield map(_evaluate, tasks)
        return
    with Workers(min(jobs, len(tasks)), len(tasks)) as pool:
        yield (done.result() for done in as_completed([pool.submit(_evaluate, task) for task in tasks]))


def _evaluate(task: Task) -> Run:
    from sqfd.sim.evaluate import SCENARIOS
    from sqfd.sim.evaluate import evaluate as judge
    from sqfd.strategy.registry import strategy_for

    name, seed, days, settings = task
    return judge(SCENARIOS[name], seed, days, strategy_for(settings), settings)


def _draw(folder: Path, names: Sequence[str], seed: int, days: float, settings: StrategySettings) -> None:
    from sqfd.sim.evaluate import SCENARIOS
    from sqfd.sim.pictures import draw
    from sqfd.strategy.registry import strategy_for

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        written = draw(folder, SCENARIOS[name], seed, days, strategy_for(settings), settings)
        click.echo(f"wrote {written}" if written else f"{name}: nothing is planted, nothing drawn", err=True)


def _print(found: Sequence[Verdict]) -> None:
    from rich.console import Console

    from sqfd.sim.verdict import missed_targets

    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in fitting(found, console):
        console.print(table, "")
    console.print(
        "± is the deviation over seeds. lead: median seconds from the entry to half of the run; place: of the entry in the "
        "run, 0 its start; wrong: entries against it; early: left before the run; captured: median share of the run; "
        "false: entries a day that belong to no episode.",
        style="dim",
    )
    for line in missed_targets(found):
        console.print(f"missed: {line}", style="red", markup=False)


def fitting(found: Sequence[Verdict], console: Console) -> list[Table]:
    """One table where it is not too wide for the console, else two."""
    from sqfd.sim.verdict import HEADS

    whole = _table(found, HEADS)
    wanted = console.measure(whole, options=console.options.update(max_width=WIDEST)).maximum
    return [whole] if wanted <= console.width else [_table(found, HEADS[:FEW]), _table(found, HEADS[FEW:])]


def _table(found: Sequence[Verdict], heads: Sequence[str]) -> Table:
    """The scenarios under some of HEADS."""
    from rich.table import Table

    from sqfd.sim.verdict import HEADS, cells

    table = Table(box=None, pad_edge=False)
    table.add_column("scenario", no_wrap=True)
    for name in heads:
        table.add_column(name, justify="right", no_wrap=True)
    for verdict in found:
        chosen = dict(zip(HEADS, cells(verdict), strict=True))
        table.add_row(verdict.scenario, *(chosen[name] for name in heads))
    return table
