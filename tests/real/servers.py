"""Private influxd and redis-server processes on free loopback ports, and what may befall them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import orjson

from tests.ports import free_port
from tests.waiting import PATIENCE_S


def binary(name: str) -> str:
    """Its path; fails with what to do where it is missing."""
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: run `make servers` (Debian's packages influxdb and redis-server)")
    return found


class Server:
    """A process that can be killed, stopped, continued and started again on the same port and data."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self.command, self.folder, self.port = command, folder, port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=output, stderr=output)
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self.command[0]} did not start: {(self.folder / 'output.log').read_text()[-2000:]}"
                )
            time.sleep(0.02)

    def answers(self) -> bool:
        raise NotImplementedError

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def heal(self) -> None:
        """However it is, it runs."""
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGCONT)
        else:
            self.start()

    def stop(self) -> None:
        """However it is, end it."""
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.kill()


INFLUX_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
  {data}
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
  auth-enabled = {auth}
  max-body-size = 25000000
  {http_more}
[monitor]
  store-enabled = false
[continuous_queries]
  log-enabled = false
  run-interval = "1s"
[logging]
  level = "error"
"""


class Influx(Server):
    """influxd with its own folders."""

    def __init__(self, folder: Path, *, auth: bool = False, data: str = "", http: str = "") -> None:
        """`data`, `http`: further lines of these sections."""
        port = free_port()
        config = folder / "influxdb.conf"
        values = {"folder": folder, "http": port, "rpc": free_port(), "auth": str(auth).lower()}
        text = INFLUX_CONFIG.format(**values, data=data, http_more=http)
        config.write_text(text)
        super().__init__([binary("influxd"), "run", "-config", str(config)], folder, port)

    def answers(self) -> bool:
        try:
            return self.request("/ping")[0] == 204
        except OSError:
            return False

    def request(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """GET, or POST where there is a body; (status, body)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def ask(self, query: str, database: str = "") -> list[dict[str, Any]]:
        """Series of the first statement, times in seconds; independent of the code under test."""
        form = urllib.parse.urlencode({"q": query, "db": database, "epoch": "s"}).encode()
        status, body = self.request("/query", form)
        assert status == 200, body
        result = orjson.loads(body)["results"][0]
        assert "error" not in result, result
        series: list[dict[str, Any]] = result.get("series", [])
        return series


class VictoriaMetrics(Server):
    """victoria-metrics with its own folder: takes InfluxDB's line protocol."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        options = [f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}", "-loggerLevel=ERROR"]
        super().__init__([binary("victoria-metrics"), *options, "-retentionPeriod=100y"], folder, port)

    def answers(self) -> bool:
        try:
            return self.get("/health") == b"OK"
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_S) as answer:
            body: bytes = answer.read()
            return body


class RedisServer(Server):
    """redis-server with its own folder, which can be asked.

    `appendfsync no`: with `everysec` Redis holds back what it appends while a sync is slow, for up to two seconds, and then answers
    late. Who is killed loses nothing that was written, synced or not.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        port = free_port()
        command = [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        super().__init__(
            [*command, "--save", "", "--appendonly", "yes", "--appendfsync", "no", "--loglevel", "warning", *options],
            folder,
            port,
        )

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False

    def ask(self, *words: str) -> str:
        """What redis-cli prints."""
        command = [binary("redis-cli"), "-p", str(self.port), "--raw", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
