"""Commands as a user types them: exit codes, one-line errors, help that teaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sqfd.cli import COMMANDS, cli
from sqfd.settings import SettingsError


def sqfd(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    """`--help` says what it does and shows a line to type."""
    text = sqfd(name, "--help").output
    assert f"sqfd {name}" in text
    assert "Usage:" in text


def test_an_unknown_command_names_the_nearest() -> None:
    """Exit code 2, and a suggestion."""
    result = sqfd("replya")
    assert result.exit_code == 2
    assert "Did you mean replay?" in result.output


def test_version() -> None:
    """The version, and nothing else."""
    assert sqfd("--version").output.startswith("sqfd, version ")


def test_a_wrong_key_is_a_configuration_error(tmp_path: Path) -> None:
    """The error that `main` turns into exit code 78, on one line."""
    (tmp_path / "sqfd.toml").write_text("[feed]\ngrase_s = 1\n")
    result = sqfd("config", "validate", "-c", str(tmp_path / "sqfd.toml"))
    assert isinstance(result.exception, SettingsError)
    assert str(result.exception) == "sqfd.toml:2: feed.grase_s: unknown setting; did you mean feed.grace_s?"


def test_config_show_says_where_values_come_from(tmp_path: Path) -> None:
    """One JSON object per setting with key, value and source."""
    (tmp_path / "sqfd.toml").write_text("[feed]\ngrace_s = 1.5\n")
    result = sqfd("config", "show", "--json", "-c", str(tmp_path / "sqfd.toml"))
    rows = {row["key"]: row for row in map(json.loads, result.output.splitlines())}
    assert rows["feed.grace_s"] == {"key": "feed.grace_s", "value": 1.5, "source": "sqfd.toml:2"}
    assert rows["feed.stagger_s"]["source"] == "default"


def test_config_schema_is_json_schema() -> None:
    """A JSON schema with all sections."""
    schema = json.loads(sqfd("config", "schema").output)
    assert {"feed", "influx", "redis", "strategy"} <= schema["$defs"]["Config"]["properties"].keys()


def test_a_missing_journal_is_one_line(tmp_path: Path) -> None:
    """Bars of a folder without a journal: exit 1, what is missing and what to do."""
    result = sqfd("bars", "--state", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "no journal at" in result.output
    assert "--state" in result.output


def frames(folder: Path, count: int = 3) -> Path:
    """A small recording of one Binance market, written here."""
    folder.mkdir()
    with (folder / "BINANCE-btcusdt.jsonl").open("w") as file:
        for number in range(count):
            ts_ms = 1_700_000_000_000 + number * 400
            trade = {
                "e": "trade",
                "s": "BTCUSDT",
                "t": number,
                "p": str(100 + number),
                "q": "2",
                "T": ts_ms,
                "m": False,
            }
            line = {"recv_ms": ts_ms + 50.0, "exchange": "BINANCE", "frame": json.dumps({"stream": "x", "data": trade})}
            file.write(json.dumps(line) + "\n")
    return folder


def test_replay_then_bars_as_json_and_csv(tmp_path: Path) -> None:
    """What was replayed is printed in the documented columns; the last second is there too."""
    state = str(tmp_path / "state")
    result = sqfd("replay", str(frames(tmp_path / "frames", 4)), "--state", state, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    assert (summary["frames"], summary["counts"]["aggregated"], summary["bars"]) == (4, 4, 2)
    rows = [json.loads(line) for line in sqfd("bars", "--state", state, "--json").output.splitlines()]
    assert rows[0] == {
        "market": "BINANCE:btcusdt",
        "second": 1_700_000_000,
        "open": 100.0,
        "high": 102.0,
        "low": 100.0,
        "close": 102.0,
        "vbuy": 606.0,
        "vsell": 0.0,
        "cbuy": 3,
        "csell": 0,
        "lbuy": 0.0,
        "lsell": 0.0,
    }
    lines = sqfd("bars", "--state", state, "--csv", "--from", "1700000001").output.splitlines()
    assert lines[0] == "market,second,open,high,low,close,vbuy,vsell,cbuy,csell,lbuy,lsell"
    assert lines[1:] == ["BINANCE:btcusdt,1700000001,103.0,103.0,103.0,103.0,206.0,0.0,1,0,0.0,0.0"]


def test_an_unknown_market_names_the_nearest(tmp_path: Path) -> None:
    """Exit 1 and a suggestion from what is there."""
    state = str(tmp_path / "state")
    sqfd("replay", str(frames(tmp_path / "frames")), "--state", state)
    result = sqfd("bars", "--state", state, "--market", "BINANCE:btcusd")
    assert result.exit_code == 1
    assert "did you mean BINANCE:btcusdt?" in result.output


@pytest.mark.parametrize("text", ["yesterday", "-5y", "2026-13-01"])
def test_a_time_that_is_none_says_what_to_write(tmp_path: Path, text: str) -> None:
    """Usage error with the accepted forms."""
    result = sqfd("bars", "--state", str(tmp_path), "--from", text)
    assert result.exit_code == 2
    assert "write epoch seconds" in result.output


def test_replay_of_a_folder_without_frames_says_so(tmp_path: Path) -> None:
    """Exit 1, one line."""
    result = sqfd("replay", str(tmp_path), "--state", str(tmp_path / "state"))
    assert result.exit_code == 1
    assert "no *.jsonl.gz there" in result.output
