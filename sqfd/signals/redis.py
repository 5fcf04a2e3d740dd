"""Signals to Redis: the stream first, because a PUBLISH "succeeds" where nobody keeps it (replica, MISCONF, maxmemory).

For each signal, in order: XADD with an explicit id; when the stream has it, one pipeline with both channels and the keys. An
id that the stream refuses as "equal or smaller" means delivered, if the stream holds the signal; another instance on the
same Redis may also have gone ahead, and then the signal is added behind.

A signal is at most once in the stream. On the channels it is sent once: where the answer to the pipeline is lost, it is not
sent again (a trader must not act twice); consumers that care read the stream.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from sqfd.clock import Clock
from sqfd.ending import still_wanted
from sqfd.journal.records import JournaledSignal
from sqfd.lean import structlog
from sqfd.signals.envelope import with_envelope
from sqfd.signals.settings import RedisSettings

SINK = "redis"
STREAM = "sqfd:signals"
CHANNELS = ("signals", "squeezeflow:signals")
HEARTBEAT = "sqfd:heartbeat"
DAY_S = 86_400
MAX_PENDING = 1_000
KEPT_S = 0.5
"""A signal waits this long for the journal to have it, so that the next process knows what traders were told. A disk that refuses
or hangs holds up nothing else."""
STOPPED_S = 0.1
"""A wait that ends so late: nothing ran meanwhile, the journal's thread as little as the loop."""
_NOT_NEWER = "equal or smaller"

log = structlog.get_logger("redis")


class Source(Protocol):
    """What the publisher needs of the journal."""

    async def unpublished(self, sink: str, limit: int = ...) -> list[JournaledSignal]: ...

    async def mark(self, sink: str, outcomes: Mapping[str, str]) -> None: ...

    async def kept(self, tick: int) -> None: ...


def connect(settings: RedisSettings) -> Redis:
    """A client without retries of its own: those block for 14.6 s on a hung server and then deliver twice."""
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": 4,
    }
    if settings.username:
        options["username"] = settings.username
    if settings.password:
        options["password"] = settings.password
    return Redis.from_url(settings.address, **options)


