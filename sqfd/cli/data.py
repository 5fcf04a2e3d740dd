"""`sqfd bars`: what the journal has; and what other commands that read it share."""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sqfd.cli.config import file_option

COLUMNS = ("market", "second", "open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell")
state_option = click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder of the journal.")
HOUR_S = 3600


class When(click.ParamType[int]):
    """Epoch seconds, ISO 8601 (UTC unless it says otherwise), or a time ago such as `-2h`."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        if re.fullmatch(r"\d{1,12}", text):
            return int(text)
        if ago := re.fullmatch(r"-(\d+)([smhd])", text):
            return int(time.time()) - int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago[2]]
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is no time: write epoch seconds, 2026-11-22T14:00:00 or -2h", param, ctx)
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def opened(state: Path | None, path: Path | None = None) -> Any:
    """The journal of `--state` or of the configuration, for reading; a plain error where there is none."""
    from sqfd.config import load, state_folder
    from sqfd.journal import JournalStore, JournalTooNew

    folder = state or state_folder(load(path).config)
    try:
        return JournalStore(folder, read_only=True)
    except (FileNotFoundError, JournalTooNew) as error:
        raise click.ClickException(f"{error}; name its folder with --state") from error


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@state_option
@file_option
@click.option("--market", "markets", multiple=True, help="Only this EXCHANGE:pair; may be repeated.")
@click.option("--from", "from_s", type=When(), help="First second.")
@click.option("--to", "to_s", type=When(), help="Second after the last.")
@click.option("--json", "form", flag_value="json", help="One JSON object per bar.")
@click.option("--csv", "form", flag_value="csv", help="CSV with a header.")
def bars(
    state: Path | None, path: Path | None, markets: tuple[str, ...], from_s: int | None, to_s: int | None, form: str
) -> None:
    """Print stored 1-second bars: market second open high low close vbuy vsell cbuy csell lbuy lsell.

    \b
    Volumes (v) and liquidations (l) are in the quote currency, c counts trades, a second is
    its bar's open. Late and recovered trades are in: the newest revision of each bar is shown.

    \b
    Example: sqfd bars --state S --market BINANCE:btcusdt --from -1h --csv
    """
    store = opened(state, path)
    known = store.market_names()
    for market in markets:
        if market not in known:
            raise no_market(market, known)
    extent = store.extent()
    first = min((one.first_second for one in extent), default=0)
    last = max((one.last_second for one in extent), default=-1)
    start, end = first if from_s is None else max(from_s, first), last + 1 if to_s is None else min(to_s, last + 1)
    if form == "csv":
        click.echo(",".join(COLUMNS))
    for hour in range(start, end, HOUR_S):
        rows = store.bars(list(markets) or None, hour, min(hour + HOUR_S, end))
        click.echo("".join(_printed(([known[row[0]], *row[1:]] for row in rows.tolist()), form)), nl=False)


def _printed(rows: Iterable[Sequence[Any]], form: str | None) -> Iterable[str]:
    import orjson

    for row in rows:
        values = [None if isinstance(value, float) and math.isnan(value) else value for value in row]
        if form == "json":
            yield orjson.dumps(dict(zip(COLUMNS, values, strict=True))).decode() + "\n"
        elif form == "csv":
            yield ",".join("" if value is None else str(value) for value in values) + "\n"
        else:
            yield _aligned(values) + "\n"


def _aligned(values: Sequence[Any]) -> str:
    at = datetime.fromtimestamp(values[1], UTC).strftime("%Y-%m-%d %H:%M:%S")
    prices = " ".join(f"{'-' if v is None else f'{v:.10g}':>12}" for v in values[2:6])
    volumes = " ".join(f"{v:>14.2f}" for v in values[6:8])
    rest = " ".join(f"{v:>6}" for v in values[8:10]) + " " + " ".join(f"{v:>10.2f}" for v in values[10:])
    return f"{values[0]:<28} {at} {prices} {volumes} {rest}"


def no_market(name: str, known: Sequence[str]) -> click.ClickException:
    """A market that a journal does not have, with those that are spelt like it, or where to find all."""
    near = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ": `sqfd coverage` lists them"
    return click.ClickException(f"no market {name} in this journal{hint}")
