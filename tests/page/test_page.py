"""The live page in Debian's chromium, on a demo: loads, updates, switches, survives a cut, asks nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.page.browser import Chromium, Tab, chromium
from tests.waiting import PATIENCE_S

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no chromium on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
]
SECOND = "document.getElementById('clock').textContent"


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Address of a demo's page."""
    code = "from sqfd.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", "--port", "0", "--exchanges", "BINANCE,BINANCE_FUTURES"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin", "COLUMNS": "200"})
    assert process.stdout is not None
    try:
        yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+/", line)))
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    """One chromium for all tests here."""
    async with Chromium(tmp_path_factory.mktemp("profile")) as program:
        yield program


@pytest_asyncio.fixture(loop_scope="module")
async def browser(program: Chromium) -> AsyncIterator[Tab]:
    """A fresh tab."""
    async with program.tab() as tab:
        await tab.resize(1280, 900)
        yield tab


class Proxy:
    """A way to the demo that can be cut."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def test_it_shows_the_market_and_the_mind(demo: str, browser: Tab) -> None:
    """Price, candles, both CVDs, score, five phases, markets, parts: all there, and new each second."""
    await browser.open(demo)
    await browser.until("document.querySelector('#chart .cartesianlayer .boxes path')")
    await browser.until("/^[0-9,.]+$/.test(document.getElementById('price').textContent)")
    await browser.until("['healthy', 'degraded'].includes(document.getElementById('state-text').textContent)")
    assert await browser.ask("document.querySelectorAll('#phases li').length") == 5
    assert await browser.ask("document.querySelectorAll('#markets tbody tr').length") >= 6
    assert await browser.ask("document.querySelectorAll('#chart .scatterlayer .trace .js-line').length") == 2
    assert "spot CVD" in await browser.ask("document.getElementById('chart').getAttribute('aria-label')")
    assert "of 10" in await browser.ask("document.getElementById('gauge').getAttribute('aria-label')")
    before = await browser.ask(SECOND)
    await browser.until(f"{SECOND} !== '{before}'")
    assert browser.errors == []


async def test_no_request_leaves_the_host(demo: str, browser: Tab) -> None:
    """Everything that the page asks for is asked of the daemon."""
    await browser.open(demo)
    await browser.until("document.querySelector('#chart .main-svg')")
    await asyncio.sleep(1.5)
    asked = {urlsplit(url).netloc for url in browser.requests if url.startswith(("http", "ws"))}
    assert asked == {urlsplit(demo).netloc}
    assert len(browser.requests) >= 6


async def test_keys_switch_symbol_range_and_theme(demo: str, browser: Tab) -> None:
    """The keyboard alone reaches everything; the choice survives a reload."""
    await browser.open(demo)
    await browser.until("document.querySelectorAll('#symbols button').length === 3")
    await browser.press("2")
    await browser.until("document.getElementById('symbol').textContent === 'ETH'")
    await browser.until("document.getElementById('chart').getAttribute('aria-label').startsWith('ETH')")
    theme = await browser.ask("document.documentElement.dataset.theme")
    await browser.press("t")
    await browser.until(f"document.documentElement.dataset.theme !== '{theme}'")
    await browser.press("r")
    await browser.until("document.querySelector('#ranges [aria-pressed=true]').textContent === '4 h'")
    await browser.press("/")
    await browser.until("document.activeElement.id === 'filter'")
    await browser.open(demo)
    await browser.until("document.getElementById('symbol').textContent === 'ETH'")


async def test_the_filter_and_the_order_of_markets(demo: str, browser: Tab) -> None:
    """Words narrow the table, a header's button turns its order."""
    await browser.open(demo)
    rows = "[...document.querySelectorAll('#markets tbody tr')].map(row => row.cells[0].textContent)"
    await browser.until(f"{rows}.length > 3")
    whole = await browser.ask(rows)
    await browser.ask("document.getElementById('filter').value = 'sol spot'")
    await browser.ask("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert await browser.ask(rows) == ["BINANCE:solusdt"]
    await browser.ask("document.getElementById('filter').value = ''")
    await browser.ask("document.querySelector('#markets th button').click()")
    assert await browser.ask(rows) == list(reversed(whole))


async def test_it_comes_back_after_a_cut(demo: str, browser: Tab) -> None:
    """While the daemon is away the page says so; when it is back, the page goes on by itself."""
    proxy = Proxy(demo)
    await proxy.open()
    await browser.open(f"http://127.0.0.1:{proxy.port}/")
    await browser.until(
        "!document.body.classList.contains('stale') && document.getElementById('lag').textContent !== '–'"
    )
    await proxy.cut()
    await browser.until("document.body.classList.contains('stale')")
    before = await browser.ask(SECOND)
    await proxy.open()
    await browser.until(f"!document.body.classList.contains('stale') && {SECOND} !== '{before}'")
    await proxy.cut()


async def test_a_phone_needs_no_sideways_scrolling(demo: str, browser: Tab) -> None:
    """At 360 px nothing is wider than the window, tables neither; in both themes text is readable against its card."""
    await browser.resize(360, 740)
    await browser.open(demo)
    await browser.until("document.querySelector('#chart .main-svg')")
    await browser.until("document.querySelectorAll('#markets tbody tr').length > 3")
    assert await browser.ask("document.documentElement.scrollWidth") <= 360
    wide = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
    assert await browser.ask(wide) == 0
    for theme in ("dark", "light"):
        await browser.ask(f"document.documentElement.dataset.theme = '{theme}'")
        for name in ("text", "soft", "up", "down", "spot", "perp"):
            assert await browser.ask(CONTRAST.replace("NAME", name)) >= 4.5, (theme, name)


async def test_a_screen_reader_is_told_everything(demo: str, browser: Tab) -> None:
    """Every button, link, field, meter, picture and region has a name; headings are there; Tab shows where it is."""
    await browser.open(demo)
    await browser.until("document.querySelectorAll('#markets tbody tr').length > 3")
    await browser.until("document.querySelector('#chart .cartesianlayer .boxes path')")
    kinds = "button, a, input, meter, summary, [role=img], [role=region], [role=group], section, table"
    assert await browser.ask(f"[...document.querySelectorAll('{kinds}')].length") > 30
    assert await browser.ask(NAMELESS.replace("KINDS", kinds)) == []
    headings = await browser.ask("[...document.querySelectorAll('h2')].map(one => one.textContent.trim())")
    assert {"Strategy", "Signals", "Parts", "Markets"} <= set(headings)
    assert await browser.ask("document.querySelectorAll('#chart svg:not([aria-hidden])').length") == 0
    await browser.press("Tab")
    assert await browser.ask("document.activeElement.className") == "skip"
    await browser.press("Tab")
    assert await browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"


NAMELESS = """[...document.querySelectorAll('KINDS')].filter(one => {
  const by = (one.getAttribute('aria-labelledby') ?? '').split(' ').map(id => document.getElementById(id)?.textContent);
  const names = [one.getAttribute('aria-label'), ...by, one.labels?.[0]?.textContent, one.caption?.textContent];
  return ![...names, one.matches('button, a, summary') ? one.textContent : ''].some(name => name?.trim());
}).map(one => one.outerHTML.slice(0, 80))"""
"""What has no accessible name."""
CONTRAST = """(() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const [r, g, b] = style.getPropertyValue(name).trim().slice(1).match(/../g).map((part) => {
      const value = parseInt(part, 16) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [light("--NAME"), light("--card")].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
})()"""
"""Contrast by WCAG 2.1; 4.5 is what it asks for text."""
