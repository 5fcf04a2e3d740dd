"""Processes of this machine for a sweep: forked, so that what is imported is not imported again, and telling how far they are."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context
from multiprocessing.sharedctypes import RawArray
from typing import Any, TypeVar

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_shares: Any = None
"""In a worker: the share of each unit that is done, in memory that the parent reads."""


class Workers(Executor):
    """Executes calls in `count` processes. Leave it by an exception, and they are ended at once.

    They are forked where this process has one thread and runs Linux, else they are new ones, which take a second to start.
    """

    def __init__(self, count: int, units: int) -> None:
        """`units`: how many there will be, for `share`."""
        self._shares = RawArray("d", units)
        alone = sys.platform == "linux" and threading.active_count() == 1
        context = get_context("fork" if alone else "spawn")
        self._pool = ProcessPoolExecutor(count, context, _begin, (self._shares, os.getpid()))
        self._pool.submit(os.getpid).result()  # the first call starts them all: now, while there is one thread

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return self._pool.submit(fn, *args, **kwargs)

    def share(self, unit: int) -> float:
        """What `tell` was told of it, 0 … 1."""
        return float(self._shares[unit])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            for child in active_children():
                child.terminate()
        self.shutdown(cancel_futures=True)


def _begin(shares: Sequence[float], parent: int) -> None:
    """In each worker: Ctrl-C is its parent's to answer, and it ends with it."""
    global _shares
    _shares = shares
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def tell(unit: int, share: float) -> None:
    """Called where a unit runs: how much of it is done. Nobody listens on another machine."""
    if _shares is not None:
        _shares[unit] = share
