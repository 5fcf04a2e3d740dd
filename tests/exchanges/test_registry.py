"""The registry: ids, venues by other names, and what each exchange promises about itself."""

from __future__ import annotations

import ast
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import exchanges
from exchanges.api import (
    Asked,
    Assumed,
    BadMessage,
    Call,
    Instrument,
    Page,
    Request,
    base_asset,
    by_channel,
    chunks,
    split_pair,
)


def test_ids_are_in_alphabetical_order() -> None:
    """IDS is sorted, so that lists of exchanges need no sorting elsewhere."""
    assert list(exchanges.IDS) == sorted(exchanges.IDS)


@pytest.mark.parametrize(
    ("venue", "market", "exchange_id"),
    [
        ("okx", "spot", "OKEX"),
        ("OKEX", None, "OKEX"),
        ("binance", "spot", "BINANCE"),
        ("binance", "perp", "BINANCE_FUTURES"),
        ("Binance-Futures", None, "BINANCE_FUTURES"),
        ("coinbase_international", "perp", "COINBASE"),
        ("nowhere", "spot", None),
    ],
)
def test_venues_are_found_by_their_usual_names(venue: str, market: str | None, exchange_id: str | None) -> None:
    """Other projects' names of exchanges lead to our ids; an unknown one to none."""
    assert exchanges.by_venue(venue, market) == exchange_id


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_addresses_can_be_replaced_by_name(exchange_id: str) -> None:
    """Every endpoint and REST base takes another address; an unknown name is an error that lists the known ones."""
    published = exchanges.get(exchange_id)
    names = [e.name for e in published.endpoints] + list(published.rest)
    assert len(set(names)) == len(names)
    moved = exchanges.get(exchange_id, {name: f"ws://127.0.0.1:1/{name}" for name in names})
    assert all(moved.url(name) == f"ws://127.0.0.1:1/{name}" for name in names)
    for call in moved.listings():
        assert call.request.url.startswith("ws://127.0.0.1:1/")
    with pytest.raises(ValueError, match=names[0]):
        exchanges.get(exchange_id, {"nothing": "x"})


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_published_addresses_are_encrypted(exchange_id: str) -> None:
    """wss and https only, REST bases without a trailing slash."""
    exchange = exchanges.get(exchange_id)
    assert exchange.id == exchange_id
    assert all(urlsplit(e.url).scheme == "wss" for e in exchange.endpoints)
    assert all(urlsplit(url).scheme == "https" and not url.endswith("/") for url in exchange.rest.values())


def test_a_call_raises_only_bad_message() -> None:
    """Whatever a reader of answers raises on nonsense reaches the caller as BadMessage."""

    def read(body: bytes) -> Page[int]:
        return Page([1 // len(body)])

    assert Call(Request("https://example.org"), read).read(b"x").items == [1]
    with pytest.raises(BadMessage, match="ZeroDivisionError"):
        Call(Request("https://example.org"), read).read(b"")


def test_assumed_instruments_are_bounded_and_keep_what_is_known() -> None:
    """Given instruments win over assumed ones; absurd symbols and endless new ones are refused."""
    exchange = exchanges.get("OKEX")
    known = Instrument("OKEX", "BTC-USDT-SWAP", "BTC-USDT-SWAP", "perp", "BTC", "USDT", "public", contract_size=0.5)
    assumed = Assumed(exchange, None, [known])
    assert assumed.get("BTC-USDT-SWAP") is known
    assert assumed.get("ETH-USDT").kind == "spot"
    with pytest.raises(BadMessage):
        assumed.get("A" * 100)
    assumed.LIMIT = 2  # type: ignore[misc]  # the test lowers the bound
    with pytest.raises(BadMessage):
        assumed.get("SOL-USDT")


def test_chunks_are_full_but_the_last() -> None:
    """Pieces hold everything in order."""
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert chunks([], 2) == []


def test_requests_without_answer_are_forgotten_in_the_end() -> None:
    """An exchange that never answers fills no memory: the oldest requests go first."""
    asked = Asked()
    for number in range(Asked.LIMIT + 2):
        asked[number] = ("topic",)
    assert len(asked) == Asked.LIMIT
    assert (0 in asked, 2 in asked) == (False, True)


@pytest.mark.parametrize(
    ("symbol", "parts"),
    [("BTCUSDT", ("BTC", "USDT")), ("USDTUSD", ("USDT", "USD")), ("USD", ("USD", "")), ("XYZ", ("XYZ", ""))],
)
def test_pairs_without_a_separator(symbol: str, parts: tuple[str, str]) -> None:
    """The quote is one in use and never all of the symbol."""
    assert split_pair(symbol, ("USDT", "USD")) == parts


def test_topics_of_one_channel_stay_together() -> None:
    """A frame names one channel; its topics keep their order and fill frames."""
    topics = ["a:1", "b:1", "a:2", "a:3", "b:2"]
    assert by_channel(topics, 2) == [["a:1", "a:2"], ["a:3"], ["b:1", "b:2"]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("XBT", ("BTC", 1.0)),
        ("1000PEPE", ("PEPE", 1000.0)),
        ("kPEPE", ("PEPE", 1000.0)),
        ("1MBABYDOGE", ("BABYDOGE", 1e6)),
        ("10000SATS", ("SATS", 10000.0)),
        ("1INCH", ("1INCH", 1.0)),
        ("KAVA", ("KAVA", 1.0)),
    ],
)
def test_base_assets_are_normalised(name: str, expected: tuple[str, float]) -> None:
    """Other names of an asset and coin multipliers are understood; names that only look like it are not."""
    assert base_asset(name) == expected


SHARED_BY_BOTH_HALVES = {"exchanges.api", "exchanges.numbers", "exchanges.mexc_protobuf"}
"""The types, how text becomes time, and MEXC's protobuf message, which captured frames check."""


@pytest.mark.parametrize(
    "path", sorted((Path(exchanges.__file__).parent / "simulated").glob("*.py")), ids=lambda p: p.stem
)
def test_a_simulated_half_takes_no_name_from_its_decoder(path: Path) -> None:
    """Channel names, page sizes and scales are written down twice, so that a mistyped one shows."""
    imports = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = {name for name in imports if name.startswith("exchanges") and not name.startswith("exchanges.simulated")}
    assert ours <= SHARED_BY_BOTH_HALVES
