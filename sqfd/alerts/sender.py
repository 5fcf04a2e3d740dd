"""Delivers messages: in order per target, a bounded number of times, never in anybody's way."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from sqfd.alerts.settings import HEALTH_FIELDS, SIGNAL_FIELDS, AlertSettings
from sqfd.clock import Clock
from sqfd.feed.transport import retry_after_s
from sqfd.lean import structlog
from sqfd.signals.signal import Signal

MAX_WAITING = 100
"""Messages that wait for one target; beyond, the oldest are dropped and counted."""
MAX_WAIT_S = 60.0
MAX_TEXT = 4_000
"""Telegram takes 4,096 characters."""

log = structlog.get_logger("alerts")


class Target:
    """One place that messages go to."""

    def __init__(self, name: str, url: str, settings: AlertSettings, clock: Clock) -> None:
        self.name, self._url, self._settings, self._clock = name, url, settings, clock
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._arrived = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self.down: str | None = None

    def offer(self, body: Mapping[str, Any]) -> None:
        """Queue a message; never waits."""
        self._waiting.append(body)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.counters["dropped"] += 1
        self._arrived.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Deliver until cancelled."""
        while True:
            while self._waiting:
                await self._deliver(session, self._waiting.popleft())
            self._arrived.clear()
            await self._arrived.wait()

    async def _deliver(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> None:
        why = ""
        for attempt in range(self._settings.tries):
            why, wait_s, final = await self._post(session, body)
            if not why:
                self.counters["delivered"] += 1
                self.down = None
                return
            self.counters["failures"] += 1
            if final or attempt + 1 == self._settings.tries:
                break
            await self._clock.sleep(min(wait_s or self._settings.backoff_s * 2.0**attempt, MAX_WAIT_S))
        self.counters["given_up"] += 1
        self.down = why
        log.warning("alert not delivered", target=self.name, why=why)

    async def _post(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> tuple[str, float | None, bool]:
        """(why it failed, how long it asked us to wait, whether trying again is useless); no reason: delivered.

        Addresses hold secrets: errors are told by their kind.
        """
        try:
            async with session.post(self._url, json=dict(body), allow_redirects=False) as answer:
                if answer.status < 300:
                    return "", None, False
                wait_s = retry_after_s(answer.headers.get("Retry-After"), answer.headers.get("Date"))
                return f"HTTP status {answer.status}", wait_s, 400 <= answer.status < 500 and answer.status != 429
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return type(error).__name__, None, False


class Alerts:
    """All targets of a configuration."""

    def __init__(self, settings: AlertSettings, instance: str, clock: Clock) -> None:
        self._settings, self._instance = settings, instance
        self.targets: list[Target] = []
        if settings.webhook_url:
            self.targets.append(Target("webhook", settings.webhook_url, settings, clock))
        if settings.telegram_token:
            url = f"{settings.telegram_url.rstrip('/')}/bot{settings.telegram_token}/sendMessage"
            self.targets.append(Target("telegram", url, settings, clock))

    def signal(self, signal: Signal) -> None:
        """Tell of a signal."""
        if self._settings.signals:
            text = self._settings.signal_text.format_map({name: getattr(signal, name) for name in SIGNAL_FIELDS})
            self._offer("signal", text, msgspec.structs.asdict(signal))

    def health(self, before: str, state: str, why: str) -> None:
        """Tell of a change of health."""
        if self._settings.health:
            values = dict(zip(HEALTH_FIELDS, (before, self._instance, state, why), strict=True))
            self._offer("health", self._settings.health_text.format_map(values), values)

    def _offer(self, kind: str, text: str, values: Mapping[str, Any]) -> None:
        for target in self.targets:
            if target.name == "telegram":
                target.offer({"chat_id": self._settings.telegram_chat, "text": text[:MAX_TEXT]})
            else:
                target.offer({"kind": kind, "text": text, "instance": self._instance, kind: dict(values)})

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session, asyncio.TaskGroup() as group:
            for target in self.targets:
                group.create_task(target.run(session), name=f"alerts-{target.name}")

    def status(self) -> dict[str, Any]:
        """For health and metrics."""
        down = [f"{target.name}: {target.down}" for target in self.targets if target.down]
        counters = {
            f"{target.name}_{name}": count for target in self.targets for name, count in target.counters.items()
        }
        return {"state": "retry" if down else "ok", "why": "; ".join(down) or None, "counters": counters}
