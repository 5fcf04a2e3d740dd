"""Signals over a real capture are a golden recording: a change of any of them needs a reviewed update of its file.

`python -m tests.test_golden_signals` writes the file anew; `git diff tests/golden` then shows what changed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson
import pytest

from sqfd.config import load
from sqfd.feed.recorded import Recording
from sqfd.journal import JournalStore
from sqfd.replay import Replay
from tests.conftest import SHARED

CAPTURE = Path("replay") / "binance-2024-08-08"
GOLDEN = Path(__file__).parent / "golden" / "signals-binance-2024-08-08.jsonl"
SHORT = Path(__file__).parent / "data" / "short.toml"


def signals_of(capture: Path, state: Path) -> list[bytes]:
    """One line of JSON per signal, keys in order."""
    store = JournalStore(state, bulk=True)
    try:
        Replay(load(SHORT, environment={}).config, store).run(Recording(capture))
        lines = [orjson.loads(signal.line) for signal in store.signals()]
    finally:
        store.close()
    return [orjson.dumps(line, option=orjson.OPT_SORT_KEYS) for line in lines]


def test_the_signals_of_the_capture_are_those_that_were_reviewed(shared: Path, tmp_path: Path) -> None:
    """Byte for byte: times, scores and their parts, phases, reasons."""
    found = signals_of(shared / CAPTURE, tmp_path)
    assert found == GOLDEN.read_bytes().splitlines(), "run `python -m tests.test_golden_signals` and review the diff"


def test_the_recording_has_entries_and_exits() -> None:
    """It would say little if nothing happened in it."""
    actions = [orjson.loads(line)["action"] for line in GOLDEN.read_bytes().splitlines()]
    assert {"LONG", "SHORT", "CLOSE"} & set(actions) >= {"CLOSE"}
    assert len(actions) >= 4


if __name__ == "__main__":
    if not SHARED.is_dir():
        pytest.exit(f"no real captures at {SHARED}")
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_bytes(b"".join(line + b"\n" for line in signals_of(SHARED / CAPTURE, Path(folder))))
