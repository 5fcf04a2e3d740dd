"""What a trade costs from the socket to its stored bar: the whole daemon against the floor of its building blocks, and its peers.

A load process (`benchmarks.load`) speaks an exchange's wire format on loopback. The *daemon* runs as it is (session, duplicates,
coverage, bars, closing, strategy, journal). The *floor* is picows + msgspec + one slotted bar per market and second, and nothing
else. The *peers* run where they are installed. All are pinned to one core, the load to the other; runs are interleaved; every
trade is counted. CPU time counts from the first trade to the last. `mixed`: all exchanges at once, each in its own wire form, beside
the simplest reading of each (`benchmarks.mixed`, `benchmarks.wires`).

    python -m benchmarks.ingest [--runs 5] [--case plain …] [--peers /path/to/python]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

import exchanges
from benchmarks.harness import report
from benchmarks.load import SYMBOLS, Plan, certificate, collecting, serve, started
from benchmarks.wires import BybitTrades, Combined, SlottedBar

PACED_S = 1.0
CASES = {
    "plain": Plan(trades=150_000),
    "batched": Plan("BYBIT", 200_000, batch=10),
    "TLS": Plan(trades=60_000, tls=True),
    "mixed": Plan("", trades=150_000, mixed=True),
}
PACED = {
    "1k/s": Plan(trades=int(1_000 * PACED_S), rate_hz=1_000),
    "10k/s": Plan(trades=int(10_000 * PACED_S), rate_hz=10_000),
    "50k/s": Plan(trades=int(50_000 * PACED_S), rate_hz=50_000),
}
PEERS = {"cryptofeed": 40_000, "nautilus_trader": 10_000, "ccxt": 8_000}
"""Trades that a peer gets flat out: it needs longer for them than we for ours."""
PEERS_KEEP_UP_HZ = {"cryptofeed": 10_000, "nautilus_trader": 10_000, "ccxt": 1_000}
"""A peer is not asked for more than this when paced."""
SAMPLE = 16


# --- what is measured ------------------------------------------------------------------------------------------------


class Floor(WSListener):
    """picows, one typed decode, one look-up, one slotted bar."""

    def __init__(self, plan: Plan, done: asyncio.Event) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(Combined, strict=False).decode
        self._decode_batch = msgspec.json.Decoder(BybitTrades, strict=False).decode
        self._batches = plan.batch > 1
        self._bars: dict[tuple[str, int], SlottedBar] = {}
        self._left = plan.trades
        self._done = done
        self.begun = (0.0, 0.0)
        self.delays: list[float] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._batches:
            for row in self._decode_batch(frame.get_payload_as_bytes()).data:
                self._add(row.s, row.T, row.p, row.v, row.S == "Sell")
            return
        trade = self._decode(frame.get_payload_as_bytes()).data
        if trade is not None:
            self._add(trade.s, trade.T, trade.p, trade.q, trade.m)

    def _add(self, symbol: str, ts_ms: int, price: float, size: float, sell: bool) -> None:
        left = self._left
        if left % SAMPLE == 0:
            self._sample(ts_ms)
        key = (symbol, ts_ms // 1000)
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = SlottedBar(price)
        if sell:
            bar.vsell += price * size
            bar.csell += 1
        else:
            bar.vbuy += price * size
            bar.cbuy += 1
        if price > bar.high:
            bar.high = price
        if price < bar.low:
            bar.low = price
        bar.close = price
        self._left = left - 1
        if left == 1:
            self._done.set()

    def _sample(self, ts_ms: int) -> None:
        if not self.delays:
            self.begun = time.process_time(), time.monotonic()
        self.delays.append(time.time() * 1e3 - ts_ms)


async def floor(addresses: dict[str, str], plan: Plan) -> dict[str, float]:
    """What the building blocks alone need."""
    done = asyncio.Event()
    listener = Floor(plan, done)
    url = next(iter(addresses.values()))
    context = ssl.create_default_context() if plan.tls else None
    transport, _ = await ws_connect(lambda: listener, url, ssl_context=context)
    exchange = exchanges.get(plan.exchange)
    topics = [stream.topic for symbol in SYMBOLS for stream in exchange.streams(exchange.assume(symbol), False)]
    traded = {symbol: exchange.assume(symbol) for symbol in SYMBOLS}
    decoder = exchange.decoder(traded[SYMBOLS[0]].endpoint, traded)
    for frame in decoder.subscribe(topics, 0):
        transport.send(WSMsgType.TEXT, frame)
    await done.wait()
    return _result(plan.trades, listener.begun, listener.delays)


def _result(trades: int, begun: tuple[float, float], delays_ms: list[float]) -> dict[str, float]:
    taken_s, wall_s = time.process_time() - begun[0], time.monotonic() - begun[1]
    return {
        "cpu_s": taken_s,
        "wall_s": wall_s,
        "trades": trades,
        "lag_ms": float(np.quantile(delays_ms or [0.0], 0.99)),
    }


async def mixed_floor(addresses: dict[str, dict[str, str]], plan: Plan) -> dict[str, float]:
    """The same over all exchanges."""
    from benchmarks import mixed

    begun, left = await mixed.Floor(plan.trades).run(addresses)
    return _result(left, begun, [])


async def daemon(addresses: dict[str, Any], plan: Plan, folder: Path) -> dict[str, float]:
    """What the daemon needs, to the journal."""
    if plan.mixed:
        from benchmarks import mixed

        running, task = await collecting(mixed.SYMBOLS, mixed.names(), addresses, folder)
        await mixed.go(addresses)
    else:
        running, task = await started(addresses, plan, folder)
    feeds = running._collector.intake.markets.values()
    while not any(feed.aggregated for feed in feeds):  # noqa: ASYNC110  # nothing tells of the first trade
        await asyncio.sleep(0.001)
    begun, before = (time.process_time(), time.monotonic()), running.counts().aggregated
    delays: list[float] = []
    while running.counts().aggregated < plan.trades:
        await asyncio.sleep(0.02)
        delays.append(max(feed.recv_ms - feed.newest_ms for feed in feeds))
        assert not task.done(), task
    result = _result(plan.trades - before, begun, delays)
    counts = running.counts()
    assert counts.aggregated == counts.received == plan.trades, counts
    running.stop()
    await task
    return result


# --- runs ------------------------------------------------------------------------------------------------------------


def _told(plan: Plan, folder: Path) -> list[str]:
    return ["-m", "benchmarks.ingest", "--plan", msgspec.json.encode(plan).decode(), "--folder", str(folder), "--role"]


@contextmanager
def loading(plan: Plan, folder: Path) -> Iterator[str]:
    """A load process; its addresses as JSON. Every connection gets all trades from the first."""
    load = subprocess.Popen([sys.executable, *_told(plan, folder), "load"], stdout=subprocess.PIPE, text=True)
    assert load.stdout is not None
    try:
        yield load.stdout.readline()
    finally:
        load.kill()
        load.wait()
        load.stdout.close()


def measured(role: str, plan: Plan, addresses: str, folder: Path, peers: str) -> dict[str, Any]:
    """One run of one role against that load."""
    core = max(os.sched_getaffinity(0))
    if role in PEERS:
        command = [peers, str(Path(__file__).with_name("peers.py")), role, addresses, str(plan.trades)]
    else:
        command = [sys.executable, *_told(plan, folder), role, "--addresses", addresses]
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | ({"SSL_CERT_FILE": str(folder / "cert.pem")} if plan.tls else {}),
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    made: dict[str, Any] = orjson.loads(result.stdout.splitlines()[-1])
    return made


def child(role: str, addresses: dict[str, Any], plan: Plan, folder: Path) -> None:
    """Run one role in this process and print its result."""
    if role == "load":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if plan.mixed:
            from benchmarks import mixed

            uvloop.run(mixed.serve(plan))
        else:
            uvloop.run(serve(plan, folder))
    elif role == "floor":
        print(orjson.dumps(uvloop.run((mixed_floor if plan.mixed else floor)(addresses, plan))).decode())
    else:
        with tempfile.TemporaryDirectory(prefix="sqfd-ingest-") as state:
            print(orjson.dumps(uvloop.run(daemon(addresses, plan, Path(state)))).decode())


def roles(case: str, plan: Plan, peers: str) -> dict[str, Plan]:
    """Who takes part in a case, and with how many trades."""
    found = {"floor": plan, "daemon": plan}
    if plan.exchange == "BINANCE" and not plan.tls and peers:
        for peer, trades in PEERS.items():
            if not plan.rate_hz:
                found[peer] = msgspec.structs.replace(plan, trades=trades)
            elif plan.rate_hz <= PEERS_KEEP_UP_HZ[peer]:
                found[peer] = plan
    return found


def run(case: str, plan: Plan, runs: int, folder: Path, peers: str) -> list[dict[str, Any]]:
    """Interleaved runs of one case, as rows of the table."""
    taking = roles(case, plan, peers)
    found: dict[str, list[dict[str, Any]]] = {role: [] for role in taking}
    with ExitStack() as stack:
        loads = {given: stack.enter_context(loading(given, folder)) for given in dict.fromkeys(taking.values())}
        for _ in range(runs):
            for role, given in list(taking.items()):
                result = measured(role, given, loads[given], folder, peers)
                if "absent" in result:
                    print(f"SKIPPED: {role} is not installed for {peers} (the extra `peers`)", flush=True)
                    del taking[role]
                else:
                    found[role].append(result)
    costs = {role: [1e6 * one["cpu_s"] / one["trades"] for one in given] for role, given in found.items() if given}
    base = float(np.median(costs["floor"]))
    rows = []
    for role, each in costs.items():
        done = found[role]
        lost = taking[role].trades - min(one["trades"] for one in done) if role in PEERS else 0
        rows.append(
            {
                "case": case,
                "path": role,
                "µs CPU a trade": round(float(np.median(each)), 2),
                "min": round(min(each), 2),
                "max": round(max(each), 2),
                "× floor": round(float(np.median(each)) / base, 2),
                "CPU %": round(float(np.median([100 * one["cpu_s"] / one["wall_s"] for one in done])), 1),
                "lag p99 ms": round(float(np.median([one["lag_ms"] for one in done])), 1) if plan.rate_hz else None,
                "lost": lost,
            }
        )
    return rows


def main(cases: dict[str, Plan] = CASES, name: str = "ingest", what: str = "as fast as they are taken") -> None:
    """Interleave the roles of every case and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--case", action="append", choices=list(cases))
    parser.add_argument(
        "--peers", default=os.environ.get("SQFD_PEERS_PYTHON", sys.executable), help="their interpreter"
    )
    parser.add_argument("--plan", default="{}")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--role", choices=("load", "floor", "daemon"))
    parser.add_argument("--addresses", default="{}")
    options = parser.parse_args()
    if options.role:
        plan = msgspec.json.decode(options.plan, type=Plan)
        child(options.role, orjson.loads(options.addresses), plan, options.folder)
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="sqfd-ingest-") as folder:
        certificate(Path(folder))
        for case in options.case or cases:
            made = run(case, cases[case], options.runs, Path(folder), options.peers)
            print("\n".join(f"{row['case']}: {row['path']} {row['µs CPU a trade']} µs" for row in made), flush=True)
            rows += made
    report(name, f"{name}: CPU of a trade from the socket to its bar, {what}; {options.runs} runs", rows)


if __name__ == "__main__":
    main()
