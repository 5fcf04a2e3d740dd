"""Messages to people, against a server on loopback that refuses as told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from sqfd.alerts.sender import MAX_WAITING, Alerts
from sqfd.alerts.settings import SIGNAL_FIELDS, AlertSettings
from sqfd.clock import SystemClock
from sqfd.signals.signal import Signal
from tests.waiting import eventually

VALUES: dict[str, Any] = {
    name: {"str": "x", "float": 1.5, "int": 3, "dict": {}, "tuple": ()}[str(hint).partition("[")[0]]
    for name, hint in Signal.__annotations__.items()
}
SIGNAL = Signal(**VALUES | {"action": "LONG", "symbol": "BTCUSDT", "reasoning": "a reset"})


class Receiver:
    """Takes POSTs and answers with the statuses given, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    async def post(self, request: web.Request) -> web.Response:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.taken.append((request.path, await request.json()))
        return web.Response(status=status, headers={"Retry-After": "0"} if status == 429 else {})


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(*statuses)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def told(alerts: Alerts, until: Any) -> None:
    running = asyncio.create_task(alerts.run())
    await eventually(until)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def settings(**values: Any) -> AlertSettings:
    return AlertSettings(**{"backoff_s": 0.01, **values})


async def test_a_signal_and_a_change_of_health_arrive() -> None:
    """The webhook gets everything as JSON, Telegram the text."""
    async with receiving() as receiver:
        chat = {"telegram_token": "1:abc", "telegram_chat": "-100", "telegram_url": receiver.url}
        alerts = Alerts(settings(webhook_url=f"{receiver.url}/hook", **chat), "one", SystemClock())
        alerts.signal(SIGNAL)
        alerts.health("healthy", "degraded", "redis: refused")
        await told(alerts, lambda: len(receiver.taken) == 4)
    hooks = [body for path, body in receiver.taken if path == "/hook"]
    chats = [body for path, body in receiver.taken if path == "/bot1:abc/sendMessage"]
    assert [body["kind"] for body in hooks] == ["signal", "health"]
    assert hooks[0]["signal"]["action"] == "LONG"
    assert hooks[1]["health"]["why"] == "redis: refused"
    assert chats[0] == {"chat_id": "-100", "text": "LONG BTCUSDT at 1.5, score 1.5 (x)\na reset"}
    assert chats[1]["text"] == "sqfd one is degraded (was healthy) redis: refused"


async def test_refusals_are_tried_again_in_order() -> None:
    """500, 429 and then 200: one delivery, two failures counted."""
    async with receiving(500, 429) as receiver:
        alerts = Alerts(settings(webhook_url=receiver.url), "one", SystemClock())
        alerts.health("a", "b", "first")
        alerts.health("b", "c", "second")
        await told(alerts, lambda: len(receiver.taken) == 2)
    assert [body["health"]["why"] for _, body in receiver.taken] == ["first", "second"]
    assert alerts.status()["counters"] == {"webhook_failures": 2, "webhook_delivered": 2}


@pytest.mark.parametrize(("statuses", "failures"), [((404,), 1), ((503,) * 4, 4)])
async def test_a_message_is_given_up(statuses: tuple[int, ...], failures: int) -> None:
    """What cannot succeed is not repeated, what may is bounded; health says so; the secret address is not told."""
    async with receiving(*statuses) as receiver:
        alerts = Alerts(settings(webhook_url=f"{receiver.url}/secret"), "one", SystemClock())
        alerts.health("a", "b", "")
        await told(alerts, lambda: alerts.status()["counters"].get("webhook_given_up") == 1)
    status = alerts.status()
    assert status["counters"]["webhook_failures"] == failures
    assert status["why"] == f"webhook: HTTP status {statuses[0]}"
    assert "secret" not in str(status)


async def test_what_waits_is_bounded() -> None:
    """The oldest are dropped, counted."""
    alerts = Alerts(settings(webhook_url="http://127.0.0.1:9"), "one", SystemClock())
    for number in range(MAX_WAITING + 5):
        alerts.health("a", "b", str(number))
    assert alerts.status()["counters"] == {"webhook_dropped": 5}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"telegram_token": "x"}, "belong together"),
        ({"signal_text": "{price} {prize}"}, "no field 'prize'; there are: action"),
        ({"health_text": "{why"}, "alerts.health_text"),
    ],
)
def test_settings_that_cannot_work(values: dict[str, Any], words: str) -> None:
    """They are refused when the configuration is read, not when the first signal comes."""
    with pytest.raises(ValueError, match=re.escape(words)):
        AlertSettings(**values)


def test_every_field_of_the_template_exists() -> None:
    """What a template may name, a signal has."""
    assert set(SIGNAL_FIELDS) <= set(Signal.__struct_fields__)
