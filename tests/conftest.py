"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# The suite is a gate: the same examples each time. `make fuzz` looks for new ones.
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("quick")  # another one: pytest --hypothesis-profile thorough

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real captures that are not part of the project. Tests that read them are skipped where the folder is absent."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real captures; skips, loudly, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real captures at {SHARED}: put the folder beside the checkout to run this test")
    return SHARED
