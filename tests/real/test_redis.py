"""Redis as it really answers: what subscribers and keys get, and that no refusal loses or repeats a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
import threading
import time
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from sqfd.clock import SystemClock
from sqfd.journal.journal import Journal
from sqfd.signals.redis import KEPT_S, STOPPED_S, STREAM, RedisPublisher
from sqfd.signals.settings import RedisSettings
from sqfd.wiring import journaled
from tests.backtest.paper import signal as made
from tests.journal.rows import bars, flow, refused, signal
from tests.real.servers import RedisServer, binary
from tests.waiting import PATIENCE_S, eventually, until


class Bench:
    """A journal, a publisher on a real server, and a client of our own beside it."""

    def __init__(self, server, journal, **options):
        settings = RedisSettings(port=server.port, timeout_s=0.2, backoff_max_s=0.2, heartbeat_s=0.2)
        self.server, self.journal = server, journal
        self.redis = Redis(port=server.port)
        self.publisher = RedisPublisher(settings, journal, SystemClock(), **options)
        self.tick = int(time.time())
        self.task: Any = None

    def start(self):
        self.task = asyncio.create_task(self.publisher.run())

    async def stop(self):
        assert not self.task.done(), self.task.exception()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    def give(self, *numbers, valid_s=600, offer=True):
        for number in numbers:
            (one,) = self.journal.number([signal(number, tick=self.tick, valid_s=valid_s)])
            self.journal.append(self.tick, bars(), flow(), [one])
            self.tick += 1
            if offer:
                self.publisher.offer([one])

    async def stream(self):
        entries: Any = await self.redis.xrange(STREAM)
        return [entry[b"signal_id"].decode() for _id, entry in entries]

    def counted(self, name):
        def reached(count):
            assert not self.task.done(), self.task.exception()
            return self.publisher.counters[name] >= count

        return lambda count: eventually(lambda: reached(count))


@pytest.fixture
async def journal(tmp_path):
    journal = await Journal.open(tmp_path / "state", bulk=True)
    await journal.register([], [])
    yield journal
    await journal.close()


@pytest.fixture
async def bench(redis_server, journal):
    bench = Bench(redis_server, journal, heartbeat=lambda: {"second": 7})
    await bench.redis.flushall()
    await bench.redis.config_set("maxmemory", 0)
    bench.start()
    yield bench
    await bench.stop()
    await bench.redis.aclose()


def ids(*numbers):
    return [f"id-{number}" for number in numbers]


async def test_a_subscriber_gets_the_line_and_all_keys_are_there(bench):
    """`redis-cli SUBSCRIBE signals` prints the JSON line; stream, keys and times to live are as documented."""
    command = (binary("redis-cli"), "-p", str(bench.server.port), "SUBSCRIBE", "signals", "squeezeflow:signals")
    cli: Any = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        for _ in range(6):  # two confirmations of three lines
            await asyncio.wait_for(cli.stdout.readline(), PATIENCE_S)
        bench.give(1)
        printed = [(await asyncio.wait_for(cli.stdout.readline(), PATIENCE_S)).decode().rstrip() for _ in range(6)]
    finally:
        cli.kill()
        await cli.wait()
    lines = [line for line in printed if line.startswith("{")]
    await bench.counted("published")(1)
    assert len(lines) == 2
    assert lines[0] == lines[1]
    line = orjson.loads(lines[0])
    assert list(line)[-3:] == ["seq", "published_at", "latency_ms"]
    assert (line["signal_id"], line["seq"], line["published_at"][-6:]) == ("id-1", 1, "+00:00")
    raw = lines[0].encode()
    assert await bench.redis.get("squeezeflow:signal:BTCUSDT") == raw
    assert await bench.redis.lrange("squeezeflow:history:BTCUSDT", 0, -1) == [raw]
    assert await bench.redis.get("signal_cvd:id-1") == b'{"spot_cvd":1}'
    ((_id, entry),) = await bench.redis.xrange(STREAM)
    assert len(entry.pop(b"process")) == 16
    assert entry == {b"signal": raw, b"signal_id": b"id-1", b"instance": b"sqfd"}
    for key, most in (
        ("squeezeflow:signal:BTCUSDT", 600),
        ("squeezeflow:history:BTCUSDT", 86400),
        ("signal_cvd:id-1", 86400),
    ):
        assert most - 5 <= await bench.redis.ttl(key) <= most
    assert await bench.journal.unpublished("redis") == []


async def test_heartbeats_come_without_signals(bench):
    """Silence means dead: the heartbeat has the instance and what the daemon adds."""
    async with bench.redis.pubsub() as listener:
        await listener.subscribe("sqfd:heartbeat")
        beat = None
        while beat is None or beat["type"] != "message":
            beat = await listener.get_message(timeout=PATIENCE_S)
    assert orjson.loads(beat["data"]) == {"instance": "sqfd", "second": 7}


async def test_an_outage_is_caught_up_in_order(bench):
    """kill -9 and a start: each signal once, in order; those past their time are counted, not published."""
    bench.give(1)
    await bench.counted("published")(1)
    await asyncio.to_thread(bench.server.kill)
    bench.give(2, 3)
    bench.give(4, valid_s=-60)
    bench.give(5)
    await bench.counted("failures")(2)
    await asyncio.to_thread(bench.server.start)
    await bench.counted("published")(4)
    assert await bench.stream() == ids(1, 2, 3, 5)
    assert bench.publisher.counters["expired"] == 1
    assert await bench.journal.unpublished("redis") == []


async def test_a_position_gets_its_close_however_late(bench):
    """An outage of hours: an entry has expired by then, the CLOSE of a position is published all the same, with its own time."""
    await asyncio.to_thread(bench.server.kill)
    hours_ago = bench.tick - 3 * 3_600
    entry, close = made("BTC", hours_ago, "LONG", "LONG", 1), made("ETH", hours_ago + 1, "CLOSE", "LONG", 2)
    for one in (entry, close):
        (numbered,) = bench.journal.number([journaled(one)])
        bench.journal.append(one.second + 1, bars(), flow(), [numbered])
        bench.publisher.offer([numbered])
    await bench.counted("failures")(1)
    await asyncio.to_thread(bench.server.start)
    await bench.counted("published")(1)
    assert bench.publisher.counters["expired"] == 1
    ((_, told),) = await bench.redis.xrange(STREAM)
    line = orjson.loads(told[b"signal"])
    assert (line["action"], line["position_id"]) == ("CLOSE", "ETH-2")
    assert line["latency_ms"] > 3_000_000


async def test_a_server_that_hangs_gets_each_signal_once(bench):
    """SIGSTOP in the middle: the time-out leaves the answer unknown, and the stream still has each signal once."""
    bench.give(1)
    await bench.counted("published")(1)
    bench.server.send(signals.SIGSTOP)
    try:
        bench.give(2, 3)
        await bench.counted("failures")(3)
    finally:
        bench.server.send(signals.SIGCONT)
    await bench.counted("published")(3)
    assert await bench.stream() == ids(1, 2, 3)
    assert len(await bench.redis.lrange("squeezeflow:history:BTCUSDT", 0, -1)) == 3


async def refuse_as_replica(bench):
    await bench.redis.execute_command("REPLICAOF", "127.0.0.1", "1")


async def accept_as_master(bench):
    await bench.redis.execute_command("REPLICAOF", "NO", "ONE")


async def refuse_for_memory(bench):
    await bench.redis.config_set("maxmemory", 1)


async def accept_with_memory(bench):
    await bench.redis.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("refuse", "accept"),
    [
        pytest.param(refuse_as_replica, accept_as_master, id="replica"),
        pytest.param(refuse_for_memory, accept_with_memory, id="maxmemory"),
    ],
)
async def test_a_server_that_takes_no_writes_loses_nothing(bench, refuse, accept):
    """PUBLISH succeeds there; nothing is published before the stream has it, and all is afterwards."""
    async with bench.redis.pubsub() as listener:
        await listener.subscribe("signals")
        assert (await listener.get_message(timeout=PATIENCE_S))["type"] == "subscribe"
        await refuse(bench)
        bench.give(1, 2)
        await bench.counted("failures")(2)
        assert await listener.get_message(timeout=0.1) is None
        await accept(bench)
        await bench.counted("published")(2)
        got = [await listener.get_message(timeout=PATIENCE_S) for _ in range(2)]
    assert [orjson.loads(message["data"])["signal_id"] for message in got] == ids(1, 2)
    assert await bench.stream() == ids(1, 2)


async def test_misconf_loses_nothing(tmp_path, journal):
    """A server that cannot save refuses writes (MISCONF) and still takes PUBLISH."""
    server = RedisServer(tmp_path, "--appendonly", "no", "--save", "3600", "1")
    server.start()
    bench = Bench(server, journal)
    try:
        (tmp_path / "dump.rdb").mkdir()
        await bench.redis.set("x", 1)
        await bench.redis.bgsave()
        for _ in range(100):
            if (await bench.redis.info("persistence"))["rdb_last_bgsave_status"] == "err":
                break
            await asyncio.sleep(0.05)
        bench.start()
        bench.give(1)
        await bench.counted("failures")(2)
        assert "MISCONF" in bench.publisher.status()["why"]
        (tmp_path / "dump.rdb").rmdir()
        await bench.redis.bgsave()
        await bench.counted("published")(1)
        assert await bench.stream() == ids(1)
        await bench.stop()
    finally:
        server.stop()
        await bench.redis.aclose()


async def test_a_restart_publishes_what_was_left_and_nothing_twice(bench):
    """What an earlier process delivered without noting it is recognised in the stream; what it did not, goes out."""
    await bench.stop()
    bench.give(1, 2, 3, offer=False)
    first, *_ = await bench.journal.unpublished("redis")
    entry = {"signal": first.line, "signal_id": first.signal_id}
    await bench.redis.xadd(STREAM, entry, id=f"{first.tick * 1000}-{first.seq}")
    bench.publisher = RedisPublisher(RedisSettings(port=bench.server.port), bench.journal, SystemClock())
    bench.start()
    await bench.counted("published")(2)
    assert await bench.stream() == ids(1, 2, 3)
    assert bench.publisher.counters["already_there"] == 1
    assert len(await bench.redis.lrange("squeezeflow:history:BTCUSDT", 0, -1)) == 2


async def test_what_an_earlier_process_announced_is_not_announced_after_a_lost_answer(bench):
    """Killed before its journal noted the signal; then Redis hangs while the next process asks: the entry is not its own."""
    bench.give(1)
    await bench.counted("published")(1)
    await bench.stop()
    await bench.journal.flush()
    (told,) = await bench.redis.lrange("squeezeflow:history:BTCUSDT", 0, -1)
    settings = RedisSettings(port=bench.server.port, timeout_s=0.2, backoff_max_s=0.2)
    bench.publisher = RedisPublisher(settings, bench.journal, SystemClock())
    bench.server.send(signals.SIGSTOP)
    try:
        bench.publisher.offer([signal(1, tick=bench.tick - 1)])
        bench.start()
        await bench.counted("failures")(2)
    finally:
        bench.server.send(signals.SIGCONT)
    await bench.counted("already_there")(1)
    assert await bench.stream() == ids(1)
    assert await bench.redis.lrange("squeezeflow:history:BTCUSDT", 0, -1) == [told]


async def test_another_instance_that_is_ahead_swallows_nothing(bench):
    """A shard on the same stream with a newer id must not make our older id look delivered."""
    await bench.redis.xadd(STREAM, {"signal": b"{}", "signal_id": "other"}, id=f"{(bench.tick + 100) * 1000}-0")
    bench.give(1, 2)
    await bench.counted("published")(2)
    assert await bench.stream() == ["other", *ids(1, 2)]
    assert bench.publisher.counters["behind_another_instance"] == 2


async def test_more_than_memory_holds_comes_from_the_journal(bench):
    """Redis is away while more signals arrive than wait in memory: all of them, once, in order."""
    await asyncio.to_thread(bench.server.kill)
    bench.give(*range(1, 2301))
    await bench.journal.flush()
    await asyncio.to_thread(bench.server.start)
    await eventually(lambda: bench.publisher.counters["published"] >= 2300)
    assert await bench.stream() == ids(*range(1, 2301))


async def test_what_the_journal_has_only_in_its_queue_is_waited_for(bench):
    """More signals at once than memory holds, when the journal's writer has just gone idle: none is passed over."""
    bench.give(1)
    until(lambda: bench.journal.written == bench.tick - 1)  # no turn of the loop: it would start the writer again
    bench.give(*range(2, 2301))
    await eventually(lambda: bench.publisher.counters["published"] >= 2300)
    assert await bench.stream() == ids(*range(1, 2301))


