"""What is planted in a synthetic market, and when: squeezes and decoys, as scripts of flow and price.

An `Episode` is the known truth. Its `Script` says, second by second, how the market differs from its usual self. All
figures are relative to what is usual for the symbol, so that one script serves every symbol:

- *pushes* (`spot`, `perp`): extra taker flow. 1.0 held for 15 minutes moves the CVD by one usual 15-minute move of that CVD;
- *drift*: extra return. A sum of 1.0 over a phase moves the price by one usual 30-minute move.

Every script is written for a long; a short is its mirror image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

EpisodeKind = Literal["squeeze", "divergence", "reset", "trend", "news", "gap"]
"""`squeeze` is the real thing; the others are decoys: divergence without reset, reset without divergence, a one-sided
trend, a jump on news, a hole in the perp feeds that looks like a divergence."""
DECOYS: tuple[EpisodeKind, ...] = ("divergence", "reset", "trend", "news", "gap")
Strength = Literal["weak", "medium", "strong"]

PUSH: dict[Strength, float] = {"weak": 1.0, "medium": 1.7, "strong": 2.6}
"""Flow of each leg during the build-up, in usual 15-minute moves per 15 minutes."""
RUN: dict[Strength, float] = {"weak": 1.5, "medium": 2.5, "strong": 4.0}
"""Length of the run, in usual 30-minute moves of the price."""

FADE_S = 300
DAY_S = 86_400
DIP_S, DIP_OFFSET_S = 40, 8
"""A failed breakdown takes 40 s and starts 8 s into a minute, so that the minute's candle closes back inside."""

FREE, HELD, STALLED, DIP = 0, 1, 2, 3
"""What the price does: walks, is held at its level, stalls there (after a build-up), or breaks its extreme for a moment."""


@dataclass(frozen=True)
class Episode:
    """The truth about one planted episode, in epoch seconds; a phase that it lacks is empty (starts where it ends)."""

    kind: EpisodeKind
    direction: Literal[1, -1]
    """1: price is bound to rise (or looks so); -1: the mirror image."""
    strength: Strength
    start: int
    reset_start: int
    run_start: int
    run_end: int
    end: int
    """First second on which it has no effect."""


@dataclass(frozen=True)
class Script:
    """One row per second of an episode, from `start` to `end`; see the module for units."""

    spot: NDArray[np.float64]
    perp: NDArray[np.float64]
    volume: NDArray[np.float64]
    """Factor on the usual volume."""
    drift: NDArray[np.float64]
    noise: NDArray[np.float64]
    """Factor on the usual moves of the price."""
    mode: NDArray[np.int8]
    """FREE, HELD, STALLED or DIP."""
    forced: NDArray[np.float64]
    """Share of perp taker flow on the squeezed side that is liquidations."""
    lost_buy: NDArray[np.float64]
    """Share of perp buys that no feed delivers."""
    lost_sell: NDArray[np.float64]


def blank(length: int) -> Script:
    """A script that changes nothing."""
    flow = [np.zeros(length) for _ in range(6)]
    mode = np.zeros(length, np.int8)
    return Script(flow[0], flow[1], np.ones(length), flow[2], np.ones(length), mode, *flow[3:])


def squeeze(
    start: int, build_s: int, reset_s: int, run_s: int, direction: Literal[1, -1] = 1, strength: Strength = "medium"
) -> Episode:
    """A squeeze by the lengths of its phases."""
    reset_start, run_start = start + build_s, start + build_s + reset_s
    end = run_start + run_s
    return Episode("squeeze", direction, strength, start, reset_start, run_start, end, end + FADE_S)


def decoy(
    kind: EpisodeKind, start: int, length: int, direction: Literal[1, -1] = 1, strength: Strength = "medium"
) -> Episode:
    """A decoy of `length` seconds. Raises ValueError for a squeeze, which has phases."""
    if kind == "squeeze":
        raise ValueError("a squeeze is no decoy: use squeeze()")
    end = start + length
    return Episode(kind, direction, strength, start, start if kind == "reset" else end, end, end, end)


def script(episode: Episode) -> Script:
    """What the episode does to its market."""
    made = blank(episode.end - episode.start)
    _WRITERS[episode.kind](episode, made)
    for column in (made.spot, made.perp, made.drift):
        column *= episode.direction
    return made


def _squeeze(episode: Episode, made: Script) -> None:
    reset, run = episode.reset_start - episode.start, episode.run_start - episode.start
    stop = episode.run_end - episode.start
    _build_up(made, slice(0, reset), PUSH[episode.strength])
    _reset(made, reset, run, episode.start, PUSH[episode.strength])
    _run(made, slice(run, stop), episode.strength)
    _fade(made, slice(stop, None), episode.strength)


def _build_up(made: Script, where: slice, push: float) -> None:
    """Spot buys, perps sell, ever more so; the price is held."""
    ramp = np.linspace(0.6, 1.5, len(made.spot[where]))
    made.spot[where] = push * ramp
    made.perp[where] = -push * ramp
    made.noise[where] = 0.8
    made.mode[where] = HELD


def _reset(made: Script, first: int, last: int, start: int, push: float) -> None:
    """Two thirds of the last 15 minutes' divergence are taken back, ever more slowly, while price stalls and its low is tested."""
    length = last - first
    where = slice(first, last)
    rate = 0.9 * push * 900 / length * np.linspace(1.8, 0.2, length)
    made.spot[where] = -rate
    made.perp[where] = rate
    made.noise[where] = 0.5
    made.mode[where] = STALLED
    for nth, dip in enumerate(_dips(start + first, start + last)):
        _dip(made, dip - start, push * 6 * 0.55**nth)


