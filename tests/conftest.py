"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real captures that are not part of the project. Tests that read them are skipped where the folder is absent."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real captures; skips, loudly, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real captures at {SHARED}: put the folder beside the checkout to run this test")
    return SHARED
