"""One suite of hostile servers for both transports: each offence is refused or dropped, with a reason."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import pytest
import uvloop

from sqfd.feed.transport import TOGETHER, Closed, ConnectFailed, Connection, connect, retry_after_s
from tests.waiting import BUSY, PATIENCE_S

Name = Literal["picows", "websockets"]
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Behaviour = Callable[[Reader, Writer], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]
MAX_BYTES = 65_536

TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x1, 0x2, 0x0, 0x8, 0x9


@pytest.fixture(params=["picows", "websockets"])
def transport(request: pytest.FixtureRequest) -> Name:
    name: Name = request.param
    return name


def frame(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bool = False) -> bytes:
    """One frame as a server would (or must not) send it."""
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    flag = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([flag | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + len(payload).to_bytes(8, "big")
    return head + (b"\0\0\0\0" if mask else b"") + payload


@asynccontextmanager
async def server(
    behave: Behaviour, handshake: bool = True, context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A raw server on loopback; `behave` runs after the handshake, or instead of it. `context`: over TLS."""

    async def serve(reader: Reader, writer: Writer) -> None:
        try:
            if handshake:
                request = await reader.readuntil(b"\r\n\r\n")
                key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
                await answer(writer, key.split(b":")[1].strip())
            await behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, as it should
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"{'ws' if context is None else 'wss'}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    finally:
        listening.close()


async def answer(writer: Writer, key: bytes, more: bytes = b"") -> None:
    """Accept the handshake, with more headers."""
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n" + more + b"\r\n")
    await writer.drain()


async def opened(url: str, transport: Name, got: list[bytes], timeout_s: float = 2.0) -> Connection:
    return await connect(
        url,
        lambda frames, text: got.extend(frames),
        lambda: None,
        transport=transport,
        max_bytes=MAX_BYTES,
        timeout_s=timeout_s,
    )


async def outcome(behave: Behaviour, transport: Name) -> tuple[list[bytes], Closed]:
    """What was handed up, and how it ended."""
    got: list[bytes] = []
    async with server(behave) as url:
        connection = await opened(url, transport, got)
        async with asyncio.timeout(30):
            return got, await connection.closed


def sends(*frames: bytes, then_wait: bool = True) -> Behaviour:
    async def behave(reader: Reader, writer: Writer) -> None:
        writer.writelines(frames)
        await writer.drain()
        if then_wait:
            while await reader.read(65_536):
                pass

    return behave


async def test_good_messages_arrive(transport: Name) -> None:
    """Text, binary and fragmented messages arrive whole and in order; a ping within a message is answered."""
    pongs = asyncio.get_running_loop().create_future()

    async def behave(reader: Reader, writer: Writer) -> None:
        writer.write(frame(TEXT, "grüße".encode()) + frame(BINARY, b"\xff") + frame(TEXT, b"a", fin=False))
        writer.write(frame(PING, b"hello") + frame(CONTINUATION, b"b", fin=False) + frame(CONTINUATION, b"c"))
        pongs.set_result(await reader.readexactly(2 + 4 + 5))
        writer.write(frame(CLOSE, (1001).to_bytes(2, "big") + b"maintenance"))
        await reader.read()

    got, closed = await outcome(behave, transport)
    assert got == ["grüße".encode(), b"\xff", b"abc"]
    assert (closed.code, closed.by_us, closed.reason) == (1001, False, "closed by the exchange: maintenance")
    assert pongs.result()[0] == 0x8A


def mixed(number: int) -> tuple[bytes, bytes, bool]:
    """(frames, the message that they are, whether it is text): of every kind and length in turn."""
    long, kind = b"%07d" % number, number % 11
    if kind == 3:
        return frame(BINARY, b"\xfe" + long * 30), b"\xfe" + long * 30, False
    if kind == 5:
        return frame(TEXT, b"%d" % number), b"%d" % number, True
    if kind == 7:
        return frame(TEXT, long * 3, fin=False) + frame(PING, b"") + frame(CONTINUATION, long), long * 4, True
    if kind == 9:
        return frame(TEXT, "ü".encode() * 200), "ü".encode() * 200, True
    size = 1000 if kind == 10 else 20
    return frame(TEXT, long * size), long * size, True