def _dips(first: int, last: int) -> list[int]:
    """Starts of one to three failed breakdowns, evenly over the minutes that lie wholly within [first, last)."""
    minutes = range(-(-first // 60) * 60, last - DIP_OFFSET_S - DIP_S, 60)
    wanted = min(len(minutes), max(1, min(3, (last - first) // 150)))
    return [minutes[(2 * i + 1) * len(minutes) // (2 * wanted)] + DIP_OFFSET_S for i in range(wanted)]


def _dip(made: Script, first: int, push: float) -> None:
    """Sellers break the low for some seconds and are bought up."""
    fall, back = slice(first, first + 16), slice(first + 16, first + DIP_S)
    for leg in (made.spot, made.perp):
        leg[fall] -= push
        leg[back] += 0.6 * push
    made.volume[first : first + DIP_S] *= 3.0
    made.mode[fall] = DIP


def _run(made: Script, where: slice, strength: Strength) -> None:
    """Price runs and both flows follow: fast at first, slower towards the end; shorts are liquidated."""
    shape = _normalised(np.linspace(1.5, 0.5, len(made.spot[where])))
    flow = 1.3 * PUSH[strength] * shape * len(shape)
    made.spot[where] = made.perp[where] = flow
    made.drift[where] = RUN[strength] * shape
    made.volume[where] = 1.5
    made.forced[where] = 0.15 * shape * len(shape)


def _fade(made: Script, where: slice, strength: Strength) -> None:
    """Spot takes profit into the last perp buyers; a seventh of the run is given back."""
    shape = np.linspace(1.0, 0.0, len(made.spot[where]))
    made.spot[where] = -1.5 * PUSH[strength] * shape
    made.perp[where] = 0.8 * PUSH[strength] * shape
    made.drift[where] = -RUN[strength] / 7 * _normalised(shape)


def _divergence(episode: Episode, made: Script) -> None:
    """A build-up that nothing follows: it thins out over its last third."""
    length = episode.end - episode.start
    _build_up(made, slice(0, length * 2 // 3), PUSH[episode.strength])
    tail = np.linspace(1.0, 0.0, length - length * 2 // 3)
    made.spot[length * 2 // 3 :] = PUSH[episode.strength] * tail
    made.perp[length * 2 // 3 :] = -PUSH[episode.strength] * tail


def _reset_only(episode: Episode, made: Script) -> None:
    _reset(made, 0, episode.end - episode.start, episode.start, PUSH[episode.strength])


def _trend(episode: Episode, made: Script) -> None:
    """Both flows and the price go one way, without a divergence before."""
    length = episode.end - episode.start
    made.spot[:] = made.perp[:] = PUSH[episode.strength]
    made.drift[:] = RUN[episode.strength] / length


def _news(episode: Episode, made: Script) -> None:
    """A jump within 10 s, and excited trade that calms down."""
    length = episode.end - episode.start
    calm = np.exp(-np.arange(length) / 60)
    made.spot[:] = made.perp[:] = 20 * calm
    made.volume[:] = 1 + 12 * calm
    made.noise[:] = 1 + 3 * calm
    made.drift[:10] = RUN[episode.strength] / 10
    made.forced[:] = 0.2 * calm


def _gap(episode: Episode, made: Script) -> None:
    """Spot is bought a little. Perps balance, but the feeds that carry most of their buyers are down."""
    made.spot[:] = 0.8 * PUSH[episode.strength]
    lost = (0.6, 0.35)
    made.lost_buy[:], made.lost_sell[:] = lost if episode.direction > 0 else lost[::-1]


_WRITERS = {
    "squeeze": _squeeze,
    "divergence": _divergence,
    "reset": _reset_only,
    "trend": _trend,
    "news": _news,
    "gap": _gap,
}


def _normalised(shape: NDArray[np.float64]) -> NDArray[np.float64]:
    total = float(shape.sum())
    return shape / total if total else shape


def plan(
    seed: int,
    symbol: str,
    start: int,
    end: int,
    *,
    per_day: float = 4.0,
    kinds: Sequence[EpisodeKind] = ("squeeze",),
    strengths: Sequence[Strength] = ("weak", "medium", "strong"),
    rest_s: int = 2_700,
) -> list[Episode]:
    """Episodes at random times of [start, end), in order, at least `rest_s` apart, about `per_day` of them a day.

    The first second of the market is not `start`: leave a few hours before it for a strategy to learn what is usual.
    """
    rng = np.random.default_rng([seed, crc32(symbol.encode()), 0x9_1A])
    pause_s = max(600.0, DAY_S / per_day - rest_s - 3_600) if per_day > 0 else np.inf
    planned: list[Episode] = []
    at = float(start)
    while np.isfinite(pause_s):
        at += rng.exponential(pause_s)
        episode = _random(rng, int(at), kinds, strengths)
        if episode.end > end:
            break
        planned.append(episode)
        at = episode.end + rest_s
    return planned


def _random(
    rng: np.random.Generator, start: int, kinds: Sequence[EpisodeKind], strengths: Sequence[Strength]
) -> Episode:
    """One episode with lengths drawn from the ranges of the strategy's definition."""
    kind, strength = kinds[int(rng.integers(len(kinds)))], strengths[int(rng.integers(len(strengths)))]
    direction: Literal[1, -1] = 1 if rng.random() < 0.5 else -1
    build_s, reset_s, run_s = (int(rng.integers(*limits)) for limits in ((900, 2401), (180, 901), (300, 1801)))
    if kind == "squeeze":
        return squeeze(start, build_s, reset_s, run_s, direction, strength)
    length = {"divergence": build_s * 3 // 2, "reset": reset_s, "trend": 3_600, "news": 600, "gap": reset_s + 300}[kind]
    return decoy(kind, start, length, direction, strength)
