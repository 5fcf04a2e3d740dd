"""The benchmarks are run as a whole and their results kept in one place."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from benchmarks import __main__ as bench

PARTS = {"__init__", "__main__", "compare", "harness", "load", "peers"}


def test_none_is_forgotten() -> None:
    """What is in the folder is run by `make bench`, or is known to be a part of another."""
    there = {path.stem for path in bench.HERE.glob("*.py")}
    assert there - PARTS == set(bench.ARGUMENTS)


def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is bounded, and it counts as failed."""
    monkeypatch.setitem(bench.ARGUMENTS, "hangs", ())
    monkeypatch.setattr(bench, "command", lambda name: ["sleep", "60"])
    assert bench.run("hangs", 0.05) == bench.TOO_LONG


def test_tables_replace_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--table` puts the results between its two marks, again and again, and leaves the rest as it is."""
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{bench.BEGIN}\nold\n{bench.END}\n\nafter\n")
    document = {
        "title": "tick: all",
        "machine": {"load": 1.25},
        "rows": [{"path": "a|b", "ms": 3}, {"path": "c", "ms": 4}],
    }
    (tmp_path / "tick.json").write_bytes(orjson.dumps(document))
    for _ in range(2):
        bench.write_tables(readme)
        text = readme.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert text.count("| path | ms |\n|---|---|\n| a/b | 3 |\n| c | 4 |") == 1
