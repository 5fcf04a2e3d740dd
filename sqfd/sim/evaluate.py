"""How good is the strategy? Markets with planted episodes, the engine on them, and what it made of each episode.

One *run* is one market: a scenario, a seed and some days. It is warmed with 28 h in which nothing is planted. The strategy
sees rows of flow only; episodes are compared with its signals afterwards. `sqfd.sim.verdict` sums runs up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqfd.engine import Engine
from sqfd.model import PRICE_SCALE, Flow
from sqfd.signals.signal import Signal
from sqfd.sim.hour import BLOCK_S
from sqfd.sim.market import Market
from sqfd.sim.plan import DAY_S, DECOYS, PUSH, Episode, EpisodeKind, Strength, plan
from sqfd.strategy.api import Judged, Strategy
from sqfd.strategy.position import CLOSE, LONG
from sqfd.strategy.settings import StrategySettings

START = 1_766_016_000 // BLOCK_S * BLOCK_S
HISTORY_S = 28 * 3_600
SYMBOLS = ("BTC", "ETH", "SOL", "WIF")
"""Seeds take turns: three liquid markets, one thin."""
AFTERMATH_S = 1_800
"""An entry up to this long after a decoy is put down to it: a setup is armed about as long."""
MINUTE_S = 60
EVALUATION_BLOCK_S = 7_200


class Scenario(NamedTuple):
    """What is planted in a market."""

    name: str
    kinds: tuple[EpisodeKind, ...]
    strengths: tuple[Strength, ...]
    per_day: float


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("null", (), (), 0.0),
        *(Scenario(f"squeeze-{strength}", ("squeeze",), (strength,), 3.0) for strength in PUSH),
        *(Scenario(kind, (kind,), ("weak", "medium", "strong"), 6.0) for kind in DECOYS),
    )
}
"""By name: days with nothing, squeezes of each strength, and each decoy at all strengths."""


class Taken(NamedTuple):
    """A position of the engine. Ticks; `closed` is None where the run ended first."""

    side: int
    opened: int
    closed: int | None
    score: float
    move: float
    """Log return in the position's favour, until it was closed or the run ended."""


class Grade(NamedTuple):
    """What was made of one episode."""

    episode: Episode
    found: Taken | None
    """The first position of its direction, entered from its start to the end of its run, that was held into the run."""
    early: int
    """Positions of its direction that were closed before the run."""
    against: int
    """Entries against a squeeze, from its reset to the end of its run."""
    lured: int
    """Entries because of a decoy: during it, or within AFTERMATH_S."""
    run_move: float
    """Log return of the run in the squeeze's direction; 0 for decoys."""

    @property
    def lead_s(self) -> float | None:
        """Seconds from the entry to half of the run."""
        if self.found is None:
            return None
        return (self.episode.run_start + self.episode.run_end) / 2 - self.found.opened

    @property
    def captured(self) -> float | None:
        """The position's move as a share of the run's."""
        return self.found.move / self.run_move if self.found and self.run_move > 0 else None


class Run(NamedTuple):
    """One market, judged."""

    scenario: str
    seed: int
    symbol: str
    days: float
    grades: tuple[Grade, ...]
    entries: int
    stray: int
    """Entries that belong to no episode; before the reset of a squeeze, those against it too."""
    armed: float
    """Share of minutes in which a setup was armed, and in which a reset was live."""
    in_reset: float


def market_of(scenario: Scenario, seed: int, days: float) -> Market:
    """The market of a run: `days` after HISTORY_S of history."""
    symbol, first = SYMBOLS[seed % len(SYMBOLS)], START + HISTORY_S
    planned: Sequence[Episode] = ()
    if scenario.kinds:
        end = first + int(days * DAY_S)
        planned = plan(
            seed, symbol, first, end, per_day=scenario.per_day, kinds=scenario.kinds, strengths=scenario.strengths
        )
    return Market(symbol, seed, START, planned)


