"""The dashboards: every InfluxQL query is answered by a real InfluxDB with our schema, every metric exists."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sqfd.http.metrics import Metrics
from sqfd.http.settings import HttpSettings
from sqfd.influx.client import Client
from sqfd.influx.lines import point, signal_line, strategy_line
from sqfd.influx.schema import compare, create, inspect, wanted
from sqfd.influx.settings import InfluxSettings
from tests.http.running import running
from tests.real.servers import Influx

BOARDS = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
SINKS = {
    "influx": {"state": "ok", "why": None, "lag_s": 1, "quarantined": 0, "counters": {"bars": 1}},
    "redis": {"state": "ok", "why": None, "pending": 0, "counters": {"published": 1}},
}
MIND = ("score", "cvd_reset", "absorption", "failed_breakdown", "directional_bias", "context", "divergence", "reset")


def queries(board: str, key: str) -> list[str]:
    panels = json.loads((BOARDS / board).read_text())["panels"]
    return [target[key] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("board", ["daemon.json", "market.json"])
def test_a_board_can_be_imported(board: str) -> None:
    """Ids are unique, panels do not overlap, every panel has a query, the data source is a variable."""
    told = json.loads((BOARDS / board).read_text())
    cells = [
        (x, y)
        for panel in told["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])
    assert all(panel["targets"] for panel in told["panels"])
    assert "${datasource}" in json.dumps(told["panels"][0])
    assert told["uid"].startswith("sqfd-")


async def test_every_metric_of_the_board_exists(tmp_path: Path) -> None:
    """With all sinks configured, /metrics has each name and each label that the board asks for."""
    async with running(tmp_path, HttpSettings(port=0)) as rig:
        await rig.second(signals=1)
        rig.view.shipper = SimpleNamespace(status=lambda: SINKS["influx"])  # type: ignore[assignment]
        rig.view.publisher = SimpleNamespace(status=lambda: SINKS["redis"])  # type: ignore[assignment]
        rig.journal.lost["queue_full:bars"] = 1
        families = list(text_string_to_metric_families(Metrics(rig.view).text().decode()))
    kinds = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    for expression in queries("daemon.json", "expr"):
        for name in re.findall(r"sqfd_\w+", expression):
            assert name in kinds, expression
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    for expression in queries("daemon.json", "expr"):
        for names in re.findall(r"by \(([^)]*)\)", expression) + re.findall(r"\{(\w+)=", expression):
            assert {name.strip() for name in names.split(",")} <= labels, expression


async def test_every_query_of_the_board_finds_something(influxd: Influx, database: str) -> None:
    """Against the schema that sqfd makes, with one bar, one second of the strategy and one signal."""
    settings = InfluxSettings(port=influxd.port, database=database)
    now = int(time.time()) - 90
    async with Client(settings) as client:
        await create(client, compare(wanted(settings), await inspect(client, database)))
        values = dict.fromkeys(("open", "high", "low", "close", "vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell"), 1.0)
        lines = {
            "aggr_1m": point("trades_1m", {"market": "BINANCE:btcusdt"}, values, now),
            "sqfd_24h": strategy_line("BTC", now, dict.fromkeys((*MIND, "coverage", "latency_ms"), 1.0)),
            "aggr_1s": signal_line(
                now,
                {"symbol": "BTCUSDT", "action": "LONG", "strategy": "squeezeflow", "score_tier": "high"},
                {
                    "signal_id": "x",
                    "score": 6.5,
                    "position_size_factor": 1.0,
                    "leverage": 3.0,
                    "entry_price": 1.0,
                    "confidence": 0.7,
                    "reasoning": "a reset",
                },
            ),
        }
        for retention, line in lines.items():
            answer = await client.write([line.encode()], retention)
            assert answer.ok, answer
        board = json.loads((BOARDS / "market.json").read_text())
        asked = queries("market.json", "query")
        asked += [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
        for query in asked:
            plain = query.replace("$timeFilter", "time > now() - 1h").replace("$__interval", "1m")
            plain = plain.replace("$market", "BINANCE:btcusdt").replace("$symbol", "BTC")
            (found,) = await client.ask(plain)
            numbers = [value for series in found for row in series.values for value in row[1:]]
            assert any(value is not None for value in numbers), plain
