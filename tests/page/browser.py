"""Debian's chromium over its DevTools protocol: just enough to load a page, ask it things, press keys and look at it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from tests.waiting import PATIENCE_S

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-debugging-address=127.0.0.1",
)
KEYS = {"Tab": 9, "Enter": 13}


def chromium() -> str | None:
    """Where the browser is."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """The program; `tab` opens a fresh tab in it. `async with Chromium(profile) as browser`."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile

    async def __aenter__(self) -> Chromium:
        binary = chromium()
        assert binary is not None
        environment = {**os.environ, "HOME": str(self._profile)}
        self._process = await asyncio.create_subprocess_exec(
            binary,
            *FLAGS,
            f"--user-data-dir={self._profile}",
            "about:blank",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._port_number = await self._port()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.terminate()
        await asyncio.wait_for(self._process.wait(), PATIENCE_S)

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """A new tab that remembers nothing of the others; closed at the end."""
        told = await asyncio.to_thread(_ask, self._port_number, "PUT", "/json/new?about:blank")
        socket = await connect(told["webSocketDebuggerUrl"], max_size=None, proxy=None, ping_interval=None)
        tab = Tab(socket)
        try:
            for domain in ("Page", "Runtime", "Network", "Log"):
                await tab.call(f"{domain}.enable")
            yield tab
        finally:
            await tab.close()
            await asyncio.to_thread(_ask, self._port_number, "GET", f"/json/close/{told['id']}")

    async def _port(self) -> int:
        path = self._profile / "DevToolsActivePort"
        for _ in range(int(PATIENCE_S / 0.1)):
            if path.exists() and (text := path.read_text().splitlines()):
                return int(text[0])
            await asyncio.sleep(0.1)
        raise TimeoutError("chromium does not start")


class Tab:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._id = 0
        self._fresh = True
        self._loaded = asyncio.Event()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        """Addresses of everything that the page asked for."""
        self.errors: list[str] = []
        """What the page's console complained about."""
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Stop listening to it."""
        self._reader.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        async for raw in self._socket:
            message = json.loads(raw)
            if (waiting := self._answers.pop(message.get("id", 0), None)) is not None:
                waiting.set_result(message)
            elif message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            elif message["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._id += 1
        waiting = self._answers[self._id] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": self._id, "method": method, "params": parameters}))
        message = await asyncio.wait_for(waiting, PATIENCE_S)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, url: str) -> None:
        """Go to a page; returns when it is loaded. The first time with nothing stored."""
        if self._fresh:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}"
            await self.call("Storage.clearDataForOrigin", origin=origin, storageTypes="local_storage")
            self._fresh = False
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE_S)

    async def ask(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str, timeout_s: float = PATIENCE_S) -> Any:
        """Wait until the expression is true; gives its value."""
        for _ in range(int(timeout_s / 0.1)):
            if value := await self.ask(f"(v => v instanceof Node ? true : v)({script})"):
                return value
            await asyncio.sleep(0.1)
        raise AssertionError(f"never true within {timeout_s} s: {script}; console: {self.errors[:3]}")

    async def press(self, key: str) -> None:
        """Press a key."""
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def resize(self, width: int, height: int) -> None:
        """Make the window that large."""
        mobile = width < 500
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    async def look(self) -> bytes:
        """A picture of the whole page, PNG."""
        await self.call("Emulation.setScrollbarsHidden", hidden=True)
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(found["data"])


def _ask(port: int, method: str, path: str) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text
