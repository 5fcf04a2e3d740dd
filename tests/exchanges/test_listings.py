"""What exchanges list becomes instruments: kinds, contract sizes, multipliers, pages, what is not traded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import exchanges
from exchanges.api import BadMessage, Call, Instrument
from exchanges.simulated.api import FUNDING_RATE
from tests.exchanges.support import ONLY_ACTIVE, Rest, instruments, simulated


def listed(exchange_id: str, rest: Rest) -> list[Instrument]:
    return [i for call in exchanges.get(exchange_id).listings() for i in rest.ask(call)]


def read(exchange_id: str, part: str, body: object) -> list[Instrument]:
    """The instruments of the first page of the listing whose address holds `part`."""
    return list(listing(exchange_id, part).read(json.dumps(body).encode()).items)


def listing(exchange_id: str, part: str) -> Call[Instrument]:
    return next(call for call in exchanges.get(exchange_id).listings() if part in call.request.url)


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_the_simulated_listing_gives_what_it_was_made_of(exchange_id: str) -> None:
    """Listing by REST gives the instruments that names alone give, sizes and multipliers included."""
    server = simulated(exchange_id)
    found = listed(exchange_id, Rest(server))
    assert sorted(found, key=lambda i: i.market) == sorted(instruments(server.exchange), key=lambda i: i.market)
    assert len({i.market for i in found}) == len(found)


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_what_does_not_trade_is_listed_as_inactive(exchange_id: str) -> None:
    """Suspended and delisted instruments keep their place in the listing and say that they do not trade."""
    server = simulated(exchange_id)
    first, *others = instruments(server.exchange)
    server.list([msgspec.structs.replace(i, active=False) for i in others])
    found = listed(exchange_id, Rest(server))
    assert len(found) == (1 if exchange_id in ONLY_ACTIVE else 1 + len(others))
    assert [i.market for i in found if i.active] == [first.market]


@pytest.mark.parametrize(("exchange_id", "symbol"), [("BYBIT", "X{}USDT"), ("COINBASE", "X{}-USD")])
def test_pages_are_followed_to_the_end(exchange_id: str, symbol: str) -> None:
    """A listing of more than a page is read whole, nothing twice."""
    server = simulated(exchange_id)
    server.instruments.clear()
    server.list([server.exchange.assume(symbol.format(n)) for n in range(2345)])
    rest = Rest(server)
    assert len({i.symbol for i in listed(exchange_id, rest)}) == 2345
    assert len(rest.asked) > len(server.exchange.listings())


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b"null", b'{"code":"50011","msg":"Too Many Requests"}'])
def test_answers_that_are_no_listing_are_refused(exchange_id: str, body: bytes) -> None:
    """Error pages raise BadMessage, and so do empty lists of what an exchange always has: it never seems to list nothing."""
    refused = 0
    for call in exchanges.get(exchange_id).listings():
        try:
            items = call.read(body).items
        except BadMessage:
            refused += 1
        else:
            assert (body, items) == (b"[]", [])
    assert refused > 0


def test_binance_coin_margined_contracts_are_dollars() -> None:
    """COIN-M's contractSize is in dollars of an inverse contract; USD-M quantities are coins."""
    row = {"symbol": "BTCUSD_PERP", "baseAsset": "BTC", "quoteAsset": "USD", "contractStatus": "TRADING"}
    rows = [row | {"contractSize": 100}, row | {"symbol": "BTCUSD_261225", "contractStatus": "DELIVERED"}]
    swap, quarter = read("BINANCE_FUTURES", "dapi", {"symbols": rows})
    assert (swap.pair, swap.kind, swap.contract_size, swap.inverse) == ("btcusd_perp", "perp", 100.0, True)
    assert (quarter.pair, quarter.kind, quarter.active) == ("btcusd_261225", "future", False)
    row = {"symbol": "1000SHIBUSDT", "baseAsset": "1000SHIB", "quoteAsset": "USDT", "status": "TRADING"}
    (shib,) = read("BINANCE_FUTURES", "fapi", {"symbols": [row]})
    assert (shib.pair, shib.base, shib.multiplier, shib.inverse) == ("1000shibusdt", "SHIB", 1000.0, False)


