"""What a sweep tries: values of settings, in a grid or at random, and the parts of the range in which each is tried. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sqfd.backtest.prices import Floats
from sqfd.config import Config

MOST_TRIALS = 100_000
EULER = 0.5772156649015329


class Axis(NamedTuple):
    """One setting that is varied: some values, or (low, high) to draw from."""

    key: str
    values: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    def drawn(self, rng: np.random.Generator) -> str:
        """A value at random."""
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.whole:
            return str(int(rng.integers(int(self.low), int(self.high) + 1)))
        return f"{rng.uniform(self.low, self.high):.6g}"


Trial = dict[str, str]
"""Setting → value, as `--set` takes them."""


def axis_of(text: str) -> Axis:
    """`strategy.min_entry_score=3,4,5` or `strategy.exit_flow=0.3..0.7`. Raises ValueError."""
    key, equals, given = text.partition("=")
    if not equals or not given:
        raise ValueError(f"--vary {text}: write KEY=VALUE,VALUE,… or KEY=LOW..HIGH")
    low, dots, high = given.partition("..")
    if not dots:
        return Axis(key, tuple(value.strip() for value in given.split(",")))
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ValueError(f"--vary {text}: {given!r} is no range of numbers") from None
    if not ends[0] < ends[1]:
        raise ValueError(f"--vary {text}: the range is empty")
    whole = all(end.strip().lstrip("-").isdigit() for end in (low, high)) and not _holds_fractions(key)
    return Axis(key, (), *ends, whole=whole)


def _holds_fractions(key: str) -> bool:
    """The setting is a number with a fraction: `3..5` is then any number between them."""
    section, _, name = key.partition(".")
    return isinstance(getattr(getattr(Config(), section, None), name, None), float)


def trials_of(axes: Sequence[Axis], draws: int | None, seed: int) -> list[Trial]:
    """All combinations of values, or `draws` different ones at random. Raises ValueError for too many or for ranges in a grid."""
    if draws is None:
        ranges = [axis.key for axis in axes if not axis.values]
        if ranges:
            raise ValueError(f"--vary {ranges[0]}: a range needs --random N")
        if math.prod(len(axis.values) for axis in axes) > MOST_TRIALS:
            raise ValueError(f"more than {MOST_TRIALS:,} combinations: draw some with --random N")
        keys = [axis.key for axis in axes]
        return [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*(axis.values for axis in axes))]
    rng, found = np.random.default_rng(seed), dict[tuple[str, ...], Trial]()
    for _ in range(20 * draws):
        trial = {axis.key: axis.drawn(rng) for axis in axes}
        found.setdefault(tuple(trial.values()), trial)
        if len(found) == draws:
            break
    return list(found.values())


def parts_of(first: int, last: int, windows: int) -> list[tuple[int, int]]:
    """The range, or for walk-forward `windows + 1` equal parts: each but the first is the test of the one before it."""
    edges = np.linspace(first, last, windows + 2 if windows else 2).astype(np.int64).tolist()
    return list(itertools.pairwise(edges))


class Moments(NamedTuple):
    """Of the returns of periods: what the deflated Sharpe ratio needs."""

    sharpe: float
    """Per period, not annualised; 0 where there is no spread."""
    skew: float
    kurtosis: float
    """3 for a normal distribution."""
    periods: int


def moments(returns: Floats) -> Moments:
    """Sample moments."""
    if len(returns) < 2 or not (spread := float(returns.std(ddof=1))):
        return Moments(0.0, 0.0, 3.0, len(returns))
    z = (returns - returns.mean()) / returns.std()
    return Moments(float(returns.mean()) / spread, float((z**3).mean()), float((z**4).mean()), len(returns))


def deflated_sharpe(best: Moments, sharpes: Sequence[float]) -> float | None:
    """Probability that the true Sharpe ratio of the best of these trials is above 0, given that it is the best of so many.

    Bailey and López de Prado (2014): the ratio is compared with the highest that trials without any skill, as different
    from each other as these, are expected to show. None for fewer than two trials or three periods.
    """
    if len(sharpes) < 2 or best.periods < 3:
        return None
    from statistics import NormalDist  # here: who starts workers does not wait for it

    normal, trials = NormalDist(), len(sharpes)
    expected = (1 - EULER) * normal.inv_cdf(1 - 1 / trials) + EULER * normal.inv_cdf(1 - 1 / (trials * math.e))
    by_luck = float(np.std(sharpes, ddof=1)) * expected
    variance = 1 - best.skew * best.sharpe + (best.kurtosis - 1) / 4 * best.sharpe**2
    if variance <= 0:
        return None
    return normal.cdf((best.sharpe - by_luck) * math.sqrt(best.periods - 1) / math.sqrt(variance))


def key_of(trial: Mapping[str, str]) -> str:
    """One text for a trial: `a=1 b=2`."""
    return " ".join(f"{key}={value}" for key, value in trial.items())
