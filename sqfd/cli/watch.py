"""`sqfd status | markets | explain | tap`: the running daemon, asked over its HTTP interface."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sqfd.cli.data import When, state_option
from sqfd.cli.remote import api_of, segment, url_option

HELP = {"help_option_names": ["-h", "--help"]}
MARKS = {"ok": "green", "healthy": "green", "live": "green", "starting": "yellow", "degraded": "yellow"}
MEASURED = ("history", "setup", "reset", "score", "coverage", "cooldown")
"""Gates whose numbers say how far they are from opening."""


def coloured(state: str) -> str:
    """A state in its colour, where there are colours."""
    return click.style(state, fg=MARKS.get(state, "red"))


@click.command(context_settings=HELP)
@url_option
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def status(url: str | None, path: Path | None, as_json: bool) -> None:
    """Show the running daemon on one screen; exit 1 unless it is healthy or degraded.

    \b
    Example: sqfd status
    """
    import orjson

    found = api_of(url, path).get("/status")
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() if as_json else "\n".join(_screen(found)))
    sys.exit(0 if found["health"]["status"] in ("healthy", "degraded") else 1)


def _screen(found: Mapping[str, Any]) -> Iterator[str]:
    health, counts = found["health"], found["counts"]
    up = f"up {_span(found['uptime_s'])}"
    yield f"{found['instance']} {found['version']} is {coloured(health['status'])}, {up}, pid {found['pid']}"
    lag = (
        "no second closed yet"
        if found["lag_s"] is None
        else f"second {_clock(found['second'])}, lag {found['lag_s']:.2f} s"
    )
    yield f"  {lag}; {found['live']} of {found['markets']} markets live"
    lost = ", ".join(f"{counts[name]:,} {name}" for name in ("duplicate", "late", "malformed"))
    yield f"  {counts['received']:,} trades received: {counts['aggregated']:,} in {found['bars']:,} bars, {lost}"
    yield ""
    for part in health["components"]:
        why = f"  {part['why']}" if part["why"] else ""
        yield f"  {part['name']:<22} {coloured(part['state'])} since {_clock(part['since_ms'] / 1e3)}{why}"
    yield ""
    for symbol, mind in found["symbols"].items():
        yield f"  {symbol:<6} " + _mind(mind)
    yield f"  {found['signals']} signals since the start"


def _mind(mind: Mapping[str, float]) -> str:
    price = f"{mind['price']:>14,.8g}" if "price" in mind else f"{'no price':>14}"
    if "score" not in mind:
        return f"{price}  warming up"
    return (
        f"{price}  score {mind['score']:4.1f}  context {mind['context']:+.2f}  divergence {mind['divergence']:+.2f}  "
        f"reset {mind['reset']:.0%}  coverage {mind['coverage']:.0%}"
    )


def _clock(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%H:%M:%S")


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    shown = [f"{value} {unit}" for value, unit in parts if value][:2]
    return " ".join(shown) or "0 s"


@click.command(context_settings=HELP)
@click.argument("words", nargs=-1)
@url_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per market.")
def markets(words: tuple[str, ...], url: str | None, path: Path | None, as_json: bool) -> None:
    """List collected markets with rate, lag and coverage; WORDS narrow the list.

    \b
    Example: sqfd markets btc perp
    """
    import orjson

    wanted = [word.lower() for word in words]
    found = api_of(url, path).get("/markets")
    if not as_json:
        click.echo(f"{'market':<32} {'kind':<5} {'state':<9} {'trades/s':>9} {'last':>8} {'coverage':>9}")
    for market in found:
        text = " ".join((market["market"], market["kind"], market["state"], market["base"])).lower()
        if all(word in text for word in wanted):
            click.echo(orjson.dumps(market).decode() if as_json else _market(market))


def _market(market: Mapping[str, Any]) -> str:
    last = "-" if market["lag_s"] is None else f"{market['lag_s']:.1f} s"
    state = coloured(market["state"]) + " " * (9 - len(market["state"]))
    return (
        f"{market['market']:<32} {market['kind']:<5} {state} {market['rate_hz']:>9.2f} {last:>8} "
        f"{market['coverage']:>9.1%} {market['reason']}"
    ).rstrip()


@click.command(context_settings=HELP)
@click.argument("symbol")
@click.option("--at", "at", type=When(), help="That second, from the journal, instead of the last one live.")
@state_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def explain(symbol: str, at: int | None, state: Path | None, url: str | None, path: Path | None, as_json: bool) -> None:
    """Say why SYMBOL gave a signal in the last second, or what stopped it and by how much.

    \b
    Example: sqfd explain BTC
             sqfd explain BTC --at 2026-11-22T14:00:00 --state S
    """
    import orjson

    if at is None and state is not None:
        raise click.UsageError("--state needs --at: without it the running daemon is asked")
    found = api_of(url, path).get(f"/explain/{segment(symbol)}") if at is None else _past(symbol, at, state, path)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"{found['symbol']} at {_clock(found['second'])}: {found['words']}")
    for gate in found["gates"]:
        mark = click.style("✓", fg="green") if gate["passed"] else click.style("✗", fg="red")
        # Of a gate that is a plain yes or no, a number says nothing.
        short = f" (misses by {gate['missing']:.4g})" if gate["missing"] and gate["name"] in MEASURED else ""
        click.echo(f"  {mark} {gate['name'].replace('_', ' '):<9} {gate['words']}{short}")


def _past(symbol: str, second: int, state: Path | None, path: Path | None) -> Mapping[str, Any]:
    """The explanation of a second that the journal holds."""
    import msgspec

    from sqfd.backtest.explain import explain_at
    from sqfd.cli.backtest import configured, journal, plain_errors

    config = configured(path, ()).config
    with journal(state, config) as store, plain_errors():
        found: dict[str, Any] = msgspec.structs.asdict(explain_at(store, config, symbol, second))
    return found


@click.command(context_settings=HELP)
@click.argument("market")
@url_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per trade.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many.")
def tap(market: str, url: str | None, path: Path | None, as_json: bool, count: int | None) -> None:
    """Print decoded trades and liquidations of MARKET as they come, until Ctrl-C.

    \b
    Example: sqfd tap BINANCE:btcusdt
    """
    import orjson

    for number, trade in enumerate(api_of(url, path).events(f"/tap/{segment(market)}"), 1):
        click.echo(orjson.dumps(trade).decode() if as_json else _trade(trade))
        sys.stdout.flush()
        if number == count:
            return


def _trade(trade: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(trade["ts_ms"] / 1e3, UTC).strftime("%H:%M:%S.%f")[:-3]
    side = click.style(f"{trade['side']:<4}", fg="green" if trade["side"] == "buy" else "red")
    delay = f"{trade['recv_ms'] - trade['ts_ms']:.0f} ms"
    kind = "" if trade["kind"] == "trade" else f"  {trade['kind']}"
    late = "  too late for its bar" if trade["late"] else ""
    worth = trade["price"] * trade["size"]
    return f"{at} {side} {trade['size']:>14.8g} @ {trade['price']:<14.10g} {worth:>14,.2f}  {delay:>8}{kind}{late}"
