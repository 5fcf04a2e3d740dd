"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import structlog
from hypothesis import settings

from sqfd import log

# The suite is a gate: the same examples each time. `make fuzz` looks for new ones.
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("quick")  # another one: pytest --hypothesis-profile thorough

PYTEST = os.getpid()
_told: list[int] = []
"""Signals that told the suite to end."""


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the suite as Ctrl-C does, with the servers that tests have started; what was forked from it just ends."""
    if os.getpid() == PYTEST:
        _told.append(number)
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _listen() -> None:
    # A shell's background jobs ignore Ctrl-C, and so would every process that a test starts and stops by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _end)


_listen()


def pytest_runtest_logfinish() -> None:
    """A test that took the interruption for a failure of its own does not keep the suite going."""
    if _told:
        pytest.exit("told to end", pytest.ExitCode.INTERRUPTED)


SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real captures that are not part of the project. Tests that read them are skipped where the folder is absent."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real captures; skips, loudly, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real captures at {SHARED}: put the folder beside the checkout to run this test")
    return SHARED


@pytest.fixture(autouse=True)
def log_of_its_own() -> Iterator[None]:
    """A command that ran in the test's process configured the log for a stream that is closed by now."""
    yield
    structlog.reset_defaults()
    log.set_level("info")


@pytest.fixture(autouse=True)
def signals_that_end_it() -> Iterator[None]:
    """A command that ran in the test's process keeps SIGTERM and Ctrl-C for a loop that may never run: they would be lost for good."""
    yield
    _listen()
