"""P10: what fuzzing found stays mended, and the targets hold for what is near good input."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import CRASHES, kept
from tests.fuzz.targets import SEEDS, TARGETS

FOUND = sorted(CRASHES.iterdir()) if CRASHES.is_dir() else []


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_break_nothing(name: str) -> None:
    """Good input, and what once reached something new."""
    for data in [*SEEDS[name](), *kept(name)]:
        TARGETS[name](data)


@pytest.mark.parametrize("crash", FOUND, ids=lambda path: path.name)
def test_what_was_found_stays_mended(crash: object) -> None:
    """Each input that once raised what it must not."""
    assert hasattr(crash, "name")
    name = max((name for name in TARGETS if crash.name.startswith(name)), key=len)
    TARGETS[name](crash.read_bytes())  # type: ignore[attr-defined]  # a Path


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith(("frames-", "answers-"))])
@given(data=st.binary(max_size=200))
@settings(max_examples=30)
def test_any_bytes_break_nothing(name: str, data: bytes) -> None:
    """Frames of exchanges have tests of their own kind in tests/exchanges/test_mutations.py."""
    TARGETS[name](data)
