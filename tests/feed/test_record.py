"""Recordings: their form, their bounds."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import msgspec
import pytest
import structlog

from sqfd.feed import record
from sqfd.feed.record import RecordedFrame, Recorder


def test_lines_have_the_form_of_replays(tmp_path: Path) -> None:
    """Text frames as text, binary ones as base64, each with its receive time and connection."""
    recorder = Recorder(tmp_path, 1 << 20, 1 << 24, structlog.get_logger())
    file = recorder.file("HUOBI", "spot", 3)
    file.add(1.5, '{"ü":1}'.encode(), True)
    file.add(2.5, b"\x1f\x8b", False)
    recorder.close()
    (path,) = tmp_path.iterdir()
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert msgspec.json.decode(lines[0]) == {
        "recv_ms": 1.5,
        "exchange": "HUOBI",
        "frame": '{"ü":1}',
        "endpoint": "spot",
        "conn": 3,
    }
    binary = msgspec.json.decode(lines[1], type=RecordedFrame)
    assert (binary.encoding, base64.b64decode(binary.frame)) == ("base64", b"\x1f\x8b")


def test_files_rotate_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording as a whole stays under its limit, and its newest frames are there."""
    monkeypatch.setattr(record, "BLOCK_BYTES", 1)
    recorder = Recorder(tmp_path, 2000, 10_000, structlog.get_logger())
    file = recorder.file("BINANCE", "spot", 1)
    for n in range(1000):
        file.add(float(n), b"%d" % n, True)
    recorder.close()
    paths = sorted(tmp_path.iterdir())
    assert 3 <= len(paths) <= 5
    assert sum(path.stat().st_size for path in paths) <= 10_000
    assert gzip.decompress(paths[-1].read_bytes()).splitlines()[-1].startswith(b'{"recv_ms":999.0')
    assert recorder.dropped == 0


def test_a_slow_disk_costs_counted_frames_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit of what may wait, frames are dropped and counted."""
    monkeypatch.setattr(record, "WAITING_BYTES", 100)
    recorder = Recorder(tmp_path, 1 << 20, 1 << 24, structlog.get_logger())
    file = recorder.file("BINANCE", "spot", 1)
    for n in range(50):
        file.add(float(n), b"x" * 10, True)
    assert recorder.dropped == 39
    recorder.close()


def test_a_failing_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the disk are counted by frame, told once, and do not reach the feed."""
    log = structlog.testing.LogCapture()
    recorder = Recorder(tmp_path / "gone", 1 << 20, 1 << 24, structlog.wrap_logger(None, processors=[log]))
    (tmp_path / "gone").rmdir()
    file = recorder.file("BINANCE", "spot", 1)
    for n in range(3):
        file.add(float(n), b"x", True)
        recorder.tick()
    recorder.close()
    assert recorder.dropped == 3
    assert [entry["event"] for entry in log.entries] == ["recording failed"]
