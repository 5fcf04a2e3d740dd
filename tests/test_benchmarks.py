"""The benchmarks are run as a whole and their results kept in one place."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

import exchanges
from benchmarks import __main__ as bench
from benchmarks import decode
from benchmarks.wires import reader
from exchanges.api import Trade

PARTS = {"__init__", "__main__", "compare", "harness", "load", "mixed", "peers", "wires"}


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


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_the_floor_reads_what_the_decoder_reads(exchange_id: str) -> None:
    """Of each socket's frames both give the same times, sides and (where the wire has no scaled integers) prices, in order."""
    for instrument in exchanges.get(exchange_id).usual_markets("BTC"):
        read: list[tuple[int, bool, float]] = []
        scaled = instrument.price_scale > 0

        def add(symbol, ts_ms, price, size, sell, read=read, scaled=scaled):
            read.append((ts_ms, sell, 0.0 if scaled else price))

        floor = reader(exchange_id, instrument.endpoint, add)
        decoder, frames = decode.sent(instrument, 3, floor)
        read.clear()  # images
        for frame in frames:
            floor(frame)
        events = [event for frame in frames for event in decoder.decode(frame, decode.NOW_MS)]
        trades = [(e.ts_ms, not e.buy, 0.0 if scaled else e.price) for e in events if isinstance(e, Trade)]
        assert len(trades) == 3 * decode.FRAMES
        assert read == trades
