"""Section [alerts]."""

from __future__ import annotations

from string import Formatter
from typing import Annotated

import msgspec
from msgspec import Meta

SIGNAL_FIELDS = (
    "action",
    "base_symbol",
    "confidence",
    "coverage",
    "entry_price",
    "instance",
    "leverage",
    "position_size_factor",
    "price",
    "quality",
    "reasoning",
    "score",
    "side",
    "signal_id",
    "symbol",
    "timestamp",
    "ttl",
)
HEALTH_FIELDS = ("before", "instance", "state", "why")


class AlertSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told of signals and health, beside Redis. The section's presence turns it on."""

    webhook_url: Annotated[
        str,
        Meta(description="Address that gets each message as JSON by POST; empty: none.", pattern=r"^(https?://\S+)?$"),
    ] = ""
    telegram_token: Annotated[
        str, Meta(description="Token of the Telegram bot; better given by SQFD__ALERTS__TELEGRAM_TOKEN_FILE.")
    ] = ""
    telegram_chat: Annotated[str, Meta(description="Chat that the bot writes to, such as -1001234567890.")] = ""
    telegram_url: Annotated[str, Meta(description="Base address of Telegram's API.", pattern=r"^https?://\S+$")] = (
        "https://api.telegram.org"
    )
    signals: Annotated[bool, Meta(description="Tell of signals.")] = True
    health: Annotated[bool, Meta(description="Tell of changes of health.")] = True
    signal_text: Annotated[
        str, Meta(description="Text of a signal; fields of the signal stand in braces.", min_length=1)
    ] = "{action} {symbol} at {price:.8g}, score {score:.1f} ({quality})\n{reasoning}"
    health_text: Annotated[
        str, Meta(description="Text of a change of health: {instance} {before} {state} {why}.", min_length=1)
    ] = "sqfd {instance} is {state} (was {before}) {why}"
    timeout_s: Annotated[float, Meta(description="Seconds that one delivery may take.", ge=0.1, le=60)] = 5.0
    tries: Annotated[int, Meta(description="Deliveries of one message before it is given up.", ge=1, le=10)] = 4
    backoff_s: Annotated[float, Meta(description="First wait after a failed delivery; it doubles.", ge=0.01, le=60)] = (
        1.0
    )

    def __post_init__(self) -> None:
        if bool(self.telegram_token) != bool(self.telegram_chat):
            raise ValueError("alerts.telegram_token and alerts.telegram_chat belong together")
        for name, text, fields in (
            ("signal_text", self.signal_text, SIGNAL_FIELDS),
            ("health_text", self.health_text, HEALTH_FIELDS),
        ):
            _check_template(name, text, fields)


def _check_template(name: str, text: str, fields: tuple[str, ...]) -> None:
    """Raises ValueError for a field that there is not."""
    try:
        found = {field for _, field, _, _ in Formatter().parse(text) if field is not None}
    except ValueError as error:
        raise ValueError(f"alerts.{name}: {error}") from error
    for field in sorted(found - set(fields)):
        raise ValueError(f"alerts.{name}: no field {field!r}; there are: {', '.join(fields)}")
