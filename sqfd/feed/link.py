"""One connection at work: a `Session` and its transport, ticked a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from exchanges.api import Event, Exchange
from sqfd.clock import Clock
from sqfd.feed.intake import Intake, MarketFeed, Source
from sqfd.feed.liveness import OTHERS, connection_proof_s, market_proof_s
from sqfd.feed.looks import Looks
from sqfd.feed.record import RecordFile
from sqfd.feed.session import Notice, Session, Topic
from sqfd.feed.settings import FeedSettings
from sqfd.feed.transport import Closed, Connection

TICK_S = 0.25
PACE_S = 1.0
SETTLED_S = 10.0
"""A connection that is younger is read as its frames come."""
STALLED_S = 3.0
"""Looks at the time that are further apart: this process was stopped, and what came meanwhile is not read yet."""
PROBE_S = 10.0
"""A connection that brings nothing for so long is asked by a ping. One that answered an earlier ping, and brings nothing for as long
again, is half open."""
SPARSE_HZ = 12.0
"""A connection with fewer frames a second is sparse,"""
SPARSE_S = 3.0
"""…unless one of its markets was silent for so long: silence is judged by what has been read."""
EARLY_MS = 100.0
"""Looks come a little early or late."""
FRAMES = 20
"""Looks with new frames after which the longest pause between them means something,"""
FRAMES_PAUSES = 3.0
"""…and a pause this many times as long,"""
FRAMES_MIN_S = 30.0
"""…and no shorter than this, means that nothing comes any more: heartbeats prove no market, but their absence is a sign."""

Feeds = list[tuple[Topic, MarketFeed]]


class Link:
    """Carries streams from `start` until it has `ended`. Knows nothing of other connections."""

    def __init__(
        self,
        exchange: Exchange,
        session: Session,
        source: Source,
        intake: Intake,
        settings: FeedSettings,
        clock: Clock,
        looks: Looks,
        log: Any,
        record: RecordFile | None = None,
    ) -> None:
        self.session = session
        self.source = source
        self.sparse = False
        """So little comes that it is read just before a second closes, and not in the middle of it."""
        self.ended: Closed | None = None
        """How it ended."""
        self._exchange = exchange
        self._intake = intake
        self._settings = settings
        self._clock = clock
        self._looks = looks
        self._log = log
        self._record = record
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()
        self._silent: str | None = None
        """Why it must be given up."""
        self._failed: Exception | None = None
        """What went wrong in a tick that was not its task's."""
        self._paced_ms = 0.0
        self._frames = 0
        """Taken of those that were read together."""
        self._now_ms = 0.0
        """When they were read."""
        self._recv_ms = 0
        self._calm = False
        """It is read at the looks, not as each of its frames comes."""
        self._held = False
        """What comes waits for the next look."""
        self._frames_before = 0
        """At the last of its ticks that judged its pace."""
        self._frame_ms = session.frame_ms
        self._ticked_ms = session.created_ms
        self._pongs = 0
        self._ponged_ms = float("-inf")
        self._unanswered_s: float | None = None
        """How long a ping has waited for its answer; None while none is under way."""
        self._frame_looks = 0
        self._frame_pause_ms = 0.0

    # --- frames -----------------------------------------------------------------------------------------------------

    def on_frames(self, frames: Sequence[bytes], text: bool) -> None:
        """Everything that some frames cause, at once. Those that are read from the socket together share a time of arrival."""
        now_ms = self._now_ms if self._frames else self._begin()
        self._frames += len(frames)
        try:
            self.source.take(self.session.received(frames, self._recv_ms), now_ms, self._take_other)
            if self._record is not None:
                for frame in frames:
                    self._record.add(now_ms, frame, text)
        except Exception:
            self._log.exception("a frame could not be processed", frames=len(frames), frame=frames[0][:200])
            raise  # the transport ends this connection, and no other

    def _begin(self) -> float:
        """The first of several frames."""
        self._now_ms = now_ms = self._clock.now_ms()
        self._recv_ms = int(now_ms)
        return now_ms

    def _take_other(self, event: Event, now_ms: float) -> None:
        """What is no trade."""
        if self.session.handle(event, now_ms):
            self._intake.take_other(self.source, event, now_ms)
        elif self.session.pending:
            self._flush(now_ms)

    def on_end(self) -> None:
        """All that was read together was handed up."""
        if self._frames:
            self.source.settle(self._now_ms, self._held or (self._calm and self._looks.catching_up))
            self.session.heard(self._frames, self.source.data_ms == self._now_ms, self._now_ms)
            self._frames = 0
            if self._calm:
                self._rest()

    # --- being read now and then --------------------------------------------------------------------------------------

    def hold(self) -> None:
        """What comes waits for the next look."""
        if not self._held and self._looks.may_hold and self._connection is not None:
            self._held = True
            self._connection.hold()

    def _rest(self) -> None:
        """Something was read: the rest may wait, unless there was so much that it did not wait for the look."""
        if self._held and not self._looks.catching_up:
            self._calm_down(False)
        else:
            self.hold()

    def look(self) -> None:
        """Read what has come, and go on reading until something came."""
        if self._held and self._connection is not None:
            self._held = False
            self._connection.look()

    def tick(self) -> None:
        """Look at the time; while it is calm, once a second. Its task is woken where it has something to do."""
        if self.ended is None and self._connection is not None:
            try:
                self._tick(self._clock.now_ms())
            except Exception as error:  # noqa: BLE001  # nobody else's: its own task raises it
                self._failed = error
        if self._failed is not None or self._silent or self.session.replace is not None:
            self._woken.set()

    def _calm_down(self, calm: bool) -> None:
        self._calm = calm
        if calm:
            self._looks.calm[self] = None
        else:
            self._looks.calm.pop(self, None)
            self.look()
            self._woken.set()

    def _load(self, feeds: Feeds, now_ms: float) -> tuple[bool, bool]:
        """(calm: nothing is lost by a look now and then, as it carries data, little, stays, and nobody keeps its times of arrival;
        sparse: see SPARSE_HZ), since this was asked last."""
        session = self.session
        rate_hz = (session.frames - self._frames_before) / ((now_ms - self._paced_ms) / 1e3)
        self._frames_before = session.frames
        settled = session.opened_ms is not None and now_ms - session.opened_ms > SETTLED_S * 1e3
        stays = session.data_ms is not None and session.replace is None and self.ended is None
        calm = settled and stays and rate_hz < self._settings.calm_hz and self._record is None
        sparse = rate_hz < SPARSE_HZ and all(feed.recv_ms > now_ms - SPARSE_S * 1e3 for _, feed in feeds)
        return calm, sparse

    def _flush(self, now_ms: float) -> None:
        if self._connection is None:
            return
        for frame in self.session.to_send(now_ms):
            if frame is None:
                self._connection.ping()
            else:
                self._connection.send(frame)

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self, connection: Connection) -> None:
        """The connection is open."""
        self._connection = connection
        self.session.opened(self._clock.now_ms())
        name = f"link-{self._exchange.id}-{self.session.endpoint.name}"
        self._task = asyncio.create_task(self._run(connection), name=name)
        connection.closed.add_done_callback(lambda _: self._woken.set())
        self._task.add_done_callback(lambda _: self._changed.set())

    async def until_ended_or_replace(self) -> None:
        """Returns when it has ended, or wants to be replaced. Raises what went wrong in here."""
        while self.ended is None and self.session.replace is None:
            await self._wait()

    async def until_carrying(self, timeout_s: float) -> None:
        """Returns when every subscription that is not refused carries data, it has ended, or time is up."""
        until_ms = self._clock.now_ms() + timeout_s * 1e3
        while self.ended is None and self._clock.now_ms() < until_ms and not self.carrying:
            await self._wait()

    @property
    def carrying(self) -> bool:
        """Whether all that can be expected of it has arrived: trades, and answers where nothing may happen for hours.

        Liquidations may rightly be silent: their acknowledgement is all that can be waited for.
        """
        trades = set(self.session.trade_topics.values())
        if trades and self.session.data_ms is None:
            return False
        quiet = [topic for topic in self.session.topics.values() if topic not in trades]
        return all(topic.live or topic.state == "rejected" for topic in trades) and all(
            topic.state in ("acked", "rejected") for topic in quiet
        )

    async def close(self, reason: str) -> None:
        """End it; without effect when it has ended."""
        if self.ended is None and self._connection is not None:
            if self._held:
                self._calm_down(False)
                await self._looks.read()  # what has come is not lost with the connection
            self.ended = Closed(reason, by_us=True)
            await self._connection.close(self._settings.close_timeout_s)
        self._woken.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        if self._record is not None:
            self._record.close()

    async def _wait(self) -> None:
        """Until something changed, or the task behind it failed."""
        assert self._task is not None
        self._changed.clear()
        if not self._task.done():
            await self._changed.wait()
        if self._task.done():
            self._task.result()

    async def _run(self, connection: Connection) -> None:
        try:
            await self._tick_while_open(connection)
        finally:
            self._calm_down(False)

    async def _tick_while_open(self, connection: Connection) -> None:
        while self.ended is None:
            if connection.closed.done():
                self.on_end()  # what came last may have been cut short
                self.ended = connection.closed.result()
                break
            if self._failed is not None:
                raise self._failed
            if not self._calm:  # else the looks do it
                self._tick(self._clock.now_ms())
            if self._silent and self.ended is None:
                self.ended = Closed(self._silent, by_us=True)
                await connection.close(self._settings.close_timeout_s)
            if not self._calm or self.session.replace is not None:
                self._changed.set()
            if self._calm:
                await self._woken.wait()
            else:
                await self._clock.sleep(TICK_S)
            self._woken.clear()
        self._changed.set()

    def _tick(self, now_ms: float) -> None:
        session, feeds = self.session, self.feeds()
        elapsed_s, self._ticked_ms = (now_ms - self._ticked_ms) / 1e3, now_ms
        awake = elapsed_s < STALLED_S
        session.tick(now_ms)
        self._prove(feeds, now_ms)
        self._flush(now_ms)
        for notice in session.take_notices():
            self._tell(notice)
        if now_ms >= self._paced_ms + PACE_S * 1e3 - EARLY_MS:
            calm, self.sparse = self._load(feeds, now_ms)
            if calm is not self._calm:
                self._calm_down(calm)
            self._paced_ms = now_ms
            self._pace(feeds, now_ms)
            if awake:
                self._doubt(feeds, now_ms)
        self._silent = (self._silence(now_ms) or self._half_open(now_ms, elapsed_s)) if awake else None

    # --- what it proves -----------------------------------------------------------------------------------------------

    def feeds(self) -> Feeds:
        """The markets whose trades it carries."""
        feeds = self.source.feeds
        return [(topic, feeds[symbol]) for symbol, topic in self.session.trade_topics.items() if symbol in feeds]

    def exchange_ms(self, now_ms: float) -> float:
        """Local time → the exchange's, as the last trade had it."""
        return now_ms - (self.source.delay_ms or 0.0)

    def _prove(self, feeds: Feeds, now_ms: float) -> None:
        """Close the gap of markets that became live.

        A market that traded by this endpoint before, whose subscription is acknowledged, on a connection that carries
        data, is believed at once: quiet ones would stay in doubt for minutes otherwise. One that never traded, or fell
        silent here, must trade.
        """
        session = self.session
        for topic, feed in feeds:
            if topic.live_ms is not None and topic.data_ms is not None and feed.ledger.open is None:
                continue  # nearly always
            acked = topic.state == "acked" and not topic.doubts and not feed.refused
            if not topic.live and acked and feed.aggregated and session.data_ms:
                session.prove(feed.instrument.symbol, now_ms)
            if topic.live_ms is not None and feed.ledger.open is not None:
                # The latest moment that it can have been: what is called whole must be.
                feed.regain(topic.live_ms - (self.source.least_delay_ms or 0.0))

    def _pace(self, feeds: Feeds, now_ms: float) -> None:
        for topic, feed in feeds:
            if topic.live:
                feed.pace.update(feed.received, now_ms)

    def _doubt(self, feeds: Feeds, now_ms: float) -> None:
        """Ask again for markets that are silent while the connection as a whole is not.

        One whose silence proves that it is broken is in a gap from its last trade on. One that is so quiet that nothing
        is proven is asked for again all the same, now and then, and goes on being believed.
        """
        heard_ms = now_ms - self._settings.silence_min_s * 1e3
        for topic, feed in feeds:
            if topic.live_ms is not None and feed.recv_ms >= heard_ms:
                continue  # nearly always
            if topic.state != "acked" or feed.refused:
                continue
            since_ms = self._silent_since_ms(topic, feed)
            silent_s = (now_ms - since_ms) / 1e3
            if silent_s <= self._settings.silence_min_s:
                continue
            others = self._intake.elsewhere(feed.instrument, since_ms)
            if silent_s > self._proof_s(topic, feed, others):
                self._ask_again(topic, feed, since_ms, now_ms, others)
            elif now_ms - max(since_ms, topic.asked_ms) > self._settings.silence_max_s * 1e3:
                self.session.renew(topic, now_ms)

    def _silent_since_ms(self, topic: Topic, feed: MarketFeed) -> float:
        """Its last trade, or when it was believed or asked for without one."""
        if topic.live_ms is None:
            return topic.asked_ms
        return max(topic.live_ms, feed.recv_ms)

    def _proof_s(self, topic: Topic, feed: MarketFeed, others: int) -> float:
        """How long this market's silence must be to prove something, given where else its asset trades meanwhile."""
        settings = self._settings
        if not feed.aggregated and not feed.pace.sure_hz:
            return settings.first_trade_s if others >= OTHERS and not topic.doubts else settings.silence_max_s
        proof_s = market_proof_s(feed.pace, settings.silence_min_s, settings.silence_max_s, others)
        # It did not come back when it was asked for: twice, four times… as long until it is asked for again.
        return min(proof_s * 2.0**topic.doubts, settings.silence_max_s) if topic.doubts else proof_s

    def _ask_again(self, topic: Topic, feed: MarketFeed, since_ms: float, now_ms: float, others: int) -> None:
        silent_s = round((now_ms - since_ms) / 1e3, 1)
        told = {"market": feed.instrument.market, "silent_s": silent_s, "other_exchanges_trading": others}
        self._log.warning("market is silent, asking again", **told)
        # Where it was believed without a trade of its own, it may never have come back: the ledger knows since when.
        proven = topic.live_ms is not None and feed.recv_ms < topic.live_ms
        reason = f"silent for {silent_s:g} s" + (f" while it traded on {others} others" if others >= OTHERS else "")
        feed.lose(float("-inf") if proven else self.exchange_ms(since_ms), reason)
        self.session.resubscribe(topic, now_ms)

    def _silence(self, now_ms: float) -> str | None:
        """Why the connection must be given up, if it must. One that is too quiet to tell asks to be replaced."""
        session, settings = self.session, self._settings
        if session.opened_ms is None:
            return None
        cut_off, data_ms = self._cut_off(now_ms), session.data_ms
        if cut_off is None and data_ms is not None and now_ms - data_ms <= settings.silence_min_s * 1e3:
            return None  # no proof is shorter
        feeds = [feed for _, feed in self.feeds()]
        if not feeds:  # liquidations alone, of which there may be none for days: only its heartbeats tell
            quiet_s = (now_ms - session.frame_ms) / 1e3
            return f"no frame for {quiet_s:.1f} s" if quiet_s > settings.silence_max_s else None
        if cut_off is not None:
            return cut_off
        proof_s = connection_proof_s([feed.pace for feed in feeds], settings.silence_min_s)
        since_ms = session.data_ms
        if since_ms is None:
            asked_ms = [one.asked_ms for one in session.trade_topics.values() if one.asked_ms < float("inf")]
            since_ms = max([session.opened_ms + session.endpoint.settle_s * 1e3, *asked_ms])
            if all(feed.ledger.open is not None for feed in feeds):  # nothing is believed: it must prove itself
                known = any(feed.pace.sure_hz for feed in feeds)
                proof_s = min(proof_s, settings.silence_max_s if known else settings.first_trade_s)
        silent_s = (now_ms - since_ms) / 1e3
        if silent_s > proof_s:
            return f"no data for {proof_s:.1f} s"
        if silent_s > settings.silence_max_s and session.replace is None:
            session.replace = f"quiet for {silent_s:.0f} s"
        return None

    def _cut_off(self, now_ms: float) -> str | None:
        """Why nothing at all seems to come any more, not even heartbeats: half open, on a market too quiet to tell."""
        frame_ms = self.session.frame_ms
        if frame_ms > self._frame_ms:
            self._frame_pause_ms = max(self._frame_pause_ms, frame_ms - self._frame_ms)
            self._frame_looks, self._frame_ms = self._frame_looks + 1, frame_ms
        silent_s = (now_ms - frame_ms) / 1e3
        limit_s = max(FRAMES_MIN_S, FRAMES_PAUSES * self._frame_pause_ms / 1e3)
        return f"no frame for {silent_s:.1f} s" if self._frame_looks >= FRAMES and silent_s > limit_s else None

    def _half_open(self, now_ms: float, elapsed_s: float) -> str | None:
        """A ping that is not answered, by a peer that answered one before: even of the quietest market that is proof."""
        connection = self._connection
        if connection is None:
            return None
        if connection.pongs > self._pongs:
            self._pongs, self._ponged_ms = connection.pongs, now_ms
        silent_s = (now_ms - max(self.session.frame_ms, self._ponged_ms)) / 1e3
        if silent_s < PROBE_S:
            self._unanswered_s = None
        elif self._unanswered_s is None:
            self._unanswered_s = 0.0
            self.session.probe()
        elif self._pongs and self._unanswered_s >= PROBE_S:
            return f"no answer to a ping for {self._unanswered_s:.1f} s"
        elif not self.session.probe_due:
            self._unanswered_s += elapsed_s
        return None

    def _tell(self, notice: Notice) -> None:
        if notice.kind == "rejected":
            self._refused(notice)
        elif notice.kind == "unanswered":
            self._unanswered(notice)
        if notice.kind in ("rejected", "unanswered"):
            self._log.warning(
                f"subscription {notice.kind}",
                topics=list(notice.topics[:5]),
                count=len(notice.topics),
                reason=notice.reason,
            )
        elif notice.kind == "closing":
            self._log.info("the exchange announced to close", reason=notice.reason)

    def _refused(self, notice: Notice) -> None:
        """Markets whose trades the exchange refuses are delisted until it sends them."""
        for topic, feed in self.feeds():
            if topic.stream.topic in notice.topics and topic.state == "rejected":
                if feed.ledger.open is None:
                    feed.lose(self._believed_until_ms(feed), "refused by the exchange")
                feed.refuse(notice.reason)

    def delisted(self, feed: MarketFeed) -> None:
        """The market is not listed any more: only a trade of its own shows that it is."""
        for topic, known in self.feeds():
            if known is feed:
                topic.live_ms, topic.data_ms, topic.doubts = None, None, 1

    def _unanswered(self, notice: Notice) -> None:
        """A quiet market that was asked for again, and got neither an answer nor a trade, is not believed any longer."""
        for topic, feed in self.feeds():
            if topic.stream.topic not in notice.topics:
                continue
            if topic.live:
                topic.state = "acked"  # data is the better acknowledgement
            elif feed.ledger.open is None:
                feed.lose(self._believed_until_ms(feed), notice.reason)
                topic.live_ms, topic.doubts = None, 1

    def _believed_until_ms(self, feed: MarketFeed) -> float:
        """Exchange time of what last spoke for a market: its newest trade."""
        return float(feed.newest_ms) if feed.newest_ms else float("-inf")
