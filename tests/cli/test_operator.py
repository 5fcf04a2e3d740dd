"""The operator's commands against a server with real stages."""

from __future__ import annotations

import asyncio
import io
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from sqfd.cli import COMMANDS, cli, doctor
from sqfd.cli.documents import commands, contexts, settings
from sqfd.cli.top import Keys, chosen, screen
from tests.http.running import Rig, running

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "127.0.0.1:9"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        for _ in range(3):
            await rig.second(signals=1)
        yield rig


async def sqfd(rig: Rig, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--url", rig.server.url])


async def test_status_is_one_screen(rig: Rig) -> None:
    """State, lag, counts, every part with since, symbols; exit 0 while it works."""
    found = await sqfd(rig, "status")
    assert found.exit_code == 0, found.output
    assert "test 0.1.0 is degraded" in found.output
    assert "3 trades received: 3 in 3 bars" in found.output
    assert "feed:BINANCE" in found.output
    assert "3 signals since the start" in found.output
    assert len(found.output.splitlines()) < 24
    told = json.loads((await sqfd(rig, "status", "--json")).output)
    assert told["counts"]["received"] == 3


async def test_markets_by_words(rig: Rig) -> None:
    """All words must be in a line."""
    found = await sqfd(rig, "markets", "xbt", "spot")
    assert [line.split()[0] for line in found.output.splitlines()] == ["market", "KRAKEN:XBT/USD"]
    one = await sqfd(rig, "markets", "binance", "--json")
    assert json.loads(one.output)["market"] == "BINANCE:btcusdt"


async def test_explain(rig: Rig) -> None:
    """What stopped an entry and by how much; an unknown symbol names the known ones."""
    found = await sqfd(rig, "explain", "btcusdt")
    assert "the symbol is warming up" in found.output
    assert "✗ history" in found.output
    wrong = await sqfd(rig, "explain", "XYZ")
    assert (wrong.exit_code, wrong.output) == (1, "Error: no symbol XYZ; known: BTC\n")


async def test_tap_prints_trades_as_they_come(rig: Rig) -> None:
    """Side, size, price, notional, delay; stops after --count; unknown markets are one line."""
    task = asyncio.create_task(sqfd(rig, "tap", "BINANCE:btcusdt", "--count", "1"))
    while not task.done():
        rig.trade(int(rig.clock.now_ms()) + 50)
        await asyncio.sleep(0.05)
    found = await task
    assert "buy             0.5 @ 60000               30,000.00" in found.output
    assert (
        await sqfd(rig, "tap", "KRAKEN:XBT/EUR")
    ).output == "Error: no market KRAKEN:XBT/EUR: `sqfd markets` and /markets list them\n"


@pytest.mark.parametrize("command", [["status"], ["markets"], ["explain", "BTC"], ["tap", "A:b"], ["top"]])
def test_a_daemon_that_is_not_running_is_said_so(command: list[str]) -> None:
    """One line: where it was looked for, and what to do; exit 1."""
    found = CliRunner().invoke(cli, [*command, "--url", NOBODY])
    assert found.exit_code == 1
    assert found.output == (
        f"Error: no daemon answers at http://{NOBODY} (Connection refused): start it with `sqfd run`, "
        "or name its address with --url\n"
    )


async def test_top_shows_and_sorts(rig: Rig) -> None:
    """Everything of /live on a screen of 24 rows; keys order, turn and filter the markets."""
    now = json.loads(json.dumps(rig.view.live()))
    console = Console(width=120, height=24, record=True, file=io.StringIO())
    console.print(screen(now, Keys(), 24))
    text = console.export_text()
    assert "degraded" in text
    assert "BINANCE:btcusdt" in text
    assert "warming up" in text
    assert "feeds 0/2   journal ok" in " ".join(text.split("\n")).replace("seconds ok   ", "")
    assert "spot CVD 1h" in text
    keys = Keys()
    for key in "r/xbt\r":
        keys.press(key)
    assert (keys.down, keys.filter, keys.typing) == (True, "xbt", False)
    assert [one["market"] for one in chosen(now["markets"], keys)] == ["KRAKEN:XBT/USD"]
    keys.press("\x1b")
    keys.press("s")
    now["markets"][1]["rate_hz"] = 5.0
    assert [one["market"] for one in chosen(now["markets"], keys)] == ["KRAKEN:XBT/USD", "BINANCE:btcusdt"]
    keys.press("q")
    assert keys.done


async def test_doctor_on_this_host(rig: Rig, tmp_path: Path) -> None:
    """Each check has a level, what was found, and for what is not well a remedy."""
    config = tmp_path / "sqfd.toml"
    config.write_text(
        '[symbols]\nexchanges = ["BINANCE"]\n[influx]\nport = 9\n[redis]\nport = 9\n'
        '[feed.addresses.BINANCE]\nspot = "ws://127.0.0.1:9"\nrest = "http://127.0.0.1:9"\n'
    )
    found = await sqfd(rig, "doctor", "-c", str(config), "--state", str(tmp_path), "--json")
    checks = {one["name"]: one for one in map(json.loads, found.output.splitlines())}
    assert found.exit_code == 1
    levels = {name: one["level"] for name, one in checks.items()}
    assert levels == {
        "config": "ok",
        "disk": levels["disk"],
        "files": levels["files"],
        "journal": "ok",
        "daemon": "warn",
        "clock": "skip",
        "BINANCE DNS": "ok",
        "BINANCE REST": "fail",
        "BINANCE websocket": "fail",
        "InfluxDB": "fail",
        "Redis": "fail",
    }
    assert all(one["remedy"] for one in checks.values() if one["level"] == "fail")


def test_doctor_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting, a folder without rights, too few descriptors, a clock that is off."""
    config = tmp_path / "sqfd.toml"
    config.write_text("[feed]\ngrace = 1\n")
    found = CliRunner().invoke(cli, ["doctor", "-c", str(config)])
    assert found.exit_code == 1
    assert "feed.grace: unknown setting; did you mean feed.grace_s?" in found.output
    (tmp_path / "file").write_text("")
    assert doctor.disk(tmp_path / "file" / "state").level == "fail"
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    assert doctor.files().level == "warn"
    assert [doctor.clock(skews).level for skews in ([], [0.4, -0.2, 9.0], [3.1])] == ["skip", "ok", "warn"]
    assert doctor.journal(tmp_path).level == "skip"
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 1_000)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """The shell's own script, with a line that says where it belongs."""
    found = CliRunner().invoke(cli, ["completion", shell])
    assert found.exit_code == 0
    first, second, *_ = found.output.splitlines()
    assert (second if first == "#compdef sqfd" else first).startswith(f"# sqfd completion {shell}")
    assert (first == "#compdef sqfd") == (shell == "zsh"), "zsh takes a file for a completion by its first line"
    assert "_SQFD_COMPLETE" in found.output


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes(tmp_path: Path) -> None:
    """The script, in a real shell: commands and options."""
    program = tmp_path / "sqfd"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m sqfd "$@"\n')
    program.chmod(0o755)
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    for words, wanted in (("sqfd expl", "explain"), ("sqfd signals --fo", "--follow"), ("sqfd completion z", "zsh")):
        typed = f'COMP_WORDS=({words}); COMP_CWORD={words.count(" ")}; _sqfd_completion sqfd; echo "${{COMPREPLY[@]}}"'
        found = subprocess.run(
            ["bash", "-c", f"{script}\n{typed}"],
            capture_output=True,
            text=True,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        )
        assert found.stdout.split() == [wanted], found.stderr


ZSH = """compdef() {}; _describe() { print -l -- ${completions_with_descriptions%%:*} }; compadd() { print -l -- $completions }
source %s; words=(%s); CURRENT=$#words; _sqfd_completion"""
FISH = "source %s; complete -C '%s' | string replace -r '\\t.*' ''"


@pytest.mark.parametrize(("shell", "command"), [("zsh", ZSH), ("fish", FISH)])
def test_zsh_and_fish_complete(shell: str, command: str, tmp_path: Path) -> None:
    """The script, in a real shell where there is one: commands, options and choices."""
    if (path := shutil.which(shell)) is None:
        pytest.skip(f"no {shell} on this machine")
    program, script = tmp_path / "sqfd", tmp_path / "script"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m sqfd "$@"\n')
    program.chmod(0o755)
    script.write_text(CliRunner().invoke(cli, ["completion", shell]).output)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    for words, wanted in (("sqfd expl", "explain"), ("sqfd signals --fo", "--follow"), ("sqfd completion z", "zsh")):
        asked = [path, *(["-f"] if shell == "zsh" else []), "-c", command % (script, words)]
        found = subprocess.run(asked, capture_output=True, text=True, env=environment, timeout=120)
        assert found.stdout.split() == [wanted], found.stderr


def test_every_command_has_an_example() -> None:
    """Groups show how their commands are called, commands have an example."""
    for context in contexts(cli, "sqfd"):
        text = context.get_help()
        wanted = "sqfd " if isinstance(context.command, click.Group) else "Example"
        assert wanted in text.replace("Usage: sqfd", ""), context.command_path


def test_help_and_version_answer_at_once() -> None:
    """In less than twice the processor time of importing click: nothing heavy is imported for them."""
    wanted = (["-c", "import click"], ["-m", "sqfd", "--help"], ["-m", "sqfd", "--version"])
    floor_s, *spent_s = (min(_spent_s(arguments) for _ in range(5)) for arguments in wanted)
    assert max(spent_s) < 2.0 * floor_s, (floor_s, spent_s)
    code = "import sys; from sqfd.cli import cli; cli(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for heavy in ("numpy", "msgspec", "aiohttp", "structlog", "rich", "asyncio"):
        assert f"'{heavy}'" not in loaded, heavy


def _spent_s(arguments: list[str]) -> float:
    """Processor time of Python with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("name", "made"), [("cli", commands), ("settings", settings)])
def test_generated_documents_are_current(name: str, made: Any) -> None:
    """`make docs` would change nothing."""
    assert (ROOT / "docs" / f"{name}.md").read_text() == made(), "run `make docs`"


def test_commands_are_known_by_their_modules() -> None:
    """Every entry of the table can be imported and has the name it is listed under."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
