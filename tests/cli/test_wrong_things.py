"""Everything that people do wrong, and everything that can be wrong around them: one line, a remedy, the right exit code."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sqfd.cli import main, running
from sqfd.cli.errors import REMEDIES, one_line
from sqfd.config import Config
from sqfd.journal import JournalStore
from sqfd.settings import bare, walk

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "127.0.0.1:9"
Sqfd = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def sqfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sqfd:
    """The command line as the shell calls it: exit code and what it said on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def started(*_: object, **__: object) -> int:
        raise AssertionError("the daemon must not start")

    monkeypatch.setattr(running, "run_until_stopped", started)

    def call(*arguments: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["sqfd", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err.splitlines()

    return call


class Wrong(NamedTuple):
    """A command line, what sqfd.toml says, and how it must end."""

    line: str
    toml: str
    code: int
    said: str


TABLE = (
    Wrong("run", "[feed]\ngrase_s = 1", 78, "sqfd.toml:2: feed.grase_s: unknown setting; did you mean feed.grace_s?"),
    Wrong("run", "[feeds]\ngrace_s = 1", 78, "sqfd.toml:1: feeds: unknown setting; did you mean feed?"),
    Wrong("run", "[feed]\ngrace_s = 'soon'", 78, "feed.grace_s: expected float, not 'soon'"),
    Wrong("run", "[feed]\ngrace_s = -1", 78, "feed.grace_s: expected float >= 0"),
    Wrong("run", "[symbols]\n\nsymbols = [", 78, "sqfd.toml:3: not valid TOML: "),
    Wrong("run", "[feed", 78, "sqfd.toml:1: not valid TOML: "),
    Wrong("run", "[symbols]\nsymbols = []", 78, "symbols.symbols: empty"),
    Wrong("run", '[symbols]\nexchanges = ["BINANC"]', 78, "did you mean BINANCE?"),
    Wrong("run", '[symbols]\nmarkets = ["btcusdt"]', 78, "expected EXCHANGE:pair"),
    Wrong("run", '[strategy]\nname = "moon"', 78, "no strategy 'moon'; known: squeezeflow"),
    Wrong("run -c none.toml", "", 78, "none.toml: no such file: `sqfd config reference > none.toml` writes one"),
    Wrong("config validate", "[http]\nport = 0x1ffff", 78, "http.port: expected int <= 65535"),
    Wrong("status --url http://[::1", "", 2, "is no address: write http://127.0.0.1:8686"),
    Wrong("status --url host:port", "", 2, "is no address: write http://127.0.0.1:8686"),
    *(
        Wrong(
            f"{command} --url {NOBODY}", "", 1, f"no daemon answers at http://{NOBODY} (Connection refused): start it"
        )
        for command in ("status", "markets", "explain BTC", "tap A:b", "top", "signals --follow")
    ),
    Wrong("signals --follow --state .", "", 2, "leave --state out"),
    *(
        Wrong(command, "", 1, "name its folder with --state")
        for command in ("bars", "signals", "gaps", "coverage", "explain BTC --at -1h", "backtest", "compare-live")
    ),
    *(
        Wrong(f"{command} --state damaged", "", 1, "`sqfd run` sets a damaged journal aside and begins a new one")
        for command in ("bars", "signals", "gaps", "coverage", "explain BTC --at -1h", "backtest")
    ),
    Wrong("bars --state good --market BINANCE:btcusd", "", 1, "no market BINANCE:btcusd"),
    Wrong("gaps --state good --market NOPE:x", "", 1, "no market NOPE:x in this journal"),
    Wrong("bars --state good --from yesterday", "", 2, "write epoch seconds"),
    Wrong("influx check", "", 1, "no [influx] in the configuration"),
    Wrong("influx check", "[influx]\nport = 9", 1, "InfluxDB: "),
    Wrong("import binance none.zip --state new", "", 2, "'none.zip' does not exist"),
    Wrong("replay none --state new", "", 2, "'none' does not exist"),
    Wrong("decode NOPE", "", 2, "name an exchange"),
    Wrong("demo --exchanges NOPE", "", 2, "no exchange NOPE; known: "),
    Wrong("demo --redis here", "", 2, "'here' is no HOST:PORT such as 127.0.0.1:6379"),
    Wrong("demo --port 99999", "", 2, "99999"),
    Wrong("stauts", "", 2, "Did you mean status?"),
    Wrong("status --jsno", "", 2, "--json"),
    Wrong("explain", "", 2, "Missing argument 'SYMBOL'"),
    Wrong("completion tcsh", "", 2, "'bash', 'fish', 'zsh'"),
)


@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: f"{wrong.line} {wrong.toml}"[:60])
def test_it_is_one_line_with_what_to_do(wrong: Wrong, sqfd: Sqfd, tmp_path: Path) -> None:
    """The last line says it; before it there is nothing, or click's usage where the command line was at fault."""
    (tmp_path / "sqfd.toml").write_text(wrong.toml)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "journal.sqlite").write_bytes(b"no database" * 1_000)
    JournalStore(tmp_path / "good").close()
    code, said = sqfd(*wrong.line.split())
    assert (code, wrong.said in said[-1]) == (wrong.code, True), said
    assert len(said) == 1 or (code == 2 and said[0].startswith("Usage:")), said


