"""The documents say what the code does."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqfd.cli import COMMANDS
from sqfd.config import Config
from sqfd.http.openapi import ENDPOINTS
from sqfd.journal import FILE_NAME
from sqfd.settings import all_keys
from sqfd.signals.signal import Signal, encode, iso_time, published, signal_id

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SIGNALS = (ROOT / "docs" / "signals.md").read_text()


def test_every_field_of_a_signal_is_described() -> None:
    """And no field that does not exist."""
    rows = [line.split("|")[1] for line in SIGNALS.splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert described == {*Signal.__struct_fields__, "seq", "published_at", "latency_ms"}


def test_commands_and_settings_of_the_operations_guide_exist() -> None:
    """`sqfd …` names a command; `section.key` in code names a setting."""
    named = set(re.findall(r"`(?:sudo )?sqfd ([a-z-]+)", OPERATIONS)) | set(
        re.findall(r"^sqfd ([a-z-]+)", OPERATIONS, re.M)
    )
    assert {"doctor", "status", "explain", "config"} <= named <= set(COMMANDS)
    keys = set(all_keys(Config))
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for key in re.findall(r"`([a-z_]+\.[a-z_.0-9]+)`", OPERATIONS):
        assert key.partition(".")[0] not in sections or key in keys or key.endswith((".toml", ".md")), key


def test_endpoints_of_the_documents_exist() -> None:
    """Every `GET /…` is in the OpenAPI document."""
    paths = {endpoint.path for endpoint in ENDPOINTS}
    for path in re.findall(r"`GET (/[a-z/]*)`", OPERATIONS + SIGNALS):
        assert path in paths, path


def test_files_of_the_documents_exist() -> None:
    """Links lead somewhere; the journal has the name that the backup uses."""
    for link in re.findall(r"\]\(([\w./-]+)\)", OPERATIONS + SIGNALS):
        assert (ROOT / "docs" / link).exists(), link
    assert f"/var/lib/sqfd/{FILE_NAME}" in OPERATIONS


def test_the_documented_acl_is_the_tested_one() -> None:
    """The line of the guide has exactly the rights that tests/real/test_redis.py gives its user."""
    line = next(line for line in OPERATIONS.splitlines() if line.startswith("ACL SETUSER sqfd"))
    tested = (ROOT / "tests" / "real" / "test_redis.py").read_text()
    rights = re.search(r"rights = \[(.*?)\]", tested, re.S)
    places = re.search(r"places = \[(.*?)\]", tested, re.S)
    assert rights is not None
    assert places is not None
    given = {word for word in shlex.split(line) if word[0] in "+&~"}
    assert given == set(re.findall(r'"([^"]+)"', rights[1] + places[1]))


def _signal(action: str, second: int, ttl: int = 600) -> bytes:
    """A line as the publisher sends it."""
    values: dict[str, Any] = {
        name: {"str": "x", "float": 1.5, "int": 3, "dict": {}, "tuple": ()}[str(hint).partition("[")[0]]
        for name, hint in Signal.__annotations__.items()
    }
    signal = Signal(
        **values
        | {
            "signal_id": signal_id("squeezeflow", "BTCUSDT", second, action),
            "action": action,
            "base_symbol": "BTC",
            "second": second,
            "valid_until": iso_time(second + 1 + ttl),
        }
    )
    return published(encode(signal), 1, iso_time(second + 1), 12.5)


def test_the_freqtrade_strategy_reads_our_signals() -> None:
    """The document's own code takes our lines: newest wins, expired ones are left, each is acted upon once."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "freqtrade.md").read_text(), re.S)
    assert len(blocks) == 2
    compile(blocks[1], "strategy", "exec")
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    signals, second = names["Signals"](), 1_790_000_000
    now = datetime.fromtimestamp(second + 5, UTC)
    signals.take(_signal("LONG", second))
    assert signals.wanted("BTC", now) == "LONG"
    assert signals.wanted("ETH", now) is None
    signals.done("BTC")
    assert signals.wanted("BTC", now) is None
    signals.take(_signal("CLOSE", second + 3))
    signals.take(_signal("SHORT", second + 1))
    assert signals.wanted("BTC", now) == "CLOSE"
    assert signals.wanted("BTC", datetime.fromtimestamp(second + 605, UTC)) is None
