"""Calm connections are read twice a second, all at once: waking up for a frame costs more than the frame. Sparse ones, once.

One look falls just before a second closes. From then until it is closed, frames are read as they come. After one closing of
LEARN_EVERY so is the next frame of each connection, in turns: what waited for a look tells nothing exact of the exchange's delay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqfd.clock import Clock

EVERY_S = 0.5
AHEAD_S = 0.02
"""A second closes so long after the look that goes before it, which is what reading and decoding half a second takes at most."""
LEARN_EVERY = 4
"""The watermark forgets delays after 30 to 60 s: seven times in 30 s are enough, at different phases of what the exchange does."""
TIMER_S = 0.005
"""Timers may wake this much early."""


class Held(Protocol):
    """A connection that is read at the looks."""

    sparse: bool
    """So little comes that it is read just before a second closes, and not in the middle of it."""

    def look(self) -> None:
        """Read what has come, in this turn of the loop."""

    def hold(self) -> None:
        """What comes waits for the next look."""

    def tick(self) -> None:
        """Look at the time."""


class Looks:
    """When connections that bring little are read; the timer of all of them."""

    def __init__(self, clock: Clock, over_in_s: Callable[[float], float]) -> None:
        """`over_in_s(now_ms)`: how long until the next second closes, 0 to 1."""
        self._clock = clock
        self._over_in_s = over_in_s
        self.calm: dict[Held, None] = {}
        self._turn = 0
        self.may_hold = True
        """Not while a second is about to close: what comes is read at once."""
        self.catching_up = False
        """What is read now may have waited."""

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(self._wait_s())
            await self.look()

    async def look(self) -> None:
        """Read, and let connections be held afterwards unless a second is about to close."""
        self.may_hold = self._over_in_s(self._clock.now_ms()) > 2 * AHEAD_S
        if self.calm:
            await self.read(every=not self.may_hold)
        if self.may_hold:  # half a second before the other look: when a second closes, there is enough to do
            for one in tuple(self.calm):
                one.tick()

    async def before_closing(self) -> None:
        """A second is over: what came in time must have been read, also where the look before was late."""
        if self.may_hold and self.calm:
            self.may_hold = False
            await self.read()

    def closed(self) -> None:
        """It is closed: connections are held again, those whose turn it is to be learnt from when they have brought a frame."""
        self.may_hold = True
        self._turn = (self._turn + 1) % LEARN_EVERY
        for number, one in enumerate(tuple(self.calm)):
            if number % LEARN_EVERY != self._turn:
                one.hold()

    async def read(self, every: bool = True) -> None:
        """Read what has come on every connection that is held, or on those that are not sparse."""
        self.catching_up = True
        try:
            for one in tuple(self.calm):
                if every or not one.sparse:
                    one.look()
            await self._clock.sleep(0.0)  # uvloop polls its sockets at the end of this turn, asyncio in the next one
            await self._clock.sleep(0.0)
        finally:
            self.catching_up = False

    def _wait_s(self) -> float:
        wait_s = (self._over_in_s(self._clock.now_ms()) - AHEAD_S) % EVERY_S
        return wait_s if wait_s > TIMER_S else wait_s + EVERY_S
