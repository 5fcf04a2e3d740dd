"""The section `[backtest]`: how signals are traded on paper. Nothing here changes which signals there are."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Fee = Annotated[float, Meta(ge=-10, le=200)]


class BacktestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How backtests trade signals on paper, and how they read the journal."""

    block_s: Annotated[
        int,
        Meta(
            ge=60,
            le=86_400,
            description="Seconds of flow that are read and judged at once; symbols share them, whole hours and at least 2 each. "
            "No result depends on it.",
        ),
    ] = 64_800
    coarse_block_s: Annotated[
        int,
        Meta(
            ge=14_400,
            le=31_536_000,
            description="The same with bars of a minute or more (`--timeframe`), down to a day for each symbol.",
        ),
    ] = 259_200
    capital: Annotated[float, Meta(gt=0, description="Cash at the start, in dollars.")] = 10_000.0
    margin_share: Annotated[
        float, Meta(gt=0, le=1, description="Share of equity put up as margin for a signal of size factor 1.")
    ] = 0.1
    max_leverage: Annotated[float, Meta(ge=1, le=125, description="Leverage is the signal's, but at most this.")] = (
        125.0
    )
    max_positions: Annotated[
        int, Meta(ge=0, le=1_000, description="Positions open at once on paper; 0: as many as the signals ask for.")
    ] = 0
    latency_s: Annotated[
        int,
        Meta(
            ge=1, le=3_600, description="Seconds from a signal to its fill; never filled at the price that caused it."
        ),
    ] = 1
    exchange: Annotated[str, Meta(description="Exchange whose fees are paid.")] = "BINANCE_FUTURES"
    order: Annotated[
        Literal["taker", "maker"], Meta(description="Which fee is paid; fills are the same, so maker is optimistic.")
    ] = "taker"
    maker_fee_bps: Annotated[
        Fee | None,
        Meta(description="Maker fee in basis points, instead of the exchange's lowest tier."),
    ] = None
    taker_fee_bps: Annotated[
        Fee | None,
        Meta(description="Taker fee in basis points, instead of the exchange's lowest tier."),
    ] = None
    slippage_bps: Annotated[
        float, Meta(ge=0, le=500, description="Basis points by which each fill is worse than the index price.")
    ] = 1.0
    impact_bps: Annotated[
        float,
        Meta(
            ge=0,
            le=500,
            description="Further basis points for an order as large as all volume of its second, in proportion.",
        ),
    ] = 5.0
    funding_bps: Annotated[
        float,
        Meta(
            ge=-100,
            le=100,
            description="Funding in basis points, paid by longs to shorts at 0, 8 and 16 h UTC, where none was collected.",
        ),
    ] = 1.0
    stored_funding: Annotated[
        bool, Meta(description="Whether funding is the rate of 8 hours that was collected, where there is one.")
    ] = True
    maintenance_share: Annotated[
        float,
        Meta(ge=0, le=0.5, description="Equity below this share of all notional is a margin call: all is closed."),
    ] = 0.005
