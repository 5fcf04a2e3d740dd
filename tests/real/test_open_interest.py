"""Open interest from an exchange's REST to a point in a real InfluxDB, through the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from exchanges.simulated.api import FUNDING_RATE
from exchanges.simulated.bybit import OPEN_CONTRACTS
from tests.real.servers import Influx
from tests.real.test_feeds import running
from tests.waiting import PATIENCE_S


async def points(influxd: Influx, database: str, kind: str) -> list[dict[str, Any]]:
    query = f"SELECT * FROM aggr_1s.open_interest WHERE aggregate_type = '{kind}'"
    series = await asyncio.to_thread(influxd.ask, query, database)
    return [dict(zip(one["columns"], values, strict=True)) for one in series for values in one["values"]]


async def test_open_interest_is_polled_and_stored(tmp_path: Path, influxd: Influx, database: str) -> None:
    """Asked for by REST at its interval, within the daemon; stored by symbol and exchange, in coins and in dollars."""
    flags = {
        "feed.open_interest_s": 20.0,
        "influx.port": influxd.port,
        "influx.database": database,
        "influx.retain_1s_days": 0,
        "influx.retain_1m_days": 0,
    }
    async with running(tmp_path, ("BYBIT",), **flags) as it:
        async with asyncio.timeout(PATIENCE_S):
            while len(rows := await points(influxd, database, "exchange")) < 3:
                await it.sleep(5)
        total = await points(influxd, database, "total")
        perps = [i for i in it.truth.instruments if i.kind == "perp"]
        flow = it.daemon._collector.seconds.flow
        usd, funding = flow._open_interest[0] / 100.0, flow._funding[0] / 1e9
    assert {row["symbol"] for row in rows} == {"BTC"}
    assert {row["exchange"] for row in rows} == {"BYBIT"}
    linear = [i for i in perps if not i.inverse]
    assert linear
    assert rows[-1]["open_interest"] >= OPEN_CONTRACTS * len(linear)
    assert rows[-1]["open_interest_usd"] > 0.0
    assert [row["funding_rate"] for row in rows] == pytest.approx([FUNDING_RATE] * len(rows))
    assert all(row.get("funding_rate") is None for row in total), "intervals of exchanges are of different length"
    assert [row["funding_8h"] for row in total] == pytest.approx([FUNDING_RATE * 2] * len(total)), (
        "settled every 4 hours"
    )
    assert funding == pytest.approx(FUNDING_RATE * 2), "and the strategy reads it"
    assert usd > 0.0, "it is offered to the strategy, too"
    assert {row["exchange"] for row in total} == {"ALL"}
    assert total[0]["open_interest_usd"] == rows[0]["open_interest_usd"]
