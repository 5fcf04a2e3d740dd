"""The daemon as a process: a real capture from loopback exchanges into a real InfluxDB, and signals out of a real Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sqfd.journal import JournalStore
from sqfd.sim.process import Ready, SimulatedExchanges
from tests.real.servers import Influx, RedisServer, binary
from tests.twin import expected_bars
from tests.waiting import PATIENCE_S, until

SHORT = Path(__file__).parents[1] / "data" / "short.toml"
SPEED = 10.0
"""Of the capture, in times of its own."""
TRADES = 55_270
"""In the capture."""
VOLUMES = ("vbuy", "vsell")
COUNTS = ("cbuy", "csell")
PRICES = ("open", "high", "low", "close")
CONTRACT = [
    "signal_id",
    "timestamp",
    "symbol",
    "base_symbol",
    "action",
    "score",
    "position_size_factor",
    "leverage",
    "entry_price",
    "ttl",
    "confidence",
    "reasoning",
    "strategy",
    "service",
    "schema_version",
    "seq",
    "valid_until",
    "second",
    "published_at",
    "latency_ms",
    "quality",
    "score_breakdown",
    "phases",
    "coverage",
    "position_id",
    "markets",
    "instance",
]
"""Members of a published signal that consumers rely on."""


@pytest.fixture
def capture(shared: Path) -> Path:
    return shared / "replay" / "binance-2024-08-08"


def configured(folder: Path, served: Ready, influxd: Influx, database: str, redis: RedisServer) -> Path:
    """A configuration with short windows, the loopback exchanges, and both servers."""
    symbols = 'symbols = ["BTC", "ETH"]\n'
    text = SHORT.read_text().replace(symbols, f"{symbols}markets = {json.dumps(served.markets)}\n")
    for exchange, addresses in served.addresses.items():
        text += f"\n[feed.addresses.{exchange}]\n" + "".join(f'{k} = "{v}"\n' for k, v in addresses.items())
    text += f'\n[influx]\nport = {influxd.port}\ndatabase = "{database}"\nretain_1s_days = 0\nretain_1m_days = 0\n'
    text += "rollup_delay_s = 0.5\nbackoff_max_s = 1.0\n"
    text += f"\n[redis]\nport = {redis.port}\nbackoff_max_s = 1.0\n\n[http]\nport = 0\n"
    path = folder / "sqfd.toml"
    path.write_text(text)
    return path


@contextmanager
def daemon(config: Path, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`sqfd run` as a process; killed at the end where the test did not end it."""
    log = (state.parent / "daemon.log").open("wb")
    environment = {name: value for name, value in os.environ.items() if "REDIS" not in name and "INFLUX" not in name}
    command = [sys.executable, "-m", "sqfd", "run", "-c", str(config), "--state", str(state)]
    process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


