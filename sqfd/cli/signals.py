"""`sqfd signals`: past ones from the journal, new ones from the running daemon."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from sqfd.cli.data import When, opened, state_option
from sqfd.cli.remote import Api, NotRunning, api_of, url_option

LAST = 10
"""Past signals that --follow begins with, as `tail -f` does."""
MOST = 1_000
"""That the daemon gives at once."""
ALL = 2**31
RETRY_S = 2.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@state_option
@url_option
@click.option("--follow", is_flag=True, help="The last ten of the running daemon, then new ones as they come.")
@click.option("--from", "from_s", type=When(), help="First second.")
@click.option("--json", "as_json", is_flag=True, help="The signal as published, one JSON line each.")
def signals(
    state: Path | None, url: str | None, path: Path | None, follow: bool, from_s: int | None, as_json: bool
) -> None:
    """Print signals from the journal, oldest first; with --follow those of the running daemon, until Ctrl-C.

    \b
    Following survives a restart of the daemon: what came meanwhile is printed, nothing twice.

    \b
    Example: sqfd signals --from -24h
             sqfd signals --follow --json
    """
    if follow and state is not None:
        raise click.UsageError("--follow asks the running daemon: leave --state out, or name the daemon with --url")
    found = _followed(api_of(url, path), from_s) if follow else _past(state, path, from_s or 0)
    for signal in found:
        click.echo(_line(signal) if as_json else _told(signal))
        sys.stdout.flush()


def _past(state: Path | None, path: Path | None, from_s: int) -> Iterator[Mapping[str, Any]]:
    import orjson

    store = opened(state, path)
    try:
        for record in store.signals(from_tick=from_s + 1, limit=ALL):
            yield orjson.loads(record.line)
    finally:
        store.close()


def _followed(api: Api, from_s: int | None) -> Iterator[Mapping[str, Any]]:
    """Recent ones, then the stream, over and over: from the last `seq` that was printed."""
    recent: list[Mapping[str, Any]] = api.get(f"/signals/recent?limit={LAST if from_s is None else MOST}")
    yield from (signal for signal in recent if signal["second"] >= (from_s or 0))
    seq, told = max((signal["seq"] for signal in recent), default=0), False
    while True:
        try:
            for signal in _stream(api, seq):
                seq, told = signal["seq"], False
                yield signal
        except NotRunning as error:
            if not told:
                click.echo(f"{error.format_message()}; trying again", err=True)
            told = True
        time.sleep(RETRY_S)


def _stream(api: Api, seq: int) -> Iterable[Mapping[str, Any]]:
    return api.events(f"/signals?since={seq}")


def _line(signal: Mapping[str, Any]) -> str:
    import orjson

    return orjson.dumps(signal).decode()


def _told(signal: Mapping[str, Any]) -> str:
    return (
        f"{signal['timestamp']} {signal['action']:<5} {signal['symbol']:<10} score {signal['score']:.2f} "
        f"at {signal['entry_price']:.10g}  {signal['reasoning']}"
    )
