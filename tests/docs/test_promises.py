"""docs/promises.md names tests that exist, for every promise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "promises.md").read_text()


def sections() -> dict[str, str]:
    """Number of a promise → its text."""
    parts = re.split(r"^## ", TEXT, flags=re.M)[1:]
    return {part.split()[0]: part for part in parts if re.match(r"P\d+ ", part)}


def test_every_promise_is_there_with_a_test() -> None:
    """P1 to P16, each with at least one row that names a test or a command, and with figures in each row."""
    found = sections()
    assert list(found) == [f"P{n}" for n in range(1, 17)]
    for number, text in found.items():
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert rows, number
        for row in rows:
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert len(cells) == 3, row
            assert all(cells), row


def test_every_named_test_exists() -> None:
    """`file::test` is a function of that file."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)
    assert len(named) > 50
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert not test or re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file}::{test}"


def test_every_named_command_exists() -> None:
    """`make …` is a target, `python -m …` a module."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"`make (\w+)", TEXT):
        assert target in targets, target
    for module in re.findall(r"`python -m ([\w.]+)", TEXT):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
