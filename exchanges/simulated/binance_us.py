"""Binance US, seen from its own side: Binance's."""

from __future__ import annotations

from exchanges.simulated.binance import Simulated

__all__ = ["Simulated"]
