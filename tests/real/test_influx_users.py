"""The users of docs/operations.md against a real InfluxDB with `auth-enabled`: an admin once, a writer for ever."""

from __future__ import annotations

import asyncio
import base64
import re
import time
import urllib.parse
from pathlib import Path

import pytest
from click.testing import CliRunner

from sqfd.cli.influx import influx
from sqfd.influx.client import Client, QueryError
from sqfd.influx.settings import InfluxSettings
from tests.real.servers import Influx

OPERATIONS = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
DATABASE = "significant_trades"


def documented() -> list[str]:
    """The statements of the guide, with a password in place of the dots."""
    section = OPERATIONS.partition("## Secure InfluxDB")[2].partition("\n## ")[0]
    found = re.findall(r"`((?:CREATE|GRANT) [^`]+)`", section)
    assert len(found) == 3
    return [statement.replace("…", "secret-word") for statement in found]


def as_admin(server: Influx, statement: str) -> None:
    form = urllib.parse.urlencode({"q": statement}).encode()
    login = base64.b64encode(b"admin:secret-word").decode()
    status, body = server.request("/query", form, {"Authorization": f"Basic {login}"})
    assert status == 200, body
    assert b"error" not in body, body


async def test_the_documented_users_are_enough_and_no_more(tmp_path: Path) -> None:
    """An admin makes the schema once; then `sqfd` writes and reads its database, and can do nothing else."""
    server = Influx(tmp_path, auth=True)
    server.start()
    try:
        first, second, grant = documented()
        server.ask(first)  # the first user of a server needs no login
        as_admin(server, second)
        config = tmp_path / "admin.toml"
        config.write_text(f'[influx]\nport = {server.port}\nusername = "admin"\npassword = "secret-word"\n')
        made = await asyncio.to_thread(CliRunner().invoke, influx, ["init", "-c", str(config), "--apply"])
        assert made.exit_code == 0, made.output
        assert "secret-word" not in made.output
        as_admin(server, grant)
        settings = InfluxSettings(port=server.port, database=DATABASE, username="sqfd", password="secret-word")
        async with Client(settings) as client:
            now = int(time.time())
            answer = await client.write([b"trades_1s,market=BINANCE:btcusdt close=1.5 %d" % now], "aggr_1s")
            assert answer.status == 204, answer.body
            (series,) = (await client.ask(f'SELECT close FROM "{DATABASE}"."aggr_1s"."trades_1s"'))[0]
            assert list(series.values[0]) == [now, 1.5]
            for forbidden in ("CREATE DATABASE other", "CREATE USER x WITH PASSWORD 'x'", "DROP USER admin"):
                with pytest.raises(QueryError):
                    await client.ask(forbidden)
        checked = tmp_path / "sqfd.toml"
        checked.write_text(f'[influx]\nport = {server.port}\nusername = "sqfd"\npassword = "secret-word"\n')
        told = await asyncio.to_thread(CliRunner().invoke, influx, ["check", "-c", str(checked)])
        assert told.exit_code == 0, told.output
    finally:
        server.stop()
