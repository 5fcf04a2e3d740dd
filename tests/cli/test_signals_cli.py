"""`sqfd signals`: what the journal has, and what the running daemon tells."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sqfd.cli import cli
from sqfd.cli import signals as command
from sqfd.cli.remote import Api
from sqfd.http.api import Server
from sqfd.http.settings import HttpSettings
from sqfd.journal import JournaledSignal
from tests.http import running as rigs
from tests.http.running import Rig, running


def full(second: int, number: int) -> JournaledSignal:
    """A line with what people are shown."""
    line = (
        b'{"signal_id":"%d-%d","timestamp":"2026-09-21T%02d:00:00+00:00","second":%d,"action":"LONG","symbol":"BTCUSDT",'
        b'"score":6.5,"entry_price":60000.5,"reasoning":"a reset"}' % (second, number, number, second)
    )
    return JournaledSignal(f"{second}-{number}", second + 1, second, 0, "BTCUSDT", second + 600, line)


async def listened(server: Server) -> None:
    """Somebody reads the stream of signals."""
    for _ in range(500):
        if len(server._signals):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody came")


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(rigs, "signal", full)
    async with running(tmp_path) as rig:
        yield rig


async def test_the_past_is_in_the_journal(rig: Rig, tmp_path: Path) -> None:
    """Oldest first, all of them, from the second that is named on; no daemon is asked."""
    seconds = [await rig.second(signals=2) for _ in range(3)]
    found = CliRunner().invoke(cli, ["signals", "--state", str(tmp_path)])
    assert len(found.output.splitlines()) == 6
    assert "LONG  BTCUSDT    score 6.50 at 60000.5  a reset" in found.output
    later = CliRunner().invoke(cli, ["signals", "--state", str(tmp_path), "--from", str(seconds[2]), "--json"])
    assert [json.loads(line)["second"] for line in later.output.splitlines()] == [seconds[2]] * 2


async def test_following_survives_a_restart(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ten, then each as it comes; what came while the daemon was away comes too, and nothing twice."""
    monkeypatch.setattr(command, "RETRY_S", 0.05)
    for _ in range(6):
        await rig.second(signals=2)
    url = rig.server.url

    def follow(count: int) -> list[dict[str, Any]]:
        found = command._followed(Api(url), None)
        return [dict(signal) for signal in itertools.islice(found, count)]

    task = asyncio.create_task(asyncio.to_thread(follow, 14))
    await listened(rig.server)
    await rig.second(signals=1)
    await rig.server.close()
    await rig.second(signals=2)
    port = int(url.rpartition(":")[2].strip("/"))
    again = Server(HttpSettings(port=port), rig.view)
    await again.start()
    try:
        await listened(again)
        rig.server = again
        await rig.second(signals=1)
        found = await asyncio.wait_for(task, 20)
    finally:
        await again.close()
    assert [signal["seq"] for signal in found] == list(range(3, 17))


async def test_following_prints_lines(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words for people, JSON for programs; Ctrl-C ends it."""
    await rig.second(signals=1)

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stop)
    monkeypatch.setattr(command, "_stream", lambda api, seq: [])
    for flags, wanted in (([], "score 6.50 at 60000.5"), (["--json"], '"signal_id":')):
        found = await asyncio.to_thread(
            CliRunner().invoke, cli, ["signals", "--follow", "--url", rig.server.url, *flags]
        )
        assert wanted in found.output


def test_a_journal_cannot_be_followed() -> None:
    """Usage error: following is asking the daemon."""
    found = CliRunner().invoke(cli, ["signals", "--follow", "--state", "/tmp"])
    assert found.exit_code == 2
    assert "leave --state out" in found.output
