"""The signals of a live run against those of the backtest over its journal: none should differ; which do, and why."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from sqfd.backtest.run import Backtest, Plan, Progress, Told, told_by
from sqfd.backtest.source import AsSeen, NoData, moment, span_of
from sqfd.config import Config
from sqfd.journal import JournalStore
from sqfd.signals.signal import QUOTE, encode
from sqfd.strategy.api import Judged

MOST_SIGNALS = 1_000_000


class Difference(NamedTuple):
    """One signal that is not the same on both sides."""

    second: int
    symbol: str
    action: str
    kind: str
    """`only_live` | `only_backtest` | `other_content`"""
    fields: Mapping[str, tuple[Any, Any]]
    """What differs: (live, backtest); of `other_content` only."""
    why: str


class Comparison(NamedTuple):
    """What was compared, and what differs."""

    plan: Plan
    live: int
    same: int
    differences: list[Difference]
    notes: list[str]
    """What limits the comparison: runs with other settings, history that is no longer kept."""


class _Watch:
    """Remembers what the backtest thought at the seconds in which live signalled."""

    def __init__(self, at: Iterable[tuple[int, str]]) -> None:
        self._at = sorted(at)
        self.thoughts: dict[tuple[int, str], str] = {}

    def __call__(self, first: int, last: int, judged: Mapping[str, Judged]) -> None:
        for tick, symbol in self._at[bisect_left(self._at, (first,)) : bisect_left(self._at, (last,))]:
            if symbol in judged:
                self.thoughts[tick, symbol] = _thought(judged[symbol], tick)


def _thought(judged: Judged, tick: int) -> str:
    report = judged.report(tick, None)
    if report is None:
        return "the symbol is warming up"
    stopped = next((gate.words for gate in report.gates if not gate.passed), None)
    return f"score {report.score:.2f}; " + (f"no entry because {stopped}" if stopped else "every gate was open")


def compare(
    store: JournalStore,
    config: Config,
    from_s: int | None,
    to_s: int | None,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Run the newest live runs of one configuration again and compare.

    Raises NoData where the journal notes no live run, or holds no flow of it.
    """
    told = told_by(store)
    if not told:
        raise NoData("this journal notes no live run: it was imported, or written by a version that made no notes")
    newest = told[-1]
    if newest.strategy is None:
        raise NoData("the live run's settings are of another version of sqfd")
    config = msgspec.structs.replace(config, instance=newest.instance, strategy=newest.strategy)
    plan, notes = _plan(store, config, told, from_s, to_s)
    records = store.signals(from_tick=plan.first, to_tick=plan.last, limit=MOST_SIGNALS)
    watch = _Watch({(record.tick, record.symbol.removesuffix(QUOTE)) for record in records})
    result = Backtest(store, config, plan, observer=watch, as_told=True).run(progress)
    live = {record.signal_id: record.line for record in records}
    again = {signal.signal_id: encode(signal) for signal in result.signals}
    differences = [
        _difference(live.get(signal_id), again.get(signal_id), watch.thoughts, live)
        for signal_id in dict.fromkeys([*live, *again])
        if live.get(signal_id) != again.get(signal_id)
    ]
    same = sum(live[signal_id] == again.get(signal_id) for signal_id in live)
    return Comparison(plan, len(live), same, sorted(differences, key=lambda one: one.second), notes)


def _plan(
    store: JournalStore, config: Config, told: Sequence[Told], from_s: int | None, to_s: int | None
) -> tuple[Plan, list[str]]:
    """The range of the newest runs that had the same symbols and settings, as far as their history is kept."""
    newest, notes = told[-1], list[str]()
    alike = [one for one in told if (one.symbols, one.strategy) == (newest.symbols, newest.strategy)]
    others = [one for one in told if one not in alike]
    begin = max([alike[0].tick, *(other.tick + 1 for other in others if other.tick > alike[0].tick)])
    begin = min(one.tick for one in alike if one.tick >= begin)
    if begin > told[0].tick:
        notes.append("runs with other symbols or settings are left out")
    first, last = span_of(AsSeen(store), newest.symbols, None if from_s is None else from_s, to_s)
    kept = min(extent[0] for symbol in newest.symbols if (extent := store.flow_extent(symbol)) is not None)
    whole = begin
    if 1 < begin < kept:
        whole = kept + config.strategy.history_s + config.strategy.memory_s
        notes.append("the journal no longer holds the start of the run: compared from where its windows are full again")
    first = max(first, whole)
    if first >= last:
        raise NoData(f"nothing to compare: {'; '.join(notes) or 'the run closed no second yet'}")
    return Plan(newest.symbols, first, last), notes


def _unheard(one: Mapping[str, Any], known: Mapping[str, bytes]) -> str:
    """Why live, whose signals are `known`, did not give this one of the backtest."""
    before = [
        other
        for other in map(orjson.loads, known.values())
        if other["base_symbol"] == one["base_symbol"] and other["second"] <= one["second"]
    ]
    if one["action"] == "CLOSE":
        if all(other["position_id"] != one["position_id"] for other in before):
            return "its position was opened by the backtest alone"
    elif before and (last := max(before, key=lambda other: int(other["second"])))["action"] != "CLOSE":
        return f"live still held the position that it opened at {moment(last['second'])}"
    return "live gave no signal here: was its journal complete?"


def _difference(
    live: bytes | None, again: bytes | None, thoughts: Mapping[tuple[int, str], str], known: Mapping[str, bytes]
) -> Difference:
    mine, other = orjson.loads(live or b"{}"), orjson.loads(again or b"{}")
    one = mine or other
    key = (one["second"], one["base_symbol"], one["action"])
    if live is None:
        return Difference(*key, "only_backtest", {}, _unheard(one, known))
    if again is None:
        thought = thoughts.get((one["second"] + 1, one["base_symbol"]), "the journal has no such second")
        entries = {orjson.loads(line)["position_id"] for line in known.values() if b'"action":"CLOSE"' not in line}
        if one["action"] == "CLOSE" and one["position_id"] not in entries:
            thought = "its position was opened before the compared range"
        return Difference(*key, "only_live", {}, thought)
    fields = {
        name: (mine.get(name), other.get(name)) for name in {**mine, **other} if mine.get(name) != other.get(name)
    }
    return Difference(*key, "other_content", fields, f"differs in {', '.join(fields) or 'the order of keys'}")
