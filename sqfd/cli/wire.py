"""`sqfd replay --wire`: recorded frames through real websockets on loopback, to a real daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from sqfd.cli.running import run_until_stopped
from sqfd.cli.stopping import clean_up_on_sigterm
from sqfd.config import Config
from sqfd.daemon import Daemon
from sqfd.feed.intake import Counts
from sqfd.feed.recorded import Recording
from sqfd.replay import Summary
from sqfd.sim.process import Ready, SimulatedExchanges

QUIET_S = 3.0
"""The recording is over when nothing was received for this long."""


def replay_over_wire(folder: Path, state: Path, config: Config, speed: float | None) -> Summary:
    """Serve the recording on loopback and run a daemon on it until all has arrived.

    Raises RecordingError, or SimulationFailed when the servers do not start.
    """
    clean_up_on_sigterm()
    exchange_ids = tuple(dict.fromkeys(recorded.exchange for recorded in Recording(folder)))
    with SimulatedExchanges(exchange_ids, capture=folder, speed=speed) as served:
        daemons: list[Daemon] = []

        def make() -> Daemon:
            daemons.append(Daemon(_addressed(config, served), state))
            return daemons[0]

        run_until_stopped(make, _until_quiet)
    return _summary(daemons[0])


def _addressed(config: Config, served: Ready) -> Config:
    """The configuration with the markets and addresses of the servers."""
    replace = msgspec.structs.replace
    symbols = replace(config.symbols, markets=tuple(served.markets))
    feed, http = replace(config.feed, addresses=served.addresses), replace(config.http, enabled=False)
    return replace(config, symbols=symbols, feed=feed, http=http)


async def _until_quiet(daemon: Daemon) -> None:
    """Wait until trades have come and then nothing more for QUIET_S: every second is closed by then."""
    await daemon.ready.wait()
    before, quiet_s = -1, 0.0
    while quiet_s < QUIET_S:
        await asyncio.sleep(0.2)
        trades = daemon.status().trades
        quiet_s = quiet_s + 0.2 if trades == before and trades > 0 else 0.0
        before = trades


def _summary(daemon: Daemon) -> Summary:
    status = daemon.status()
    counts: Counts = daemon.counts()
    return Summary(
        frames=counts.received,
        unreadable=0,
        counts=counts,
        excluded=daemon.excluded(),
        ticks=daemon.ticks,
        bars=status.bars,
        revisions=daemon.revisions,
        signals=status.signals,
        markets=daemon.markets(),
    )
