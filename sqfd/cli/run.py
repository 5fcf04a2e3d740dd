"""`sqfd run`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from sqfd.cli.config import file_option
from sqfd.cli.stopping import hold


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@file_option
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder of the journal.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep every received frame in this folder (rotated, bounded), for `sqfd replay`.",
)
def run(path: Path | None, state: Path | None, record: Path | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    \b
    Without a configuration file it runs on defaults: BTC, ETH and SOL on all exchanges,
    its own journal as store, signals to the log. [influx] and [redis] are used when named.

    \b
    Example: sqfd run -c sqfd.toml
    """
    from sqfd.config import load, state_folder

    flags = {"journal.state": str(state)} if state else None
    loaded = load(path, flags=flags, flag="--state")
    # Only now what takes longer to import: a wrong key is told at once.
    held = hold(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    from sqfd import log
    from sqfd.cli.hiding import Hiding
    from sqfd.cli.running import run_until_stopped
    from sqfd.config import Config
    from sqfd.daemon import Daemon

    config = loaded.config
    hiding = Hiding(sys.stderr, config)
    sys.stderr = hiding
    log.configure(config.log.level, config.log.format)
    logger = log.get("start")
    for note in loaded.notes:
        logger.warning(note)
    folder = state_folder(config)
    logger.info("starting", state=str(folder), instance=config.instance)

    def reload() -> Config:
        changed = load(path, flags=flags, flag="--state").config
        hiding.learn(changed)
        return changed

    sys.exit(run_until_stopped(lambda: Daemon(config, folder, record=record), reload=reload, held=held))
