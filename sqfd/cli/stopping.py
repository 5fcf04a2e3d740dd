"""Signals that come before a command can take them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def hold(*numbers: int) -> list[int]:
    """Keep these signals for a loop that does not run yet: the list that is given has those that came.

    One that raised while a loop starts would leave it neither started nor closable.
    """
    held: list[int] = []
    for number in numbers or (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: held.append(number))
    return held


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What must not be left half done: signals that come meanwhile are taken at its end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    held = hold()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for early in held:
        signal.raise_signal(early)


def clean_up_on_sigterm() -> None:
    """SIGTERM ends the command as an exception does, with what it has open closed and removed."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    if _imports(frame):
        _die(number)
    sys.exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _imports(frame):
        _die(number)
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether Python is at an import, where an exception may get lost, or come out as the import's own failure."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def interruptible() -> None:
    """Ctrl-C, which just ended Python while the command line was imported (sqfd/__main__.py), is an exception from now on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, _interrupt)
