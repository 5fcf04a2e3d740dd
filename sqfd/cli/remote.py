"""The running daemon over its HTTP interface, for commands: plain GETs and event streams, no asyncio."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import click

from sqfd.cli.config import file_option

TIMEOUT_S = 5.0
STREAM_S = 30.0
"""Streams send at least a comment this often; else the daemon is gone."""
F = TypeVar("F", bound=Callable[..., object])


def url_option(function: F) -> F:
    """`--url` and `-c`: where the daemon is."""
    option = click.option("--url", help="Address of the daemon; default: [http] of the configuration.")
    return option(file_option(function))


class NotRunning(click.ClickException):
    """Nobody answers there."""


class Api:
    """One daemon."""

    def __init__(self, url: str, token: str = "") -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        except ValueError as error:
            raise click.BadParameter(
                f"{url!r} is no address: write http://127.0.0.1:8686", param_hint="--url"
            ) from error
        self.url = f"http://{parts.netloc}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> Any:
        """The JSON of an answer, whatever its status. Raises ClickException for errors of the API itself."""
        import orjson

        connection, response = self._open(path, TIMEOUT_S)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from error
        finally:
            connection.close()
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise click.ClickException(f"{self.url}{path} is no sqfd: it answers {body[:60]!r}") from error
        if isinstance(found, dict) and set(found) == {"error"}:
            raise click.ClickException(str(found["error"]))
        return found

    def events(self, path: str) -> Iterator[Any]:
        """The data of each event. Ends where the daemon ends the stream."""
        import orjson

        connection, response = self._open(path, STREAM_S)
        try:
            if response.status != 200:
                raise click.ClickException(str(orjson.loads(response.read())["error"]))
            for line in response:
                if line.startswith(b"data: "):
                    yield orjson.loads(line[6:])
        except TimeoutError as error:
            raise NotRunning(f"nothing heard from {self.url} for {STREAM_S:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from error
        finally:
            connection.close()

    def _open(self, path: str, timeout_s: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.request("GET", path, headers=self._headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._gone(error) from error

    def _gone(self, error: BaseException) -> NotRunning:
        why = getattr(error, "strerror", None) or error
        return NotRunning(
            f"no daemon answers at {self.url} ({why}): start it with `sqfd run`, or name its address with --url"
        )


def api_of(url: str | None, path: Path | None) -> Api:
    """The daemon of `--url`, or of the configuration, which also gives the token. Raises SettingsError."""
    from sqfd.config import load
    from sqfd.settings import SettingsError

    try:
        settings = load(path).config.http
    except SettingsError:
        if url is None or path is not None:
            raise
        return Api(url)  # the address was given, no file was named: only a token would be read
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    shown = f"[{host}]" if ":" in host else host
    return Api(url or f"http://{shown}:{settings.port}", settings.token)


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