def test_validate_and_run_agree(sqfd: Sqfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: `config validate` refuses a file iff `run` does, with the same line: wrong, misspelt and right keys."""
    file = tmp_path / "sqfd.toml"
    for key, hint, _ in list(walk(Config))[::8]:  # all of them are in tests/test_config.py
        section, _, name = key.rpartition(".")
        wrong = "[3.5]" if bare(hint) is str else '"?"'
        for line in (f"{name} = {wrong}", f"{name}x = 1"):
            file.write_text(f"[{section}]\n{line}" if section else line)
            assert sqfd("config", "validate") == (answer := sqfd("run"))
            assert answer[0] == 78, (key, answer)
            assert key.partition(".")[0] in answer[1][-1]
    file.write_text((ROOT / "sqfd.toml").read_text())
    monkeypatch.setattr(running, "run_until_stopped", lambda *_, **__: 0)
    assert [sqfd("config", "validate")[0], sqfd("run")[0]] == [0, 0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SQFD__FEED__GRASE_S", "1", "$SQFD__FEED__GRASE_S: feed.grase_s: unknown setting; did you mean feed.grace_s?"),
        ("SQFD__HTTP__PORT", "http", "$SQFD__HTTP__PORT: http.port: expected int, not 'http'"),
        ("REDIS_PORT", "0", "$REDIS_PORT: redis.port: expected int >= 1"),
        ("INFLUX_PASSWORD_FILE", "none", "$INFLUX_PASSWORD_FILE: none: No such file or directory: name a file"),
        ("SQFD_CONFIG", "none.toml", "none.toml: no such file"),
    ],
)
def test_a_wrong_environment_is_named(
    name: str, value: str, said: str, sqfd: Sqfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 78 with the variable's name."""
    monkeypatch.setenv(name, value)
    code, lines = sqfd("run")
    assert (code, len(lines), said in lines[-1]) == (78, 1, True), lines


def test_a_secret_in_a_wrong_value_is_not_shown(sqfd: Sqfd, tmp_path: Path) -> None:
    """The line names the key only."""
    (tmp_path / "sqfd.toml").write_text("[http]\ntoken = 1234567890")
    assert sqfd("run") == (78, ["sqfd: sqfd.toml:2: http.token: expected str, not (not shown)"])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied: use sudo, or name a folder"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: Read-only file system: name a folder"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: free space, or lower"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files: raise the limit"),
        (OSError("http: port 8686 of 127.0.0.1 is taken"), "http: port 8686 of 127.0.0.1 is taken"),
        (sqlite3.OperationalError("strange"), "journal: strange"),
    ],
)
def test_the_machine_is_at_fault(error: Exception, said: str) -> None:
    """What files and disks refuse has a remedy."""
    assert one_line(error).startswith(said)


def test_remedies_are_there_for_what_a_disk_says() -> None:
    """Each of them, by its number."""
    wanted = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE)
    assert set(wanted) <= set(REMEDIES)


@pytest.mark.parametrize("place", ["file/state", "/proc/nothing"])
def test_run_without_a_folder_to_write(place: str, tmp_path: Path) -> None:
    """Exit 1, and the last line names the folder and the setting."""
    (tmp_path / "file").write_text("")
    config = tmp_path / "sqfd.toml"
    config.write_text(f'[journal]\nstate = "{tmp_path / place}"\n[symbols]\nexchanges = ["BITMEX"]\n')
    command = [sys.executable, "-m", "sqfd", "run", "-c", str(config)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith(f"sqfd: {tmp_path / place}")
    assert last.endswith("name a folder that this user may write, with --state or journal.state")
    assert "Traceback" not in found.stderr


def test_a_journal_that_is_full_says_so(tmp_path: Path, sqfd: Sqfd, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own words, and how to make room."""
    JournalStore(tmp_path / "good").close()

    def full(store: JournalStore) -> list[str]:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(JournalStore, "market_names", full)
    code, lines = sqfd("bars", "--state", "good")
    assert code == 1
    assert lines == [
        "sqfd: journal: database or disk is full: free space, or lower journal.max_bytes and journal.retain_s"
    ]


def test_influxdb_that_is_down_is_one_line(tmp_path: Path, sqfd: Sqfd) -> None:
    """Where it was looked for, why in the system's words, and what to look at."""
    (tmp_path / "sqfd.toml").write_text('[influx]\nhost = "127.0.0.1"\nport = 1\n')
    code, lines = sqfd("influx", "check", "-c", "sqfd.toml")
    assert code == 1
    assert lines == [
        "Error: InfluxDB: 127.0.0.1:1: Connection refused: is it running? [influx] host and port say where"
    ]
