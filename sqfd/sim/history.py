"""The world of a simulation: symbols, exchanges, seeds; and its past, as if the daemon had been collecting.

Two processes that build a `World` from the same arguments have the same world: `sqfd demo` takes the past from its own and
leaves the future to the process that serves the exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from exchanges.api import Exchange, Instrument
from sqfd.model import Bars, Flow
from sqfd.sim.hour import BLOCK_S
from sqfd.sim.listing import listed, shared
from sqfd.sim.market import Market
from sqfd.sim.plan import Episode, plan, squeeze
from sqfd.sim.tape import Tape

HISTORY_S = 28 * 3_600
BARS_S = 900
FUTURE_S = 7 * 86_400
"""Episodes are planned this far ahead."""
RUN_IN_S = 0
"""The first symbol's squeeze starts to run this long after `now`."""
_STAGGER_S = 120
"""Each further symbol's squeeze runs this much later than the one before."""


@dataclass(frozen=True)
class History:
    """What was collected before `now`: a day of flow, and the bars of its last minutes."""

    symbols: tuple[str, ...]
    markets: tuple[Instrument, ...]
    flow: Flow
    """By (symbol, second); `symbol` is an index into `symbols`."""
    bars: Bars
    """By (second, market); `market` is an index into `markets`."""

    def since(self, second: int) -> History:
        """What is not older than `second`."""
        flow, bars = (rows[rows["second"] >= second] for rows in (self.flow, self.bars))
        return replace(self, flow=flow, bars=bars)


@dataclass(frozen=True)
class World:
    """Symbols that trade on exchanges, from `start` on."""

    start: int
    tapes: tuple[Tape, ...]
    """One per symbol."""

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(tape.market.symbol for tape in self.tapes)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """All markets, by symbol: the order in which `History.bars` counts them."""
        return tuple(listing.instrument for tape in self.tapes for listing in tape.listings)

    @property
    def episodes(self) -> dict[str, tuple[Episode, ...]]:
        """The truth, by symbol."""
        return {tape.market.symbol: tape.market.episodes for tape in self.tapes}

    def history(self, now: int, history_s: int = HISTORY_S, bars_s: int = BARS_S) -> History:
        """What was collected until second `now` (which is not part of it), reaching back to `start` at most."""
        first = max(self.start, now - history_s)
        flow = [tape.market.flow(first, now, symbol) for symbol, tape in enumerate(self.tapes)]
        bars, markets = [], 0
        for tape in self.tapes:
            bars.append(tape.bars(max(first, now - bars_s), now, markets))
            markets += len(tape.listings)
        rows = np.concatenate(bars)
        return History(
            self.symbols,
            self.instruments,
            np.concatenate(flow),
            rows[np.lexsort((rows["market"], rows["second"]))],
        )


def world(
    exchanges: Sequence[Exchange],
    symbols: Sequence[str],
    seed: int,
    now: int,
    *,
    history_s: int = HISTORY_S,
    staged: bool = True,
    per_day: float = 12.0,
) -> World:
    """A world whose past ends at `now`.

    With `staged`, the first symbol's squeeze has its build-up and its reset behind it at `now`, and it runs RUN_IN_S
    later; the other symbols follow. After that, and without `staged` from the seventh hour on, squeezes come at random,
    `per_day` for each symbol.
    """
    start = (now - history_s) // BLOCK_S * BLOCK_S
    instruments = [i for exchange in exchanges for i in listed(exchange, symbols)]
    tapes = []
    for nth, symbol in enumerate(symbols):
        staged_ones = [_staged(now + RUN_IN_S + nth * _STAGGER_S, nth)] if staged else []
        begin = staged_ones[-1].end + 2_700 if staged_ones else start + 6 * 3_600
        episodes = [*staged_ones, *plan(seed, symbol, begin, now + FUTURE_S, per_day=per_day)]
        tapes.append(Tape(Market(symbol, seed, start, episodes), shared(instruments, symbol)))
    return World(start, tuple(tapes))


def _staged(run_start: int, nth: int) -> Episode:
    """A strong squeeze that runs at `run_start`; every second one goes down."""
    build_s, reset_s, run_s = 2_100, 540, 600
    return squeeze(run_start - reset_s - build_s, build_s, reset_s, run_s, -1 if nth % 2 else 1, "strong")
