"""`sqfd top`: the live page in a terminal."""

from __future__ import annotations

import queue
import select
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqfd.cli.remote import Api, api_of, url_option

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

ORDERS = ("market", "rate_hz", "lag_s", "coverage")
STATES = {"healthy": "green", "live": "green", "ok": "green", "starting": "yellow", "degraded": "yellow"}
KEY_S = 0.1
RETRY_S = 1.0
USED_ROWS = 9
"""Rows of the screen beside symbols and markets."""


@dataclass
class Keys:
    """What was typed: the order of markets and the filter."""

    order: int = 0
    down: bool = False
    filter: str = ""
    typing: bool = False
    done: bool = False

    def press(self, key: str) -> None:
        """One key. `s` next order, `r` reverse, `/` type a filter, Esc no filter, `q` quit."""
        if self.typing:
            self._type(key)
        elif key == "q":
            self.done = True
        elif key == "s":
            self.order = (self.order + 1) % len(ORDERS)
        elif key == "r":
            self.down = not self.down
        elif key == "/":
            self.typing, self.filter = True, ""
        elif key == "\x1b":
            self.filter = ""

    def _type(self, key: str) -> None:
        if key in ("\r", "\n"):
            self.typing = False
        elif key == "\x1b":
            self.typing, self.filter = False, ""
        elif key in ("\x7f", "\b"):
            self.filter = self.filter[:-1]
        elif key.isprintable():
            self.filter += key


def chosen(markets: list[dict[str, Any]], keys: Keys) -> list[dict[str, Any]]:
    """The markets that the filter leaves, in order."""
    words = keys.filter.lower().split()
    text = ("market", "kind", "state", "base")
    found = [one for one in markets if all(any(word in one[name].lower() for name in text) for word in words)]
    name = ORDERS[keys.order]
    known = [one for one in found if one[name] is not None]
    unknown = [one for one in found if one[name] is None]
    return sorted(known, key=lambda one: one[name], reverse=keys.down) + unknown


