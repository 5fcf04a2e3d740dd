"""`make audit` never calls unsafe what it could not look up, nor safe."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[2] / "deploy" / "audit.py"
SAFE = {"name": "a", "version": "1", "vulns": []}
UNSAFE = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.fixture
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("dependencies", "well", "words"),
    [
        ([SAFE], True, "nothing known against 1 packages"),
        ([SAFE, UNSAFE], False, "b 2: PYSEC-1"),
        ([UNKNOWN], False, "nothing was checked"),
        ([], False, "nothing was checked"),
        ([SAFE, UNKNOWN], False, "1 could not be looked up"),
    ],
)
def test_a_verdict_for_every_answer(audit: Any, dependencies: Any, well: bool, words: str) -> None:
    """Known, unknown, and not reachable are three things."""
    good, told = audit.judge("x.lock", dependencies)
    assert good is well
    assert words in told
