"""P8: a burst of a hundred times the usual trades, over a real socket: late at most, never lost."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from tests.feed.loopback import Loopback
from tests.feed.test_supervisor import TRANSPORTS, quick, running
from tests.waiting import eventually

BURST = 5_000
"""Trades at once; the server beside it sends forty a second."""


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_burst_loses_nothing(transport: Literal["picows", "websockets"]) -> None:
    """Every trade of the burst is aggregated once, in order, and the market stays live."""
    async with Loopback(["BTCUSDT", "ETHUSDT"]) as server, running(server, quick(transport), server.instruments) as it:
        await eventually(lambda: it.supervisor.status().live == 2)
        sent = [(await server.trade(server.instruments[0], price=float(n + 1))).id for n in range(BURST)]
        await eventually(lambda: sent[-1] in {trade.id for _, trade in it.sink.trades[-50:]})
        await asyncio.sleep(0.1)
        got = [trade.id for market, trade in it.sink.trades if market == 0]
        wanted = set(sent)
        burst = [id for id in got if id in wanted]
        assert burst == sent
        assert it.supervisor.status().live == 2
        totals = it.intake.totals()
        assert totals.duplicate == totals.late == totals.malformed == 0
