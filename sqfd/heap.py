"""Memory that was used for a moment goes back to the system."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """After something large (a warm start): collect what is garbage, and have the C library return its free pages.

    glibc keeps freed memory for later, and takes it in pieces between what lives on: measured, a third of the daemon after its
    start. Other C libraries have no such call; there nothing happens.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
