"""Why something happened, or did not: each phase's verdict with the numbers it compared, and the gates in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sqfd.bars.ring import FUNDING, OPEN_INTEREST, PERP, PRICE, SPOT
from sqfd.strategy.api import DIGITS, Gate, Report
from sqfd.strategy.baseline import Floats, Ints
from sqfd.strategy.context import VERDICTS, duration
from sqfd.strategy.features import NEVER, Features, distinct
from sqfd.strategy.position import Position
from sqfd.strategy.reset import SIDES
from sqfd.strategy.scoring import PARTS, PPB_PER_BPS, total

if TYPE_CHECKING:
    from sqfd.strategy.settings import StrategySettings
    from sqfd.strategy.squeezeflow import Evaluated

SIDE_NAMES = {1: "long", 0: "none", -1: "short"}


def report(block: Evaluated, tick: int, position: Position | None) -> Report:
    """Everything about one tick of an evaluated block."""
    at = tick - block.features.first
    features, ticks = block.features.only(tick), np.array([tick])
    window = block.settings.setup_window_s
    spot, perp = (flow / 100 for flow in features.flows_at(ticks, window)[:, 0].tolist())
    side = int(block.divergence.armed[at])
    standing = block.standing_at(side, tick) if side else ()
    scored = block.parts_of(tick)
    points, parts = float(total(scored)), _parts(scored)
    aligned = {place: block.reset.aligned_at(place, at) for place in _places(side)}
    phases = {
        "context": _context(block, features, at),
        "divergence": _divergence(block, features, at),
        "reset": _reset(block, features, at, aligned),
        "scoring": _scoring(block, points),
        "exits": _exits(side, standing if position is None else block.closing_at(position, tick), position),
    }
    return Report(
        int(features.price[0]),
        _short(points),
        parts,
        phases,
        _short(features.coverage[0]),
        spot,
        perp,
        _words(phases, parts),
        _gates(block, at, side, points, standing, phases["divergence"]["windows"], aligned),
    )


def prepare(block: Evaluated, ticks: Ints) -> None:
    """Have the ranks made that reports on these ticks (ascending) look up."""
    settings, base = block.settings, block.features.baseline
    minutes, _ = distinct(block.features.minute[ticks - block.features.first])
    for window in settings.divergence_windows_s:
        base.gap_ranks(window, settings.divergence_gap_rank, minutes)
        for series, rank in _legs(settings):
            base.move_ranks(window, series, rank, minutes)


def _legs(settings: StrategySettings) -> tuple[tuple[int, float], ...]:
    leg = settings.divergence_leg_rank
    return (SPOT, leg), (PERP, leg), (PRICE, settings.divergence_price_rank)


def _short(value: float) -> float:
    return round(float(value), DIGITS) + 0.0


def _words(phases: dict[str, Any], parts: dict[str, float]) -> str:
    context, setup, reset = phases["context"], phases["divergence"], phases["reset"]
    points = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in parts.items() if value)
    armed = (
        f"a {setup['verdict']} setup held {setup['age_s']} s ago" if setup["age_s"] is not None else "no setup is armed"
    )
    turned = f"a reset of {reset['alignment']:.0%} of the windows" if reset["verdict"] != "none" else "no reset"
    return (
        f"{armed}, {turned}, context {context['verdict']} ({context['value']:+.2f}), "
        f"score {phases['scoring']['score']:.2f} ({points or 'no points'})"
    )


def _parts(scored: Floats) -> dict[str, float]:
    return {name: _short(value) for name, value in zip(PARTS, scored.tolist(), strict=True)}


def mind(block: Evaluated, tick: int) -> dict[str, float]:
    """Score, its parts, and one number for each of context, divergence, reset and coverage."""
    at = tick - block.features.first
    side, scored = int(block.divergence.armed[at]), block.parts[:, at]
    alignment = [block.reset.aligned_at(place, at)[0] for place in range(len(SIDES))]
    return {
        "score": _short(float(total(scored))),
        **_parts(scored),
        "context": _short(block.context.value[at]),
        "divergence": side * _short(block.divergence.strength[at]),
        "reset": _short(alignment[0] if side > 0 else alignment[1] if side < 0 else max(alignment)),
        "coverage": _short(block.features.coverage[at]),
    }


def _context(block: Evaluated, features: Features, at: int) -> dict[str, Any]:
    settings = features.settings
    value, asked, windows = block.context.one(at), features.settings.context_windows_s, []
    normals = [features.normals(asked, series)[:, 0].tolist() for series in (PRICE, SPOT, PERP)]
    for window, price, spot, perp in zip(asked, *normals, strict=True):
        gap = _short(_short(spot) - _short(perp))
        known = bool(features.known(window)[0])
        windows.append({"window_s": window * features.ring.bar_s, "price": _short(price), "gap": gap, "known": known})
    return {
        "verdict": VERDICTS[block.context.side(at)],
        "value": _short(value),
        "threshold": settings.context_threshold,
        "duration": duration(value, settings.context_high, settings.context_medium),
        "windows": windows,
        **_polled(features),
    }


def _polled(features: Features) -> dict[str, float]:
    """Open interest and funding of 8 hours, each where it is collected: what the squeeze has behind it."""
    at = features.ticks
    cents, ppb = (int(features.detail_at(at, row)[0]) for row in (OPEN_INTEREST, FUNDING))
    found = {"open_interest_usd": cents / 100} if cents else {}
    return found | ({"funding_8h_bps": _short(ppb / PPB_PER_BPS)} if ppb else {})


def _divergence(block: Evaluated, features: Features, at: int) -> dict[str, Any]:
    found = block.divergence
    side = int(found.armed[at])
    return {
        "verdict": SIDE_NAMES[side],
        "holds": SIDE_NAMES[int(found.holds[at])],
        "age_s": (features.first - int(found.held.at(slice(at, at + 1))[0])) * features.ring.bar_s if side else None,
        "strength": _short(found.strength[at]) if side else 0.0,
        "windows": [_divergence_window(features, place) for place in range(len(block.settings.divergence_windows_s))],
    }


def _divergence_window(features: Features, place: int) -> dict[str, Any]:
    settings, base = features.settings, features.baseline
    asked, minute = settings.divergence_windows_s, features.minute
    window = asked[place]
    price, spot, perp = (int(features.moves(asked, series)[place, 0]) for series in (PRICE, SPOT, PERP))
    gap = float(features.gaps(asked)[place, 0])
    gap_rank = float(base.gap_ranks(window, settings.divergence_gap_rank, minute)[0])
    legs = _legs(settings)
    spot_rank, perp_rank, price_rank = (int(base.move_ranks(window, *leg, minute)[0]) for leg in legs)
    return {
        "window_s": window * features.ring.bar_s,
        "gap": _short(gap),
        "gap_needed": _short(max(settings.divergence_gap_min, gap_rank)),
        "spot": spot / 100,
        "spot_needed": spot_rank / 100,
        "perp": perp / 100,
        "perp_needed": perp_rank / 100,
        "price_log": _short(price / 1e9),
        "adverse_price_log_max": _short(price_rank / 1e9),
    }


def _places(side: int) -> tuple[int, ...]:
    """Of SIDES those that are spoken of where a setup of `side` is armed, 0: none is."""
    return tuple(place for place, sign in enumerate(SIDES) if side in (sign, 0))


def _reset(block: Evaluated, features: Features, at: int, aligned: dict[int, tuple[float, float]]) -> dict[str, Any]:
    found, here, tick, bar_s = block.reset, slice(at, at + 1), features.first, features.ring.bar_s
    live = next((place for place in aligned if found.live[place, at]), None)
    place = next(iter(aligned)) if live is None else live
    last, confirmed = int(found.sides[place].held.at(here)[0]), int(found.sides[place].confirmed.at(here)[0])
    alignment, convergence = aligned[place]
    return {
        "verdict": "none" if live is None else ("long", "short")[live],
        "age_s": None if last == NEVER else (tick - last) * bar_s,
        "confirmed_age_s": None if confirmed == NEVER else (tick - confirmed) * bar_s,
        "alignment": _short(alignment),
        "convergence": _short(convergence),
        "windows": _reset_windows(features),
    }


def _reset_windows(features: Features) -> list[dict[str, Any]]:
    halves, windows = features.layout.halves, features.settings.reset_windows_s
    older, newer = features.gaps(halves, lagged=True)[:, 0].tolist(), features.gaps(halves)[:, 0].tolist()
    prices = features.normals(halves, PRICE)[:, 0].tolist()
    return [
        {
            "window_s": window * features.ring.bar_s,
            "older_gap": _short(before),
            "newer_gap": _short(after),
            "price": _short(price),
        }
        for window, before, after, price in zip(windows, older, newer, prices, strict=True)
    ]


def _scoring(block: Evaluated, points: float) -> dict[str, Any]:
    needed = block.settings.min_entry_score
    return {"verdict": "enough" if points >= needed else "low", "score": _short(points), "needed": needed}


def _exits(side: int, reasons: tuple[str, ...], position: Position | None) -> dict[str, Any]:
    if position is None and not side:
        return {"verdict": "none", "reasons": []}
    return {"verdict": "close" if reasons else "hold", "reasons": list(reasons)}


def _gates(
    block: Evaluated,
    at: int,
    side: int,
    points: float,
    standing: tuple[str, ...],
    windows: list[dict[str, Any]],
    aligned: dict[int, tuple[float, float]],
) -> tuple[Gate, ...]:
    settings = block.settings
    shown, coverage = _short(points), _short(block.features.coverage[at])
    names = ", ".join(standing)
    needed = settings.min_entry_score
    return (
        _setup_gate(block, at, side, windows),
        *([_reset_gate(block, at, aligned)] if settings.require_reset else []),
        Gate("score", points >= needed, shown, needed, f"the score is {shown:.2f} of {needed:g}"),
        Gate(
            "coverage",
            float(block.features.coverage[at]) >= settings.min_coverage,
            coverage,
            settings.min_coverage,
            f"the feeds covered {coverage:.1%} of the expected volume, {settings.min_coverage:.0%} are needed",
        ),
        Gate(
            "no_exit",
            not names,
            float(len(standing)),
            0.0,
            f"an exit would hold already: {names}" if names else "no exit would hold",
        ),
    )


def _setup_gate(block: Evaluated, at: int, side: int, windows: list[dict[str, Any]]) -> Gate:
    """Armed or not is the verdict; the gap of the moment, which armed it some time ago, is its number."""
    nearest = min(windows, key=lambda window: window["gap_needed"] - abs(window["gap"]))
    words = (
        f"spot and perp flow differ by {nearest['gap']:+.2f} over {nearest['window_s']} s "
        f"where {nearest['gap_needed']:.2f} and opposite directions make a setup"
    )
    if side:
        age_s = block.features.first + at - int(block.divergence.held.at(slice(at, at + 1))[0])
        held = f"held {age_s} s ago" if age_s else "holds"
        words = f"a {SIDE_NAMES[side]} setup {held}: armed for {block.settings.armed_s - age_s} s more"
    return Gate("setup", side != 0, abs(nearest["gap"]), nearest["gap_needed"], words)


def _reset_gate(block: Evaluated, at: int, aligned: dict[int, tuple[float, float]]) -> Gate:
    """A reset of the armed side lives, of any side where none is armed; its number is the alignment."""
    live = any(bool(block.reset.live[place, at]) for place in aligned)
    alignment = _short(max(found for found, _ in aligned.values()))
    least = _short(min(block.settings.reset_weights) / sum(block.settings.reset_weights))
    words = (
        f"a reset of {alignment:.0%} of the windows lives"
        if live
        else "the imbalance has not exhausted: no reset lives"
    )
    return Gate("reset", live, alignment, least, words)
