"""P11: the daemon ends within its bound, and says what it waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sqfd.ending import StopOverdue, at_work, ended_in_time, still_wanted
from tests.simulation.loop import run
from tests.waiting import PATIENCE_S, until


class Told:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, list[str]]] = []

    def warning(self, event: str, *, waiting_for: list[str], after_s: float) -> None:
        self.lines.append((event, waiting_for))

    error = warning


async def _deaf(end: asyncio.Event) -> None:
    """A stage that does not end when it is told to, but by `end`."""
    while not end.is_set():
        try:
            await end.wait()
        except asyncio.CancelledError:
            continue


async def _stages(end: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        deaf = group.create_task(_deaf(end), name="deaf")
        await asyncio.sleep(1.0)
        deaf.cancel()


def in_virtual_time(work: Coroutine[Any, Any, None]) -> float:
    """Run it; gives how many seconds it took."""

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        await work
        return loop.time() - started_s

    return run(timed())


def test_a_stage_that_does_not_end_is_named_and_not_waited_for() -> None:
    """After 5 s a line names it and where it is; after 18 s the run ends with StopOverdue, whatever it does."""
    told, stopping = Told(), asyncio.Event()

    async def main() -> None:
        end = asyncio.Event()
        stopping.set()
        with pytest.raises(StopOverdue, match="deaf"):
            await ended_in_time(_stages(end), stopping, told)
        end.set()

    assert in_virtual_time(main()) == pytest.approx(18.0, abs=0.1)
    assert [event for event, _ in told.lines] == ["still stopping", "stopping took too long: given up"]
    for _, waiting_for in told.lines:
        assert "deaf in _deaf" in waiting_for
        assert "daemon in _stages" in waiting_for


def test_a_stop_that_is_quick_says_nothing() -> None:
    """Nor does a run that goes on for longer than the bounds before it is stopped."""
    told, stopping = Told(), asyncio.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_later(100.0, stopping.set)

        async def work() -> None:
            await stopping.wait()
            await asyncio.sleep(4.0)

        await ended_in_time(work(), stopping, told)

    assert in_virtual_time(main()) == pytest.approx(104.0, abs=0.1)
    assert told.lines == []


def test_what_the_work_raises_is_raised() -> None:
    """An error at the start is no stop."""

    async def fails() -> None:
        raise OSError("no")

    async def main() -> None:
        with pytest.raises(OSError, match="no"):
            await ended_in_time(fails(), asyncio.Event(), Told())

    in_virtual_time(main())


async def test_a_swallowed_cancellation_is_noticed() -> None:
    """A loop over a library that loses a cancellation, as `wait_for` of Python 3.11 does, ends at its next turn."""
    turns = 0

    async def loop() -> None:
        nonlocal turns
        while True:
            still_wanted()
            turns += 1
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue  # lost

    task = asyncio.create_task(loop())
    await asyncio.sleep(0.03)
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({task})
    assert task.cancelled()


def test_only_threads_at_work_are_named() -> None:
    """A thread that waits for work holds up nobody; one that works is named with the function that it is in."""
    go, begun = threading.Event(), threading.Event()

    def works() -> None:
        begun.set()
        go.wait()

    with ThreadPoolExecutor(2, "test") as pool:
        pool.submit(int).result()
        done = pool.submit(works)
        begun.wait()
        named = [name for name in at_work() if name.startswith("test")]
        go.set()
        done.result()
        until(lambda: not [name for name in at_work() if name.startswith("test")], "the threads wait for work")
    assert len(named) == 1


async def test_a_stop_in_the_instant_of_a_tick_ends_the_page() -> None:
    """The page's loop is cancelled while the tick that it waited for is on its way to it: at each turn of the loop."""
    from sqfd.http.api import Server

    for turns in range(6):
        page: Any = Server.__new__(Server)
        page._ticked, page._live = asyncio.Event(), ()
        page._watch_health = lambda: None
        task = asyncio.create_task(page.run())
        await asyncio.sleep(0.01)
        page._ticked.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE_S)
        assert task.cancelled(), f"{turns} turns after the tick"
