"""Asking exchanges by REST, within their limits. One `Rest` per exchange, shared by listings, tokens and recovery."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import aiohttp

from exchanges.api import BadMessage, Call, Exchange, Page, Request
from sqfd.clock import Clock
from sqfd.feed.backoff import RateLimit
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import retry_after_s, tls
from sqfd.unreachable import unreachable

T = TypeVar("T")

PAGES = 1000
"""Pages of one question that are followed at most."""
REFUSED_S = 60.0
"""How long nothing is asked after a 429 or 418 that did not say how long."""
CHUNK_BYTES = 256 * 1024
BIG_BYTES = 512 * 1024
"""Answers above this are read in a thread of their own."""


class RestFailed(Exception):
    """No usable answer."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Rest:
    """An exchange's REST side. Requests wait for the exchange's limit; they are never repeated here."""

    def __init__(self, exchange: Exchange, settings: FeedSettings, clock: Clock) -> None:
        self.limit = RateLimit(exchange.limits.rest)
        self._settings = settings
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Lock()
        self.requests = 0

    async def call(self, call: Call[T]) -> Page[T]:
        """One request and its answer, read. Raises RestFailed, and nothing else."""
        await self._wait(call.request.weight)
        body = await self._fetch(call.request)
        try:
            if len(body) > BIG_BYTES:  # a listing: reading it here would hold up frames
                return await asyncio.to_thread(call.read, body)
            return call.read(body)
        except (BadMessage, ValueError) as error:
            raise RestFailed(f"unexpected answer: {error}"[:200]) from error

    async def all(self, call: Call[T], pages: int = PAGES) -> list[T]:
        """The answer with its further pages, at most `pages` of them. Raises RestFailed."""
        items: list[T] = []
        following: Call[T] | None = call
        for _ in range(pages):
            if following is None:
                return items
            page = await self.call(following)
            items += page.items
            following = page.next
        if following is not None:
            raise RestFailed(f"more than {pages} pages")
        return items

    async def close(self) -> None:
        """Close the connections that are kept."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _wait(self, weight: float) -> None:
        async with self._turn:  # first come, first served
            while not self.limit.take(self._clock.now_ms(), weight):
                await self._clock.sleep(self.limit.wait_s(self._clock.now_ms(), weight))

    async def _fetch(self, request: Request) -> bytes:
        session = self._open()
        self.requests += 1
        try:
            async with session.request(
                request.method, request.url, data=request.body or None, allow_redirects=False
            ) as response:
                if response.status in (418, 429):
                    wait_s = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
                    self.limit.close(self._clock.now_ms() + 1e3 * (REFUSED_S if wait_s is None else wait_s))
                if response.status != 200:
                    raise RestFailed(f"HTTP status {response.status}", response.status)
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise RestFailed(unreachable(error)[:200]) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, bounded as it is after unpacking."""
        body = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > self._settings.max_listing_bytes:
                raise RestFailed(f"an answer of more than {self._settings.max_listing_bytes} bytes")
        return bytes(body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=4, ssl=tls()),
                timeout=aiohttp.ClientTimeout(total=self._settings.rest_timeout_s),
                headers={"User-Agent": "sqfd", "Content-Type": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session
