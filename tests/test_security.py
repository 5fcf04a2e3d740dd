"""Names that an exchange lists, words that it says, secrets that a user gives: none goes where it must not."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from exchanges.api import Call, Instrument, Page, Request
from exchanges.binance import Binance
from sqfd import log
from sqfd.cli.hiding import Hiding
from sqfd.clock import SystemClock
from sqfd.config import Config, load, shown
from sqfd.feed.catalog import Catalog
from sqfd.feed.rest import Rest
from sqfd.feed.settings import FeedSettings
from sqfd.influx.lines import series
from sqfd.model import speakable
from sqfd.settings import SettingsError, is_secret, walk, without_login
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
GOOD = Instrument("BINANCE", "btcusdt", "BTCUSDT", "spot", "BTC", "USDT", "spot")
HOSTILE = {
    "a newline": "btc\nevil,market=x close=1 1",
    "a comma": "btc,market=other",
    "an equals sign": "btc=1",
    "a space": "btc usdt",
    "a quote": 'btc"usdt',
    "an apostrophe": "btc'usdt",
    "a backslash": "btc\\",
    "HTML": "<script>alert(1)</script>",
    "an attribute": '"onmouseover="alert(1)',
    "a control character": "btc\x1b[2Jusdt",
    "nothing": "",
    "a zero": "btc\0usdt",
    "text that turns around": "btc\u202eusdt",
    "a line separator": "btc\u2028usdt",
    "10 kB": "x" * 10_240,
    "a brace of Prometheus": 'btc"} 1\nsqfd_up{x="',
}


FIELDS = ("pair", "symbol", "base", "quote")


@pytest.mark.parametrize(
    ("field", "name"),
    [(field, name) for field in FIELDS for name in HOSTILE if field == "pair" or name != "nothing"],
)
async def test_hostile_names_of_a_listing_go_no_further(tmp_path: Path, name: str, field: str) -> None:
    """An exchange lists them beside a good market: they are left out and told in one bounded line; the good one stays."""
    hostile = msgspec.structs.replace(GOOD, **{"symbol": "OTHER", field: HOSTILE[name]})
    exchange = Binance()
    exchange.listings = lambda: [Call(Request("http://127.0.0.1:1/"), lambda body: Page([GOOD, hostile]))]  # type: ignore[method-assign]
    lines = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[lines])
    settings, clock = FeedSettings(), SystemClock()
    rest = Rest(exchange, settings, clock)

    async def answer(request: Request) -> bytes:
        return b""

    rest._fetch = answer  # type: ignore[method-assign]
    catalog = Catalog({"BINANCE": exchange}, {"BINANCE": rest}, tmp_path, settings, clock, logger)
    listed = await catalog.fetch("BINANCE")
    harmless = field in ("symbol", "base", "quote") and HOSTILE[name].isprintable() and len(HOSTILE[name]) <= 64
    if harmless:  # only JSON and comparisons get these: they are quoted there
        assert len(listed) == 2
        return
    assert listed == [GOOD]
    (line,) = lines.entries
    assert line["event"] == "names that no market has: left out"
    assert len(str(line)) < 400


@given(st.text(max_size=100))
def test_a_name_that_passes_is_one_tag(pair: str) -> None:
    """Whatever the catalog lets through, line protocol takes as one series."""
    if speakable(msgspec.structs.replace(GOOD, pair=pair)):
        assert series(f"BINANCE:{pair}").count(" ") == 0


@pytest.mark.parametrize("form", ["console", "json", "logfmt"])
@given(text=st.text(max_size=60))
def test_what_an_exchange_says_stays_in_its_line(form: Any, text: str) -> None:
    """No newline, escape or direction mark of theirs reaches a terminal or forges a line."""
    out = io.StringIO()
    before = structlog.get_config()
    try:
        log.configure("info", form, out, {"NO_COLOR": "1"})
        log.get("x").warning("lost", reason="closed by the exchange: " + text)
    finally:
        structlog.configure(**before)
    printed = out.getvalue()
    assert printed.count("\n") == 1
    assert printed.rstrip("\n").isprintable(), repr(printed)


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = "hunter2-do-not-print"


def planted(port: int) -> str:
    """A configuration with a secret in each place that takes one."""
    return f"""
