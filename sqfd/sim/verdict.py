"""Runs of an evaluation summed up per scenario, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, median, pstdev
from typing import Any

import msgspec

from sqfd.sim.evaluate import Grade, Run

TUNED_ON = range(100)
"""Seeds that rules and points may be tuned on (0 to 15 were); the others are held back and for reporting."""
FOUND_MIN = 0.8
"""Targets: least share of squeezes found at medium strength and above, and most false entries of a null day."""
FALSE_PER_DAY_MAX = 1.0


class Spread(msgspec.Struct, frozen=True):
    """A figure over all runs, and its standard deviation over seeds."""

    value: float
    deviation: float


class Verdict(msgspec.Struct, frozen=True):
    """One scenario. Figures that it has no episodes for are None."""

    scenario: str
    seeds: int
    days: float
    episodes: int
    recall: Spread | None
    """Share of squeezes that were found."""
    lead_s: float | None
    """Median seconds from the entry to half of the run; positive is in time."""
    entry_place: float | None
    """Median place of the entry in the run: 0 its start, 0.5 its half, negative before it."""
    against: int
    early: int
    captured: float | None
    """Median share of the run's move that the position kept."""
    lured: Spread | None
    """Entries per decoy."""
    stray_per_day: Spread
    armed: float
    in_reset: float


def verdicts(runs: Iterable[Run]) -> list[Verdict]:
    """One verdict per scenario, in the order in which they first appear."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.scenario, []).append(run)
    return [_verdict(name, sorted(group, key=lambda run: run.seed)) for name, group in grouped.items()]


def _verdict(name: str, runs: Sequence[Run]) -> Verdict:
    grades = [grade for run in runs for grade in run.grades]
    squeezes = [grade for grade in grades if grade.episode.kind == "squeeze"]
    decoys = [grade for grade in grades if grade.episode.kind != "squeeze"]
    return Verdict(
        name,
        len({run.seed for run in runs}),
        sum(run.days for run in runs),
        len(grades),
        _share([[grade.found is not None for grade in run.grades] for run in runs]) if squeezes else None,
        _median(grade.lead_s for grade in squeezes),
        _median(_place(grade) for grade in squeezes),
        sum(grade.against for grade in squeezes),
        sum(grade.early for grade in squeezes),
        _median(grade.captured for grade in squeezes),
        _share([[grade.lured for grade in run.grades] for run in runs]) if decoys else None,
        Spread(sum(run.stray for run in runs) / sum(run.days for run in runs), pstdev(r.stray / r.days for r in runs)),
        mean(run.armed for run in runs),
        mean(run.in_reset for run in runs),
    )


def _share(by_run: Sequence[Sequence[float]]) -> Spread:
    every = [value for values in by_run for value in values]
    return Spread(mean(every), pstdev(mean(values) for values in by_run if values))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _place(grade: Grade) -> float | None:
    episode = grade.episode
    if grade.found is None:
        return None
    return (grade.found.opened - episode.run_start) / (episode.run_end - episode.run_start)


def missed_targets(found: Sequence[Verdict]) -> list[str]:
    """The targets that these verdicts miss, in words; empty where all are met."""
    missed = []
    for verdict in found:
        if verdict.scenario in ("squeeze-medium", "squeeze-strong"):
            if verdict.recall and verdict.recall.value < FOUND_MIN:
                missed.append(f"{verdict.scenario}: recall {verdict.recall.value:.2f}, at least {FOUND_MIN} is wanted")
            if verdict.lead_s is not None and verdict.lead_s <= 0:
                missed.append(f"{verdict.scenario}: the median entry comes after half of the run")
            if verdict.against:
                missed.append(f"{verdict.scenario}: {verdict.against} entries in the wrong direction")
        if verdict.scenario == "null" and verdict.stray_per_day.value > FALSE_PER_DAY_MAX:
            missed.append(f"null: {verdict.stray_per_day.value:.2f} false entries a day, at most {FALSE_PER_DAY_MAX:g}")
        if verdict.scenario == "gap" and verdict.lured and verdict.lured.value:
            missed.append(f"gap: {verdict.lured.value:.2f} entries per gap, none is wanted")
    return missed


HEADS = (
    "days",
    "episodes",
    "recall",
    "lead s",
    "place",
    "wrong",
    "early",
    "captured",
    "per decoy",
    "false/day",
    "armed",
    "reset",
)
"""Columns of a table of verdicts, after the scenario's name."""


def cells(verdict: Verdict) -> tuple[str, ...]:
    """One verdict under HEADS; empty where it has no such figure."""
    squeezed = verdict.recall is not None
    return (
        f"{verdict.days:g}",
        f"{verdict.episodes}",
        _spread(verdict.recall),
        _number(verdict.lead_s, ".0f"),
        _number(verdict.entry_place, ".2f"),
        str(verdict.against) if squeezed else "",
        str(verdict.early) if squeezed else "",
        _number(verdict.captured, ".0%"),
        _spread(verdict.lured),
        _spread(verdict.stray_per_day),
        f"{verdict.armed:.0%}",
        f"{verdict.in_reset:.0%}",
    )


def _spread(value: Spread | None) -> str:
    return "" if value is None else f"{value.value:.2f} ±{value.deviation:.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def as_markdown(found: Sequence[Verdict], seeds: Sequence[int], days: float) -> str:
    """The table of verdicts with what it was made of, as in docs/strategy.md."""
    kinds = {seed in TUNED_ON for seed in seeds}
    whose = (
        "held back" if kinds == {False} else "of those for tuning" if kinds == {True} else "some of those for tuning"
    )
    lines = [
        f"Seeds {_ranges(seeds)} ({whose}), {days:g} days each; `sqfd evaluate --seeds {_ranges(seeds)} --days {days:g} --markdown`.",
        "",
        f"| scenario | {' | '.join(HEADS)} |",
        "|---" * (len(HEADS) + 1) + "|",
        *(f"| {verdict.scenario} | {' | '.join(cells(verdict))} |" for verdict in found),
        "",
        *(f"Missed: {line}" for line in missed_targets(found)),
    ]
    return "\n".join(lines).rstrip()


def _ranges(seeds: Sequence[int]) -> str:
    """1000-1003,7 for 1000, 1001, 1002, 1003 and 7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in parts)


def as_json(found: Sequence[Verdict], runs: Sequence[Run], about: dict[str, Any]) -> bytes:
    """Verdicts, the targets missed, and every run with its episodes."""
    told = {"about": about, "verdicts": found, "missed_targets": missed_targets(found), "runs": [_run(r) for r in runs]}
    return msgspec.json.format(msgspec.json.encode(told), indent=1)


def _run(run: Run) -> dict[str, Any]:
    episodes = [grade._asdict() | {"lead_s": grade.lead_s, "captured": grade.captured} for grade in run.grades]
    return run._asdict() | {"grades": episodes}
