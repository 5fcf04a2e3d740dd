"""Section [http]."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec
from msgspec import Meta

MIN_TOKEN = 16


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Health, metrics, history and the live page."""

    enabled: Annotated[bool, Meta(description="Serve HTTP at all.")] = True
    host: Annotated[str, Meta(description="Address to listen on.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = 8686
    allow_remote: Annotated[
        bool, Meta(description="Allow `host` to be reachable from other machines; needs a token.")
    ] = False
    token: Annotated[
        str,
        Meta(
            description="Secret that requests must carry (Authorization: Bearer …, or /?token=… once in a browser); "
            "better given by SQFD__HTTP__TOKEN_FILE."
        ),
    ] = ""
    hosts: Annotated[
        tuple[str, ...], Meta(description="Other names by which browsers may call this server (Host header).")
    ] = ()
    max_bars: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most bars per market in one answer of /historical.")
    ] = 100_000
    max_streams: Annotated[int, Meta(ge=1, le=1_000, description="Most event streams that are open at once.")] = 32

    def __post_init__(self) -> None:
        if is_loopback(self.host):
            return
        if not self.allow_remote:
            raise ValueError(f"http.host {self.host} is reachable from elsewhere: set allow_remote = true and a token")
        if len(self.token) < MIN_TOKEN:
            raise ValueError(f"http.allow_remote needs http.token, at least {MIN_TOKEN} characters")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
