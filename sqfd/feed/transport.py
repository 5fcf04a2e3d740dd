"""Websocket clients behind one seam. Frames are handed up as they arrive, synchronously, without a task per frame.

picows (default) is the fastest, but hands up what RFC 6455 forbids: fragments without limit, reserved bits, bad UTF-8, data
after close. Its shell here refuses these. websockets refuses them by itself. Neither follows redirects, nor takes a proxy
from the environment; TLS certificates are verified.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Literal, Protocol

import msgspec
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import Frame as WebsocketFrame
from websockets.frames import Opcode
from websockets.protocol import State

from exchanges.api import Frame
from sqfd.feed.frames import Assembler, Refused
from sqfd.feed.waking import HELD_BYTES, as_it_comes, waker


class OnFrames(Protocol):
    """Who takes messages: some of those that were read together, in order. Called in the event loop; must not block."""

    def __call__(self, frames: Sequence[bytes], text: bool) -> None:
        """All text, or all binary; binary ones of nothing but ASCII, which mean the same, may be told as text."""


OnEnd = Callable[[], None]
"""All that was read together was handed up."""


TransportName = Literal["picows", "websockets"]

_silent = logging.getLogger("sqfd.transport")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False
"""The libraries' own log lines would repeat, per frame, what the connection's reason says once."""


CONTROL_BYTES = 125
"""The longest payload of a ping, pong or close (RFC 6455, 5.5); picows refuses longer ones."""
SHORT_BYTES = 4096
"""Messages up to this size are handed up together,"""
TOGETHER = 64
"""…so many at most: what they hold is in memory at once."""
LINGER_S = 1.0
"""After this long a connection that we left is cut."""


class Closed(msgspec.Struct, frozen=True):
    """How a connection ended."""

    reason: str
    code: int | None = None
    """The close code, the exchange's or ours; None where the connection just ended."""
    by_us: bool = False


ENDING = Closed("the loop ends, with all its tasks at once", by_us=True)
"""Nobody asked for it: without this, whoever closes connections on that occasion would wait for ever."""


