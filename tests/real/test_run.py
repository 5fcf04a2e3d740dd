"""`sqfd run` as a process on simulated exchanges: starting, refusing to start, recording, stopping."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqfd.sim.process import Ready, SimulatedExchanges
from tests.real.daemons import bars_in
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served() -> Iterator[Ready]:
    with SimulatedExchanges(("BINANCE", "OKEX"), ("BTC",)) as ready:
        yield ready


def configured(folder: Path, served: Ready, symbols: list[str], extra: str = "") -> Path:
    text = f'[symbols]\nsymbols = {json.dumps(symbols)}\nexchanges = ["BINANCE", "OKEX"]\n[http]\nport = 0\n{extra}'
    for exchange, addresses in served.addresses.items():
        text += f"\n[feed.addresses.{exchange}]\n" + "".join(f'{name} = "{url}"\n' for name, url in addresses.items())
    path = folder / "sqfd.toml"
    path.write_text(text)
    return path


def sqfd(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sqfd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)


def test_an_unknown_symbol_lists_the_nearest(served: Ready, tmp_path: Path) -> None:
    """Exit 78; the last line names the symbol and what comes near."""
    result = sqfd("run", "-c", configured(tmp_path, served, ["BTX"]), "--state", tmp_path / "state")
    assert result.returncode == 78
    assert result.stderr.splitlines()[-1] == "sqfd: symbols.symbols: no exchange lists BTX; did you mean BTC?"


def test_a_wrong_key_is_one_line(served: Ready, tmp_path: Path) -> None:
    """Exit 78 and nothing but the line that names file, line, key and the nearest valid one."""
    config = configured(tmp_path, served, ["BTC"], "[feed]\ngrace = 1\n")
    result = sqfd("run", "-c", config, "--state", tmp_path / "state")
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == "sqfd: sqfd.toml:7: feed.grace: unknown setting; did you mean feed.grace_s?\n"


def test_a_second_daemon_on_the_same_journal_is_refused(served: Ready, tmp_path: Path) -> None:
    """Exit 1; the line names the folder."""
    config, state = configured(tmp_path, served, ["BTC"]), tmp_path / "state"
    with subprocess.Popen([sys.executable, "-m", "sqfd", "run", "-c", config, "--state", state], cwd=ROOT) as first:
        _wait_for_bars(state)
        second = sqfd("run", "-c", config, "--state", state)
        first.send_signal(signal.SIGTERM)
    assert (first.returncode, second.returncode) == (0, 1)
    assert f"{state}: another sqfd writes this journal" in second.stderr


def test_a_recording_replays_to_the_bars_of_the_run(served: Ready, tmp_path: Path) -> None:
    """What `--record` kept gives the same bars; the replay also closes the seconds that were open at the end."""
    config, state = configured(tmp_path, served, ["BTC"]), tmp_path / "state"
    command = [
        sys.executable,
        "-m",
        "sqfd",
        "run",
        "-c",
        str(config),
        "--state",
        str(state),
        "--record",
        str(tmp_path / "frames"),
    ]
    with subprocess.Popen(command, cwd=ROOT) as process:
        _wait_for_bars(state)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert sqfd("replay", tmp_path / "frames", "--state", tmp_path / "again", "-c", config).returncode == 0
    live, replayed = _bars(state), _bars(tmp_path / "again")
    assert len(live) > 10
    assert live <= replayed
    newest = max(json.loads(bar)["second"] for bar in live)
    assert all(json.loads(bar)["second"] > newest for bar in replayed - live)


def _bars(state: Path) -> set[str]:
    return set(sqfd("bars", "--state", state, "--json").stdout.splitlines())


def _wait_for_bars(state: Path, count: int = 20) -> None:
    until(lambda: bars_in(state) >= count, "bars")