[symbols]
exchanges = ["BINANCE"]
[feed.addresses.BINANCE]
rest = "http://127.0.0.1:1"
spot = "ws://127.0.0.1:1"
[http]
port = {port}
token = "{SECRET}-token"
[influx]
url = "http://u:{SECRET}@127.0.0.1:1"
username = "sqfd"
password = "{SECRET}"
[redis]
url = "redis://u:{SECRET}@127.0.0.1:1/0"
password = "{SECRET}"
[alerts]
webhook_url = "http://127.0.0.1:1/{SECRET}"
telegram_url = "http://127.0.0.1:1"
telegram_token = "{SECRET}"
telegram_chat = "1"
[log]
level = "debug"
"""


def test_every_secret_is_planted() -> None:
    """A setting that holds a secret and is not in the test below would be missed by it."""
    secrets = {key for key, _, _ in walk(Config) if is_secret(key)}
    assert secrets == {"http.token", "influx.password", "redis.password", "alerts.webhook_url", "alerts.telegram_token"}


def test_no_secret_is_printed(tmp_path: Path) -> None:
    """Not by the log at its most talkative, a reload, any page, `config show`, `config validate` or `doctor`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path, state, output = tmp_path / "sqfd.toml", tmp_path / "state", tmp_path / "log"
    path.write_text(planted(port))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "sqfd"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, "run", "-c", str(path), "--state", str(state)],
            stdout=file, stderr=file, cwd=ROOT, env=environment)  # fmt: skip
    try:
        pages = [ask(port, "/status", process), *(ask(port, each, process) for each in PAGES)]
        path.write_text(planted(port).replace(SECRET, SECRET + "-2").replace("debug", "info"))
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + PATIENCE_S
        while "influx.password" not in output.read_text() and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    printed = output.read_text() + "".join(pages)
    for words in (["config", "show"], ["config", "validate"], ["doctor", "--json"]):
        done = subprocess.run(
            [*command, *words, "-c", str(path)], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120
        )
        printed += done.stdout + done.stderr
    assert "influx.password" in printed
    assert "InfluxDB" in printed
    assert SECRET not in printed, [line for line in printed.splitlines() if SECRET in line][:3]


PAGES = (
    "/health",
    "/health/detailed",
    "/metrics",
    "/markets",
    "/openapi.json",
    "/explain/BTC",
    "/products",
    "/nothing",
)


def ask(port: int, path: str, process: subprocess.Popen[bytes]) -> str:
    """A page, with its status; asked again until the daemon listens."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {SECRET}-token"}
    )
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.headers}{error.read().decode()}"
        except OSError:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.1)


@pytest.mark.parametrize(
    "text",
    [
        f'[redis]\nurl = "redis://u:{SECRET}/x@127.0.0.1:6379"',
        f'[redis]\nurl = "redis//u:{SECRET}@127.0.0.1:6379"',
        f'[influx]\nurl = "http://u:{SECRET}#@127.0.0.1:8086"',
        f'[influx]\nurl = "http://u:{SECRET}@127.0.0.1:80861"',
        f'[influx]\npassword = ["{SECRET}"]',
        f'[http]\ntoken = "{SECRET}"\nhost = "0.0.0.0"',
        f'[influx]\npassword = "{SECRET}',
    ],
)
def test_a_wrong_setting_shows_no_secret(tmp_path: Path, text: str) -> None:
    """The line that names the mistake leaves the value out; nothing is left for a traceback to tell."""
    path = tmp_path / "sqfd.toml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "sqfd", "run", "-c", str(path), "--state", str(tmp_path / "state")],
        capture_output=True, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, timeout=120)  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


CRASH = """
import logging, sys, warnings
from sqfd import log
from sqfd.influx.shipper import Shipper

