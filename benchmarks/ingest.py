"""What a trade costs from the socket to its stored bar: the whole daemon against the floor of its building blocks, and its peers.

A load process (`benchmarks.load`) speaks an exchange's wire format on loopback. The *daemon* runs as it is (session, duplicates,
coverage, bars, closing, strategy, journal). The *floor* is picows + msgspec + one slotted bar per market and second, and nothing
else. The *peers* run where they are installed. All are pinned to one core, the loads to the other; every trade is counted. CPU
time counts from the first trade to the last.

A core of a shared machine has more than one speed: the same loop takes 0.9 or 1.65 ms of CPU time here, for a tenth of a second
or for five, whatever the other core does. So floor and daemon read flat out *at the same time on the same core*, each from a load of
its own: the scheduler interleaves them every few milliseconds, and both meet the same speeds. `× floor` is the median of the rounds'
own ratios. Paced cases, and peers, run one after the other. `mixed`: all exchanges at once, each in its own wire form, beside
the simplest reading of each (`benchmarks.mixed`, `benchmarks.wires`).

    python -m benchmarks.ingest [--runs 5] [--case plain …] [--peers /path/to/python]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
from benchmarks.load import READY, SETTLE_S, SYMBOLS, Plan, certificate, collecting, serve, started
from benchmarks.wires import BybitTrades, Combined, SlottedBar

PACED_S = 1.0
CASES = {
    "plain": Plan(trades=150_000),
    "batched": Plan("BYBIT", 300_000, batch=10),
    "TLS": Plan(trades=60_000, tls=True),
    "mixed": Plan("", trades=80_000, mixed=True),
    "mixed, TLS": Plan("", trades=60_000, mixed=True, tls=True),
}
BY_NAME = frozenset({"mixed, TLS"})
"""Cases that run only where they are named: all together must end in time."""
PACED = {
    "1k/s": Plan(trades=int(1_000 * PACED_S), rate_hz=1_000),
    "10k/s": Plan(trades=int(10_000 * PACED_S), rate_hz=10_000),
    "50k/s": Plan(trades=int(50_000 * PACED_S), rate_hz=50_000),
}
OURS = ("floor", "daemon")
PEERS = {"cryptofeed": 40_000, "nautilus_trader": 10_000, "ccxt": 8_000}
"""Trades that a peer gets flat out: it needs longer for them than we for ours."""
PEERS_KEEP_UP_HZ = {"cryptofeed": 10_000, "nautilus_trader": 10_000, "ccxt": 1_000}
"""A peer is not asked for more than this when paced."""
SAMPLE = 16
CORE = max(os.sched_getaffinity(0))
"""Of what is measured."""


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
    transport, _ = await ws_connect(lambda: listener, url)
    exchange = exchanges.get(plan.exchange)
    topics = [stream.topic for symbol in SYMBOLS for stream in exchange.streams(exchange.assume(symbol), False)]
    traded = {symbol: exchange.assume(symbol) for symbol in SYMBOLS}
    decoder = exchange.decoder(traded[SYMBOLS[0]].endpoint, traded)
    for frame in decoder.subscribe(topics, 0):
        transport.send(WSMsgType.TEXT, frame)
    print(READY, flush=True)
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
    print(READY, flush=True)
    feeds = running._collector.intake.markets.values()
    while not any(feed.aggregated for feed in feeds):  # noqa: ASYNC110  # nothing tells of the first trade
        await asyncio.sleep(0.001)
    begun, before = (time.process_time(), time.monotonic()), running.counts().aggregated
    delays: list[float] = []
    while sum(feed.aggregated for feed in feeds) < plan.trades:  # looking costs the daemon: no more than this
        await asyncio.sleep(0.02)
        if plan.rate_hz:
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
def loading(plan: Plan, folder: Path, count: int = 1) -> Iterator[list[str]]:
    """That many load processes; their addresses as JSON. Every connection gets all trades from the first."""
    command = [sys.executable, *_told(plan, folder), "load"]
    loads = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        yield [load.stdout.readline() for load in loads if load.stdout is not None]
    finally:
        for load in loads:
            load.kill()
            load.communicate()


def begun(role: str, plan: Plan, addresses: str, folder: Path, peers: str) -> subprocess.Popen[str]:
    """One run of one role against that load, on the core of what is measured; one that waits for a gate begins on any."""
    if role in PEERS:
        command = [peers, str(Path(__file__).with_name("peers.py")), role, addresses, str(plan.trades)]
    else:
        command = [sys.executable, *_told(plan, folder), role, "--addresses", addresses]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ({"SSL_CERT_FILE": str(folder / "cert.pem")} if plan.tls else {}),
        preexec_fn=None if plan.gate else lambda: os.sched_setaffinity(0, {CORE}),
    )


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it measured, which is its last line."""
    told, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    made: dict[str, Any] = orjson.loads(told.splitlines()[-1])
    return made


