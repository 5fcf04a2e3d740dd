"""Stopping within a bound: what is still waited for is told, and after the bound it is not waited for any longer."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any

SAY_S = 5.0
"""A stop that takes longer says what it waits for."""
GIVE_UP_S = 18.0
"""A stop that takes longer is given up: service managers kill after 20 s and tell nobody why."""
LEAVE_S = 1.5
"""After the daemon's end a thread that still works is waited for this long: GIVE_UP_S and this are less than 20 s."""
MAX_NAMES = 20


class StopOverdue(Exception):
    """The daemon did not end within the bound; its tasks may still run, and only the end of the process ends them."""


def still_wanted() -> None:
    """For loops over libraries: raises CancelledError where this task was cancelled and somebody swallowed it.

    Python 3.11's `wait_for` does (python/cpython#86296): a cancellation that comes together with the result is lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def ended_in_time(
    work: Coroutine[Any, Any, None],
    stopping: asyncio.Event,
    log: Any,
    say_s: float = SAY_S,
    give_up_s: float = GIVE_UP_S,
) -> None:
    """Run `work` to its end, which comes soon after `stopping` is set. Raises StopOverdue, and what `work` raises.

    The bounds count from `stopping`, on the loop's clock.
    """
    others = asyncio.all_tasks()
    task = asyncio.create_task(work, name="daemon")
    stopped = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            await asyncio.wait({task}, timeout=say_s)
        if not task.done():
            log.warning("still stopping", after_s=say_s, waiting_for=running(others))
            await asyncio.wait({task}, timeout=give_up_s - say_s)
    except asyncio.CancelledError:
        stopped.cancel()
        task.cancel()
        await asyncio.wait({task})
        raise
    if not task.done():
        found = running(others)
        log.error("stopping took too long: given up", after_s=give_up_s, waiting_for=found)
        raise StopOverdue(f"not stopped after {give_up_s:g} s: {', '.join(found)}")
    task.result()


def running(others: set[asyncio.Task[Any]]) -> list[str]:
    """Names of all running tasks but `others`, each with the function that it waits in."""
    names = sorted(f"{task.get_name()} in {_place(task)}" for task in asyncio.all_tasks() - others)
    return names[:MAX_NAMES] + ([f"{len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else [])


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost coroutine that the task is in, but for those of asyncio, which say nothing."""
    inner: Any = task.get_coro()
    place = ""
    while hasattr(inner, "cr_await"):
        if not place or "/asyncio/" not in inner.cr_code.co_filename:
            place = inner.__qualname__
        inner = inner.cr_await
    return place


class Leaving:
    """Bounds what comes after the daemon's end, when everything is stored and said.

    A loop that is closed, and Python itself when it ends, wait for every thread of an executor: for a look-up of a name that
    nobody answers ten seconds per server of /etc/resolv.conf, for a disk that hangs for ever.
    """

    def __init__(self, log: Any, leave_s: float = LEAVE_S) -> None:
        self._log, self._leave_s = log, leave_s
        self._left = threading.Event()

    def begin(self) -> None:
        """From now on the process ends, with exit code 0, where `end` is not called and a thread is at work after the bound."""
        threading.Thread(target=self._watch, name="leaving", daemon=True).start()

    def end(self) -> None:
        """All threads have ended."""
        self._left.set()

    def _watch(self) -> None:
        while not self._left.wait(self._leave_s):
            if found := at_work():  # else this machine is just slow
                self._log.warning("ended without these threads", threads=found)
                sys.stdout.flush()
                os._exit(0)


def at_work() -> list[str]:
    """Threads of executors that are busy, each with the function that it is in."""
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is not None and not thread.daemon and thread is not threading.main_thread() and not _idle(frame):
            found.append(f"{thread.name} in {frame.f_code.co_name}")
    return found[:MAX_NAMES]


def _idle(frame: FrameType) -> bool:
    """Whether an executor's thread waits for work."""
    return frame.f_code.co_name == "_worker" and "/concurrent/futures/" in frame.f_code.co_filename
