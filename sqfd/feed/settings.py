"""What users can set about feeds. Each setting has one sentence, bounds and a default."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MIB = 1024 * 1024


class FeedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Connections to exchanges: transport, silence, reconnecting, recording."""

    grace_s: Annotated[
        float, Meta(description="A second closes this long after it ended on the exchange's clock.", ge=0, le=5)
    ] = 0.25
    transport: Annotated[
        Literal["picows", "websockets"],
        Meta(description="Websocket client: picows is fastest, websockets can inflate compressed frames."),
    ] = "picows"
    liquidations: Annotated[bool, Meta(description="Subscribe to forced orders where an exchange publishes them.")] = (
        True
    )
    recover: Annotated[bool, Meta(description="Ask exchanges by REST for trades that were missed.")] = True
    open_interest_s: Annotated[
        float, Meta(description="Open interest is asked for this often; 0: never.", ge=0, le=86_400)
    ] = 60.0
    funding_s: Annotated[
        float,
        Meta(
            description="Funding is asked for this often where it does not come with open interest; 0: never.",
            ge=0,
            le=86_400,
        ),
    ] = 300.0
    silence_min_s: Annotated[
        float, Meta(description="Silence of the busiest feeds that is taken for a dead one.", ge=1, le=300)
    ] = 5.0
    silence_max_s: Annotated[
        float,
        Meta(
            description="Feeds too quiet for silence to prove anything are asked for again this often.", ge=5, le=3600
        ),
    ] = 300.0
    first_trade_s: Annotated[
        float,
        Meta(description="A new connection without any trade is given up after this long.", ge=5, le=3600),
    ] = 60.0
    calm_hz: Annotated[
        float,
        Meta(
            description="Connections with fewer frames a second are read once or twice a second; 0: all as each frame comes.",
            ge=0,
            le=1_000,
        ),
    ] = 300.0
    ack_timeout_s: Annotated[
        float, Meta(description="A subscription without answer is asked for again after this long.", ge=1, le=120)
    ] = 10.0
    backoff_min_s: Annotated[
        float, Meta(description="Ceiling of the first wait before reconnecting; it doubles.", ge=0.1, le=60)
    ] = 1.0
    backoff_max_s: Annotated[
        float, Meta(description="Ceiling of all later waits before reconnecting.", ge=1, le=600)
    ] = 60.0
    connect_timeout_s: Annotated[
        float, Meta(description="Time for a connection and its handshake.", ge=0.5, le=120)
    ] = 10.0
    close_timeout_s: Annotated[
        float, Meta(description="Time for the exchange to answer a closing handshake.", ge=0.1, le=30)
    ] = 2.0
    rest_timeout_s: Annotated[float, Meta(description="Time for one answer by REST.", ge=1, le=300)] = 30.0
    max_frame_bytes: Annotated[int, Meta(description="Larger messages are refused.", ge=64 * 1024, le=64 * MIB)] = (
        512 * 1024
    )
    max_listing_bytes: Annotated[int, Meta(description="Larger answers by REST are refused.", ge=MIB, le=512 * MIB)] = (
        64 * MIB
    )
    stagger_s: Annotated[
        float, Meta(description="Connections to one exchange start at least this far apart.", ge=0, le=60)
    ] = 0.25
    listing_retry_s: Annotated[
        float,
        Meta(description="Ceiling of waits before an exchange that did not list is asked again.", ge=1, le=86_400),
    ] = 300.0
    listing_refresh_s: Annotated[
        float,
        Meta(description="Listings are asked for this often, to see what was delisted; 0: never.", ge=0, le=604_800),
    ] = 3600.0
    record_file_bytes: Annotated[
        int, Meta(description="A recording goes on in a new file after this size.", ge=64 * 1024, le=1024 * MIB)
    ] = 16 * MIB
    record_total_bytes: Annotated[
        int,
        Meta(description="The oldest files of a recording are removed above this size.", ge=MIB, le=1024 * 1024 * MIB),
    ] = 2048 * MIB
    addresses: Annotated[
        dict[str, dict[str, str]],
        Meta(description="Other base addresses by exchange and endpoint or REST name: mirrors and simulations."),
    ] = {}


class Wanted(msgspec.Struct, frozen=True):
    """Which markets to collect: symbols × quotes × kinds × exchanges, or `markets` by name and nothing else."""

    symbols: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("spot", "perp")
    exchanges: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    """`EXCHANGE:pair`, split on the first colon only."""
