"""aioinflux, with what it lacks: writes with `precision=s`, gzip, and answers as they came."""

from __future__ import annotations

import asyncio
import base64
import gzip
import warnings
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec

from sqfd.influx.settings import InfluxSettings
from sqfd.influx.verdict import Failure
from sqfd.lean import without
from sqfd.unreachable import unreachable

with warnings.catch_warnings(), without("pandas"):  # for a mode that is not used here: tens of megabytes
    warnings.filterwarnings("ignore", "Pandas/Numpy is not available", UserWarning)
    from aioinflux import InfluxDBClient

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Answer(NamedTuple):
    """What became of one request."""

    status: int | Failure
    body: str
    packed: bytes | None = None
    """The body, where it came as MessagePack; `body` is empty then."""

    @property
    def ok(self) -> bool:
        return self.status in (200, 204)


class QueryError(Exception):
    """InfluxDB refused a query, or did not answer it."""

    def __init__(self, message: str, status: int | Failure) -> None:
        super().__init__(message)
        self.status = status


class _Series(msgspec.Struct):
    columns: list[str]
    values: list[list[Any]] = []
    name: str = ""
    tags: dict[str, str] = {}


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""


class _Reply(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


Series = _Series
PACKED = "application/x-msgpack"
"""What InfluxDB 1.5 and later answer in half the time that JSON takes them; others answer JSON."""
_decode = msgspec.json.Decoder(_Reply).decode
_unpack = msgspec.msgpack.Decoder(_Reply).decode


class Client:
    """One InfluxDB, one session; use as an async context manager, or call `close`."""

    def __init__(self, settings: InfluxSettings, at_once: int = 1) -> None:
        """`at_once`: requests that may be under way together; further ones wait."""
        self._settings = settings
        parts = urlsplit(settings.base_url)
        self._host = parts.hostname or "127.0.0.1"
        self._gzip = settings.gzip if settings.gzip is not None else self._host not in LOCAL
        self._parts = parts
        self._influx: InfluxDBClient | None = None
        self._turn = asyncio.Semaphore(at_once)
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._influx is not None:
            await self._influx.close()
            self._influx = None
            await asyncio.sleep(0)  # aiohttp's transports close in the loop's next turn

    async def write(self, lines: list[bytes], retention: str | None = None) -> Answer:
        """Write lines with timestamps in seconds into a retention policy (None: the database's default)."""
        params = {"db": self._settings.database, "precision": "s"}
        if retention:
            params["rp"] = retention
        body, headers = b"\n".join(lines), {}
        if self._gzip:
            body, headers = gzip.compress(body, 1), {"Content-Encoding": "gzip"}
        return await self._post("write", params=params, data=body, headers=headers)

    async def ask(self, query: str) -> list[list[Series]]:
        """Run InfluxQL statements; per statement its series, times in epoch seconds. Raises QueryError."""
        asked = {"q": query, "db": self._settings.database, "epoch": "s"}
        answer = await self._post("query", data=asked, headers={"Accept": PACKED})
        if isinstance(answer.status, Failure):
            raise QueryError(answer.body, answer.status)
        try:
            reply = _decode(answer.body) if answer.packed is None else _unpack(answer.packed)
        except msgspec.DecodeError as error:
            raise QueryError(
                f"not an answer of InfluxDB ({answer.status}): {answer.body[:200]}", answer.status
            ) from error
        for failed in (reply.error, *(result.error for result in reply.results)):
            if failed:
                raise QueryError(failed, answer.status)
        return [result.series for result in reply.results]

    async def _post(self, endpoint: str, **request: Any) -> Answer:
        """aioinflux's own `write` has no precision and hides bodies, so its session is used directly."""
        try:
            async with self._turn:
                influx = await self._client()
                url = influx.url.format(endpoint=endpoint)
                response = await influx._session.post(url, allow_redirects=False, **request)
                async with response:
                    body = await response.read()
                    if response.content_type == PACKED:
                        return Answer(response.status, "", body)
                    return Answer(response.status, body.decode(errors="replace"))
        except TimeoutError:
            return Answer(Failure.TIMEOUT, f"no answer within {self._settings.timeout_s} s")
        except aiohttp.ClientConnectorError as error:
            return Answer(Failure.REFUSED, unreachable(error))
        except (aiohttp.ClientError, OSError) as error:
            return Answer(Failure.RESET, unreachable(error))

    def _login(self) -> dict[str, str]:
        """aioinflux's own way uses a class that aiohttp is about to remove."""
        if not self._settings.username:
            return {}
        login = f"{self._settings.username}:{self._settings.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}

    async def _client(self) -> InfluxDBClient:
        async with self._opening:
            if self._influx is None:
                self._influx = await self._open()
            return self._influx

    async def _open(self) -> InfluxDBClient:
        influx = InfluxDBClient(
            host=f"[{self._host}]" if ":" in self._host else self._host,
            port=self._parts.port or (443 if self._parts.scheme == "https" else 80),
            path=f"{self._parts.path}/",
            ssl=self._parts.scheme == "https",
            db=self._settings.database,
            headers=self._login(),
            timeout=self._settings.timeout_s,
            loop=asyncio.get_running_loop(),
        )
        await influx.create_session()
        return influx
