"""`sqfd gaps`: when which feed was not whole, and what became of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqfd.cli.config import file_option
from sqfd.cli.data import When, no_market, opened, state_option

if TYPE_CHECKING:
    from sqfd.story import Told

FATES = {
    "recovered": "recovered",
    "partial": "recovered in part",
    "lost": "lost",
    "gap": "open or being recovered",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@state_option
@file_option
@click.option("--market", "markets", multiple=True, help="Only this EXCHANGE:pair, or all of an EXCHANGE; may repeat.")
@click.option("--since", "since_s", type=When(), help="Only gaps that lasted beyond this time.")
@click.option("--json", "as_lines", is_flag=True, help="One JSON object per gap and market.")
def gaps(state: Path | None, path: Path | None, markets: tuple[str, ...], since_s: int | None, as_lines: bool) -> None:
    """Tell when feeds were not whole: since when, which markets, how many trades were filled in, what is lost.

    \b
    A gap is `recovered` when the exchange gave all trades that were missing (bars, flows and
    InfluxDB have them), `partial` when it gave some, `lost` when it gave none. Times are UTC.

    \b
    Example: sqfd gaps --since -24h
    """
    from sqfd import story
    from sqfd.feed.intake import DOWN

    store = opened(state, path)
    names = store.market_names()
    chosen = _chosen(markets, names)
    found = [gap for gap in store.gaps(since_s or 0) if gap.market in chosen]
    now_ms = time.time() * 1e3
    if as_lines:
        _lines([story.Told((names[gap.market],), (gap,)) for gap in found], now_ms)
        return
    told = story.together(found, names)
    lines = [(one.from_ms, story.sentence(one, now_ms)) for one in told]
    down = [(gap.from_ms, gap.until_ms or now_ms) for gap in store.gaps() if gap.reason == DOWN]
    pauses = [
        (first, end)
        for first, end in store.pauses(since_s or 0)
        if not any(since_ms <= first * 1000 < until_ms for since_ms, until_ms in down)
    ]
    lines += [(first * 1000, _pause(first, end)) for first, end in pauses]
    for _, line in sorted(lines):
        click.echo(line)
    click.echo(_summary(told))


def _chosen(markets: tuple[str, ...], names: Sequence[str]) -> set[int]:
    """Indices of the markets that are meant; all where none is named."""
    if not markets:
        return set(range(len(names)))
    chosen = {i for i, name in enumerate(names) if name in markets or name.partition(":")[0] in markets}
    known = {*names, *(name.partition(":")[0] for name in names)}
    for market in markets:
        if market not in known:
            raise no_market(market, sorted(known))
    return chosen


def _lines(told: Sequence[Told], now_ms: float) -> None:
    import orjson

    from sqfd import story

    for one in told:
        row: dict[str, Any] = {"market": one.markets[0]} | story.as_json(one, now_ms)
        del row["markets"]
        click.echo(orjson.dumps(row).decode())


def _pause(first_s: int, end_s: int) -> str:
    from sqfd import story

    long = story.duration((end_s - first_s) * 1e3)
    return f"{story.at(first_s * 1e3)}, {long}, all markets: sqfd did not run (or could not write its journal). Lost."


def _summary(told: Sequence[Told]) -> str:
    from sqfd import story

    if not told:
        return "no gaps"
    fates = Counter(one.gaps[0].state for one in told)
    parts = ", ".join(f"{fates[state]} {words}" for state, words in FATES.items() if fates[state])
    filled = story.counted(sum(one.recovered for one in told))
    return f"{len(told)} gap{'s' * (len(told) != 1)}: {parts}; {filled} filled in"
