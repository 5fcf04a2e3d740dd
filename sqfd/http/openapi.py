"""The OpenAPI document: one row per endpoint, so that it and the routes can be compared by a test."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqfd import __version__


class Endpoint(NamedTuple):
    """One path."""

    path: str
    summary: str
    type: str = "application/json"
    errors: tuple[int, ...] = ()
    query: tuple[tuple[str, str], ...] = ()


SSE = "text/event-stream"
ENDPOINTS = (
    Endpoint("/health", "200 while healthy or degraded, else 503.", errors=(503,)),
    Endpoint(
        "/health/detailed",
        "Every part's state, why, and since when; and each cut of the last day in words.",
        errors=(503,),
    ),
    Endpoint(
        "/health/service/{name}", "One part: seconds, journal, influx, redis, loop or an exchange.", errors=(404, 503)
    ),
    Endpoint("/metrics", "Prometheus text.", "text/plain"),
    Endpoint("/status", "One screen of everything."),
    Endpoint("/markets", "Collected markets with rate, lag, coverage and counters."),
    Endpoint("/explain/{symbol}", "Why there was a signal, or none, in the last second.", errors=(404,)),
    Endpoint(
        "/chart/{symbol}",
        "Candles of the index price and both CVDs, as columns.",
        errors=(400, 404),
        query=(("step", "Seconds of one candle, 1 to 60."), ("bars", "Number of candles, up to 1000.")),
    ),
    Endpoint(
        "/signals",
        "Signals as they come; Last-Event-ID (a `seq`) brings what was missed.",
        SSE,
        (400, 503),
        (("since", "As Last-Event-ID."),),
    ),
    Endpoint("/signals/recent", "The newest signals, oldest first.", errors=(400,), query=(("limit", "Up to 1000."),)),
    Endpoint("/live", "What the page shows, once a second.", SSE, (503,)),
    Endpoint("/tap/{market}", "Decoded trades of one market as they come.", SSE, (404, 503)),
    Endpoint("/products", "Names of all markets, as aggr asks."),
    Endpoint("/historical/{from}/{to}/{timeframe}/{markets}", "Bars, as aggr asks (ms).", errors=(400, 404, 501)),
    Endpoint("/openapi.json", "This document."),
)


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "sqfd", "version": __version__},
        "paths": {one.path: {"get": _operation(one)} for one in ENDPOINTS},
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    error = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
    responses: dict[str, Any] = {"200": {"description": one.summary, "content": {one.type: {}}}}
    responses |= {str(status): {"description": "refused", "content": error} for status in one.errors}
    names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
    parameters = [_parameter(name, "path", name) for name in names]
    parameters += [_parameter(name, "query", text) for name, text in one.query]
    return {"summary": one.summary, "parameters": parameters, "responses": responses}


def _parameter(name: str, where: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "description": text, "schema": {"type": "string"}}
