"""`sqfd import`, `sqfd export`, `sqfd coverage`: history in, history out, and what there is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchanges.archives import ORIGINS
from sqfd.cli.config import file_option
from sqfd.cli.data import When, opened, state_option

if TYPE_CHECKING:
    from exchanges.api import Instrument
    from sqfd.history.formats import Bad
    from sqfd.history.importer import Counts
    from sqfd.journal import JournalStore

HELP = {"help_option_names": ["-h", "--help"]}
BAD_SHOWN = 20


@click.command("import", context_settings=HELP)
@click.argument("origin", type=click.Choice([*ORIGINS, "influx"]))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--market", required=True, help="The market that the files are of, as EXCHANGE:pair.")
@state_option
@file_option
@click.option("--data", type=click.Choice(["trades", "liquidations"]), help="Default: what the file's path says.")
@click.option("--symbol", help="How the files spell the market, where they name it otherwise.")
@click.option("--kind", type=click.Choice(["spot", "perp", "future"]), help="Where the name does not tell.")
@click.option("--base", help="Where the name does not tell: the symbol that it belongs to.")
@click.option("--quote", help="Where the name does not tell.")
@click.option("--contract-size", type=click.FloatRange(0, min_open=True), help="Base coins, or quote units if inverse.")
@click.option("--inverse/--linear", default=None, help="Contracts are worth quote units, or base coins.")
@click.option("--from", "from_s", type=When(), help="influx: first second.")
@click.option("--to", "to_s", type=When(), help="influx: second after the last; default: now.")
@click.option(
    "--source", default="aggr_1s.trades_1s", show_default=True, help="influx: POLICY.MEASUREMENT of the bars."
)
@click.option("--ship", is_flag=True, help="Let the daemon ship the imported bars to InfluxDB too.")
@click.option("--again", is_flag=True, help="Read files that are in already once more.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_(
    origin: Any,
    files: tuple[Path, ...],
    market: str,
    state: Path | None,
    path: Path | None,
    data: Any,
    from_s: int | None,
    to_s: int | None,
    source: str,
    ship: bool,
    again: bool,
    as_json: bool,
    **known: Any,
) -> None:
    """Read trade archives into the journal: bars, coverage, and the flow that strategies see.

    \b
    binance  public data, trades or aggTrades, zip or CSV, spot, USD-M and COIN-M
    tardis   trades or liquidations, CSV or CSV.gz
    aggr     aggr-server's trade files, plain or gz
    influx   1-second bars of the InfluxDB that [influx] names; no FILES, but --from

    \b
    The daemon of that journal must be stopped. An import may be repeated, or killed and
    repeated: files that are in are skipped, what is in already does not change. Rows that
    cannot be read are named, counted and left out. After each file the flow of its hours is
    made again from all markets of the symbol, so that markets may be imported one by one.

    \b
    Example: sqfd import binance BTCUSDT-trades-2024-08-0*.zip --market BINANCE:btcusdt --state S
    """
    from sqfd.history.importer import Importer
    from sqfd.history.markets import NoSuchMarket, instrument_of

    try:
        instrument = instrument_of(market, **known)
    except NoSuchMarket as error:
        raise click.ClickException(str(error)) from error
    if (origin == "influx") == bool(files) or (origin == "influx") != (from_s is not None):
        raise click.UsageError("name FILES; or, for influx, --from and no files")
    kinds = {data or _data_of(file) for file in files}
    started = time.monotonic()
    with _writable(state, path) as store, _Progress(files) as progress:
        told = _Told(progress)
        summaries = []
        if from_s is not None:
            summaries.append(_from_influx(path, store, instrument, from_s, to_s or int(time.time()), source))
        for kind in sorted(kinds, reverse=True):  # trades first: liquidations join their bars
            importer = Importer(store, instrument, origin, kind, bad=told.bad, read=progress.read)
            chosen = [file for file in files if (data or _data_of(file)) == kind]
            summaries.append(importer.run(chosen, again=again))
        if ship:
            _ship_from(store, market)
    told.end()
    _print(summaries, time.monotonic() - started, as_json)
    if any(summary.unreadable for summary in summaries):
        sys.exit(1)


def _from_influx(
    path: Path | None, store: JournalStore, instrument: Instrument, from_s: int, to_s: int, source: str
) -> Counts:
    import asyncio

    from sqfd.config import load
    from sqfd.history.stored import import_stored
    from sqfd.influx.client import QueryError

    settings = load(path).config.influx
    if settings is None:
        raise click.ClickException("no [influx] in the configuration: it says where the bars are")
    try:
        return asyncio.run(import_stored(store, instrument, settings, from_s, to_s, source))
    except (QueryError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _data_of(file: Path) -> Any:
    return "liquidations" if "liquidations" in str(file.absolute()).lower() else "trades"


@contextmanager
def _writable(state: Path | None, path: Path | None) -> Iterator[JournalStore]:
    """The journal for this process alone; old rows stay until a daemon with its own retention opens it."""
    import os

    from sqfd.config import load, state_folder
    from sqfd.journal import JournalStore, JournalTooNew
    from sqfd.journal.journal import JournalBusy, claim

    folder = state or state_folder(load(path).config)
    try:
        lock = claim(folder, "import")
        try:
            store = JournalStore(folder, bulk=True)
            try:
                yield store
            finally:
                store.close()
        finally:
            os.close(lock)
    except JournalBusy as error:
        raise click.ClickException(f"{error}: stop it first") from error
    except (JournalTooNew, OSError) as error:
        raise click.ClickException(f"{folder}: {error}") from error


def _ship_from(store: JournalStore, market: str) -> None:
    """Take the cursor back to before this market's first bar: writing bars again that are there changes nothing."""
    first = min((one.first_second for one in store.extent() if one.market == market), default=None)
    cursor = store.cursor("influx")
    if first is not None and cursor > first:
        store.move("influx", first)