@contextmanager
def subscriber(redis: RedisServer) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """`redis-cli SUBSCRIBE signals`, as a user would; gives what it printed so far, parsed."""
    command = [binary("redis-cli"), "-p", str(redis.port), "SUBSCRIBE", "signals"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    text = bytearray()

    def read() -> list[dict[str, Any]]:
        text.extend(process.stdout.read() or b"")  # type: ignore[union-attr]  # asserted above
        return [json.loads(line) for line in bytes(text).splitlines() if line.startswith(b"{") and line.endswith(b"}")]

    try:
        until(lambda: not read() and b"subscribe" in text, "redis-cli listens")
        yield read
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def points(influxd: Influx, database: str, policy: str, measurement: str) -> dict[tuple[str, int], dict[str, float]]:
    """(market, second) → fields, by query."""
    if [database] not in [row for series in influxd.ask("SHOW DATABASES") for row in series.get("values", [])]:
        return {}
    query = f'SELECT * FROM "{database}"."{policy}"."{measurement}" GROUP BY market'
    found = {}
    for series in influxd.ask(query, database):
        for row in series["values"]:
            fields = dict(zip(series["columns"], row, strict=True))
            found[series["tags"]["market"], int(fields.pop("time"))] = fields
    return found


def wait_for_bars(influxd: Influx, database: str, count: int) -> None:
    """Until so many bars are there: as long as it takes, while they become more."""
    known = -1
    while known < count:
        until(partial(more_bars, influxd, database, known), f"more than {known} bars", every_s=0.2)
        known = bars_in(influxd, database)


def more_bars(influxd: Influx, database: str, than: int) -> bool:
    return bars_in(influxd, database) > than


def bars_in(influxd: Influx, database: str) -> int:
    """How many bars InfluxDB has."""
    if [database] not in [row for series in influxd.ask("SHOW DATABASES") for row in series.get("values", [])]:
        return -1
    found = influxd.ask('SELECT count(cbuy) FROM "aggr_1s"."trades_1s"', database)
    return int(found[0]["values"][0][1]) if found else 0


def assert_equal_bars(
    stored: dict[tuple[str, int], dict[str, float]], twin: dict[tuple[str, int], dict[str, float]]
) -> None:
    """Nothing missing, nothing extra, counts and prices equal, volumes to 1e-9."""
    assert stored.keys() == twin.keys()
    for key, bar in twin.items():
        for name in (*PRICES, *COUNTS):
            assert stored[key][name] == bar[name], (key, name)
        for name in VOLUMES:
            assert stored[key][name] == pytest.approx(bar[name], rel=1e-9), (key, name)


def rolled_up(bars: dict[tuple[str, int], dict[str, float]], seconds: int) -> dict[tuple[str, int], dict[str, float]]:
    """The rollup of 1-second bars, computed the obvious way."""
    groups: dict[tuple[str, int], list[dict[str, float]]] = {}
    for (market, second), bar in sorted(bars.items(), key=lambda item: item[0][1]):
        groups.setdefault((market, second // seconds * seconds), []).append(bar)
    return {
        key: {
            "open": group[0]["open"],
            "high": max(bar["high"] for bar in group),
            "low": min(bar["low"] for bar in group),
            "close": group[-1]["close"],
            **{name: sum(bar[name] for bar in group) for name in (*VOLUMES, *COUNTS)},
        }
        for key, group in groups.items()
    }


def _trades(bars: dict[tuple[str, int], dict[str, float]]) -> float:
    return sum(bar["cbuy"] + bar["csell"] for bar in bars.values())


def stopped_politely(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM ends it with exit code 0, which it gives only where its stop kept its own bound."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def signals_in(influxd: Influx, database: str) -> int:
    """How many signals InfluxDB has."""
    found = influxd.ask("SELECT count(signal_id) FROM strategy_signals", database)
    return int(found[0]["values"][0][1]) if found else 0


def test_capture_to_influxdb_and_signals_to_redis(
    capture: Path, influxd: Influx, redis_server: RedisServer, database: str, tmp_path: Path
) -> None:
    """A capture at 10×: `trades_1s` equals the twin, `trades_1m` its rollup, and redis-cli receives valid signals."""
    twin = expected_bars(capture)
    with (
        SimulatedExchanges(("BINANCE", "BINANCE_FUTURES"), capture=capture, speed=SPEED) as served,
        subscriber(redis_server) as signals,
        daemon(configured(tmp_path, served, influxd, database, redis_server), tmp_path / "state") as process,
    ):
        bars = "aggr_1s", "trades_1s"
        wait_for_bars(influxd, database, len(twin))
        assert_equal_bars(points(influxd, database, *bars), twin)
        minutes = rolled_up(twin, 60)
        until(lambda: _trades(points(influxd, database, "aggr_1m", "trades_1m")) == TRADES, "all minutes in trades_1m")
        until(
            lambda: len(signals()) == signals_in(influxd, database) >= 3,
            "as many signals in InfluxDB as redis-cli prints",
        )
        stopped_politely(process)
        received = signals()
    assert_equal_bars(points(influxd, database, "aggr_1m", "trades_1m"), minutes)
    for one in received:
        assert set(CONTRACT) <= one.keys()
        assert one["action"] in ("LONG", "SHORT", "CLOSE")
        assert one["symbol"] == one["base_symbol"] + "USDT"
        assert datetime.fromisoformat(one["timestamp"]).utcoffset() is not None
        assert (
            0 <= one["latency_ms"] < 1e3 * PATIENCE_S * SPEED
        )  # in the capture's time, which runs faster than this machine's
    assert [one["seq"] for one in received] == sorted({one["seq"] for one in received})
    assert len({one["signal_id"] for one in received}) == len(received)


def test_outages_of_both_servers_lose_nothing(
    capture: Path, influxd: Influx, redis_server: RedisServer, database: str, tmp_path: Path
) -> None:
    """InfluxDB killed and Redis stopped in mid-stream: both catch up, said once each, nothing missing in `trades_1s`."""
    twin = expected_bars(capture)
    with (
        SimulatedExchanges(("BINANCE", "BINANCE_FUTURES"), capture=capture, speed=20.0) as served,
        daemon(configured(tmp_path, served, influxd, database, redis_server), tmp_path / "state") as process,
    ):
        wait_for_bars(influxd, database, 200)
        influxd.kill()
        redis_server.send(signal.SIGSTOP)
        for words in ("InfluxDB takes nothing", "Redis takes no signals"):
            until(lambda words=words: words in told(tmp_path), f"the daemon says: {words}")  # type: ignore[misc]
        closed = newest_tick(tmp_path / "state")
        until(lambda: newest_tick(tmp_path / "state") > closed + 20, "the daemon goes on without its servers")
        assert process.poll() is None
        redis_server.send(signal.SIGCONT)
        influxd.start()
        wait_for_bars(influxd, database, len(twin))
        stopped_politely(process)
    assert_equal_bars(points(influxd, database, "aggr_1s", "trades_1s"), twin)
    log = told(tmp_path)
    assert log.count("InfluxDB takes nothing") == log.count("InfluxDB takes writes again") == 1
    delivered = entries(redis_server)
    command = [sys.executable, "-m", "sqfd", "signals", "--state", str(tmp_path / "state"), "--json"]
    journaled = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2]).stdout
    assert {json.loads(line)["signal_id"] for line in journaled.splitlines()} <= delivered


def told(folder: Path) -> str:
    """What the daemon said."""
    return (folder / "daemon.log").read_text()


def newest_tick(state: Path) -> int:
    """Of the journal."""
    store = JournalStore(state, read_only=True)
    try:
        return store.last_tick()
    finally:
        store.close()


def entries(redis: RedisServer) -> set[str]:
    """Signal ids in the stream, as redis-cli prints them."""
    command = [binary("redis-cli"), "-p", str(redis.port), "XRANGE", "sqfd:signals", "-", "+"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {value for name, value in pairwise(lines) if name == "signal_id"}