def test_bybit_tells_spot_from_perpetuals_of_the_same_symbol() -> None:
    """BTCUSDT is a perpetual, BTCUSDT-SPOT the spot pair; inverse contracts are dollars."""

    def one(category: str, **more: str) -> Instrument:
        row = {"symbol": "BTCUSDT", "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT"} | more
        body: dict[str, Any] = {"retCode": 0, "result": {"list": [row], "nextPageCursor": ""}}
        return read("BYBIT", f"category={category}", body)[0]

    spot, perp = one("spot"), one("linear", contractType="LinearPerpetual")
    assert (spot.market, spot.kind, spot.endpoint) == ("BYBIT:BTCUSDT-SPOT", "spot", "spot")
    assert (perp.market, perp.kind, perp.endpoint) == ("BYBIT:BTCUSDT", "perp", "linear")
    inverse = one("inverse", contractType="InverseFutures", symbol="BTCUSDZ26")
    assert (inverse.kind, inverse.inverse, inverse.endpoint) == ("future", True, "inverse")


def test_bybit_says_why_it_refuses() -> None:
    """A refused listing carries the exchange's code and words."""
    with pytest.raises(BadMessage, match="10006 Too many visits"):
        read("BYBIT", "category=spot", {"retCode": 10006, "retMsg": "Too many visits"})


