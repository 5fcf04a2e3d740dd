"""`sqfd compare-live`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sqfd.cli.backtest import configured, from_option, journal, plain_errors, shown_progress, to_option
from sqfd.cli.config import file_option
from sqfd.cli.data import state_option


@click.command("compare-live", context_settings={"help_option_names": ["-h", "--help"]})
@from_option
@to_option
@state_option
@file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare_live(from_s: int | None, to_s: int | None, state: Path | None, path: Path | None, as_json: bool) -> None:
    """Run the backtest over a live run's journal and print where its signals differ: nowhere, or which and why.

    \b
    The run's own symbols and settings are used, as the journal notes them. Exit code 1 where
    anything differs. Also beside a running daemon.

    \b
    Example: sqfd compare-live --state /var/lib/sqfd
    """
    import orjson

    from sqfd.backtest.compare import compare
    from sqfd.backtest.source import moment
    from sqfd.heap import keep_freed

    keep_freed()
    config = configured(path, ()).config
    with journal(state, config) as store, plain_errors(), shown_progress("compare") as progress:
        found = compare(store, config, from_s, to_s, progress)
    plan = found.plan
    if as_json:
        told = found._asdict() | {"plan": plan._asdict(), "differences": [one._asdict() for one in found.differences]}
        click.echo(orjson.dumps(told))
    else:
        click.echo(f"{', '.join(plan.symbols)}  {moment(plan.first - 1)} to {moment(plan.last - 1)} UTC")
        for note in found.notes:
            click.echo(f"note: {note}")
        for one in found.differences:
            click.echo(f"{moment(one.second)} {one.symbol} {one.action}: {one.kind.replace('_', ' ')}: {one.why}")
            for name, (live, again) in one.fields.items():
                click.echo(f"    {name}: live {_short(live)}, backtest {_short(again)}")
        click.echo(f"{found.same} of {found.live} live signals are the same, {len(found.differences)} differences")
    sys.exit(1 if found.differences else 0)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 90 else text[:87] + "…"