async def test_what_is_read_together_comes_in_order_and_as_what_it_is(transport: Name) -> None:
    """Messages of all kinds and lengths, many in a read: few at a time are handed up, of one kind, and then the end is told."""
    parts = [mixed(number) for number in range(400)]
    got: list[tuple[bytes, bool]] = []
    sizes: list[int] = []
    after_end = 0

    def take(frames: Sequence[bytes], text: bool) -> None:
        got.extend((one, text) for one in frames)
        sizes.append(len(frames))

    def end() -> None:
        nonlocal after_end
        after_end = len(got)

    async with server(sends(b"".join(part[0] for part in parts), frame(CLOSE, b""))) as url:
        connection = await connect(url, take, end, transport=transport, max_bytes=MAX_BYTES, timeout_s=2)
        async with asyncio.timeout(30):
            await connection.closed
    assert got == [part[1:] for part in parts]
    assert max(sizes) <= TOGETHER
    assert after_end == len(got)


@pytest.mark.parametrize("offence", [b"\xc3(" * 100, b"\xff"])
async def test_an_offence_between_good_messages_keeps_what_came_before(transport: Name, offence: bytes) -> None:
    """All in one read: the messages before it are handed up, it and those after it are not."""
    good = [b"%03d" % number * 50 for number in range(6)]
    sent = [frame(TEXT, one) for one in good]
    got, closed = await outcome(sends(b"".join([*sent[:3], frame(TEXT, offence), *sent[3:]])), transport)
    assert got == good[:3]
    assert closed.code == 1007


