"""A backtest's report and a sweep's picture in Debian's chromium: by day and by night, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner

from sqfd.backtest.picture import write_picture
from sqfd.backtest.sweep import Verdict
from sqfd.backtest.trials import axis_of
from sqfd.cli.backtest import backtest
from tests.backtest.live import Live
from tests.page.browser import Chromium, Tab, chromium

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no chromium on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
]
WIDTHS = (1280, 360)
DRAWN = "[...document.querySelectorAll('.plot')].every(place => place.querySelector('.main-svg'))"
WIDEST = """Math.max(...[document.documentElement, ...document.querySelectorAll('.wide')]
  .map(place => place.scrollWidth - place.clientWidth))"""
COLOURS = """[getComputedStyle(document.body).backgroundColor,
  getComputedStyle(document.querySelector('.main-svg')).background.split(')')[0],
  getComputedStyle(document.querySelector('.xtick text')).fill].join(';')"""


@pytest.fixture(scope="module")
def pages(live: Live, toml: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A report with trades, and a picture of a sweep."""
    folder = tmp_path_factory.mktemp("pages")
    report, picture = folder / "report.html", folder / "sweep.html"
    options = ["-c", str(toml), "--state", str(live.store.path.parent), "--html", str(report)]
    assert CliRunner().invoke(backtest, options).exit_code == 0
    ranked = [({"a": str(value)}, score) for value, score in ((3, 1.5), (4, 0.5), (5, None))]
    write_picture(picture, 3, [axis_of("a=3,4,5")], "sharpe", Verdict(ranked, 0.4, 3, []))
    return [report, picture]


@pytest_asyncio.fixture(loop_scope="module")
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with Chromium(tmp_path) as program, program.tab() as tab:
        yield tab


async def test_pages_are_whole_by_day_and_by_night(tab: Tab, pages: list[Path]) -> None:
    """All figures are drawn in the scheme's own colours, and anew when it changes; nothing is asked for, nothing is complained about,
    and neither a page nor a table is wider than a phone."""
    for page in pages:
        for width in WIDTHS:
            await tab.resize(width, 800)
            await _prefer(tab, "light")
            await tab.open(page.as_uri())
            await tab.until(DRAWN)
            day = await tab.ask(COLOURS)
            await _prefer(tab, "dark")
            await tab.until(
                f"(now => {day.split(';')!r}.every((one, place) => one !== now[place]))({COLOURS}.split(';'))"
            )
            assert await tab.ask(WIDEST) <= 0, (page.name, width)
    assert tab.errors == []
    assert [one for one in tab.requests if not one.startswith(("file:", "data:", "blob:"))] == []


async def test_a_phone_unfolds_what_has_no_room(tab: Tab, pages: list[Path]) -> None:
    """Columns that a phone leaves out stand where a trade is unfolded, beside why it was made."""
    await tab.resize(360, 800)
    await tab.open(pages[0].as_uri())
    await tab.ask("document.querySelector('details').open = true")
    told = await tab.ask("document.querySelector('details').innerText")
    for words in ("held", "lev.", "MAE", "setup held", "scoring"):
        assert words in told, words


async def _prefer(tab: Tab, scheme: str) -> None:
    await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
