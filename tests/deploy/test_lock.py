"""The lock files hold for every Python that is promised, not only for the one that made them."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11.0", "3.11.2", "3.12.1", "3.13.0", "3.14.0")
"""Debian 12 has 3.11.2, Debian 13 has 3.13."""


def locked(name: str) -> dict[str, str]:
    """Name → the whole requirement of a lock file."""
    lines = re.findall(r"^([A-Za-z0-9_.-]+)(==.*?) \\$", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(found): found + rest for found, rest in lines}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_nothing_that_a_locked_package_needs_is_missing(name: str, python: str) -> None:
    """pip refuses a hashed lock that is not complete: redis needs async-timeout below 3.11.3, and only there."""
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": ""}
    lock = locked(name)
    missing = []
    for package in lock:
        try:
            wanted = [Requirement(text) for text in requires(package) or ()]
        except PackageNotFoundError:
            continue  # not installed here, because its marker leaves it out
        missing += [
            f"{package} needs {one}"
            for one in wanted
            if (one.marker is None or one.marker.evaluate(environment)) and canonicalize_name(one.name) not in lock
        ]
    assert missing == [], "run `make lock` with Debian 12's Python"


def test_the_daemon_needs_nothing_that_is_not_locked() -> None:
    """And tests and tools are locked at the daemon's versions."""
    daemon, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: dev.get(name) for name in daemon if name in dev} == {n: daemon[n] for n in daemon if n in dev}
    named = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert named is not None
    wanted = re.findall(r"^  [\"']([A-Za-z0-9_-]+)", named[1], re.M)
    assert len(wanted) >= 15
    assert [name for name in wanted if canonicalize_name(name) not in daemon] == []
