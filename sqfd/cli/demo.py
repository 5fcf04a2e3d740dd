"""`sqfd demo`."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqfd.cli.stopping import clean_up_on_sigterm, uninterrupted

if TYPE_CHECKING:
    from rich.text import Text

    from sqfd.daemon import Daemon, Status
    from sqfd.signals.signal import Signal

USUAL = ("BINANCE", "BINANCE_FUTURES", "BYBIT", "OKEX", "COINBASE")
REDIS = "127.0.0.1:6379"
SYMBOLS = ("BTC", "ETH", "SOL")
LINE_S = 5.0
"""Without a terminal, a status line this often."""
READY_S = 120.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", type=click.FloatRange(1), help="Stop after this long; default: when Ctrl-C is pressed.")
@click.option("--speed", type=click.FloatRange(0.1, 100), default=1.0, show_default=True, help="Times real time.")
@click.option("--exchanges", "names", default=",".join(USUAL), show_default=True, help="Which exchanges, or `all`.")
@click.option("--seed", default=1, show_default=True, help="Another seed, another market.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Keep the journal in this folder.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the live page; default: 8686, or any free one.")
@click.option(
    "--redis", is_flag=False, flag_value=REDIS, help=f"Publish signals on that Redis, HOST:PORT; alone: {REDIS}."
)
def demo(
    seconds: float | None, speed: float, names: str, seed: int, state: Path | None, port: int | None, redis: str | None
) -> None:
    """Run the daemon on simulated exchanges, with a squeeze under way.

    \b
    Servers on loopback speak the exchanges' own wire formats; the daemon connects to them as
    to the real ones. A day of history is in its journal, so that every window is warm. The
    first signal comes within a minute. Nothing leaves this machine.

    \b
    Example: sqfd demo --seconds 90
             sqfd demo --redis      (beside it: redis-cli SUBSCRIBE signals)
    """
    if redis is not None and not re.fullmatch(r"[^\s:]+:\d{1,5}", redis):
        raise click.BadParameter(f"{redis!r} is no HOST:PORT such as {REDIS}", param_hint="--redis")
    sys.exit(_run(state, names, seed, speed, seconds, port, redis))


def _run(
    kept: Path | None, names: str, seed: int, speed: float, seconds: float | None, port: int | None, redis: str | None
) -> int:
    import exchanges
    from sqfd import log
    from sqfd.cli.running import run_until_stopped
    from sqfd.config import load
    from sqfd.daemon import Daemon
    from sqfd.sim.clock import ScaledClock
    from sqfd.sim.listing import listed
    from sqfd.sim.process import SimulatedExchanges

    offered = [name for name in exchanges.IDS if listed(exchanges.get(name), SYMBOLS)]
    chosen = chosen_exchanges(names, offered)
    screen = Screen()
    log.configure("error", "console")  # what the daemon warns of is on the page and in `sqfd status`
    clean_up_on_sigterm()
    with ExitStack() as stack:
        with uninterrupted():
            state = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sqfd-demo-")))
        screen.say(f"simulating {len(chosen)} exchanges and a day of history for {', '.join(SYMBOLS)} …")
        serving = SimulatedExchanges(chosen, SYMBOLS, seed=seed, speed=speed, journal=state, timeout_s=READY_S)
        with uninterrupted():  # else nobody would end it, and it would write into the folder after us
            serving.launch()
            stack.callback(serving.end)
        simulated = stack.enter_context(serving)
        page = page_port() if port is None else page_port(port)
        written = write_config(state, chosen, simulated.addresses, page, redis)
        config = load(written, environment={"HOME": str(state)}).config

        def make() -> Daemon:
            clock = ScaledClock(simulated.anchor_ms, simulated.speed)
            return Daemon(config, state, clock=clock, on_signal=screen.signal)

        return run_until_stopped(make, lambda daemon: screen.show(daemon, seconds, written))


class Screen:
    """What the demo shows: a live line on a terminal, a line now and then elsewhere, and each signal."""

    def __init__(self) -> None:
        from rich.console import Console

        class Piped(Console):
            """On a closed pipe rich would raise SystemExit, which leaves the loop with its tasks in the middle of things."""

            def on_broken_pipe(self) -> None:
                raise BrokenPipeError("the output was closed")

        self._console = Piped(highlight=False)
        self._started = 0.0
        self.signals = 0

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, markup=False, soft_wrap=True)

    def signal(self, signal: Signal) -> None:
        """Print a signal as it is given."""
        self.signals += 1
        colour = {"LONG": "green", "SHORT": "red"}.get(signal.action, "yellow")
        waited = f"{time.monotonic() - self._started:5.1f} s"
        self._console.print(
            f"[{colour}]● {signal.action:<5} {signal.symbol:<8}[/] score {signal.score:4.1f}  price {signal.price:,.2f}  "
            f"after {waited}  [dim]{signal.reasoning}[/]",
            soft_wrap=True,
        )

    async def show(self, daemon: Daemon, seconds: float | None, config: Path) -> None:
        """Show the daemon's state until `seconds` are over (None: until cancelled), then sum up."""
        from rich.live import Live

        await daemon.ready.wait()
        self._started = time.monotonic()
        self.say(f"ready: live page at {daemon.url}  (Ctrl-C stops)")
        self.say(f"       from another terminal: sqfd status -c {config}   (also top, explain BTC, markets, doctor)")
        try:
            if self._console.is_terminal:
                with Live(console=self._console, refresh_per_second=4, transient=True) as live:
                    await self._loop(daemon, seconds, 0.25, lambda text: live.update(_one_line(text)))
            else:
                await self._loop(daemon, seconds, LINE_S, self.say)
        finally:
            self._sum_up(daemon.status())

    async def _loop(self, daemon: Daemon, seconds: float | None, every_s: float, put: Callable[[str], None]) -> None:
        before, at = 0, time.monotonic()
        rate = 0.0
        while seconds is None or time.monotonic() - self._started < seconds:
            left = every_s if seconds is None else max(0.05, self._started + seconds - time.monotonic())
            await asyncio.sleep(min(every_s, left))
            status = daemon.status()
            if (passed := time.monotonic() - at) >= 1.0:
                rate, before, at = (status.trades - before) / passed, status.trades, time.monotonic()
            put(line(status, rate))

    def _sum_up(self, status: Status) -> None:
        ran = time.monotonic() - self._started
        self.say(
            f"ran {ran:.0f} s: {status.trades:,} trades of {status.markets} markets, {status.bars:,} bars, "
            f"{self.signals} signals"
        )


