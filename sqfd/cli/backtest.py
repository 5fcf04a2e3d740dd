"""`sqfd backtest`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqfd.cli.config import file_option
from sqfd.cli.data import When, state_option

if TYPE_CHECKING:
    from sqfd.backtest.run import Progress, Result
    from sqfd.config import Config, Loaded
    from sqfd.journal import JournalStore

set_option = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Another setting, e.g. strategy.min_entry_score=5."
)
symbol_option = click.option(
    "--symbol", "symbols", help="BTC or BTC,ETH; default: the configured symbols that there are."
)
from_option = click.option("--from", "from_s", type=When(), help="First second.")
to_option = click.option("--to", "to_s", type=When(), help="Second after the last.")
timeframe_option = click.option(
    "--timeframe",
    type=click.Choice(["1s", "1m", "5m", "15m", "30m", "1h", "4h"]),
    default="1s",
    show_default=True,
    help="Bars that the strategy sees; its windows with them, see docs/backtest.md.",
)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@symbol_option
@from_option
@to_option
@state_option
@file_option
@set_option
@click.option(
    "--source",
    type=click.Choice(["journal", "influx"]),
    default="journal",
    show_default=True,
    help="influx: bars of the server that [influx] names, its rollups with --timeframe.",
)
@timeframe_option
@click.option("--revised", is_flag=True, help="Use the newest revision of each second instead of what live saw.")
@click.option("--json", "json_file", type=_FILE, help="Write signals, trades, statistics and coverage; - for stdout.")
@click.option("--html", "html_file", type=_FILE, help="Write a report that needs nothing but a browser.")
@click.option("--trades", "csv_file", type=_FILE, help="Write the trades as CSV.")
def backtest(
    symbols: str | None,
    from_s: int | None,
    to_s: int | None,
    state: Path | None,
    path: Path | None,
    assignments: tuple[str, ...],
    source: str,
    timeframe: str,
    revised: bool,
    json_file: Path | None,
    html_file: Path | None,
    csv_file: Path | None,
) -> None:
    """Run the live engine over stored seconds and trade its signals on paper.

    \b
    The journal is read in the order in which it was written, so that the signals are those
    of the live run, byte for byte. Fees, slippage, latency and size are the settings of
    [backtest]; they do not change which signals there are.

    \b
    Example: sqfd backtest --state S --symbol BTC,ETH --from -1d --html report.html
    """
    from sqfd.backtest.charts import Charts
    from sqfd.backtest.coarse import TIMEFRAMES
    from sqfd.backtest.output import summary, write_json
    from sqfd.backtest.run import Backtest, planned
    from sqfd.heap import keep_freed

    keep_freed()
    config = configured(path, assignments).config
    wanted = split(symbols)
    bar_s = TIMEFRAMES[timeframe]
    opened = journal(state, config) if source == "journal" else _from_influx(config, wanted, from_s, to_s, timeframe)
    with plain_errors(), opened as store:
        plan = planned(store, config, wanted, from_s, to_s, revised or source == "influx", bar_s)
        charts = Charts(plan) if html_file is not None else None
        run = Backtest(
            store,
            config,
            plan,
            watcher=charts.add if charts is not None else None,
            observer=charts.observe if charts is not None else None,
            brief=json_file is None and html_file is None,  # what explains signals is shown nowhere else
        )
        with shown_progress("backtest") as progress:
            result = run.run(progress)
    if json_file is not None:
        write_json(json_file, result, config)
    if csv_file is not None:
        write_trades(csv_file, result)
    if html_file is not None and charts is not None:
        from sqfd.backtest.report import write_html

        write_html(html_file, result, charts, config)
    if str(json_file) != "-":
        click.echo(summary(result, config))


def configured(path: Path | None, assignments: Sequence[str]) -> Loaded:
    """The configuration with `--set KEY=VALUE` on top. Raises SettingsError for unknown keys."""
    from sqfd.config import load

    flags = dict[str, Any]()
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--set {assignment}: write KEY=VALUE")
        flags[key] = value
    known_keys("--set", flags)
    return load(path, flags=flags)


def known_keys(flag: str, keys: Iterable[str]) -> None:
    """Raises SettingsError for one that is no setting."""
    from sqfd.config import Config
    from sqfd.settings import SettingsError, all_keys, nearest

    known = all_keys(Config)
    for key in keys:
        if key not in known:
            raise SettingsError(f"{flag}: {key}: unknown setting{nearest(key, known)}")


def split(symbols: str | None) -> tuple[str, ...]:
    """`BTC,ETH` as names."""
    return tuple(name.strip().upper() for name in (symbols or "").split(",") if name.strip())


@contextmanager
def journal(state: Path | None, config: Config) -> Iterator[JournalStore]:
    """The journal for reading; a plain error where there is none."""
    from sqfd.config import state_folder
    from sqfd.journal import JournalStore, JournalTooNew

    try:
        store = JournalStore(state or state_folder(config), read_only=True)
    except (FileNotFoundError, JournalTooNew) as error:
        raise click.ClickException(f"{error}; name its folder with --state") from error
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _from_influx(
    config: Config, symbols: tuple[str, ...], from_s: int | None, to_s: int | None, timeframe: str
) -> Iterator[JournalStore]:
    """A journal for this run only, filled from InfluxDB."""
    import asyncio
    import tempfile

    from sqfd.backtest.coarse import TIMEFRAMES, config_in_bars
    from sqfd.backtest.influx import Stored, fetch
    from sqfd.influx.client import Client, QueryError
    from sqfd.journal import JournalStore
    from sqfd.wiring import symbols_of

    settings = config.influx
    if settings is None:
        raise click.ClickException("--source influx: no [influx] in the configuration")
    bar_s = TIMEFRAMES[timeframe]
    strategy = config_in_bars(config, bar_s).strategy
    before_s = (strategy.history_s + 3 * strategy.memory_s) * bar_s

    async def fill(store: JournalStore, progress: Progress) -> None:
        async with Client(settings) as client:
            stored = Stored(client, settings.database, timeframe)
            await fetch(stored, store, symbols or symbols_of(config), (from_s, to_s), before_s, progress)

    with tempfile.TemporaryDirectory(prefix="sqfd-backtest-") as folder:
        store = JournalStore(Path(folder), bulk=True)
        try:
            with shown_progress("reading InfluxDB") as progress:
                asyncio.run(fill(store, progress))
            yield store
        except QueryError as error:
            raise click.ClickException(f"InfluxDB: {error}") from error
        finally:
            store.close()


@contextmanager
def plain_errors() -> Iterator[None]:
    """What a user can mend, in one line."""
    from sqfd.backtest.source import NoData
    from sqfd.settings import SettingsError

    try:
        yield
    except SettingsError:
        raise
    except (NoData, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def shown_progress(name: str) -> Iterator[Progress]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def write_trades(path: Path, result: Result) -> None:
    """Trades, and what is still open, as CSV with a header."""
    from sqfd.backtest.trades import CSV_COLUMNS, csv_row

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(csv_row(trade) for trade in (*result.trades, *result.still_open))
