"""`sqfd exchanges`: what each exchange offers, read out of its description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from exchanges.api import Exchange

HEAD = """# Exchanges

What each exchange offers, and what a trader should know of its data. Written by `sqfd exchanges --markdown` out of
`exchanges/`; edit the notes there.

"""
COLUMNS = ("exchange", "spot", "perp", "future", "liquidations", "open interest", "recovery")


@click.command("exchanges", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON line each.")
@click.option("--markdown", is_flag=True, help="All as a page of documentation (docs/exchanges.md).")
def exchanges(names: Sequence[str], as_json: bool, markdown: bool) -> None:
    """List the exchanges, or tell all about those that are named.

    \b
    Examples: sqfd exchanges
              sqfd exchanges KRAKEN
              sqfd exchanges --json | jq -r 'select(.liquidations) | .exchange'
    """
    import exchanges as known

    wanted = [name.upper() for name in names] or list(known.IDS)
    for name in wanted:
        if name not in known.IDS:
            raise click.BadParameter(f"no exchange {name}; known: {', '.join(known.IDS)}", param_hint="NAMES")
    found = [described(known.get(name)) for name in wanted]
    if as_json:
        import msgspec

        for one in found:
            click.echo(msgspec.json.encode(one))
    elif markdown:
        click.echo(page(found), nl=False)
    elif names:
        click.echo("\n\n".join("\n".join([one["exchange"], *facts(one)]) for one in found))
    else:
        _print_table(found)


def described(exchange: Exchange) -> dict[str, Any]:
    """What one exchange offers, as plain values; rates as [count, seconds]."""
    return {
        "exchange": exchange.id,
        "about": (type(exchange).__doc__ or "").strip(),
        "kinds": list(exchange.kinds),
        "markets": [instrument.market for instrument in exchange.usual_markets("BTC")],
        "liquidations": exchange.has_liquidations,
        "open_interest": exchange.has_open_interest,
        "funding": exchange.has_funding,
        "recovery": exchange.recovery,
        "recovery_note": exchange.recovery_note,
        "limits": {
            "connects": [exchange.limits.connects.count, exchange.limits.connects.seconds],
            "rest": [exchange.limits.rest.count, exchange.limits.rest.seconds],
            "connections": exchange.limits.connections,
        },
        "endpoints": [
            {
                "name": endpoint.name,
                "url": endpoint.url,
                "streams_per_connection": endpoint.streams_per_connection,
                "frames": [endpoint.frames.count, endpoint.frames.seconds],
                "ping_s": endpoint.ping_s,
                "max_age_s": endpoint.max_age_s,
                "ids": "gapless" if endpoint.gapless else endpoint.ids,
            }
            for endpoint in exchange.endpoints
        ],
        "notes": list(exchange.notes),
    }


def cells(one: dict[str, Any]) -> list[str]:
    """An exchange as a row of the overview."""
    offers = [kind in one["kinds"] for kind in ("spot", "perp", "future")]
    offers.append(one["liquidations"])
    interest = "yes, funding" if one["funding"] else "yes" if one["open_interest"] else ""
    return [one["exchange"], *("yes" if offered else "" for offered in offers), interest, one["recovery"]]


def facts(one: dict[str, Any]) -> list[str]:
    """An exchange in sentences: a list in Markdown that reads well as text."""
    limits = one["limits"]
    reach = f" ({one['recovery_note']})" if one["recovery_note"] else ""
    lines = [
        f"- Markets of BTC: {', '.join(f'`{market}`' for market in one['markets'])}",
        f"- Recovery: {one['recovery']}{reach}",
        f"- Limits: {limits['connections']} connections, {_rate(limits['connects'])}; REST {_rate(limits['rest'])}",
    ]
    lines += [_socket(endpoint) for endpoint in one["endpoints"]]
    return lines + [f"- {note}" for note in one["notes"]]


def page(found: Sequence[dict[str, Any]]) -> str:
    """The overview and a chapter for each exchange, in Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, found)]
    overview = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    chapters = "".join(f"\n## {one['exchange']}\n\n{one['about']}\n\n" + "\n".join(facts(one)) + "\n" for one in found)
    return f"{HEAD}{overview}\n{chapters}"


def _rate(rate: Sequence[float]) -> str:
    count, seconds = rate
    return f"{count:g} a second" if seconds == 1 else f"{count:g} in {seconds:g} s"


def _socket(endpoint: dict[str, Any]) -> str:
    """One kind of socket as a line."""
    told = [f"{endpoint['streams_per_connection']} streams", f"messages {_rate(endpoint['frames'])}"]
    told += [f"ping each {endpoint['ping_s']:g} s"] if endpoint["ping_s"] else []
    told += [f"replaced within {endpoint['max_age_s'] / 3600:g} h"] if endpoint["max_age_s"] else []
    ids = {"none": "no trade ids", "unique": "trade ids in no order", "monotonic": "growing trade ids"}
    told.append(ids.get(endpoint["ids"], "trade ids without gaps"))
    return f"- Socket `{endpoint['name']}`: {', '.join(told)}"


def _print_table(found: Sequence[dict[str, Any]]) -> None:
    """The overview on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for one in found:
        table.add_row(*cells(one))
    Console(highlight=False).print(table)
