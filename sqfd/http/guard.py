"""What every request has to pass, and what every answer carries."""

from __future__ import annotations

import hmac

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sqfd.http.settings import HttpSettings

MAX_TARGET = 8_190
"""Bytes of a request's line, and of one header."""
COOKIE = "sqfd_token"
OPEN = frozenset({"/health"})
"""Answered without a token: what a load balancer asks."""
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""'unsafe-inline' is for styles only: the charts set them. Scripts come from this server alone."""
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def answer(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON."""
    body = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def refusal(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    """`{"error": …}`"""
    return answer({"error": why}, status, headers)


def guard(settings: HttpSettings) -> Middleware:
    """GET and HEAD only, known Host names (DNS rebinding), no bodies, and the token where one is set."""
    hosts = {"localhost", "127.0.0.1", "::1", settings.host.lower(), *(host.lower() for host in settings.hosts)}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = refused(request, hosts, settings.token)
        if why is not None:
            return why
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return refusal(error.status, f"{error.reason}: {request.path}")

    return check


def refused(request: web.Request, hosts: set[str], token: str) -> web.Response | None:
    """Why a request is not answered; None: it is."""
    if request.method not in ("GET", "HEAD"):
        return refusal(405, "only GET is answered", {"Allow": "GET, HEAD"})
    host = name_of(request.headers.get("Host", ""))
    if host not in hosts:
        return refusal(403, f"unknown host {host!r}: add it to http.hosts")
    if request.can_read_body or request.content_length:
        return refusal(413, "a GET has no body")
    if token and request.path not in OPEN and not hmac.compare_digest(_given(request).encode(), token.encode()):
        return refusal(401, "token missing or wrong", {"WWW-Authenticate": "Bearer"})
    return None


def name_of(host: str) -> str:
    """The Host header without its port: `[::1]:8686` → `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _given(request: web.Request) -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    return request.query.get("token") or request.cookies.get(COOKIE, "")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer, streams included."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