def test_okx_contract_sizes_are_value_times_multiplier() -> None:
    """ctVal × ctMult in coins of linear contracts, in dollars of inverse ones; the family names base and quote."""
    row = {"instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "baseCcy": "", "quoteCcy": "", "state": "live"}
    more = {"instId": "LTC-USD-261225", "instFamily": "LTC-USD", "ctVal": "10", "ctMult": "1", "ctType": "inverse"}
    rows = [row | {"ctVal": "0.01", "ctMult": "1", "ctType": "linear"}, row | more | {"state": "suspend"}]
    linear, inverse = read("OKEX", "instType=SWAP", {"code": "0", "data": rows})
    assert (linear.contract_size, linear.inverse, linear.base, linear.quote) == (0.01, False, "BTC", "USDT")
    assert (inverse.contract_size, inverse.inverse, inverse.kind, inverse.active) == (10.0, True, "future", False)


def test_coinbase_leaves_out_second_names_and_us_futures() -> None:
    """Products that share another's order book, and CDE futures, are not listed; a disabled product is inactive."""
    product = {"product_id": "BTC-USD", "status": "online", "alias": "", "quote_currency_id": "USD"}
    off = {"product_id": "OLD-USD", "trading_disabled": True}
    second = {"product_id": "BTC-USDC", "alias": "BTC-USD"}
    spot = read("COINBASE", "SPOT", {"products": [product, product | off, product | second]})
    assert [(i.pair, i.active) for i in spot] == [("BTC-USD", True), ("OLD-USD", False)]
    details = {"venue": "INTX", "perpetual_details": {"open_interest": "12.5"}}
    intx = {"product_id": "BTC-PERP-INTX", "quote_currency_id": "USDC", "future_product_details": details}
    cde = {"product_id": "BIP-20DEC30-CDE", "future_product_details": {"venue": "cde"}}
    perps = read("COINBASE", "FUTURE", {"products": [product | intx, product | cde]})
    assert [(i.market, i.kind, i.base, i.quote) for i in perps] == [("COINBASE:BTC-PERP-INTX", "perp", "BTC", "USDC")]


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_open_interest_is_given_for_derivatives_only(exchange_id: str) -> None:
    """Each derivative has its open interest in coins or dollars; spot has none; few requests where one answer serves."""
    server = simulated(exchange_id)
    of, rest = instruments(server.exchange), Rest(server)
    found = [row for call in server.exchange.open_interest(of) for row in rest.ask(call)]
    if not server.exchange.has_open_interest:
        assert not found
        return
    derivatives = {i.market for i in of if i.kind != "spot"}
    assert {row.instrument.market for row in found} == derivatives
    assert all((row.base or 0) > 0 or (row.usd or 0) > 0 for row in found)
    assert len(rest.asked) <= len(derivatives)


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_funding_comes_with_open_interest_or_by_itself(exchange_id: str) -> None:
    """Perpetuals have the rate that the exchange says, dated contracts and spot none; where one answer says it, no other is asked."""
    server = simulated(exchange_id)
    of, rest = instruments(server.exchange), Rest(server)
    beside = {
        row.instrument.market: row.funding for call in server.exchange.open_interest(of) for row in rest.ask(call)
    }
    perps = {i.market for i in of if i.kind == "perp"}
    assert all(beside[market] is None for market in beside.keys() - perps)
    said = {market: rate for market, rate in beside.items() if rate is not None}
    itself = [row for call in server.exchange.funding(of) for row in rest.ask(call)]
    assert said.keys().isdisjoint(row.instrument.market for row in itself)
    said |= {row.instrument.market: row.rate for row in itself}
    assert said.keys() <= perps
    assert said.keys() == perps if itself else bool(said) == server.exchange.has_funding
    assert all(rate == pytest.approx(FUNDING_RATE) for rate in said.values())


def test_funding_intervals_are_what_the_exchange_says() -> None:
    """Settled every 4 hours where its answer says so; an hour or 8 where that is usual and nothing is said."""
    found = {}
    for id in ("BINANCE_FUTURES", "OKEX", "BITGET", "BITMART", "POLONIEX", "HUOBI", "CRYPTOCOM", "KRAKEN"):
        server = simulated(id)
        rest, of = Rest(server), [i for i in instruments(server.exchange) if i.kind == "perp"]
        asked = {row.interval_s for call in server.exchange.funding(of) for row in rest.ask(call)}
        found[id] = {span_s or server.exchange.funding_s for span_s in asked} or {server.exchange.funding_s}
    assert found["BINANCE_FUTURES"] == {14_400, 28_800}
    assert found["OKEX"] == {14_400}
    assert all(found[id] == {28_800} for id in ("BITGET", "BITMART", "POLONIEX", "HUOBI"))
    assert all(found[id] == {3_600} for id in ("CRYPTOCOM", "KRAKEN"))


@pytest.mark.parametrize("inverse", [False, True])
def test_kraken_pays_by_contract(inverse: bool) -> None:
    """Dollars of a coin on linear contracts, coins of a dollar on inverse ones: each as a share of the position."""
    exchange = exchanges.get("KRAKEN")
    perp = exchange.assume("PI_XBTUSD" if inverse else "PF_XBTUSD")
    (call,) = exchange.open_interest([perp])
    row = {"symbol": perp.symbol, "openInterest": 5, "markPrice": 50_000, "fundingRate": 2e-10 if inverse else 0.5}
    (found,) = call.read(msgspec.json.encode({"tickers": [row]})).items
    assert found.funding == pytest.approx(1e-5)
    for broken in ({"markPrice": None}, {"fundingRate": None}, {"markPrice": 0}):
        (found,) = call.read(msgspec.json.encode({"tickers": [row | broken]})).items
        assert found.funding is None


@pytest.mark.parametrize(
    ("said", "read"),
    [("0.0001", 1e-4), (-1e-5, -1e-5), (0, 0.0), ("0", 0.0), ("", None), (None, None), ("-", None), (4041, None)],
)
def test_a_rate_that_cannot_be_read_costs_only_itself(said: float | str | None, read: float | None) -> None:
    """Empty, unreadable or in another unit: no funding, and the open interest beside it is read all the same."""
    exchange = exchanges.get("BYBIT")
    (call,) = exchange.open_interest([exchange.assume("BTCUSDT", "perp")])
    row = {"symbol": "BTCUSDT", "openInterest": "5", "openInterestValue": "500", "fundingRate": said}
    body = {"retCode": 0, "result": {"list": [row]}, "time": 1_800_000_000_000}
    (found,) = call.read(msgspec.json.encode(body)).items
    assert (found.base, found.funding) == (5.0, read)


def test_binance_open_interest_of_coin_margined_contracts_is_dollars() -> None:
    """COIN-M counts contracts: what they are worth is known, how many coins that is depends on the price."""
    exchange = exchanges.get("BINANCE_FUTURES")
    (call,) = exchange.open_interest([exchange.assume("BTCUSD_PERP")])
    (row,) = call.read(b'{"symbol":"BTCUSD_PERP","openInterest":"2500","time":1800000000000}').items
    assert (row.base, row.usd) == (None, 250_000.0)