async def test_a_process_that_was_stopped_waits_for_its_journal_all_the_same(bench, monkeypatch):
    """Stopped for longer than a signal waits for the disk, journal and all: it is not told before it is kept."""
    goes_on, write_all = threading.Event(), bench.journal._store.write_all

    def slow(batches):
        goes_on.wait(PATIENCE_S)
        write_all(batches)

    monkeypatch.setattr(bench.journal._store, "write_all", slow)
    bench.give(1)
    await asyncio.sleep(0.05)  # it waits
    stopped_at = time.monotonic()
    until(lambda: time.monotonic() - stopped_at > KEPT_S + 2 * STOPPED_S)  # not a turn of the loop
    asyncio.get_running_loop().call_later(0.05, goes_on.set)
    await bench.counted("published")(1)
    assert bench.publisher.counters["before_the_journal"] == 0


async def test_a_disk_that_refuses_too_holds_up_only_what_left_memory(bench, monkeypatch):
    """Redis and the disk are away together: what memory holds is told, the rest counted, and told by the next start."""
    with monkeypatch.context() as broken:
        broken.setattr(bench.journal._store, "write_all", refused)
        bench.give(*range(1, 2301))
        await eventually(lambda: bench.publisher.counters["published"] >= 1000)
        assert await bench.stream() == ids(*range(1301, 2301))
        assert bench.publisher.counters["passed_over"] == 1300
    await eventually(lambda: bench.journal.fault is None)
    await bench.journal.flush()
    left = await bench.journal.unpublished("redis", 5000)
    assert [signal.signal_id for signal in left][:1300] == ids(*range(1, 1301))


