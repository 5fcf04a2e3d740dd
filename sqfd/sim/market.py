"""A synthetic market of one symbol with known truth: its seconds at any time, in any order.

Pure and seeded: the same (symbol, seed, start, episodes) gives the same seconds, in whatever order they are asked for.
`sqfd.sim.hour` says what habits they have, `sqfd.sim.plan` what is planted in them, and `sqfd.sim.tape` breaks them down
into trades.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sqfd.model import FLOW, PPM, PRICE_SCALE, Flow
from sqfd.sim.hour import BLOCK_S, SECOND, Profile, Seconds, State, make, profile
from sqfd.sim.plan import Episode, Script, script


class Market:
    """One symbol from `start` (epoch seconds) on, without end."""

    def __init__(
        self,
        symbol: str,
        seed: int,
        start: int,
        episodes: Sequence[Episode] = (),
        shape: Profile | None = None,
        keep_blocks: int = 64,
        keep_states: int = 20_000,
    ) -> None:
        """`keep_blocks` computed hours stay in memory; any hour within the last `keep_states` can be computed again."""
        self.symbol, self.seed, self.start = symbol, seed, start
        self.shape = shape or profile(symbol)
        self.episodes = tuple(sorted(episodes, key=lambda episode: episode.start))
        self._keep_blocks, self._keep_states = keep_blocks, keep_states
        self._blocks: OrderedDict[int, Seconds] = OrderedDict()
        self._states: OrderedDict[int, State] = OrderedDict({0: State(log_price=math.log(self.shape.price))})

    def rng(self, *path: int) -> np.random.Generator:
        """The generator of one part of this market; equal paths give equal draws."""
        return np.random.default_rng([self.seed, crc32(self.symbol.encode()), *path])

    def seconds(self, first: int, last: int) -> Seconds:
        """The seconds of [first, last). Raises ValueError before `start` or where the past has been forgotten."""
        if first < self.start:
            raise ValueError(f"{self.symbol} begins at {self.start}; asked for {first}")
        pieces = [self._piece(block, first, last) for block in range(*self._range(first, last))]
        return np.concatenate(pieces) if pieces else np.empty(0, SECOND)

    def second(self, at: int) -> np.void:
        """One second."""
        row: np.void = self.seconds(at, at + 1)[0]
        return row

    def flow(self, first: int, last: int, symbol: int = 0) -> Flow:
        """[first, last) as rows of FLOW, as feeds would have seen it: lost trades are missing and lower the coverage."""
        return to_flow(self.seconds(first, last), first, symbol)

    def _range(self, first: int, last: int) -> tuple[int, int]:
        return (first - self.start) // BLOCK_S, -(-(last - self.start) // BLOCK_S)

    def _piece(self, block: int, first: int, last: int) -> Seconds:
        at = self.start + block * BLOCK_S
        return self._block(block)[max(0, first - at) : last - at]

    def _block(self, block: int) -> Seconds:
        if block not in self._blocks:
            known = next((b for b in range(block, -1, -1) if b in self._states), None)
            if known is None:
                raise ValueError(f"{self.symbol}: hour {block} is too long ago to be computed again")
            for each in range(known, block + 1):
                self._compute(each)
        self._blocks.move_to_end(block)
        return self._blocks[block]

    def _compute(self, block: int) -> None:
        at = self.start + block * BLOCK_S
        made, self._states[block + 1] = make(self.shape, self._states[block], self.rng(block), at, self._scripts(at))
        self._blocks[block] = made
        if len(self._blocks) > self._keep_blocks:
            self._blocks.popitem(last=False)
        if len(self._states) > self._keep_states:
            self._states.popitem(last=False)

    def _scripts(self, at: int) -> list[tuple[Episode, Script]]:
        """The episodes that touch the block at `at`."""
        return [(e, script(e)) for e in self.episodes if e.start < at + BLOCK_S and at < e.end]


def to_flow(seconds: Seconds, first: int, symbol: int) -> Flow:
    """Rows of SECOND that begin at second `first` as rows of FLOW."""
    flow = np.zeros(len(seconds), FLOW)
    flow["symbol"] = symbol
    flow["second"] = np.arange(first, first + len(seconds))
    for name in ("price", "high", "low"):
        flow[name] = np.rint(np.log(seconds[name]) * PRICE_SCALE)
    seen_buy, seen_sell = 1 - seconds["lost_buy"], 1 - seconds["lost_sell"]
    flow["spot_delta"] = _cents(seconds["spot_buy"]) - _cents(seconds["spot_sell"])
    flow["spot_volume"] = _cents(seconds["spot_buy"]) + _cents(seconds["spot_sell"])
    buy, sell = _cents(seconds["perp_buy"] * seen_buy), _cents(seconds["perp_sell"] * seen_sell)
    flow["perp_delta"], flow["perp_volume"] = buy - sell, buy + sell
    flow["liq_buy"], flow["liq_sell"] = _cents(seconds["liq_buy"] * seen_buy), _cents(seconds["liq_sell"] * seen_sell)
    # Perps carry four fifths of the usual volume, so that much of coverage hangs on them.
    flow["coverage_ppm"] = PPM - np.rint(0.8 * PPM * (seconds["lost_buy"] + seconds["lost_sell"]) / 2)
    return flow


def _cents(notional: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(notional * 100).astype(np.int64)
