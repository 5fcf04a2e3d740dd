"""A virtual-time event loop: time stands still while anything can run, and then jumps to the next timer.

Nothing in it waits for the host, so that hours pass in seconds and the same seed gives the same run. With a seed, tasks that
are ready at the same time run in an order that the seed decides. A `Process` can be killed as `kill -9` does it: from one
instant to the next nothing of it runs any more, no `finally`, no answer to a request that is under way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

START_MS = 1_800_000_000_000.0
"""What the clock shows when a simulation begins: a full second, minute and hour."""


class Deadlock(RuntimeError):
    """Every task waits for something that nothing will do."""


class Process:
    """What runs in a context of its own, and ends all at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.context = copy_context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process] = ContextVar("process")
"""Whose code runs; not set where it is the world's."""


class _Task(asyncio.Task[Any]):
    """Its place in a set does not depend on where it lies in memory: sets of tasks have the same order in each run."""

    def __init__(self, *args: Any, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _Handle(asyncio.Handle):
    """As asyncio's, which asks three times whether it is being debugged. What a dead process would do next is not done."""

    __slots__ = ()
    _repr = _source_traceback = None

    def __init__(self, callback: Any, args: Any, loop: asyncio.AbstractEventLoop, context: Context | None) -> None:
        self._context = context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        process = context.get(PROCESS)
        self._cancelled = process is not None and not process.alive

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = None, ()


class _Timer(_Handle, asyncio.TimerHandle):
    __slots__ = ()


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is what has been slept. Executors run inline, one job after the other, each for a moment.

    asyncio's own `_run_once` asks a selector and keeps its timers in an order that Python compares: this one does neither, which
    makes hours affordable.
    """

    def __init__(self, random: Random | None = None) -> None:
        """`random` None: ready tasks run first in, first out."""
        super().__init__()
        self._now_s = 0.0
        self._random = random
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._sleepers: dict[float, list[asyncio.Future[None]]] = {}
        self._outside = copy_context()
        self._free_s: dict[int, float] = {}
        self.job_s: Callable[[], float] = lambda: 0.0
        """How long the next job of an executor takes."""

    def time(self) -> float:
        return self._now_s

    def stall(self, seconds: float) -> None:
        """Time passes in which nothing runs: a stopped process, or a blocked loop."""
        self._now_s += seconds

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not ready:
            if not timers:
                raise Deadlock("nothing is scheduled")
            self._now_s = max(self._now_s, timers[0][0])
        now_s = self._now_s
        while timers and timers[0][0] <= now_s:
            ready.append(heappop(timers)[2])
        if self._random is not None and len(ready) > 1:
            self._shuffle(self._random.random)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001  # as asyncio does: its handler is told, the others go on
                    told = f"Exception in callback {handle._callback!r}"
                    self.call_exception_handler({"message": told, "exception": error, "handle": handle})

    def _shuffle(self, number: Callable[[], float]) -> None:
        """Steps of tasks change places; plain callbacks keep theirs, since asyncio promises their order."""
        ready = self._ready
        places = [
            n
            for n, one in enumerate(ready)
            if not one._cancelled and type(getattr(one._callback, "__self__", None)) is _Task
        ]
        if len(places) > 1:
            steps = sorted([ready[n] for n in places], key=lambda _: number())
            for place, step in zip(places, steps, strict=True):
                ready[place] = step

    def sleepers(self, until_s: float) -> asyncio.Future[None]:
        """Done at `until_s`; those who wait for the same instant share a timer."""
        done = self.create_future()
        waiting = self._sleepers.get(until_s)
        if waiting is None:
            waiting = self._sleepers[until_s] = []
            self.call_at(until_s, self._wake, until_s, context=self._outside)
        waiting.append(done)
        return done

    def _wake(self, at_s: float) -> None:
        for done in self._sleepers.pop(at_s):
            if not done.done():
                done.set_result(None)

    # --- processes

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = _Timer(callback, args, self, context)
        handle._when = when
        heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = _Task(coro, loop=self, number=next(self._numbers), **options)
        context = options.get("context")
        process = (context.get(PROCESS) if context is not None else None) or PROCESS.get(None)
        if process is not None:
            process.tasks.add(task)
        return task

    def start(self, process: Process, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `main` as a process."""
        return self.create_task(main, context=process.context)

    def kill(self, process: Process) -> None:
        """Nothing of it runs from now on. Call it from the world's own code, never from the process'."""
        process.alive = False
        for handle in [*self._ready, *(timer[2] for timer in self._timers)]:
            if handle._context.get(PROCESS) is process:
                handle.cancel()
        for task in list(process.tasks):
            if not task.done():
                task._log_destroy_pending = False
                process.context.run(_bury, task.get_coro())

    # --- executors

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """The job is done at some instant, its result is known at a later one; between the two a process may die."""
        done: asyncio.Future[Any] = self.create_future()
        process = PROCESS.get(None)
        if process is not None and not process.alive:
            return done
        at_s, took_s = self.time(), self.job_s()
        if executor is not None:
            at_s = max(at_s, self._free_s.get(id(executor), 0.0))
            self._free_s[id(executor)] = at_s + took_s
        part = self._random.random() if self._random is not None else 1.0
        self.call_at(at_s + part * took_s, self._work, done, func, args, at_s + took_s)
        return done

    def _work(self, done: asyncio.Future[Any], func: Any, args: tuple[Any, ...], until_s: float) -> None:
        try:
            tell, result = done.set_result, func(*args)
        except BaseException as error:  # noqa: BLE001  # as an executor does: the caller gets it
            tell, result = done.set_exception, error
        self.call_at(until_s, _tell, done, tell, result)


def _tell(done: asyncio.Future[Any], tell: Callable[[Any], None], result: Any) -> None:
    if not done.done():
        tell(result)


def _bury(coroutine: Any) -> None:
    """Unwind a coroutine that will never run again. What it still wants to await is not there for it."""
    for _ in range(100):
        try:
            coroutine.close()
        except RuntimeError:  # it awaits in a `finally`
            continue
        except BaseException:  # noqa: BLE001  # a `finally` that fails in a process that is no more
            continue
        return


class VirtualClock:
    """The `sqfd.clock.Clock` of a virtual loop. The wall clock may be stepped by tests; the steady one may not."""

    def __init__(self, grid_s: float = 0.0) -> None:
        """`grid_s`: sleepers wake up together, at multiples of it, as on a host that is busy or saves power."""
        self.step_ms = 0.0
        self.grid_s = grid_s

    def now_ms(self) -> float:
        return START_MS + asyncio.get_running_loop().time() * 1e3

    def wall_ms(self) -> float:
        return self.now_ms() + self.step_ms

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self.grid_s and seconds > 0.0 and isinstance(loop, VirtualLoop):
            await loop.sleepers((math.floor((loop.time() + seconds) / self.grid_s + 1e-9) + 1) * self.grid_s)
        else:
            await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T], random: Random | None = None) -> T:
    """Run to the end in virtual time. With `random`, what is left then is dropped rather than cancelled: it may be dead."""
    if random is None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)
    loop = VirtualLoop(random)
    try:
        return loop.run_until_complete(main)
    finally:
        rest = Process("what is left")
        rest.tasks.update(asyncio.all_tasks(loop))
        loop.kill(rest)
        loop.close()
