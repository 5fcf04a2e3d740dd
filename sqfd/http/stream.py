"""Server-sent events: one writer, many readers, none of whom is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

DEPTH = 256
"""Events that wait for one reader; one that is further behind is cut off and may come back."""
PING_S = 15.0
WRITE_S = 10.0
"""A reader that takes no byte for this long is cut off."""


class TooManyStreams(Exception):
    """No more readers are taken."""


class Broadcast:
    """Hands each event to every reader that keeps up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._readers: set[asyncio.Queue[bytes | None]] = set()
        self.cut_off = 0
        """Readers that were too slow."""

    def __len__(self) -> int:
        return len(self._readers)

    def send(self, event: bytes) -> None:
        """Queue an event for every reader; never waits."""
        for queue in list(self._readers):
            if queue.qsize() >= DEPTH:
                self._readers.discard(queue)
                self.cut_off += 1
                _end(queue)
            else:
                queue.put_nowait(event)

    def close(self) -> None:
        """End all streams."""
        for queue in self._readers:
            _end(queue)
        self._readers.clear()

    @contextmanager
    def reader(self) -> Iterator[asyncio.Queue[bytes | None]]:
        """A queue of events; None ends it. Raises TooManyStreams."""
        if len(self._readers) >= self._limit:
            raise TooManyStreams(f"{self._limit} streams are open already (http.max_streams)")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(DEPTH + 1)
        self._readers.add(queue)
        try:
            yield queue
        finally:
            self._readers.discard(queue)


def _end(queue: asyncio.Queue[bytes | None]) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)


def event(data: bytes, *, name: str = "", id: str = "") -> bytes:
    """One event as it goes over the wire; `data` is one line of JSON."""
    head = (f"id: {id}\n" if id else "") + (f"event: {name}\n" if name else "")
    return head.encode() + b"data: " + data + b"\n\n"


async def serve(
    request: web.Request, queue: asyncio.Queue[bytes | None], first: Sequence[bytes] = ()
) -> web.StreamResponse:
    """Write `first`, then what the queue brings, until it ends or the reader leaves."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    try:
        await _write(response, b"retry: 1000\n\n" + b"".join(first))
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    item = await queue.get()
            except TimeoutError:
                item = b": still here\n\n"
            if item is None:
                break
            await _write(response, item)
    except (ConnectionResetError, TimeoutError):
        pass  # the reader left: there is nobody to tell
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(data)