class _Told:
    """Names the first malformed rows and counts the others."""

    def __init__(self, progress: _Progress) -> None:
        self._progress, self._count = progress, 0

    def bad(self, file: Path, row: Bad) -> None:
        self._count += 1
        if self._count <= BAD_SHOWN:
            self._progress.say(f"{file}:{row.line}: {row.why}: {row.text}")

    def end(self) -> None:
        if self._count > BAD_SHOWN:
            click.echo(f"… and {self._count - BAD_SHOWN:,} more malformed rows", err=True)


class _Progress:
    """A bar over the bytes of all files on a terminal; nothing elsewhere."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files
        self._behind: dict[Path, int] = {}
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("import", total=sum(file.stat().st_size for file in set(self._files)))
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def read(self, file: Path, at: int) -> None:
        """`at` bytes of `file` are behind us."""
        self._behind[file] = at
        if self._bar is not None:
            self._bar.update(self._task, description=file.name, completed=sum(self._behind.values()))

    def say(self, text: str) -> None:
        """One line beside the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)


def _print(summaries: list[Counts], elapsed_s: float, as_json: bool) -> None:
    import orjson

    names = [field for field in summaries[0].__struct_fields__ if field != "unreadable"]
    total: dict[str, Any] = {name: sum(getattr(one, name) for one in summaries) for name in names}
    unreadable = [text for one in summaries for text in one.unreadable]
    for text in unreadable:
        click.echo(f"sqfd: {text}", err=True)
    if as_json:
        click.echo(orjson.dumps(total | {"unreadable": unreadable, "elapsed_s": round(elapsed_s, 3)}))
        return
    click.echo(
        f"{total['files']:,} files ({total['skipped']:,} were in already), {total['rows']:,} rows: {total['trades']:,} in bars, "
        f"{total['malformed']:,} malformed, {total['others']:,} of other symbols, {total['sideless']:,} without a side, "
        f"{total['late']:,} out of order"
    )
    click.echo(
        f"{total['bars']:,} bars written, {total['kept']:,} were known, {total['flow']:,} seconds of flow made, {elapsed_s:.1f} s"
    )


# --- out --------------------------------------------------------------------------------------------------------------


@click.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@state_option
@file_option
@click.option("--market", "markets", multiple=True, help="Only this EXCHANGE:pair; may be repeated.")
@click.option("--from", "from_s", type=When(), help="First second.")
@click.option("--to", "to_s", type=When(), help="Second after the last.")
def export(
    file: Path, state: Path | None, path: Path | None, markets: tuple[str, ...], from_s: int | None, to_s: int | None
) -> None:
    """Write stored 1-second bars to FILE: CSV (.csv, .csv.gz) or Parquet (.parquet).

    \b
    Columns: market second open high low close vbuy vsell cbuy csell lbuy lsell.
    Parquet needs pyarrow: pip install "sqfd[parquet]".

    \b
    Example: sqfd export btc.parquet --state S --market BINANCE:btcusdt --from 2024-08-08
    """
    from sqfd.history.export import ExportFailed, export_bars

    store = opened(state, path)
    try:
        rows = export_bars(store, file, markets, from_s, to_s)
    except ExportFailed as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{rows:,} bars written to {file}")


@click.command(context_settings=HELP)
@state_option
@file_option
@click.option("--market", "markets", multiple=True, help="Only this EXCHANGE:pair; may be repeated.")
@click.option("--from", "from_s", type=When(), help="First second.")
@click.option("--to", "to_s", type=When(), help="Second after the last.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per market and day.")
def coverage(
    state: Path | None, path: Path | None, markets: tuple[str, ...], from_s: int | None, to_s: int | None, as_json: bool
) -> None:
    """Print per market and day how much of it is whole: look here before a backtest.

    \b
    whole: share of the day in which the feed missed nothing (or a file held everything);
    bars: seconds with a bar; gaps: stretches between whole ones, and the longest of them.

    \b
    Example: sqfd coverage --state S --from -7d
    """
    from sqfd.history.coverage import days

    store = opened(state, path)
    if not as_json:
        click.echo(f"{'market':<28} {'day':<10} {'whole':>7} {'bars':>7} {'gaps':>5} {'longest':>9}")
    for day in days(store, markets, from_s, to_s):
        if as_json:
            import orjson

            click.echo(orjson.dumps(day._asdict()))
        else:
            date = datetime.fromtimestamp(day.day_s, UTC).strftime("%Y-%m-%d")
            click.echo(
                f"{day.market:<28} {date} {day.whole_s / 86_400:>7.2%} {day.bars:>7,} {day.gaps:>5,} {day.longest_gap_s:>7,} s"
            )
