"""Real frames mean what independent collectors say that they mean."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import exchanges
from sqfd.cli.decode import decode_lines
from tests.conftest import SHARED

LOUD = {"malformed", "unknown", "rejected", "closing", "excluded"}


def cases() -> list[Any]:
    """Every line of every capture whose venue is registered."""
    found = []
    for path in sorted(SHARED.glob("wire/*.jsonl")):
        for line in path.read_bytes().splitlines():
            case = json.loads(line)
            if exchanges.by_venue(case["venue"], case["market"]) is not None:
                found.append(pytest.param(line, id=case["id"]))
    return found or [pytest.param(b"", marks=pytest.mark.skip(f"no captures at {SHARED}"), id="absent")]


def decoded(line: bytes) -> dict[str, Any]:
    (answer,) = decode_lines([line])
    return json.loads(answer)  # type: ignore[no-any-return]  # json gives Any


def deals(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for e in answer.get("events", []) if e["kind"] in ("trade", "liquidation")]


def equal(got: dict[str, Any], expected: dict[str, Any], ignored: list[str], size_tolerance: float) -> bool:
    """One event against one expected row, by the rules of the captures' README."""
    exact = {"pair", "ts_ms", "price", "side", "liquidation", "liq_side"} & expected.keys()
    if expected.get("count") is not None:
        exact.add("count")
    if any(got.get(key) != expected[key] for key in exact - set(ignored)):
        return False
    return "size" in ignored or math.isclose(got["size"], expected["size"], rel_tol=size_tolerance)


def agree(got: list[dict[str, Any]], expected: list[dict[str, Any]], case: dict[str, Any]) -> bool:
    """The same rows; order counts only among equal times."""
    got = sorted(got, key=lambda row: row["ts_ms"])
    expected = sorted(expected, key=lambda row: row["ts_ms"])
    tolerance = 2e-4 if case["venue"] == "bitmex" else 1e-9
    ignored = case.get("ignore_fields", [])
    return len(got) == len(expected) and all(
        equal(g, e, ignored, tolerance) for g, e in zip(got, expected, strict=True)
    )


@pytest.mark.shared
@pytest.mark.parametrize("line", cases())
def test_frames_mean_what_two_collectors_agree_on(line: bytes) -> None:
    """Every captured frame gives exactly the expected trades; a retired format may also be refused, but not silently."""
    case, answer = json.loads(line), decoded(line)
    got = deals(answer)
    if case["format"] == "legacy" and case["expected"] and not got:
        assert "error" in answer or {e["kind"] for e in answer["events"]} & LOUD, answer
        return
    accepted = [case["expected"], *case.get("also_accept", [])]
    assert any(agree(got, expected, case) for expected in accepted), (answer, case["expected"], case.get("note"))


@pytest.mark.shared
def test_heartbeats_are_answered_as_the_exchange_wants(shared: Path) -> None:
    """Where a capture says what the client must send, the decoder says the same."""
    for param in cases():
        case = json.loads(param.values[0])
        if "reply" in case:
            replies = [e["frame"] for e in decoded(param.values[0])["events"] if e["kind"] == "reply"]
            wanted = case["reply"] if isinstance(case["reply"], str) else json.dumps(case["reply"])
            assert [json.loads(r) for r in replies] == [json.loads(wanted)], case["id"]


@pytest.mark.shared
def test_every_venue_is_registered_or_known_to_be_none_of_ours(shared: Path) -> None:
    """No capture of a registered exchange is left out because its venue's name is not understood."""
    seen = defaultdict(int)
    for path in shared.glob("wire/*.jsonl"):
        for line in path.read_bytes().splitlines():
            case = json.loads(line)
            seen[exchanges.by_venue(case["venue"], case["market"])] += 1
    assert set(exchanges.IDS) <= set(seen)