def screen(now: Mapping[str, Any] | None, keys: Keys, rows: int, problem: str = "") -> Group:
    """Everything, for a terminal of `rows` rows. `now`: an event of /live."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_head(now, problem)]
    if now is not None:
        parts += [_parts(now["health"]["components"])]
        parts += [_symbols(now["symbols"]), _markets(now["markets"], keys, rows - USED_ROWS - len(now["symbols"]))]
    typed = f"/{keys.filter}{'▏' if keys.typing else ''}" if keys.filter or keys.typing else "/ filter"
    order = ORDERS[keys.order] + (" ↓" if keys.down else " ↑")
    parts.append(Text(f"s order: {order}   r reverse   {typed}   q quit", style="dim"))
    return Group(*parts)


def _head(now: Mapping[str, Any] | None, problem: str) -> RenderableType:
    from rich.text import Text

    if now is None:
        return Text(problem or "connecting …", style="yellow")
    health = now["health"]
    lag = "–" if now["lag_s"] is None else f"{now['lag_s']:.2f} s"
    at = datetime.fromtimestamp(now["second"] + 1, UTC).strftime("%H:%M:%S")
    live = sum(one["state"] == "live" for one in now["markets"])
    state = (problem, "red") if problem else (health["status"], STATES.get(health["status"], "red"))
    return Text.assemble(
        f"{now['instance']}  ",
        state,
        f"  {at} UTC  lag {lag}  {live}/{len(now['markets'])} markets  {now['trades']:,} trades  {now['bars']:,} bars  "
        f"{now['signals']} signals\n",
        (health["why"], "yellow"),
        overflow="ellipsis",
        no_wrap=True,
    )


def _parts(components: list[dict[str, Any]]) -> RenderableType:
    """Each sink and part with its state; feeds are counted."""
    from rich.text import Text

    feeds = [one["state"] for one in components if one["name"].startswith("feed:")]
    fresh = sum(state == "ok" for state in feeds)
    told = [("feeds", f"{fresh}/{len(feeds)}", "ok" if fresh == len(feeds) else "degraded")]
    told += [(one["name"], one["state"], one["state"]) for one in components if not one["name"].startswith("feed:")]
    line = Text(overflow="ellipsis", no_wrap=True)
    for name, words, state in told:
        line.append(f"{name} ", style="dim").append(f"{words}   ", style=STATES.get(state, "red"))
    return line


def _symbols(symbols: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, expand=True)
    for name in (
        "symbol",
        "price",
        "spot CVD 1h",
        "perp CVD 1h",
        "score",
        "context",
        "setup",
        "reset",
        "exits",
        "position",
    ):
        table.add_column(name, justify="left" if name in ("symbol", "context", "position") else "right", no_wrap=True)
    for symbol, told in symbols.items():
        table.add_row(symbol, *_symbol(told))
    return table


def _symbol(told: Mapping[str, Any]) -> list[str]:
    price = f"{told['price']:,.8g}" if "price" in told else "–"
    flows = [_money(told[name]) if name in told else "–" for name in ("spot_cvd", "perp_cvd")]
    phases, position = told["phases"], told["position"]
    if not phases:
        return [price, *flows, "warming up"]
    held = "–" if position is None else ("long" if position["side"] > 0 else "short")
    verdicts = [phases[name]["verdict"] for name in ("context", "divergence", "reset", "exits")]
    return [price, *flows, f"{told['score']:.1f}", *(verdict.lower().replace("_", " ") for verdict in verdicts), held]


def _money(value: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:+,.2f}{name}"
    return f"{value:+.0f}"


def _markets(markets: list[dict[str, Any]], keys: Keys, rows: int) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("market", no_wrap=True)
    table.add_column("kind")
    table.add_column("state", no_wrap=True)
    for name in ("trades/s", "last trade", "coverage"):
        table.add_column(name, justify="right")
    found = chosen(markets, keys)
    shown = found[: max(rows, 1)]
    for one in shown:
        state = f"[{STATES.get(one['state'], 'red')}]{one['state']}[/]" + (
            f" [dim]{escape(one['reason'])}[/]" if one["reason"] else ""
        )
        last = "–" if one["lag_s"] is None else f"{one['lag_s']:.1f} s"
        table.add_row(one["market"], one["kind"], state, f"{one['rate_hz']:.2f}", last, f"{one['coverage']:.1%}")
    if len(found) > len(shown):
        table.caption = f"{len(found) - len(shown)} more: make the window higher, or filter"
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@url_option
def top(url: str | None, path: Path | None) -> None:
    """Watch markets and symbols live: s orders, / filters, q quits.

    \b
    Example: sqfd top
    """
    api = api_of(url, path)
    api.get("/health")  # a daemon that is not running is said so at once
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("top needs a terminal; use `sqfd status` or `sqfd markets` in scripts")
    told: queue.Queue[Mapping[str, Any] | str] = queue.Queue(8)
    threading.Thread(target=_listen, args=(api, told), daemon=True).start()
    with _raw_keys():
        _show(told)


def _listen(api: Api, told: queue.Queue[Mapping[str, Any] | str]) -> None:
    """Events, or in words why there are none; for ever."""
    pause = threading.Event()
    while True:
        try:
            for now in api.events("/live"):
                told.put(now)
            told.put("the daemon ended the stream: trying again")
        except click.ClickException as error:
            told.put(error.format_message())
        pause.wait(RETRY_S)


def _show(told: queue.Queue[Mapping[str, Any] | str]) -> None:
    from rich.console import Console
    from rich.live import Live

    console, keys, problem = Console(), Keys(), ""
    now: Mapping[str, Any] | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while not keys.done:
            for key in _typed():
                keys.press(key)
            while not told.empty():
                item = told.get_nowait()
                now, problem = (now, item) if isinstance(item, str) else (item, "")
            live.update(screen(now, keys, console.height, problem), refresh=True)


def _typed() -> str:
    ready, _, _ = select.select([sys.stdin], [], [], KEY_S)
    return sys.stdin.read(1) if ready else ""


@contextmanager
def _raw_keys() -> Iterator[None]:
    """Keys one by one, without Enter."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    except KeyboardInterrupt:
        pass  # Ctrl-C is a way to quit
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
