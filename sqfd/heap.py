"""Memory that was used for a moment goes back to the system. What is said of glibc was measured in `benchmarks.memory`."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -8, -1, -3  # malloc.h
_KEPT_BYTES = 256 << 20


def share_one() -> None:
    """Let all threads take memory from one place. To be called before there are any.

    glibc gives each thread an arena of its own, whose free pages the others cannot use. The journal and the few other threads
    wait for the disk or the interpreter, not for the allocator. As `MALLOC_ARENA_MAX=1`; a no-op with other C libraries.
    """
    _tune(_M_ARENA_MAX, 1)


def keep_freed() -> None:
    """For a process that makes the same arrays again and again: what it frees stays for the next, up to 256 MB.

    By itself glibc gives large arrays back to the system at once and asks for them anew; each page of them then costs a fault. A
    backtest had 25,000 of them for ten days, a tenth of its time; now 5,000, and its peak is the same. A no-op with other C
    libraries.
    """
    _tune(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    _tune(_M_MMAP_THRESHOLD, _KEPT_BYTES // 2)


def _tune(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)


def settle() -> None:
    """After the start: what lives by now lives long, and collections leave it out.

    One follows at once, because CPython runs a full one only when a quarter of what the last one found has been added: after
    a start that means 4 MB of garbage that is never collected.
    """
    gc.freeze()
    gc.collect()


def give_back() -> None:
    """After something large (a warm start), and every minute: collect what is garbage, return free pages.

    glibc keeps freed memory for later, and takes it in pieces between what lives on: measured, a third of the daemon after its
    start. Other C libraries have no such call; there nothing happens.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