def page_port(usual: int = 8686) -> int:
    """The usual port, or any free one where another program has it."""
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise click.ClickException("no free port on 127.0.0.1 for the live page")


def write_config(
    state: Path,
    exchanges: Sequence[str],
    addresses: Mapping[str, Mapping[str, str]],
    port: int,
    redis: str | None = None,
) -> Path:
    """The demo's configuration as a file, so that every other command can be pointed at it."""
    from sqfd.settings import toml_value

    lines = [
        "# Written by `sqfd demo`: simulated exchanges on this machine.",
        "[symbols]",
        f"symbols = {toml_value(SYMBOLS)}",
        f"exchanges = {toml_value(exchanges)}",
        "[journal]",
        f"state = {toml_value(str(state))}",
        "[http]",
        f"port = {port}",
    ]
    if redis is not None:
        host, _, number = redis.rpartition(":")
        lines += ["[redis]", f"host = {toml_value(host)}", f"port = {int(number)}"]
    for exchange, named in addresses.items():
        lines += [f"[feed.addresses.{exchange}]", *(f"{name} = {toml_value(url)}" for name, url in named.items())]
    path = state / "sqfd.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def line(status: Status, trades_hz: float) -> str:
    """The status line: markets, trades a second, bars, lag, signals, and what the strategy thinks."""
    head = (
        f"{status.live}/{status.markets} markets  {trades_hz:6.0f} trades/s  {status.bars:,} bars  "
        f"lag {status.lag_s:.2f} s  {status.signals} signals"
    )
    return head + "".join(f"  {symbol} {_mind(mind)}" for symbol, mind in status.symbols.items())


def _one_line(text: str) -> Text:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _mind(mind: Mapping[str, Any]) -> str:
    return f"{mind['score']:.1f}" if "score" in mind else "warming"


def chosen_exchanges(names: str, known: Sequence[str]) -> tuple[str, ...]:
    """The exchanges named, or all; an unknown one is a usage error that lists the known ones."""
    if names == "all":
        return tuple(known)
    chosen = tuple(name.strip().upper() for name in names.split(",") if name.strip())
    for name in chosen:
        if name not in known:
            raise click.BadParameter(f"no exchange {name}; known: {', '.join(known)}", param_hint="--exchanges")
    return chosen