OFFENCES = {
    "oversize claim": (b"\x82\x7f" + (1 << 40).to_bytes(8, "big"), 1009),
    "fragments over the limit": (
        frame(BINARY, b"x" * 60_000, fin=False) + frame(CONTINUATION, b"x" * 60_000, fin=False),
        1009,
    ),
    "bad UTF-8": (frame(TEXT, b"\xff\xfe{}"), 1007),
    "bad UTF-8 in fragments": (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("), 1007),
    "reserved bit 1": (frame(TEXT, b"{}", rsv=4), 1002),
    "reserved bit 3": (frame(TEXT, b"{}", rsv=1), 1002),
    "stray continuation": (frame(CONTINUATION, b"{}"), 1002),
    "message within a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"), 1002),
    "masked": (frame(TEXT, b"{}", mask=True), 1002),
    "unknown opcode": (frame(0x3, b"{}"), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
}


@pytest.mark.parametrize("offence", OFFENCES)
async def test_offences_are_refused(transport: Name, offence: str) -> None:
    """A frame that RFC 6455 or the limit forbids ends the connection with a reason, and nothing of it is handed up."""
    sent, code = OFFENCES[offence]
    got, closed = await outcome(sends(sent), transport)
    assert got == []
    assert closed.by_us
    assert closed.reason.startswith("refused: ")
    assert closed.code in (code, 1002)


async def test_data_after_close_is_dropped(transport: Name) -> None:
    """What follows a close frame is not handed up."""
    behave = sends(frame(TEXT, b"1"), frame(CLOSE, (1000).to_bytes(2, "big")), frame(TEXT, b"2"))
    got, closed = await outcome(behave, transport)
    assert got == [b"1"]
    assert closed.code == 1000


async def test_endless_empty_fragments_are_refused(transport: Name) -> None:
    """Fragments without content cost nothing of the size limit and are bounded in number."""

    async def behave(reader: Reader, writer: Writer) -> None:
        writer.write(frame(TEXT, b"", fin=False))
        for _ in range(100):
            writer.write(frame(CONTINUATION, b"", fin=False) * 100)
            await writer.drain()
        await reader.read()

    got, closed = await outcome(behave, transport)
    assert got == []
    assert "fragments" in closed.reason


async def test_pings_without_end_to_a_server_that_does_not_read(transport: Name) -> None:
    """Answers that are never read do not pile up: the connection is cut."""

    async def behave(reader: Reader, writer: Writer) -> None:
        while True:
            writer.write(frame(PING, b"x" * 125) * 500)
            await writer.drain()

    got, closed = await outcome(behave, transport)
    assert got == []
    assert closed.reason == "the exchange does not read"


async def test_an_end_without_close_frame(transport: Name) -> None:
    """A connection that just ends, in the middle of a frame, is told as such."""
    got, closed = await outcome(sends(frame(TEXT, b"1"), b"\x81\x7e\x01", then_wait=False), transport)
    assert got == [b"1"]
    assert closed.code is None
    assert not closed.by_us


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_comes_while_it_is_held_is_read_at_the_next_look(run: Run) -> None:
    """In order and whole; more than a calm connection brings is read at once, as much as there may be, and so is the end."""
    run(held_and_looked_at(None))


async def held_and_looked_at(context: ssl.SSLContext | None) -> None:
    """A connection, over TLS where there is a context."""
    sent = [b"%06d " % number + b"x" * 200 for number in range(20_000)]

    async def behave(reader: Reader, writer: Writer) -> None:
        for message in sent[:3]:
            writer.write(frame(TEXT, message))
        await reader.readexactly(8)  # our "mo", masked
        for message in sent[3:20]:
            writer.write(frame(TEXT, message))
        await reader.readexactly(8)  # our "mo" again
        for message in sent[20:]:
            writer.write(frame(TEXT, message))
            await writer.drain()
        writer.write(frame(CLOSE, (1001).to_bytes(2, "big")))
        await writer.drain()
        await reader.read()

    got: list[bytes] = []
    three, twenty, much = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def take(frames: Sequence[bytes], text: bool) -> None:
        got.extend(frames)
        if len(got) >= 3:
            three.set()
        if len(got) >= 20:
            twenty.set()
        if len(got) > 20:
            much.set()

    async with server(behave, context=context) as url:
        connection = await connect(url, take, lambda: None, max_bytes=MAX_BYTES, timeout_s=PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            await three.wait()
        connection.hold()
        connection.hold()
        connection.send("mo")
        await asyncio.sleep(0.3)
        assert len(got) == 3
        connection.look()
        async with asyncio.timeout(PATIENCE_S):
            await twenty.wait()
        connection.hold()
        connection.send("mo")
        async with asyncio.timeout(PATIENCE_S):
            await much.wait()
        connection.look()  # as a link does then: the end may be less than what is waited for
        closed = await asyncio.wait_for(connection.closed, PATIENCE_S)
        assert (closed.code, closed.by_us) == (1001, False)
        assert got == sent
        connection.look()
        connection.hold()  # without effect: it ended


async def test_a_held_connection_is_closed_politely() -> None:
    """Its answer to our close frame is read, although nothing else was."""
    heard: list[bytes] = []

    async def behave(reader: Reader, writer: Writer) -> None:
        heard.append(await reader.readexactly(8))
        writer.write(frame(CLOSE, (1000).to_bytes(2, "big")))
        await writer.drain()
        await reader.read()

    async with server(behave) as url:
        connection = await opened(url, "picows", [])
        connection.hold()
        await asyncio.wait_for(connection.close(PATIENCE_S), PATIENCE_S)
        assert connection.closed.result().by_us
        assert heard


async def test_an_error_in_the_callback_ends_the_connection(transport: Name) -> None:
    """An error of ours ends only this connection; it does not reach the event loop."""

    def fail(frames: Sequence[bytes], text: bool) -> None:
        raise KeyError("ours")

    async with server(sends(frame(TEXT, b"1"))) as url:
        connection = await connect(url, fail, lambda: None, transport=transport, max_bytes=MAX_BYTES, timeout_s=2)
        async with asyncio.timeout(30):
            closed = await connection.closed
    assert closed.reason == "failed: KeyError: 'ours'"


async def test_close_does_not_wait_for_a_dead_server(transport: Name) -> None:
    """A server that never answers the closing handshake is cut after the time that was given."""

    async def behave(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(PATIENCE_S)

    async with server(behave) as url:
        connection = await opened(url, transport, [])
        async with asyncio.timeout(3 * BUSY):
            await connection.close(0.3)
        assert connection.closed.done()
        assert connection.closed.result() == Closed("closed by us", 1000, by_us=True)
        connection.send("too late")
        connection.ping()


async def answers(text: bytes, transport: Name, timeout_s: float = 2.0, wait: bool = False) -> ConnectFailed:
    async def behave(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()
        if wait:
            await asyncio.sleep(PATIENCE_S)

    async with server(behave, handshake=False) as url:
        with pytest.raises(ConnectFailed) as raised:
            await opened(url, transport, [], timeout_s)
    return raised.value


async def test_redirects_are_not_followed(transport: Name) -> None:
    """A redirect is a refusal that names its status."""
    text = b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    assert (await answers(text, transport)).status == 302


async def test_the_wait_that_an_exchange_asks_for_is_told(transport: Name) -> None:
    """429 carries its Retry-After."""
    text = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n"
    refused = await answers(text, transport)
    assert (refused.status, refused.retry_after_s) == (429, 17.0)


async def test_a_slow_handshake_is_given_up(transport: Name) -> None:
    """A server that never finishes its answer costs no more than the time-out."""
    refused = await answers(b"HTTP/1.1 101 Switching", transport, timeout_s=0.3, wait=True)
    assert "0.3 s" in refused.reason


@pytest.mark.parametrize("text", [b"garbage\r\n\r\n", b"", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"x" * 200_000])
async def test_a_bad_handshake_is_refused(transport: Name, text: bytes) -> None:
    """Anything but a good handshake is a failure to connect, in bounded memory."""
    assert (await answers(text, transport)).reason


async def test_nobody_listens(transport: Name) -> None:
    """A refused TCP connection is a failure to connect."""
    async with server(sends()) as url:
        pass
    with pytest.raises(ConnectFailed):
        await opened(url, transport, [])


async def test_an_environment_proxy_is_not_used(transport: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies come from the settings or not at all."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "SOCKS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    got, _ = await outcome(sends(frame(TEXT, b"1"), then_wait=False), transport)
    assert got == [b"1"]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_loop_that_ends_with_all_its_tasks_ends(
    transport: Name, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    """SystemExit in one task cancels all others at once: a task that then closes its connection does not wait for ever."""
    ends: list[Closed] = []

    async def hold(url: str) -> None:
        connection = await opened(url, transport, [])
        held.set()
        try:
            await asyncio.Event().wait()
        finally:
            async with asyncio.timeout(30):
                await connection.close(1.0)
            ends.append(connection.closed.result())

    async def leave() -> None:
        async with server(sends()) as url:
            holding = asyncio.create_task(hold(url))
            await held.wait()
            assert not holding.done()
            raise SystemExit(3)

    held = asyncio.Event()
    with pytest.raises(SystemExit):
        run(leave())
    assert [end.by_us for end in ends] == [True]


def test_retry_after_is_seconds_or_a_date() -> None:
    """Both forms are read; anything else is ignored."""
    assert retry_after_s("120") == 120.0
    at, now = "Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"
    assert retry_after_s(at, now) == 30.0
    assert retry_after_s("soon") is None
    assert retry_after_s(at) is None
    assert retry_after_s(None) is None
