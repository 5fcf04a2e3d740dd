"""`sqfd habits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sqfd.sim.habits import Compared


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--windows", type=click.IntRange(2, 1_000), default=24, show_default=True, help="Simulated markets.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print the tables of docs/simulator.md.")
def habits(folder: Path, windows: int, as_json: bool, markdown: bool) -> None:
    """Show the simulated market's statistical habits beside those of a capture.

    \b
    FOLDER holds frames as `sqfd run --record` keeps them, of a symbol's spot and perps. Each
    symbol is simulated on the same markets, at the same time of day and as long.

    \b
    Example: sqfd habits capture/
    """
    import msgspec

    found = _found(folder, windows)
    if as_json:
        click.echo(msgspec.json.encode({symbol: [row._asdict() for row in rows] for symbol, rows in found.items()}))
    elif markdown:
        click.echo("\n\n".join(_markdown(symbol, rows) for symbol, rows in found.items()))
    else:
        _print(found)


def _found(folder: Path, windows: int) -> Mapping[str, Sequence[Compared]]:
    import exchanges
    from sqfd.feed.recorded import RecordingError
    from sqfd.sim.capture import Capture
    from sqfd.sim.habits import captured, compared, listings_of

    try:
        capture = Capture(folder, {name: exchanges.get(name) for name in exchanges.IDS})
        trades = [trade for _, _, of_frame in capture.frames() for trade in of_frame]
    except (ValueError, RecordingError) as error:
        raise click.ClickException(f"{folder}: {error}") from error
    symbols = captured(trades)
    if not symbols:
        raise click.ClickException(f"{folder}: no symbol with trades on spot and on perps")
    return {symbol: compared(symbol, own, listings_of(trades, symbol), windows) for symbol, own in symbols.items()}


def _print(found: Mapping[str, Sequence[Compared]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for symbol, rows in found.items():
        table = Table(box=None, pad_edge=False)
        table.add_column(symbol)
        for head in ("captured", "simulated", "5 to 95 %"):
            table.add_column(head, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(row.name, *_cells(row))
        console.print(table)


def _markdown(symbol: str, rows: Sequence[Compared]) -> str:
    lines = [f"| {symbol} | captured | simulated | 5 to 95 % |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.name} | {' | '.join(_cells(row))} |" for row in rows)])


def _cells(row: Compared) -> tuple[str, str, str]:
    real = "too short" if row.captured is None else _number(row.captured)
    return real, _number(row.simulated), f"{_number(row.low)} … {_number(row.high)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}".replace("-", "−")
