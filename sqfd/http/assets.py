"""The files of the live page. Charts are drawn by plotly.js as its Python package brings it: nothing comes from elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from sqfd.http.guard import refusal
from sqfd.plotlyjs import plotly_js

FOLDER = Path(__file__).parent / "page"
TYPES = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "chart.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    "plotly.js": "text/javascript",
}
COMPRESS_FROM = 1_000_000


class _Asset(NamedTuple):
    plain: bytes
    packed: bytes | None
    etag: str


class Assets:
    """Reads each file once, when it is first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, _Asset] = {}

    async def serve(self, name: str, request: web.Request) -> web.StreamResponse:
        """One file of the page; 304 where the browser has it, 404 for other names."""
        if name not in TYPES:
            return refusal(404, f"no file {name}")
        asset = self._known.get(name)
        if asset is None:
            asset = self._known[name] = await asyncio.to_thread(_read, name)
        headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == asset.etag:
            return web.Response(status=304, headers=headers)
        body = asset.plain
        if asset.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = asset.packed, "gzip"
        return web.Response(body=body, content_type=TYPES[name], charset="utf-8", headers=headers)


def _read(name: str) -> _Asset:
    data = path_of(name).read_bytes()
    packed = gzip.compress(data, 6) if len(data) >= COMPRESS_FROM else None
    return _Asset(data, packed, f'"{hashlib.sha256(data).hexdigest()[:20]}"')


def path_of(name: str) -> Path:
    """Where a file is on disk."""
    return plotly_js() if name == "plotly.js" else FOLDER / name
