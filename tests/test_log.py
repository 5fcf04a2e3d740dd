"""Log lines: forms, levels that can change, and repeats that are counted instead of printed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sqfd import log
from sqfd.log import Repeats


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    log.set_level("info")


def written(form: log.Form, env: dict[str, str], *events: tuple[str, str, dict[str, Any]]) -> list[str]:
    out = io.StringIO()
    log.configure("info", form, out, env)
    logger = log.get("feed")
    for method, event, values in events:
        getattr(logger, method)(event, **values)
    return out.getvalue().splitlines()


def test_journald_gets_a_priority_and_no_time() -> None:
    """`<N>` first, no timestamp of our own."""
    (line,) = written("auto", {"JOURNAL_STREAM": "8:1"}, ("warning", "lost", {"exchange": "OKEX"}))
    assert line.startswith("<4>")
    assert "timestamp" not in line
    assert "event=lost" in line
    assert "exchange=OKEX" in line


def test_json_has_the_usual_keys() -> None:
    """event, level, timestamp, logger and what the event says."""
    (line,) = written("json", {}, ("info", "gap", {"market": "A:b", "second": 5}))
    told = json.loads(line)
    assert {"event": "gap", "level": "info", "logger": "feed", "market": "A:b", "second": 5}.items() <= told.items()
    assert told["timestamp"].endswith("Z")


def test_the_level_can_change_for_loggers_that_exist() -> None:
    """What was bound before obeys, too."""
    out = io.StringIO()
    log.configure("info", "logfmt", out, {})
    logger = log.get("x").bind(a=1)
    logger.debug("no")
    log.set_level("debug")
    logger.debug("yes")
    log.set_level("error")
    logger.warning("no")
    assert [line.split("event=")[1].split()[0] for line in out.getvalue().splitlines()] == ["yes"]


def test_repeats_are_counted() -> None:
    """The same line once a minute, then with the number of those left out; other lines pass."""
    now = [0.0]
    stage = Repeats(lambda: now[0])

    def say(**values: Any) -> dict[str, Any] | None:
        try:
            return dict(stage(None, "warning", {"event": "lost", **values}))
        except structlog.DropEvent:
            return None

    assert say(exchange="A") == {"event": "lost", "exchange": "A"}
    assert say(exchange="B") is not None
    for now[0] in (10.0, 20.0, 59.0):
        assert say(exchange="A", reason=str(now[0])) is None
    now[0] = 60.0
    assert say(exchange="A") == {"event": "lost", "exchange": "A", "repeated": 3}
    now[0] = 130.0
    assert say(exchange="A") == {"event": "lost", "exchange": "A"}
    for number in range(3_000):
        say(exchange=str(number))
    assert len(stage._seen) <= 1_001


def test_another_verdict_is_no_repeat() -> None:
    """What has to be mended is told, though InfluxDB was away a moment before."""
    repeats = Repeats()
    for verdict in ("retry", "hold"):
        line = {"event": "InfluxDB takes nothing", "verdict": verdict}
        assert repeats(None, "error", dict(line)) == line


def test_signals_are_never_repeats() -> None:
    """Two signals differ in their second or symbol."""
    lines = written("json", {}, *(("info", "signal", {"symbol": "BTCUSDT", "second": second}) for second in (1, 2)))
    assert len(lines) == 2


def test_a_logger_may_be_older_than_the_configuration() -> None:
    """Modules make theirs when they are imported; form and level hold for them, too."""
    logger, plain = log.get("early"), structlog.get_logger("plain")
    out = io.StringIO()
    log.configure("warning", "logfmt", out, {"JOURNAL_STREAM": "8:1"})
    logger.info("no")
    logger.warning("yes")
    plain.bind(exchange="OKEX").error("no")
    assert out.getvalue().splitlines() == [
        "<4>level=warning logger=early event=yes",
        "<3>level=error logger=plain event=no exchange=OKEX",
    ]