class RedisPublisher:
    """Publishes signals and heartbeats; its absence delays nothing but itself."""

    def __init__(
        self,
        settings: RedisSettings,
        source: Source,
        clock: Clock,
        *,
        instance: str = "sqfd",
        heartbeat: Callable[[], Mapping[str, Any]] = dict,
        redis: Redis | None = None,
    ) -> None:
        self._settings, self._source, self._clock, self._instance = settings, source, clock, instance
        self._heartbeat = heartbeat
        self._redis = connect(settings) if redis is None else redis
        self._pending: deque[JournaledSignal] = deque()
        """What is delivered next, in order."""
        self._waiting: deque[JournaledSignal] = deque()
        """What was offered while older signals were still to be read from the journal."""
        self._left: JournaledSignal | None = None
        """The newest of those that left memory to be read from the journal."""
        self._reread = True
        self._arrived = asyncio.Event()
        self._published = asyncio.Event()
        self._unknown: set[str] = set()
        """Signals of which an answer was lost: they may be in the stream."""
        self._process = f"{random.getrandbits(64):016x}"
        """Tells this process' entries in the stream from those of one before it."""
        self._unmarked: dict[str, str] = {}
        self._failures = 0
        self._down: str | None = None
        self.counters: Counter[str] = Counter()
        self.last_seq = 0
        """Number of the newest signal that Redis has."""

    def offer(self, signals: Sequence[JournaledSignal]) -> None:
        """Hand over signals that were just appended to the journal, numbered. Never waits.

        Beyond MAX_PENDING the oldest leave memory and are read from the journal when Redis is back.
        """
        if not self._reread and len(self._pending) + len(signals) > MAX_PENDING:
            self._waiting, self._pending, self._reread = self._pending, deque(), True
        (self._waiting if self._reread else self._pending).extend(signals)
        while len(self._waiting) > MAX_PENDING:
            self._left = self._waiting.popleft()
        if signals:
            self._arrived.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._deliver(), name="redis-signals")
                group.create_task(self._keep_up_marks(), name="redis-marks")
                group.create_task(self._beat(), name="redis-heartbeat")
        finally:
            await self._redis.aclose()

    def status(self) -> dict[str, Any]:
        """For health and metrics."""
        return {
            "state": "ok" if self._down is None else "retry",
            "why": self._down,
            "pending": len(self._pending),
            "last_seq": self.last_seq,
            "counters": dict(self.counters),
        }

    # --- signals

    async def _deliver(self) -> None:
        while True:
            still_wanted()
            if self._pending:
                await self._deliver_first()
            elif self._reread:
                await self._read_journal()
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _read_journal(self) -> None:
        """Take what the journal still has for us, and behind the last of it what waits in memory: in order, each once."""
        left = self._left
        try:
            await self._keep_marks()
            if left is not None:
                await self._source.kept(left.tick)  # not before: what only its queue has would be passed over
            missed = await self._source.unpublished(SINK, MAX_PENDING)
        except sqlite3.Error as error:
            await self._back_off(f"journal: {error}")
            return
        fresh = [signal for signal in missed if signal.seq > self.last_seq]
        self._pending.extend(fresh)
        if len(missed) < MAX_PENDING and self._left is left:
            last = fresh[-1].seq if fresh else self.last_seq
            if left is not None and left.seq > last:
                self._pass_over(left.seq - last)
            self._left = None
            self._pending.extend(signal for signal in self._waiting if signal.seq > last)
            self._waiting.clear()
            self._reread = False

    def _pass_over(self, count: int) -> None:
        """The disk refuses too: these are neither here nor in the file; the newer ones must not wait for it."""
        self.counters["passed_over"] += count
        log.error("the journal has not kept signals that Redis missed: the next start delivers them", signals=count)

    async def _deliver_first(self) -> None:
        signal = self._pending[0]
        await self._until_kept(signal.tick)
        try:
            outcome = await self._publish(signal)
        except (RedisError, OSError) as error:
            await self._back_off(f"{type(error).__name__}: {error}")
            return
        self._up()
        if self._pending and self._pending[0] is signal:
            self._pending.popleft()
        self.last_seq = max(self.last_seq, signal.seq)
        self.counters[outcome] += 1
        self._unmarked[signal.signal_id] = outcome
        self._published.set()

    async def _until_kept(self, tick: int) -> None:
        """Wait for the journal, but not for ever. A process that was stopped meanwhile has not waited: once more, then."""
        for _ in range(2):
            began_ms = self._clock.now_ms()
            try:
                async with asyncio.timeout(KEPT_S):
                    await self._source.kept(tick)
                return
            except TimeoutError:
                if self._clock.now_ms() - began_ms < 1e3 * (KEPT_S + STOPPED_S):
                    break
        self.counters["before_the_journal"] += 1

    async def _publish(self, signal: JournaledSignal) -> str:
        """What became of the signal; raises where Redis did not take it, and then it stays first in line."""
        if self._clock.now_ms() > signal.valid_until_s * 1e3:
            return "expired"
        line = with_envelope(signal, self._clock.wall_ms(), self._clock.now_ms())
        try:
            ours = await self._add(signal, line)
        except ResponseError:
            raise  # an answer: it is certainly not in the stream
        except (RedisError, OSError):
            self._unknown.add(signal.signal_id)
            raise
        self._unknown.discard(signal.signal_id)
        if not ours:
            return "already_there"  # an earlier process delivered it
        return await self._announce(signal, line)

    async def _add(self, signal: JournaledSignal, line: bytes) -> bool:
        """Add to the stream; False where an earlier process had added it."""
        entry = {"signal": line, "signal_id": signal.signal_id, "instance": self._instance, "process": self._process}
        own_id = f"{signal.tick * 1000}-{signal.seq}"
        try:
            await self._xadd(entry, own_id)
        except ResponseError as error:
            if _NOT_NEWER not in str(error):
                raise
            process = await self._process_that_added(signal, own_id)
            if process is not None:
                return process == self._process
            await self._xadd(entry, "*")
            self.counters["behind_another_instance"] += 1
        return True

    async def _xadd(self, entry: dict[str, Any], entry_id: str) -> None:
        length = self._settings.stream_length
        await self._redis.xadd(STREAM, entry, id=entry_id, maxlen=length, approximate=True)  # type: ignore[arg-type]  # redis-py's dict is invariant

    async def _process_that_added(self, signal: JournaledSignal, own_id: str) -> str | None:
        """Whose the stream's entry of this signal is, at its id or behind; None: it has none.

        Ours: an earlier attempt, whose answer was lost. Another's: it was killed before its journal noted the signal, and has
        announced it, or was just about to. Without the right to look, its id must do, and whether an answer was lost here.
        """
        try:
            entries = await self._redis.xrange(STREAM, min=own_id)
        except NoPermissionError:
            self.counters["assumed_there"] += 1
            return self._process if signal.signal_id in self._unknown else ""
        wanted = signal.signal_id.encode()
        found: list[dict[Any, Any]] = [fields for _entry_id, fields in entries or () if fields]
        processes = [fields.get(b"process", b"") for fields in found if fields.get(b"signal_id") == wanted]
        return str(processes[0], "ascii") if processes else None

    async def _announce(self, signal: JournaledSignal, line: bytes) -> str:
        """Channels and keys, in one pipeline, sent once."""
        pipe = self._redis.pipeline(transaction=False)
        for channel in CHANNELS:
            pipe.publish(channel, line)
        history = f"squeezeflow:history:{signal.symbol}"
        pipe.set(f"squeezeflow:signal:{signal.symbol}", line, ex=self._settings.ttl_s)
        pipe.lpush(history, line)
        pipe.ltrim(history, 0, self._settings.history_length - 1)
        pipe.expire(history, DAY_S)
        if signal.cvd:
            pipe.set(f"signal_cvd:{signal.signal_id}", signal.cvd, ex=DAY_S)
        try:
            results = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            log.warning(
                "signal is in the stream, its announcement is not confirmed", id=signal.signal_id, error=str(error)
            )
            return "announced_unconfirmed"
        failed = [str(result) for result in results if isinstance(result, Exception)]
        if failed:
            log.warning("signal is in the stream, not in all keys", id=signal.signal_id, errors=failed[:3])
            self.counters["key_errors"] += len(failed)
        return "published"

    async def _keep_up_marks(self) -> None:
        """Note in the journal what was published, beside the publishing: the next signal does not wait for the disk.

        Where the disk refuses, or this process is killed first, the stream still knows.
        """
        while True:
            await self._published.wait()
            self._published.clear()
            try:
                await self._keep_marks()
            except sqlite3.Error:
                self.counters["mark_not_kept"] += 1
                while len(self._unmarked) > MAX_PENDING:
                    self._unmarked.pop(next(iter(self._unmarked)))

    async def _keep_marks(self) -> None:
        if told := dict(self._unmarked):
            await self._source.mark(SINK, told)
            for signal_id in told:
                self._unmarked.pop(signal_id, None)

    async def _back_off(self, why: str) -> None:
        self._say_down(why)
        self.counters["failures"] += 1
        longest = min(self._settings.backoff_max_s, self._settings.backoff_min_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        await self._clock.sleep(longest * (0.5 + 0.5 * random.random()))

    def _say_down(self, why: str) -> None:
        if self._down is None:
            log.error("Redis takes no signals", why=why)
        self._down = why

    def _up(self) -> None:
        if self._down is not None:
            log.info("Redis takes signals again", failures=self._failures, pending=len(self._pending))
        self._down, self._failures = None, 0

    # --- heartbeat

    async def _beat(self) -> None:
        """Silence means "dead", not "no signal". While there is no signal, it is what tells that Redis is away, and back."""
        while True:
            still_wanted()
            line = orjson.dumps({"instance": self._instance, **self._heartbeat()})
            try:
                await self._redis.publish(HEARTBEAT, line)
                self.counters["heartbeats"] += 1
                if not (self._pending or self._reread):
                    self._up()
            except (RedisError, OSError) as error:
                self.counters["heartbeats_failed"] += 1
                self._say_down(str(error) or type(error).__name__)
            await self._clock.sleep(self._settings.heartbeat_s)
