"""KuCoin: the token that a connection needs, nanoseconds, inverse contracts, refusals of whole frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

import exchanges
from exchanges.api import BadMessage, Call, Rejected, Trade
from tests.exchanges.support import NOW_MS


def bullet(endpoint: str, code: str = "200000") -> bytes:
    data = {"token": "secret", "instanceServers": [{"endpoint": endpoint, "pingInterval": 18000}]}
    return json.dumps({"code": code, "data": data}).encode()


def test_the_server_named_with_the_token_is_connected_to() -> None:
    """The token is asked for by POST; the address it comes with is used, with the token and a connection id."""
    call = exchanges.get("KUCOIN").connect("futures", NOW_MS)
    assert isinstance(call, Call)
    asked = (call.request.method, call.request.url)
    assert asked == ("POST", "https://api-futures.kucoin.com/api/v1/bullet-public")
    (url,) = call.read(bullet("wss://ws-api-7.kucoin.com/")).items
    assert url == f"wss://ws-api-7.kucoin.com/?token=secret&connectId={NOW_MS}"


def test_an_address_of_our_own_wins_over_the_servers() -> None:
    """A replaced endpoint is connected to, whatever the answer names, and the token is asked for at the replaced base."""
    moved = exchanges.get("KUCOIN", {"spot": "ws://127.0.0.1:9/spot", "rest": "http://127.0.0.1:9/rest"})
    call = moved.connect("spot", NOW_MS)
    assert isinstance(call, Call)
    assert call.request.url == "http://127.0.0.1:9/rest/api/v1/bullet-public"
    (url,) = call.read(bullet("wss://elsewhere.example/")).items
    assert url.startswith("ws://127.0.0.1:9/spot?token=secret")


@pytest.mark.parametrize("body", [bullet("http://x"), bullet("wss://x", "429000"), b'{"code":"200000","data":{}}'])
def test_answers_without_a_usable_server_are_refused(body: bytes) -> None:
    """No websocket address, an error code or no server at all raise BadMessage."""
    call = exchanges.get("KUCOIN").connect("spot", NOW_MS)
    assert isinstance(call, Call)
    with pytest.raises(BadMessage):
        call.read(body)


@pytest.mark.parametrize(("symbol", "size"), [("XBTUSDTM", 0.005), ("XBTUSDM", 5 / 50_000), ("XBTMH27", 5 / 50_000)])
def test_contracts_become_coins(symbol: str, size: float) -> None:
    """A positive multiplier is coins, a negative one dollars; nanoseconds are floored to milliseconds."""
    exchange = exchanges.get("KUCOIN")
    row: dict[str, Any] = {"symbol": symbol, "sequence": 9, "side": "sell", "size": 5, "price": "50000"}
    data = row | {"ts": NOW_MS * 1_000_000 + 999_999, "tradeId": "9"}
    frame = {"type": "message", "topic": f"/contractMarket/execution:{symbol}", "subject": "match", "data": data}
    decoder = exchange.decoder("futures", {symbol: exchange.assume(symbol)})
    (trade,) = decoder.decode(json.dumps(frame).encode(), NOW_MS)
    assert isinstance(trade, Trade)
    assert (trade.size, trade.ts_ms, trade.buy, trade.id) == (pytest.approx(size), NOW_MS, False, 9)


def test_only_the_symbol_that_is_named_is_refused() -> None:
    """One bad symbol has its frame refused: the others of that frame stay unanswered."""
    decoder = exchanges.get("KUCOIN").decoder("spot", {})
    topics = ["/market/match:BTC-USDT", "/market/match:NO-SUCH"]
    (frame,) = decoder.subscribe(topics, NOW_MS)
    asked = json.loads(frame)
    assert asked["topic"] == "/market/match:BTC-USDT,NO-SUCH"
    refusal = {"id": asked["id"], "type": "error", "code": 404, "data": "topic /market/match:NO-SUCH is not found"}
    (refused,) = decoder.decode(json.dumps(refusal).encode(), NOW_MS)
    assert isinstance(refused, Rejected)
    assert refused.topics == ("/market/match:NO-SUCH",)
