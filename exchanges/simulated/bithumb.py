"""Bithumb, seen from its own side: as Upbit."""

from __future__ import annotations

from exchanges.simulated.upbit import Simulated as Simulated