def together(processes: Sequence[subprocess.Popen[str]], gate: Path) -> list[dict[str, Any]]:
    """What these measured: their loads begin when all of them are ready."""
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY:
                raise RuntimeError(f"{process.args!r}: ended before it was ready")
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {CORE})
        time.sleep(SETTLE_S)
        gate.touch()
        return [ended(process) for process in processes]
    finally:
        gate.unlink(missing_ok=True)
        for process in processes:
            process.kill()
            process.wait()


def child(role: str, addresses: dict[str, Any], plan: Plan, folder: Path) -> None:
    """Run one role in this process and print its result."""
    if role == "load":
        if plan.mixed:
            from benchmarks import mixed

            uvloop.run(mixed.serve(plan, folder))
        else:
            uvloop.run(serve(plan, folder))
    elif role == "floor":
        print(orjson.dumps(uvloop.run((mixed_floor if plan.mixed else floor)(addresses, plan))).decode())
    else:
        with tempfile.TemporaryDirectory(prefix="sqfd-ingest-") as state:
            print(orjson.dumps(uvloop.run(daemon(addresses, plan, Path(state)))).decode())


def peers_of(plan: Plan, peers: str) -> dict[str, Plan]:
    """Which peers take part in a case, and with how many trades."""
    if plan.exchange != "BINANCE" or plan.tls or not peers:
        return {}
    if not plan.rate_hz:
        return {peer: msgspec.structs.replace(plan, trades=trades) for peer, trades in PEERS.items()}
    return {peer: plan for peer in PEERS if plan.rate_hz <= PEERS_KEEP_UP_HZ[peer]}


def run(case: str, plan: Plan, runs: int, folder: Path, peers: str) -> list[dict[str, Any]]:
    """Interleaved runs of one case, as rows of the table."""
    found: dict[str, list[dict[str, Any]]] = {role: [] for role in OURS}
    others = peers_of(plan, peers)
    gate = folder / "gate"
    with ExitStack() as stack:
        if plan.rate_hz:
            (load,) = stack.enter_context(loading(plan, folder))
        else:
            gated = msgspec.structs.replace(plan, gate=str(gate))
            loads = stack.enter_context(loading(gated, folder, len(OURS)))
        peer_loads = {given: stack.enter_context(loading(given, folder))[0] for given in dict.fromkeys(others.values())}
        for _ in range(runs):
            if plan.rate_hz:
                made = [ended(begun(role, plan, load, folder, peers)) for role in OURS]
            else:
                pairs = zip(OURS, loads, strict=True)
                made = together([begun(role, gated, at, folder, peers) for role, at in pairs], gate)
            for role, result in zip(OURS, made, strict=True):
                found[role].append(result)
            for peer, given in list(others.items()):
                result = ended(begun(peer, given, peer_loads[given], folder, peers))
                if "absent" in result:
                    print(f"SKIPPED: {peer} is not installed for {peers} (the extra `peers`)", flush=True)
                    del others[peer]
                else:
                    found.setdefault(peer, []).append(result)
    return [row(case, role, done, found["floor"], plan) for role, done in found.items()]


def row(
    case: str, role: str, done: Sequence[dict[str, Any]], floors: Sequence[dict[str, Any]], plan: Plan
) -> dict[str, Any]:
    """A line of the table: medians over the rounds, and between which values they lie."""
    costs = _costs(done)
    ratios = [cost / floor for cost, floor in zip(costs, _costs(floors), strict=True)]
    of_all = PEERS[role] if role in PEERS and not plan.rate_hz else plan.trades
    shares = [100 * one["cpu_s"] / one["wall_s"] for one in done]
    return {
        "case": case,
        "path": role,
        "µs CPU a trade": round(float(np.median(costs)), 2),
        "min": round(min(costs), 2),
        "max": round(max(costs), 2),
        "× floor": round(float(np.median(ratios)), 2),
        "× least": round(min(ratios), 2),
        "× most": round(max(ratios), 2),
        "CPU %": round(float(np.median(shares)), 1) if plan.rate_hz else None,
        "lag p99 ms": round(float(np.median([one["lag_ms"] for one in done])), 1) if plan.rate_hz else None,
        "lost": of_all - min(one["trades"] for one in done) if role in PEERS else 0,
    }


def _costs(done: Sequence[dict[str, Any]]) -> list[float]:
    return [1e6 * one["cpu_s"] / one["trades"] for one in done]


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
        for case in options.case or [case for case in cases if case not in BY_NAME]:
            made = run(case, cases[case], options.runs, Path(folder), options.peers)
            print("\n".join(f"{row['case']}: {row['path']} {row['µs CPU a trade']} µs" for row in made), flush=True)
            rows += made
    report(name, f"{name}: CPU of a trade from the socket to its bar, {what}; {options.runs} runs", rows)


if __name__ == "__main__":
    main()
