"""The command line. Commands are imported when they are called, so that `--help` and `--version` answer at once."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from sqfd import __version__
from sqfd.cli.stopping import interruptible

COMMANDS: dict[str, tuple[str, str]] = {
    "backtest": ("sqfd.cli.backtest:backtest", "Run the engine over stored seconds, and trade its signals on paper."),
    "bars": ("sqfd.cli.data:bars", "Print stored 1-second bars."),
    "compare-live": ("sqfd.cli.compare_live:compare_live", "Run a live run's journal again and compare its signals."),
    "completion": ("sqfd.cli.completion:completion", "Print the completion script of a shell."),
    "config": ("sqfd.cli.config:config", "Check, show and describe the configuration."),
    "coverage": ("sqfd.cli.history:coverage", "Print per market and day what the journal has."),
    "decode": ("sqfd.cli.decode:decode", "Turn raw exchange frames into trades, one JSON line each."),
    "demo": ("sqfd.cli.demo:demo", "Simulated exchanges and the daemon on them."),
    "doctor": ("sqfd.cli.doctor:doctor", "Check this host and everything that sqfd talks to."),
    "evaluate": ("sqfd.cli.evaluate:evaluate", "Measure the strategy on planted squeezes and decoys."),
    "exchanges": ("sqfd.cli.exchanges:exchanges", "What each exchange offers, and what to know of its data."),
    "explain": ("sqfd.cli.watch:explain", "Say why a symbol gave a signal, or what stopped it."),
    "export": ("sqfd.cli.history:export", "Write stored bars as CSV or Parquet."),
    "gaps": ("sqfd.cli.gaps:gaps", "Tell when feeds were not whole, and what became of it."),
    "habits": ("sqfd.cli.habits:habits", "Show the simulated market's habits beside those of a capture."),
    "import": ("sqfd.cli.history:import_", "Read trade archives, or bars of an InfluxDB, into the journal."),
    "influx": ("sqfd.cli.influx:influx", "Compare InfluxDB with what sqfd expects, and make it so."),
    "markets": ("sqfd.cli.watch:markets", "List collected markets with rate, lag and coverage."),
    "replay": ("sqfd.cli.replay:replay", "Run recorded frames through the daemon's stages."),
    "run": ("sqfd.cli.run:run", "Run the daemon."),
    "signals": ("sqfd.cli.signals:signals", "Print signals, past and as they come."),
    "sweep": ("sqfd.cli.sweep:sweep", "Backtest many settings in parallel."),
    "status": ("sqfd.cli.watch:status", "Show the running daemon on one screen."),
    "tap": ("sqfd.cli.watch:tap", "Print decoded trades of a market as they come."),
    "top": ("sqfd.cli.top:top", "Watch markets and symbols live."),
}
"""Name → (where it is, what it is for)."""


class Lazy(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        interruptible()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sqfd")
def cli() -> None:
    """sqfd turns the trade feeds of 25 exchanges into 1-second bars and SqueezeFlow signals.

    \b
    sqfd demo                    see it work, on simulated exchanges
    sqfd run -c sqfd.toml        run the daemon
    sqfd COMMAND --help          each command, with an example
    """


def main() -> None:
    """Entry point. Exit codes: 0 ok, 1 error, 2 usage, 78 configuration."""
    # Numpy starts a thread for each core, which nothing here gives work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli(prog_name="sqfd")
    except ValueError as error:
        from sqfd.settings import SettingsError  # not before it is needed: `--version` answers at once

        if not isinstance(error, SettingsError):
            raise
        click.echo(f"sqfd: {error}", err=True)
        sys.exit(78)
    except Exception as error:
        if not _expected(error):
            raise
        from sqfd.cli.errors import one_line

        click.echo(f"sqfd: {one_line(error)}", err=True)
        sys.exit(1)


def _expected(error: Exception) -> bool:
    """Whether it is the machine's fault, not ours: files, disks, the journal."""
    database = sys.modules.get("sqlite3")
    return isinstance(error, OSError) or (database is not None and isinstance(error, database.Error))