class ConnectFailed(Exception):
    """No connection came about."""

    def __init__(self, reason: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        """The HTTP status with which it was refused."""
        self.retry_after_s = retry_after_s
        """How long the exchange asked to stay away."""


class Connection(Protocol):
    """An open connection."""

    closed: asyncio.Future[Closed]
    """Done when the connection has ended, for whatever reason. Never raises."""

    @property
    def pongs(self) -> int:
        """Answers to pings so far."""

    def send(self, frame: Frame) -> None:
        """Send a text (str) or binary (bytes) message. Without effect once the connection ended."""

    def ping(self) -> None:
        """Send a websocket ping."""

    def hold(self) -> None:
        """Let what comes wait in the kernel until `look`, or until it is HELD_BYTES."""

    def look(self) -> None:
        """Read what has come, in this turn of the loop, and go on reading."""

    async def close(self, timeout_s: float) -> None:
        """Close politely, and cut the connection where that takes longer."""


class Connector(Protocol):
    """What opens connections: `connect`, or a simulation's."""

    async def __call__(
        self,
        url: str,
        on_frames: OnFrames,
        on_end: OnEnd,
        *,
        transport: TransportName = "picows",
        max_bytes: int,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        deflate: bool = False,
    ) -> Connection:
        """Open a connection; raises ConnectFailed, and nothing else."""


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """The one client context: made once, since loading the certificates takes milliseconds."""
    return ssl.create_default_context()


async def connect(
    url: str,
    on_frames: OnFrames,
    on_end: OnEnd,
    *,
    transport: TransportName = "picows",
    max_bytes: int,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    deflate: bool = False,
) -> Connection:
    """Open a connection. `deflate` is offered by websockets only. Raises ConnectFailed, and nothing else."""
    try:
        async with asyncio.timeout(timeout_s):
            if transport == "picows":
                return await _open_picows(url, on_frames, on_end, max_bytes, timeout_s, headers or {})
            return await _open_websockets(url, on_frames, on_end, max_bytes, timeout_s, headers or {}, deflate)
    except TimeoutError as error:
        raise ConnectFailed(f"no handshake within {timeout_s:g} s") from error
    except OSError as error:
        raise ConnectFailed(f"{type(error).__name__}: {error}"[:200]) from error


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Read a Retry-After header: seconds, or a date that is compared with the answer's own (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:6])
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(date or "")
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _refusal(status: int | None, text: str) -> str:
    return f"HTTP status {status}" if status is not None else text[:200]


# --- picows ---------------------------------------------------------------------------------------------------------

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_PING, _PONG, _CLOSE = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE


class _Picows(WSListener):
    """One connection by picows: listener and connection in one."""

    __slots__ = (
        "_assembler",
        "_end",
        "_on_end",
        "_on_frames",
        "_plain",
        "_read",
        "_text",
        "_transport",
        "_wake",
        "_watch",
        "closed",
        "pongs",
    )

    def __init__(self, on_frames: OnFrames, on_end: OnEnd, max_bytes: int) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.pongs = 0
        self._on_frames = on_frames
        self._on_end = on_end
        self._assembler = Assembler(max_bytes)
        self._end: Closed | None = None
        """Why it ends, as soon as that is known: what arrives afterwards is dropped."""
        self._transport: WSTransport | None = None
        self._wake: Callable[[int], None] = as_it_comes
        self._read: list[bytes] = []
        """Messages that were read together and wait for being handed up."""
        self._text = True
        """Whether they are text; as the last of them were where there are none."""
        self._plain = True
        """Whether a frame of their kind can be put to them just so: no message has begun, and the connection is not over."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._wake = waker(transport.underlying_transport)
        self._watch = asyncio.create_task(self._wait(transport), name="socket")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # Attributes of a frame are dear (its type costs as much as all that the bars do with a trade): within a run of frames
        # that were read together, what protects us is checked of each (size, fragments, text; what is as short as a control frame
        # must say that it is none), and what only judges the peer (reserved bits, a continuation of nothing) of the last.
        data = frame.get_payload_as_bytes()
        size = len(data)
        if (
            frame.fin
            and size <= SHORT_BYTES
            and self._plain
            and not frame.last_in_buffer
            and (
                data.isascii() and (size > CONTROL_BYTES or frame.msg_type is _TEXT)
                if self._text
                else frame.msg_type is _BINARY
            )
        ):
            read = self._read
            read.append(data)
            if len(read) >= TOGETHER:
                self._hand_up()
        elif self._end is None:
            self._other(transport, frame, data)

    def _other(self, transport: WSTransport, frame: WSFrame, data: bytes) -> None:
        """A frame that needs every check, the last of a read among them."""
        last = frame.last_in_buffer
        try:
            self._frame(transport, frame, data)
        except Refused as refusal:
            self._cut(transport, refusal.code, refusal.reason)
        if last or self._end is not None:
            self._hand_up()
            self._on_end()
        self._plain = self._end is None and not self._assembler.busy

    def _frame(self, transport: WSTransport, frame: WSFrame, data: bytes) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise Refused(1002, "reserved bits are set")
        kind = frame.msg_type
        if kind is _TEXT or kind is _BINARY:
            if frame.fin:
                self._put(self._assembler.whole(data, kind is _TEXT), kind is _TEXT)
            else:
                self._assembler.begin(data, kind is _TEXT)
        elif kind is _CONTINUATION:
            message = self._assembler.go_on(data, frame.fin)
            if message is not None:
                self._put(*message)
        elif kind is _PING:
            transport.send_pong(data)
        elif kind is _PONG:
            self.pongs += 1
        elif kind is _CLOSE:
            code = int.from_bytes(data[:2], "big") if data else None
            text = data[2:].decode(errors="replace")[:120]
            self._end = Closed(f"closed by the exchange{': ' + text if text else ''}", code)
            self._leave(transport, 1000)

    def _put(self, message: bytes, text: bool) -> None:
        """Add a message to those that are handed up together: few, of one kind, and no large one among them."""
        if text is not self._text or len(message) > SHORT_BYTES or len(self._read) >= TOGETHER:
            self._hand_up()
        self._text = text
        self._read.append(message)

    def _hand_up(self) -> None:
        read = self._read
        if read:
            self._read = []
            self._on_frames(read, self._text)

    def _cut(self, transport: WSTransport, code: int, reason: str) -> None:
        self._end = Closed(f"refused: {reason}", code, by_us=True)
        self._leave(transport, code)

    def _leave(self, transport: WSTransport, code: int) -> None:
        """Say goodbye, and do not wait for a peer that does not read it."""
        transport.send_close(WSCloseCode(code))
        transport.disconnect()
        asyncio.get_running_loop().call_later(LINGER_S, transport.disconnect, False)

    def pause_writing(self) -> None:
        """The peer does not read what we send: pings without end, or dead."""
        if self._end is None:
            self._end = Closed("the exchange does not read", by_us=True)
            self._plain = False
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def resume_writing(self) -> None:
        """Too late: the connection was cut."""

    async def _wait(self, transport: WSTransport) -> None:
        """What picows itself refused comes as the exception of `wait_disconnected`."""
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            self._end = Closed(f"refused: {error.args[1]}"[:200], int(error.args[0]), by_us=True)
        except asyncio.CancelledError:
            self._end = self._end or ENDING
            transport.disconnect(graceful=False)
            raise
        except Exception as error:  # noqa: BLE001  # from our own frame callback: the caller reports the reason
            self._end = Closed(f"failed: {type(error).__name__}: {error}"[:200], 1011, by_us=True)
        finally:
            self.closed.set_result(self._end or Closed("the connection ended without a close frame"))

    def send(self, frame: Frame) -> None:
        if self._end is None and self._transport is not None:
            kind = _TEXT if isinstance(frame, str) else _BINARY
            self._transport.send(kind, frame.encode() if isinstance(frame, str) else frame)

    def ping(self) -> None:
        if self._end is None and self._transport is not None:
            self._transport.send_ping(b"")

    def hold(self) -> None:
        if self._end is None and not self.closed.done():
            self._wake(HELD_BYTES)

    def look(self) -> None:
        if not self.closed.done():
            self._wake(1)

    async def close(self, timeout_s: float) -> None:
        self.look()  # for its answer
        transport = self._transport
        if self.closed.done() or transport is None:
            return
        if self._end is None:
            self._end = Closed("closed by us", 1000, by_us=True)
            self._plain = False
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self.closed)
        except TimeoutError:
            transport.disconnect(graceful=False)
            await asyncio.wait({self.closed}, timeout=LINGER_S)


async def _open_picows(
    url: str, on_frames: OnFrames, on_end: OnEnd, max_bytes: int, timeout_s: float, headers: Mapping[str, str]
) -> Connection:
    try:
        _, listener = await ws_connect(
            lambda: _Picows(on_frames, on_end, max_bytes),
            url,
            ssl_context=tls() if url.startswith("wss:") else None,
            websocket_handshake_timeout=timeout_s,
            logger_name=_silent,
            enable_auto_pong=False,
            max_frame_size=max_bytes,
            extra_headers=headers,
            max_redirects=0,
        )
    except WSHandshakeError as error:
        response = error.response
        status = int(response.status) if response is not None else None
        headers = response.headers if response is not None else {}
        wait_s = retry_after_s(headers.get("Retry-After"), headers.get("Date"))
        raise ConnectFailed(_refusal(status, str(error)), status, wait_s) from error
    except WSError as error:
        raise ConnectFailed(f"{type(error).__name__}: {error}"[:200]) from error
    if not isinstance(listener, _Picows):
        raise ConnectFailed("the connection ended before the handshake")
    return listener


# --- websockets -----------------------------------------------------------------------------------------------------


SLICE_BYTES = 16_384
"""The library parses all that it is given before we see a frame of it: 256 kB of empty ones would cost 8 MB."""


class _Connect(websockets_connect):
    """Without redirects: a feed's address is the one that was configured."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Client(ClientConnection):
    """Hands frames up as they arrive instead of queueing them for `recv`."""

    on_frames: OnFrames
    on_end: OnEnd
    assembler: Assembler
    end: Closed | None = None
    pongs = 0

    def process_event(self, event: object) -> None:
        if isinstance(event, WebsocketFrame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if self.end is None:
                self._data(event)
            return
        if isinstance(event, WebsocketFrame) and event.opcode is Opcode.PONG:
            self.pongs += 1
        super().process_event(event)  # type: ignore[arg-type]  # its Event is Request | Response | Frame

    def _data(self, frame: WebsocketFrame) -> None:
        try:
            data, text = bytes(frame.data), frame.opcode is Opcode.TEXT
            if frame.opcode is Opcode.CONT:
                message = self.assembler.go_on(data, frame.fin)
                if message is not None:
                    self.on_frames((message[0],), message[1])
            elif frame.fin:
                self.on_frames((self.assembler.whole(data, text),), text)
            else:
                self.assembler.begin(data, text)
        except Refused as refusal:
            self.end = Closed(f"refused: {refusal.reason}", refusal.code, by_us=True)
            self.transport.abort()
        except Exception as error:  # noqa: BLE001  # from our own frame callback: the caller reports the reason
            self.end = Closed(f"failed: {type(error).__name__}: {error}"[:200], 1011, by_us=True)
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if self.end is not None:
                return
            super().data_received(data[start : start + SLICE_BYTES])
            self.on_end()
        # After its answer to a close frame or an offence, nothing more is read: the library would go on for a while.
        if self.end is None and self.response is not None and self.protocol.state is not State.OPEN:
            self.transport.close()
            self.loop.call_later(LINGER_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.end = self.end or Closed("the exchange does not read", by_us=True)
        self.transport.abort()


class _Websockets:
    """One connection by websockets."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._wake = waker(client.transport)
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._wait(), name="socket")

    async def _wait(self) -> None:
        try:
            await self._client.wait_closed()
        except asyncio.CancelledError:
            self._client.end = self._client.end or ENDING
            self._client.transport.abort()
            raise
        finally:
            self.closed.set_result(self._client.end or self._verdict())

    def _verdict(self) -> Closed:
        protocol = self._client.protocol
        if protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError):
            sent = protocol.close_sent
            return Closed(f"refused: {protocol.parser_exc}"[:200], sent.code if sent else None, by_us=True)
        if (received := protocol.close_rcvd) is not None and protocol.close_rcvd_then_sent:
            text = received.reason[:120]
            return Closed(f"closed by the exchange{': ' + text if text else ''}", received.code)
        return Closed("the connection ended without a close frame")

    @property
    def pongs(self) -> int:
        return self._client.pongs

    def send(self, frame: Frame) -> None:
        self._write(
            lambda: (
                self._client.protocol.send_text(frame.encode())
                if isinstance(frame, str)
                else self._client.protocol.send_binary(frame)
            )
        )

    def ping(self) -> None:
        self._write(lambda: self._client.protocol.send_ping(b""))

    def _write(self, put: Callable[[], None]) -> None:
        if self._client.end is not None or self.closed.done() or self._client.protocol.state is not State.OPEN:
            return
        put()
        self._client.send_data()

    def hold(self) -> None:
        if self._client.end is None and not self.closed.done():
            self._wake(HELD_BYTES)

    def look(self) -> None:
        if not self.closed.done():
            self._wake(1)

    async def close(self, timeout_s: float) -> None:
        if self.closed.done():
            return
        self.look()
        self._client.end = self._client.end or Closed("closed by us", 1000, by_us=True)
        self._client.close_timeout = timeout_s
        await self._client.close()
        await asyncio.wait({self.closed}, timeout=LINGER_S)


async def _open_websockets(
    url: str,
    on_frames: OnFrames,
    on_end: OnEnd,
    max_bytes: int,
    timeout_s: float,
    headers: Mapping[str, str],
    deflate: bool,
) -> Connection:
    def make(*arguments: Any, **options: Any) -> _Client:
        client = _Client(*arguments, **options)
        # Before the handshake, since the first frames may come together with its answer.
        client.on_frames, client.on_end, client.assembler = on_frames, on_end, Assembler(max_bytes)
        return client

    try:
        client = await _Connect(
            url,
            create_connection=make,  # type: ignore[arg-type]  # documented to take "a wrapper or a subclass"
            proxy=None,
            max_size=max_bytes,
            compression="deflate" if deflate else None,
            ping_interval=None,
            open_timeout=timeout_s,
            additional_headers=headers,
            ssl=tls() if url.startswith("wss:") else None,
            logger=_silent,
        )
    except InvalidStatus as error:
        response = error.response
        wait_s = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
        raise ConnectFailed(_refusal(response.status_code, str(error)), response.status_code, wait_s) from error
    except (InvalidHandshake, InvalidURI, ConnectionClosed, EOFError) as error:
        raise ConnectFailed(f"{type(error).__name__}: {error}"[:200]) from error
    assert isinstance(client, _Client)
    return _Websockets(client)
