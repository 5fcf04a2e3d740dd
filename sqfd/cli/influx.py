"""`sqfd influx check | init`: the database as it is, and as sqfd wants it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqfd.cli.config import file_option

if TYPE_CHECKING:
    from sqfd.influx.schema import Difference
    from sqfd.influx.settings import InfluxSettings

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP)
def influx() -> None:
    """Compare InfluxDB with what sqfd expects, and make it so.

    \b
    sqfd influx check -c sqfd.toml            exit 0 exactly when nothing differs
    sqfd influx init -c sqfd.toml             print the statements that would change it
    sqfd influx init -c sqfd.toml --apply     run them; stored data is never dropped
    """


@influx.command(context_settings=HELP)
@file_option
def check(path: Path | None) -> None:
    """Tell what of database, retention policies and continuous queries is missing or different.

    \b
    Example: sqfd influx check -c sqfd.toml
    """
    from sqfd.settings import without_login

    settings = _settings(path)
    differences = _run(_differences(settings))
    for difference in differences:
        click.echo(f"{difference.kind} {difference.name}: {difference.found or 'missing'}")
        click.echo(f"  expected {difference.expected}")
    if not settings.raw_measurement:
        click.echo("note: trades_1s is written by sqfd itself, so that cq_trades_1s is not wanted")
    click.echo(f"{without_login(settings.base_url)} {settings.database}: {len(differences)} differences")
    sys.exit(1 if differences else 0)


@influx.command(context_settings=HELP)
@file_option
@click.option("--apply", is_flag=True, help="Run the statements instead of printing them.")
def init(path: Path | None, apply: bool) -> None:
    """Create what is missing and change what differs; without --apply only print how.

    A retention policy is never made shorter: InfluxDB would delete what is older. Do that yourself if you want it.

    \b
    Example: sqfd influx init -c sqfd.toml --apply
    """
    from sqfd.influx.schema import would_delete

    settings = _settings(path)
    differences = _run(_differences(settings))
    refused = [difference for difference in differences if would_delete(difference)]
    wanted = [difference for difference in differences if difference not in refused]
    for difference in refused:
        click.echo(f"-- left as it is, because data would be deleted: {difference.statement}", err=True)
    if apply:
        _run(_apply(settings, wanted))
    for difference in wanted:
        click.echo(f"{difference.statement};")
    click.echo(f"-- {len(wanted)} {'applied' if apply else 'to apply: say --apply'}, {len(refused)} left", err=True)


def _settings(path: Path | None) -> InfluxSettings:
    from sqfd.config import load

    settings = load(path).config.influx
    if settings is None:
        raise click.ClickException("no [influx] in the configuration: there is nothing to compare")
    return settings


async def _differences(settings: InfluxSettings) -> list[Difference]:
    from sqfd.influx.client import Client
    from sqfd.influx.schema import compare, inspect, wanted

    async with Client(settings) as client:
        return compare(wanted(settings), await inspect(client, settings.database))


async def _apply(settings: InfluxSettings, differences: list[Difference]) -> None:
    from sqfd.influx.client import Client

    async with Client(settings) as client:
        for difference in differences:
            await client.ask(difference.statement)


def _run(work: Any) -> Any:
    from sqfd.influx.client import QueryError

    try:
        return asyncio.run(work)
    except QueryError as error:
        from sqfd.influx.verdict import Failure

        remedy = ": is it running? [influx] host and port say where" if isinstance(error.status, Failure) else ""
        raise click.ClickException(f"InfluxDB: {error}{remedy}") from error
