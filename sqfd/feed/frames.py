"""Messages from websocket frames, bounded. Pure: the checks that a transport's library leaves to its user."""

from __future__ import annotations

from exchanges.numbers import VALUES_MAX, crowded

FRAGMENTS = 1024
"""Fragments of one message. Empty ones cost nothing of the size limit, and would otherwise go on for ever."""


class Refused(Exception):
    """The peer broke the protocol or a limit; the connection ends with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Assembler:
    """Puts fragments together. `max_bytes` bounds a whole message (RFC 6455, section 5.4)."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._text = False
        self.busy = False
        """Whether a message has begun that has not ended."""

    def whole(self, data: bytes, text: bool) -> bytes:
        """An unfragmented message. Raises Refused where another has not ended, text is not UTF-8, or it is a bomb."""
        if self._parts:
            raise Refused(1002, "a message began within another")
        _check(data, text)
        return data

    def begin(self, data: bytes, text: bool) -> None:
        """The first fragment of a message."""
        if self._parts:
            raise Refused(1002, "a message began within another")
        self._text = text
        self._add(data)

    def go_on(self, data: bytes, last: bool) -> tuple[bytes, bool] | None:
        """A further fragment; returns (message, whether it is text) when it was the last."""
        if not self._parts:
            raise Refused(1002, "continuation of nothing")
        self._add(data)
        if not last:
            return None
        message = b"".join(self._parts)
        self._forget()
        _check(message, self._text)
        return message, self._text

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._max_bytes or len(self._parts) >= FRAGMENTS:
            self._forget()
            raise Refused(1009, f"a message of more than {self._max_bytes} bytes or {FRAGMENTS} fragments")
        self._parts.append(data)
        self.busy = True

    def _forget(self) -> None:
        self._parts.clear()
        self._size = 0
        self.busy = False


def _check(data: bytes, text: bool) -> None:
    if text and not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise Refused(1007, "text that is not UTF-8") from error
    if crowded(data):
        raise Refused(1009, f"a message of more than {VALUES_MAX} values")
