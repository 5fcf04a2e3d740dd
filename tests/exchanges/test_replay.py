"""Whole captured connections give the trades that they hold, frame by frame."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import exchanges
from exchanges.api import Assumed, Excluded, Trade
from sqfd.cli.decode import decode_lines
from tests.conftest import SHARED
from tests.exchanges.support import json_lines
from tests.exchanges.test_wire import agree, deals


def lines_of(path: Path) -> list[bytes]:
    with gzip.open(path) as file:
        return file.read().splitlines()


def recordings() -> list[Any]:
    """Recordings whose venue is registered."""
    found = []
    for path in sorted(SHARED.glob("wire/replay/*.replay.jsonl.gz")):
        meta = json.loads(lines_of(path)[0])
        if exchanges.by_venue(meta["venue"], meta.get("market")) is not None:
            found.append(pytest.param(path, id=path.name.partition(".")[0]))
    return found or [pytest.param(Path(), marks=pytest.mark.skip(f"no recordings at {SHARED}"), id="absent")]


@pytest.mark.shared
@pytest.mark.parametrize("path", recordings())
def test_connections_give_their_trades_at_their_frames(path: Path) -> None:
    """Each frame of a recording gives exactly its trades; a channel's first push may instead be past."""
    lines = lines_of(path)
    meta = json.loads(lines[0])
    expected = defaultdict(list)
    for row in json_lines(
        "\n".join(s.decode() for s in lines_of(Path(str(path).replace(".replay.", ".replay.expected."))))
    ):
        expected[row["t"], row["conn"]].append(row)
    got = defaultdict(list)
    answers = [json.loads(line) for line in decode_lines(lines)]
    for answer in answers:
        assert "error" not in answer, answer
        got[answer["t"], answer["conn"]] += deals(answer)
    for where in expected.keys() | got.keys():
        live = [row for row in expected[where] if row.get("phase") != "first"]
        assert agree(got[where], expected[where], meta) or agree(got[where], live, meta), (where, got[where])
    assert len(answers) == meta["frames_in"]
    assert sum(map(len, got.values())) > 0


@pytest.mark.shared
def test_an_hour_of_single_trades_is_read_whole(shared: Path) -> None:
    """All 55,270 `@trade` frames of the Binance capture are trades of the market that their file names, none lost."""
    total = 0
    for path in sorted((shared / "replay").glob("*/*.jsonl.gz")):
        exchange_id, _, pair = path.name.removesuffix(".jsonl.gz").partition("-")
        exchange = exchanges.get(exchange_id)
        decoder = exchange.decoder(exchange.endpoints[0].name, Assumed(exchange))
        for line in lines_of(path):
            row = json.loads(line)
            for event in decoder.decode(row["frame"].encode(), int(row["recv_ms"])):
                assert type(event) in (Trade, Excluded)
                if type(event) is Trade:
                    assert event.instrument.pair == pair
                    total += 1
    assert total == 55_270
