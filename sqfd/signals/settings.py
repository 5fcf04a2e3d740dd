"""Section [redis]."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Redis is and how signals are published there. The section's presence turns the sink on."""

    url: Annotated[
        str,
        Meta(
            description="Address such as redis://host:6379/0; empty: made of host, port and db.",
            pattern=r"^((rediss?|unix)://\S+)?$",
        ),
    ] = ""
    host: Annotated[str, Meta(description="Host name or address of Redis.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port of Redis.", ge=1, le=65_535)] = 6379
    db: Annotated[int, Meta(description="Number of the Redis database that holds the keys.", ge=0, le=1_000)] = 0
    username: Annotated[str, Meta(description="ACL user; empty: the default user.")] = ""
    password: Annotated[str, Meta(description="Password; better given by a file or a systemd credential.")] = ""
    timeout_s: Annotated[
        float, Meta(description="Seconds that connecting or one command may take.", ge=0.05, le=30)
    ] = 0.5
    ttl_s: Annotated[
        int, Meta(description="Seconds that the newest signal of a symbol stays in its key.", ge=1, le=86_400)
    ] = 600
    stream_length: Annotated[
        int,
        Meta(description="Signals that the stream keeps, nearly, for consumers that were away.", ge=100, le=10_000_000),
    ] = 10_000
    history_length: Annotated[int, Meta(description="Signals in a symbol's history list.", ge=1, le=10_000)] = 100
    heartbeat_s: Annotated[float, Meta(description="Seconds between two heartbeats.", ge=0.1, le=300)] = 5.0
    backoff_min_s: Annotated[float, Meta(description="First wait after Redis refused.", ge=0.01, le=10)] = 0.1
    backoff_max_s: Annotated[float, Meta(description="Longest wait after Redis refused.", ge=0.1, le=300)] = 5.0

    @property
    def address(self) -> str:
        """The URL that the client gets, without login."""
        return self.url or f"redis://{self.host}:{self.port}/{self.db}"