class Observed:
    """Share of minutes in which the strategy saw something."""

    def __init__(self) -> None:
        self.minutes, self.armed, self.reset = 0, 0, 0

    def __call__(self, first: int, last: int, judged: Mapping[str, Judged]) -> None:
        """Observe a block of ticks, once a minute."""
        for block in judged.values():
            for tick in range(-(-first // MINUTE_S) * MINUTE_S, last, MINUTE_S):
                mind = block.mind(tick)
                self.minutes += 1
                self.armed += mind.get("divergence", 0.0) != 0
                self.reset += mind.get("reset", 0.0) != 0

    def share(self, count: int) -> float:
        return count / max(self.minutes, 1)


def evaluate(scenario: Scenario, seed: int, days: float, strategy: Strategy, settings: StrategySettings) -> Run:
    """One run of one market under a strategy."""
    market, observed = market_of(scenario, seed, days), Observed()
    flow = market.flow(START, START + HISTORY_S + int(days * DAY_S))
    signals = signals_of(flow, market.symbol, strategy, settings, observed)
    taken = positions_of(signals, flow)
    grades = tuple(grade(episode, taken, flow) for episode in market.episodes)
    return Run(
        scenario.name,
        seed,
        market.symbol,
        days,
        grades,
        len(taken),
        sum(not any(_belongs(position, each.episode) for each in grades) for position in taken),
        observed.share(observed.armed),
        observed.share(observed.reset),
    )


def signals_of(
    flow: Flow, symbol: str, strategy: Strategy, settings: StrategySettings, observed: Observed
) -> list[Signal]:
    """Signals after the first HISTORY_S of the flow."""
    engine = Engine([symbol], strategy, settings, "evaluation", {}, EVALUATION_BLOCK_S)
    engine.warm(flow[:HISTORY_S])
    engine.observer = observed
    signals: list[Signal] = []
    for first in range(HISTORY_S, len(flow), EVALUATION_BLOCK_S):
        part = flow[first : first + EVALUATION_BLOCK_S]
        signals += engine.block(part["second"] + 1, part)
    return signals


def positions_of(signals: Sequence[Signal], flow: Flow) -> list[Taken]:
    """Entries with their exits."""
    closes = {signal.position_id: signal.second + 1 for signal in signals if signal.action == CLOSE}
    taken = []
    for signal in signals:
        if signal.action != CLOSE:
            side, opened = 1 if signal.action == LONG else -1, signal.second + 1
            closed = closes.get(signal.position_id)
            until = int(flow["second"][-1]) + 1 if closed is None else closed
            taken.append(Taken(side, opened, closed, signal.score, side * _move(flow, opened, until)))
    return taken


def _move(flow: Flow, first: int, last: int) -> float:
    """Log return between two ticks."""
    origin = int(flow["second"][0]) + 1
    return float(flow["price"][last - origin] - flow["price"][first - origin]) / PRICE_SCALE


def grade(episode: Episode, taken: Sequence[Taken], flow: Flow) -> Grade:
    """Compare an episode with the positions of its market."""
    mine = [position for position in taken if _belongs(position, episode)]
    if episode.kind != "squeeze":
        return Grade(episode, None, 0, 0, len(mine), 0.0)
    agreeing = [p for p in mine if p.side == episode.direction and p.opened < episode.run_end]
    held = [p for p in agreeing if p.closed is None or p.closed > episode.run_start]
    against = [p for p in mine if p.side != episode.direction and p.opened < episode.run_end]
    run_move = episode.direction * _move(flow, episode.run_start, min(episode.run_end, int(flow["second"][-1]) + 1))
    return Grade(episode, held[0] if held else None, len(agreeing) - len(held), len(against), 0, run_move)


def _belongs(position: Taken, episode: Episode) -> bool:
    """Whether an entry was made in an episode: for a position against a squeeze that is from its reset on."""
    if episode.kind != "squeeze":
        return episode.start <= position.opened < episode.end + AFTERMATH_S
    first = episode.start if position.side == episode.direction else episode.reset_start
    return first <= position.opened < episode.end