async def run(self):
    settings, password = self._settings, self._settings.password
    try:
        raise RuntimeError(f"caught, and logged: {password} of {settings.url}")
    except RuntimeError as error:
        log.get("influx").exception("it broke", error=repr(error), settings=settings)
        warnings.warn(f"a library warns of {password}")
        logging.getLogger("asyncio").error("task exception was never retrieved", exc_info=error)
    raise RuntimeError(f"not caught: {settings}")

Shipper.run = run
sys.argv = ["sqfd", *sys.argv[1:]]
from sqfd.cli import main
main()
"""
"""A mistake of ours where passwords are in reach: in the variables of the frame, of all above it, and in the error's own words."""


@pytest.mark.parametrize("form", ["console", "json", "logfmt"])
def test_a_crash_shows_no_secret(tmp_path: Path, form: str) -> None:
    """A running daemon ends by an error of its own: where, with the lines of code, but with no variable's value, and no secret."""
    path = tmp_path / "sqfd.toml"
    path.write_text(planted(0) + f'format = "{form}"\n')
    done = subprocess.run(
        [sys.executable, "-c", CRASH, "run", "-c", str(path), "--state", str(tmp_path / "state")],
        capture_output=True, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, timeout=120)  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "RuntimeError: caught, and logged" in done.stderr
    assert "RuntimeError: not caught" in done.stderr
    assert "a library warns of (not shown)" in done.stderr
    assert "task exception was never retrieved" in done.stderr
    assert done.stderr.count("(not shown)") > 5
    assert SECRET not in done.stdout + done.stderr


def test_what_is_hidden_is_hidden_in_every_form() -> None:
    """Written raw, in JSON, in an address, by a new configuration after a reload, and as lines; what is short stays readable."""
    settings = {
        "influx.url": "http://u:in%20address@127.0.0.1:1",
        "influx.password": 'say "w\u00f6rd"',
        "http.token": "short",
    }
    out = io.StringIO()
    hiding = Hiding(out, load(environment={"HOME": "/nonexistent"}, flags=settings).config)
    words = ['say "w\u00f6rd"', json.dumps('say "w\u00f6rd"'), "in%20address", "in address", "short", "second-secret"]
    hiding.learn(load(environment={"HOME": "/nonexistent"}, flags={"redis.password": "second-secret"}).config)
    hiding.writelines(words)
    print(*words, file=hiding, flush=True)  # type: ignore[call-overload]  # a stream in all but its type
    assert out.getvalue().replace("(not shown)", "-") == '-"-"--short-' + '- "-" - - short -\n'
    assert not hiding.isatty()


def test_addresses_are_shown_without_their_login(tmp_path: Path) -> None:
    """`config show` keeps the host, which is what one looks for."""
    path = tmp_path / "sqfd.toml"
    path.write_text(planted(8686))
    rows = {key: value for key, value, _ in shown(load(path, {}))}
    assert rows["redis.url"] == "redis://(login not shown)@127.0.0.1:1/0"
    assert SECRET not in json.dumps(rows, default=str)
    assert without_login("wss://host/path@x") == "wss://host/path@x"


def test_a_secret_that_every_user_may_read_is_told(tmp_path: Path) -> None:
    """A configuration with a password, mode 644: one note with the remedy; mode 640: none."""
    path = tmp_path / "sqfd.toml"
    path.write_text(f'[influx]\npassword = "{SECRET}"\n')
    path.chmod(0o644)
    (note,) = load(path, {}).notes
    assert re.fullmatch(r".*sqfd.toml holds influx.password, and every user may read it: chmod 640 .*", note)
    path.chmod(0o640)
    assert load(path, {}).notes == []


def test_nothing_listens_beyond_this_host_unless_it_is_wanted_and_secured() -> None:
    """The default address is loopback; another one needs two settings."""
    assert load(environment={"HOME": "/nonexistent"}).config.http.host == "127.0.0.1"
    for flags in ({"http.host": "0.0.0.0"}, {"http.host": "::", "http.allow_remote": True}):
        with pytest.raises(SettingsError):
            load(environment={"HOME": "/nonexistent"}, flags=flags)
