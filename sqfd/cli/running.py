"""Running a daemon from a command: the loop, signals, and errors in one line."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Sequence

import click
import uvloop

from sqfd import log
from sqfd.cli.errors import one_line
from sqfd.cli.stopping import hold
from sqfd.config import Config
from sqfd.daemon import Daemon
from sqfd.ending import Leaving, StopOverdue
from sqfd.feed.catalog import UnknownMarket
from sqfd.heap import settle, share_one
from sqfd.journal import JournalTooNew
from sqfd.journal.journal import JournalBusy

Beside = Callable[[Daemon], Awaitable[None]]


def run_until_stopped(
    make: Callable[[], Daemon],
    beside: Beside | None = None,
    reload: Callable[[], Config] | None = None,
    held: Sequence[int] | None = None,
) -> int:
    """Run the daemon that `make` gives until SIGTERM or SIGINT; give the exit code. SIGHUP reads the configuration again.

    `beside` runs next to it and ends with it; where it ends first, the daemon is stopped. `held` are the signals that came
    before there was a loop to take them; None: those that come from now on are held.
    """
    code = 0
    held = hold() if held is None else held
    share_one()
    leaving = Leaving(log.get("end"))
    try:
        uvloop.run(_run(make, beside, reload, held, leaving))
    except* (UnknownMarket, JournalBusy, JournalTooNew, OSError, sqlite3.Error) as group:
        for error in _leaves(group):
            click.echo(f"sqfd: {one_line(error)}", err=True)
        code = 78 if group.subgroup(UnknownMarket) else 1
    finally:
        leaving.end()
    return code


async def _run(
    make: Callable[[], Daemon],
    beside: Beside | None,
    reload: Callable[[], Config] | None,
    held: Sequence[int],
    leaving: Leaving,
) -> None:
    daemon = make()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, daemon.reload, reload)
    for early in held:
        signal.raise_signal(early)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_until_ended(daemon))
        if beside is not None:
            other = group.create_task(_beside(beside, daemon))
            running.add_done_callback(lambda _: other.cancel())
        ready = group.create_task(daemon.ready.wait())
        running.add_done_callback(lambda _: ready.cancel())  # it may be stopped, or fail, before it is ready
        ready.add_done_callback(lambda _: settle())
    leaving.begin()


async def _until_ended(daemon: Daemon) -> None:
    try:
        await daemon.run()
    except StopOverdue as overdue:
        # What does not end would hold up an orderly exit too, and the journal is made for a process that is just gone.
        click.echo(f"sqfd: {overdue}", err=True)
        sys.stdout.flush()
        os._exit(1)


async def _beside(beside: Beside, daemon: Daemon) -> None:
    try:
        await beside(daemon)
    finally:
        daemon.stop()


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
