"""What a library, or a mistake of ours, says of a secret: it is taken out of everything that the process prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TextIO
from urllib.parse import quote, unquote, urlsplit

from sqfd.config import Config, value_of
from sqfd.settings import is_secret, walk

LEAST_CHARS = 6
"""Shorter ones are left: they would be taken out of words that have nothing to do with them."""
HIDDEN = "(not shown)"


class Hiding:
    """A stream, without the secrets of a configuration: log lines, tracebacks and warnings go through it as they are written."""

    def __init__(self, stream: TextIO, config: Config) -> None:
        self._stream = stream
        self._known: set[str] = set()
        self.learn(config)

    def learn(self, config: Config) -> None:
        """Hide this configuration's secrets too; those of before stay hidden."""
        self._known |= {form for secret in secrets(config) for form in _forms(secret)}
        longest_first = sorted(map(re.escape, self._known), key=len, reverse=True)
        self._any = re.compile("|".join(longest_first) or r"(?!)")

    def write(self, text: str) -> int:
        """As a stream's own; gives how many characters it was told to write."""
        self._stream.write(self._any.sub(HIDDEN, text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As a stream's own."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def secrets(config: Config) -> set[str]:
    """Passwords and tokens, and the passwords within addresses."""
    found = set()
    for key, _, _ in walk(Config):
        value = value_of(config, key)
        if isinstance(value, str) and is_secret(key):
            found.add(value)
        elif isinstance(value, str) and "@" in value:
            found.add(urlsplit(value).password or "")
    return {secret for secret in found if len(secret) >= LEAST_CHARS}


def _forms(secret: str) -> set[str]:
    """As it is, and as JSON, addresses and Python write it."""
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe=""),
            quote(secret), unquote(secret), repr(secret)[1:-1]}  # fmt: skip
