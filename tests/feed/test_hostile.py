"""P10: servers that attack a transport are dropped with a reason, in 4 MB, and the connection beside them does not notice.

The frames of RFC 6455 are in test_transport.py; here each attack has a process of its own and a neighbour.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing as mp
import resource
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sqfd.feed import transport as under_test
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Closed, ConnectFailed, connect
from tests.feed.test_transport import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Name,
    Reader,
    Run,
    Writer,
    answer,
    answers,
    frame,
    held_and_looked_at,
    server,
)
from tests.waiting import PATIENCE_S

FORK = mp.get_context("fork")
LIMIT_BYTES = FeedSettings().max_frame_bytes
MEMORY_BYTES = 4_000_000
ATTEMPTS = 3
NEIGHBOURS = 50
"""Messages that the neighbour gets while the other connection is attacked."""


def _endless_fragments() -> Iterator[bytes]:
    yield frame(BINARY, b"x" * 60_000, fin=False)
    while True:
        yield frame(CONTINUATION, b"x" * 60_000, fin=False)


def _one_long_frame() -> Iterator[bytes]:
    yield b"\x82\x7f" + LIMIT_BYTES.to_bytes(8, "big")
    for _ in range(LIMIT_BYTES // 8192):
        yield b"{" * 8192
    yield frame(CLOSE, (1000).to_bytes(2, "big"))


def _many_values() -> Iterator[bytes]:
    yield frame(TEXT, b"[" + b"1," * 200_000 + b"1]")


def _bomb() -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=-15)
    yield frame(TEXT, packer.compress(b"0" * 40_000_000) + packer.flush(zlib.Z_SYNC_FLUSH), rsv=4)


def _pings() -> Iterator[bytes]:
    while True:
        yield frame(PING, b"x" * 125) * 500


def _after_close() -> Iterator[bytes]:
    yield frame(CLOSE, (1000).to_bytes(2, "big"))
    while True:
        yield frame(TEXT, b'{"late":1}') * 500


def _empty_frames_within() -> Iterator[bytes]:
    yield frame(TEXT, b"", fin=False)
    while True:
        yield frame(CONTINUATION, b"", fin=False) * 500


ATTACKS: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "endless fragments": (_endless_fragments, "refused"),
    "endless empty fragments": (_empty_frames_within, "refused"),
    "one frame as long as allowed": (_one_long_frame, "closed by the exchange"),
    "a message of 200,000 values": (_many_values, "refused"),
    "a zip bomb": (_bomb, "refused"),
    "pings without end": (_pings, "does not read"),
    "data after close without end": (_after_close, "closed by the exchange"),
}


def _attacker(pipe: Any, attack: str, deflate: bool) -> None:
    """A server in a process of its own: its memory is not ours."""

    async def serve(reader: Reader, writer: Writer) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else b""
        try:
            await answer(writer, key.split(b":")[1].strip(), extension)
            for data in ATTACKS[attack][0]():
                writer.write(data)
                await writer.drain()
            await reader.read()
        except ConnectionError:
            writer.transport.abort()

    async def main() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        pipe.send(listening.sockets[0].getsockname()[1])
        await asyncio.sleep(PATIENCE_S)

    asyncio.run(main())


@asynccontextmanager
async def attacked(attack: str, deflate: bool = False) -> AsyncIterator[str]:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_attacker, args=(theirs, attack, deflate), daemon=True)
    process.start()
    try:
        yield f"ws://127.0.0.1:{await asyncio.to_thread(ours.recv)}/"
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


@asynccontextmanager
async def neighbour(transport: Name) -> AsyncIterator[list[bytes]]:
    """A good server on the same loop, sending numbered messages."""

    async def behave(reader: Reader, writer: Writer) -> None:
        for number in itertools.count():
            writer.write(frame(TEXT, b"%d" % number))
            await writer.drain()
            await asyncio.sleep(0.002)

    got: list[bytes] = []
    async with server(behave) as url:
        connection = await connect(
            url,
            lambda frames, text: got.extend(frames),
            lambda: None,
            transport=transport,
            max_bytes=LIMIT_BYTES,
            timeout_s=PATIENCE_S,
        )
        yield got
        assert not connection.closed.done()
        await connection.close(0.5)


async def heard(got: list[bytes], more: int) -> None:
    wanted = len(got) + more
    async with asyncio.timeout(PATIENCE_S):
        while len(got) < wanted:  # noqa: ASYNC110  # a list has no event
            await asyncio.sleep(0.01)


def peak_bytes() -> int:
    """Most memory that the process has had since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> int:
    """What the process has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def ended(url: str, transport: Name, deflate: bool) -> Closed:
    connection = await connect(
        url,
        lambda frames, text: None,
        lambda: None,
        transport=transport,
        max_bytes=LIMIT_BYTES,
        timeout_s=PATIENCE_S,
        deflate=deflate,
    )
    async with asyncio.timeout(PATIENCE_S):
        return await connection.closed


@pytest.mark.parametrize("name", ["picows", "websockets"])
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_costs_four_megabytes_at_most_and_one_connection(attack: str, name: Name) -> None:
    """It ends with its reason; meanwhile the neighbour gets every message."""
    deflate = attack == "a zip bomb" and name == "websockets"  # picows has none: it refuses the bit
    async with neighbour(name) as got, attacked(attack, deflate) as url:
        await heard(got, 10)
        costs: list[int] = []
        # A host that is short of memory takes pages of programs, which come back with whatever runs next: what an attack costs,
        # it costs each time.
        while not costs or (len(costs) < ATTEMPTS and costs[-1] >= MEMORY_BYTES):
            before = forget_peak()
            closed = await ended(url, name, deflate)
            costs.append(peak_bytes() - before)
            assert ATTACKS[attack][1] in closed.reason, closed
        assert costs[-1] < MEMORY_BYTES, costs
        await heard(got, NEIGHBOURS)
        assert got == [b"%d" % number for number in range(len(got))]


@pytest.mark.parametrize("name", ["picows", "websockets"])
@pytest.mark.parametrize("line", [b"x", b"X-Header: x\r\n"])
async def test_a_handshake_that_goes_on_for_ever_is_given_up(name: Name, line: bytes) -> None:
    """Slow loris: a byte now and then, or headers without end."""

    async def behave(reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
        while True:
            writer.write(line)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with server(behave, handshake=False) as url, asyncio.timeout(PATIENCE_S):
        with pytest.raises(ConnectFailed):
            await connect(
                url,
                lambda frames, text: None,
                lambda: None,
                transport=name,
                max_bytes=LIMIT_BYTES,
                timeout_s=0.5,
            )


@pytest.mark.parametrize("name", ["picows", "websockets"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(name: Name, status: int) -> None:
    """Each kind, to a server that would answer well."""
    reached: list[int] = []

    async def target(reader: Reader, writer: Writer) -> None:
        reached.append(status)

    async with server(target) as there:
        text = f"HTTP/1.1 {status} Moved\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n"
        assert (await answers(text.encode(), name)).status == status
    assert not reached


# --- certificates -----------------------------------------------------------------------------------------------------

CERTIFICATES = {
    "self-signed": ("127.0.0.1", "30", False),
    "of another host": ("198.51.100.1", "30", True),
    "expired": ("127.0.0.1", "-1", True),
}


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, host: str, days: str, signed: bool) -> ssl.SSLContext:
    """A server's context with a new key; `signed` by the authority of `folder`."""
    _openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
             "-keyout", "key.pem", "-out", "request.pem")  # fmt: skip
    (folder / "names").write_text(f"subjectAltName=IP:{host}\n")
    by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"] if signed else ["-signkey", "key.pem"]
    _openssl(folder, "x509", "-req", "-in", "request.pem", *by, "-days", days, "-extfile", "names", "-out", "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an authority that the system trusts."""
    _openssl(tmp_path, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=test authority", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    under_test.tls.cache_clear()
    yield tmp_path
    under_test.tls.cache_clear()


async def over_tls(context: ssl.SSLContext, name: Name) -> Closed:
    async def serve(reader: Reader, writer: Writer) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        await answer(writer, key.split(b":")[1].strip())
        writer.write(frame(CLOSE, (1000).to_bytes(2, "big")))
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        url = f"wss://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        return await ended(url, name, deflate=False)
    finally:
        listening.close()


@pytest.mark.parametrize("name", ["picows", "websockets"])
async def test_a_good_certificate_is_taken(authority: Path, name: Name) -> None:
    """Signed by an authority of the system, for this host, in its time."""
    closed = await over_tls(certificate(authority, "127.0.0.1", "30", True), name)
    assert (closed.code, closed.by_us) == (1000, False)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_comes_while_a_connection_is_held_is_read_at_the_next_look(authority: Path, run: Run) -> None:
    """Over TLS, too, where the library reads on in its own buffers."""
    run(held_and_looked_at(certificate(authority, "127.0.0.1", "30", True)))


@pytest.mark.parametrize("name", ["picows", "websockets"])
@pytest.mark.parametrize("fault", CERTIFICATES)
async def test_a_bad_certificate_is_refused(authority: Path, name: Name, fault: str) -> None:
    """Whoever cannot prove to be the exchange gets no connection, and the reason says so."""
    refused: Awaitable[Closed] = over_tls(certificate(authority, *CERTIFICATES[fault]), name)
    with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
        await refused
