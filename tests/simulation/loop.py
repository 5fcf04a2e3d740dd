"""A virtual-time event loop: time stands still while anything can run, and then jumps to the next timer.

Nothing in it waits for the host, so that hours pass in seconds and the same seed gives the same run. With a seed, tasks that
are ready at the same time run in an order that the seed decides. A `Process` can be killed as `kill -9` does it: from one
instant to the next nothing of it runs any more, no `finally`, no answer to a request that is under way.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
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


class _Jump(selectors.SelectSelector):
    """Instead of waiting for files, let time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is scheduled")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is what has been slept. Executors run inline, one job after the other, each for a moment."""

    def __init__(self, random: Random | None = None) -> None:
        """`random` None: ready tasks run first in, first out."""
        self._jump = _Jump()
        super().__init__(self._jump)
        self._random = random
        self._free_s: dict[int, float] = {}
        self.job_s: Callable[[], float] = lambda: 0.0
        """How long the next job of an executor takes."""

    def time(self) -> float:
        return self._jump.now_s

    def stall(self, seconds: float) -> None:
        """Time passes in which nothing runs: a stopped process, or a blocked loop."""
        self._jump.now_s += seconds

    # --- the order of ready tasks

    def _run_once(self) -> None:
        if self._random is not None and len(self._ready) > 1:
            self._shuffle(self._random)
        super()._run_once()  # type: ignore[misc]  # what `run_forever` calls

    def _shuffle(self, random: Random) -> None:
        """Steps of tasks change places; plain callbacks keep theirs, since asyncio promises their order."""
        ready = self._ready
        places = [n for n, handle in enumerate(ready) if isinstance(_owner(handle), asyncio.Task)]
        if len(places) > 1:
            steps = [ready[n] for n in places]
            random.shuffle(steps)
            for place, step in zip(places, steps, strict=True):
                ready[place] = step

    # --- processes

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        _refuse(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        _refuse(handle)
        return handle

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
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
        for handle in [*self._ready, *self._scheduled]:
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


def _refuse(handle: asyncio.Handle) -> None:
    """What a dead process would do next is not done."""
    process = handle._context.get(PROCESS)
    if process is not None and not process.alive:
        handle.cancel()


def _owner(handle: asyncio.Handle) -> object:
    return getattr(handle._callback, "__self__", None)


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
        if self.grid_s and seconds > 0.0:
            now_s = asyncio.get_running_loop().time()
            seconds = (math.floor((now_s + seconds) / self.grid_s + 1e-9) + 1) * self.grid_s - now_s
        await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T], random: Random | None = None) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(random)) as runner:
        return runner.run(main)