async def test_the_documented_acl_is_enough(bench):
    """A user with these rights only publishes everything; without XRANGE an id that is taken counts as delivered."""
    await bench.stop()
    rights = ["+publish", "+xadd", "+set", "+lpush", "+ltrim", "+expire", "+ping", "+hello", "+client|setname"]
    places = ["&signals", "&squeezeflow:signals", "&sqfd:heartbeat", "~sqfd:*", "~squeezeflow:*", "~signal_cvd:*"]
    await bench.redis.execute_command("ACL", "SETUSER", "sqfd", "reset", "on", ">secret", *places, "-@all", *rights)
    settings = RedisSettings(port=bench.server.port, username="sqfd", password="secret")
    bench.publisher = RedisPublisher(settings, bench.journal, SystemClock())
    await bench.redis.xadd(STREAM, {"signal_id": "id-1"}, id=f"{bench.tick * 1000}-1")
    bench.start()
    bench.give(1, 2)
    await bench.counted("published")(1)
    assert await bench.stream() == ids(1, 2)
    assert bench.publisher.counters["assumed_there"] == 1
    assert bench.publisher.counters["key_errors"] == 0
    assert await bench.redis.exists("signal_cvd:id-2", "squeezeflow:signal:BTCUSDT", "squeezeflow:history:BTCUSDT") == 3
