"""Round trips on paper: what one position was, cost and brought."""

from __future__ import annotations

from typing import Any

import msgspec


class Trade(msgspec.Struct, frozen=True):
    """A position from its fill to its end. Prices and money in dollars, shares as shares of 1, times as epoch seconds."""

    position_id: str
    symbol: str
    side: str
    quality: str
    score: float
    size_factor: float
    leverage: float
    signal_second: int
    """The second whose close caused the entry."""
    entry_tick: int
    """When it was filled: at least the latency after `signal_second + 1`."""
    entry_price: float
    """With slippage."""
    exit_signal_second: int | None
    exit_tick: int
    exit_price: float
    exit_reasons: tuple[str, ...]
    """Of the CLOSE signal; `margin_call`, or `end_of_data` for what was still open (marked, not closed)."""
    quantity: float
    """Coins; negative for a short."""
    notional: float
    """At the entry."""
    margin: float
    gross: float
    """Profit at index prices, before all costs."""
    slippage: float
    fees: float
    funding: float
    """Paid; negative where received."""
    net: float
    """gross − slippage − fees − funding"""
    mae: float
    """Largest adverse excursion of the index price from the entry, share of the entry price, ≥ 0."""
    mfe: float
    """Largest favourable excursion, ≥ 0."""
    explain: dict[str, Any] = {}
    """Of the entry signal: reasoning, score_breakdown, phases."""

    @property
    def held_s(self) -> int:
        return self.exit_tick - self.entry_tick

    @property
    def net_share(self) -> float:
        """Net profit as a share of the entry's notional."""
        return self.net / self.notional


CSV_COLUMNS = tuple(name for name in Trade.__struct_fields__ if name != "explain")


def csv_row(trade: Trade) -> list[str]:
    """The values of CSV_COLUMNS; reasons joined by `+`."""
    values = (getattr(trade, name) for name in CSV_COLUMNS)
    return ["+".join(v) if isinstance(v, tuple) else "" if v is None else str(v) for v in values]
