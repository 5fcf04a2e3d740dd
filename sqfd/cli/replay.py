"""`sqfd replay`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqfd.cli.config import file_option

if TYPE_CHECKING:
    from sqfd.config import Config
    from sqfd.feed.recorded import Recorded, Recording
    from sqfd.replay import Summary


class Speed(click.ParamType[float | None]):
    """`max`, or how many times as fast as it happened."""

    name = "SPEED"

    def convert(
        self, value: str | float | None, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value is None or value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed <= 1e6:
            self.fail(f"{value!r} is neither max nor a number above 0", param, ctx)
        return speed


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the journal to fill."
)
@file_option
@click.option("--speed", type=Speed(), default="max", help="max, or N times real time.", show_default=True)
@click.option("--wire", is_flag=True, help="Send the frames through real websockets on loopback to a real daemon.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def replay(folder: Path, state: Path, path: Path | None, speed: float | None, wire: bool, as_json: bool) -> None:
    """Run recorded frames through decode, bars, strategy and journal.

    \b
    FOLDER holds *.jsonl.gz as `sqfd run --record` writes them: one JSON object per line with
    recv_ms, exchange and frame. Time is the recorded receive time, so that seconds close as
    they would have closed live. Repeating a replay into the same journal changes nothing.

    \b
    Example: sqfd replay recordings/ --state /tmp/s && sqfd bars --state /tmp/s --csv
    """
    from sqfd import log
    from sqfd.config import load
    from sqfd.feed.recorded import Recording, RecordingError

    config = load(path).config
    log.configure("warning", config.log.format)
    started = time.monotonic()
    try:
        if wire:
            from sqfd.cli.wire import replay_over_wire

            summary = replay_over_wire(folder, state, config, speed)
        else:
            recording = Recording(folder)
            summary = _replayed(recording, state, config, speed)
            _report_unreadable(recording)
    except RecordingError as error:
        raise click.ClickException(str(error)) from error
    _print(summary, time.monotonic() - started, as_json)


def _replayed(recording: Recording, state: Path, config: Config, speed: float | None) -> Summary:
    from sqfd.journal import JournalStore
    from sqfd.replay import Replay

    store = JournalStore(state, bulk=True)
    try:
        return Replay(config, store, recording.instruments()).run(_shown(_paced(recording, speed)))
    finally:
        store.close()


def _paced(frames: Iterable[Recorded], speed: float | None) -> Iterator[Recorded]:
    """The frames with their recorded spacing, divided by `speed`."""
    origin: tuple[float, float] | None = None
    for frame in frames:
        if speed is not None:
            origin = origin or (time.monotonic(), frame.recv_ms)
            due = origin[0] + (frame.recv_ms - origin[1]) / 1e3 / speed
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
        yield frame


def _shown(frames: Iterable[Recorded]) -> Iterator[Recorded]:
    """The frames, with progress on a terminal."""
    if not sys.stderr.isatty():
        yield from frames
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} frames, at {task.fields[at]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replay", total=None, at="")
        for number, frame in enumerate(frames):
            if number % 500 == 0:
                at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(frame.recv_ms / 1e3))
                progress.update(task, completed=number, at=at)
            yield frame


def _report_unreadable(recording: Recording) -> None:
    if recording.first_unreadable is not None:
        total = sum(recording.unreadable.values())
        click.echo(f"sqfd: {total} lines could not be read; the first: {recording.first_unreadable}", err=True)


def _print(summary: Summary, elapsed_s: float, as_json: bool) -> None:
    import orjson

    counts = summary.counts
    if as_json:
        shown = summary._asdict() | {"counts": {n: getattr(counts, n) for n in counts.__struct_fields__}}
        click.echo(orjson.dumps(shown | {"elapsed_s": round(elapsed_s, 3)}))
        return
    click.echo(
        f"{summary.frames:,} frames, {counts.received:,} trades: {counts.aggregated:,} in bars, "
        f"{counts.duplicate:,} duplicate, {counts.late:,} too late, {counts.malformed:,} malformed"
    )
    for reason, count in sorted(summary.excluded.items()):
        click.echo(f"  {count:,} rows left out: {reason}")
    click.echo(
        f"{summary.bars - summary.revisions:,} bars and {summary.revisions:,} revisions of {len(summary.markets)} "
        f"markets in {summary.ticks:,} ticks, {summary.signals:,} signals, {elapsed_s:.1f} s"
    )
