"""A page of one file, for reports and sweeps: what it looks like by day and by night, and plots that follow.

A figure is what plotly.js takes, `{"data": [...], "layout": {...}}`. Its colours are names of the style below, as `"@ink"`: the page puts
in those of the reader's scheme, and anew when it changes.
"""

from __future__ import annotations

import html
from typing import Any

import orjson

from sqfd.plotlyjs import plotly_js

Figure = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --ink: #17202a; --soft: #5d6b7a; --line: #dfe4ea; --paper: #fff; --back: #f4f6f8; --good: #0a7d4f;
  --bad: #c0392b; --spot: #1f77b4; --perp: #c8640a; --score: #7d3c98; --hold: #8592a0 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ef; --soft: #9aa7b5; --line: #2c343e; --paper: #171c22; --back: #0f1317; --good: #46c08a;
    --bad: #f0796c; --spot: #62aef5; --perp: #f2a356; --score: #c79bea; --hold: #77838f } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 12px }
h1 { font-size: 1.35rem; margin: .4rem 0 } h2 { font-size: 1.05rem; margin: 0 0 .5rem }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 12px; margin: 12px 0 }
.note { color: var(--soft); font-size: .9rem; margin: .2rem 0; overflow-wrap: anywhere }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(200px, 45%), 1fr)); gap: 8px }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 8px 10px }
.card b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums } .card span { color: var(--soft); font-size: .82rem }
.good { color: var(--good) } .bad { color: var(--bad) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top }
.wide th:first-child, .wide td:first-child { padding-left: 0 }
.wide th:last-child, .wide td:last-child { padding-right: 0 }
th { color: var(--soft); font-weight: 600; font-size: .85rem } .text { text-align: left } td.explain { white-space: normal; min-width: 150px }
summary { cursor: pointer } pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; max-width: 640px }
.groups { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 12px }
.narrow { display: none }
@media (max-width: 700px) {
  main { padding: 6px } section { padding: 8px } th, td { padding: 4px 3px; font-size: .82rem }
  .card b { font-size: 1.1rem } th, td:first-child { white-space: normal } .narrow { display: block }
  .stacked thead, .stacked .aside { display: none }
  .stacked tr { display: grid; grid-template-columns: auto auto 1fr auto; gap: 0 10px; padding: 6px 0; border-bottom: 1px solid var(--line) }
  .stacked td { border: 0; padding: 0 } .stacked td.bps::after { content: " bps" }
  .stacked td.explain { grid-column: 1 / -1; min-width: 0 } }
"""

SCRIPT = """
function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (_, name) => JSON.stringify(style.getPropertyValue("--" + name).trim());
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(place.querySelector("script").textContent.replace(/"@(\\w+)"/g, colour));
    if (innerWidth <= 700) figure.layout.dragmode = false;  // a finger scrolls the page
    Plotly.react(place.querySelector("div"), figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
"""


def plot(figure: Figure) -> str:
    """A figure's place in a page."""
    text = orjson.dumps(figure).decode().replace("</", "<\\/")
    return f'<div class="plot"><div></div><script type="application/json">{text}</script></div>'


def section(title: str, content: str) -> str:
    """A part of a page below its title."""
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def page(title: str, *content: str) -> str:
    """The whole page, with plotly.js in it."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<script>{plotly_js().read_text(encoding='utf-8')}</script></head>"
        f"<body><main><h1>{html.escape(title)}</h1>{''.join(content)}</main><script>{SCRIPT}</script></body></html>"
    )
