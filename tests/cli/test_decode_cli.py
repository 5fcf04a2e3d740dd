"""`sqfd decode`: one JSON line for each line, errors included."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sqfd.cli.decode import decode, decode_lines

TRADE = (
    '{"e":"aggTrade","E":1800000000005,"s":"BTCUSDT","a":5,"p":"60000.5","q":"0.25",'
    '"f":10,"l":12,"T":1800000000000,"m":false}'
)
EXPECTED = {
    "kind": "trade",
    "pair": "BTCUSDT",
    "market": "BINANCE:btcusdt",
    "ts_ms": 1_800_000_000_000,
    "price": 60000.5,
    "size": 0.25,
    "side": "buy",
    "count": 3,
    "liquidation": False,
    "trade_id": 5,
}


def run(*arguments: str, text: str | bytes = "") -> tuple[Result, list[dict[str, Any]]]:
    result = CliRunner().invoke(decode, list(arguments), input=text)
    lines = result.stdout.splitlines() if result.exit_code == 0 else []
    return result, [json.loads(line) for line in lines]


def case(**fields: Any) -> str:
    return json.dumps({"id": "c1", "venue": "binance", "market": "spot", "frame": TRADE} | fields) + "\n"


def wire(*lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in decode_lines([line.encode() for line in lines])]


def test_raw_frames_give_trades_and_bad_ones_errors() -> None:
    """A frame that cannot be read gives an error with its line's number, and the next is read."""
    _, lines = run("BINANCE", text=f"{TRADE}\nnonsense\n\n{TRADE}\n")
    assert [line["id"] for line in lines] == [1, 2, 4]
    assert lines[0]["events"] == [EXPECTED]
    assert "error" in lines[1]
    assert lines[2]["events"] == [EXPECTED]


def test_packed_input_is_unpacked(tmp_path: Path) -> None:
    """Standard input and files that begin as gzip does are unpacked, whatever they are called."""
    packed = gzip.compress(TRADE.encode() + b"\n")
    (tmp_path / "frames").write_bytes(packed)
    for _, lines in (run("BINANCE", text=packed), run("BINANCE", str(tmp_path / "frames"))):
        assert [line["events"] for line in lines] == [[EXPECTED]]


@pytest.mark.shared
def test_every_capture_is_decoded_from_standard_input(shared: Path) -> None:
    """`sqfd decode --wire < FILE` exits with 0 and answers each line, for all captured frames and connections."""
    for path in sorted((shared / "wire").glob("*.jsonl")):
        _, lines = run("--wire", text=path.read_bytes())
        assert [line["id"] for line in lines] == [one["id"] for one in map(json.loads, path.read_text().splitlines())]
    for path in sorted((shared / "wire" / "replay").glob("*.replay.jsonl.gz")):
        result, lines = run("--wire", text=path.read_bytes())
        assert result.exit_code == 0
        assert any(event["kind"] == "trade" for line in lines for event in line["events"])


def test_bytes_that_are_no_text_give_errors() -> None:
    """Bad UTF-8 costs only its line."""
    _, lines = run("binance", text=b"\xff\xfe\n" + TRADE.encode() + b"\n")
    assert ["error" in line for line in lines] == [True, False]


def test_files_may_be_packed(tmp_path: Path) -> None:
    """Frames are read from files, .gz too; a damaged one is an error in words."""
    path = tmp_path / "frames.txt.gz"
    path.write_bytes(gzip.compress(TRADE.encode() + b"\n"))
    _, lines = run("BINANCE", str(path))
    assert lines[0]["events"] == [EXPECTED]
    path.write_bytes(gzip.compress(TRADE.encode())[:-12])
    result, _ = run("BINANCE", str(path))
    assert result.exit_code == 1
    assert "frames.txt.gz" in result.output
    result, _ = run("BINANCE", str(tmp_path / "absent"))
    assert result.exit_code == 2


@pytest.mark.parametrize("arguments", [[], ["NOWHERE"]])
def test_an_unknown_exchange_is_a_usage_error(arguments: list[str]) -> None:
    """Exit code 2 and the list of known ones."""
    result, _ = run(*arguments)
    assert result.exit_code == 2
    assert "BINANCE_FUTURES" in result.output


def test_the_kind_settles_shared_names() -> None:
    """Where spot and perpetuals share a symbol, --kind says which it is."""
    frame = json.dumps(
        {
            "topic": "publicTrade.BTCUSDT",
            "data": [{"T": 1_800_000_000_000, "s": "BTCUSDT", "S": "Sell", "v": "1", "p": "2", "i": "x"}],
        }
    )
    for kind, market in (("spot", "BYBIT:BTCUSDT-SPOT"), ("perp", "BYBIT:BTCUSDT")):
        _, lines = run("--kind", kind, "BYBIT", text=frame)
        assert lines[0]["events"][0]["market"] == market


def test_cases_take_their_instrument_as_given() -> None:
    """A contract size that a line brings is used instead of the usual one; the id is the line's."""
    row = {"instId": "BTC-USD-SWAP", "tradeId": "7", "px": "50", "sz": "2", "side": "sell", "ts": "1800000000000"}
    frame = json.dumps({"arg": {"channel": "trades", "instId": "BTC-USD-SWAP"}, "data": [row]})
    spec = {"symbol": "BTC-USD-SWAP", "contract_size": 25, "inverse": True, "base": "BTC", "quote": "USD"}
    for given, size in ((spec, 1.0), (None, 4.0)):
        (line,) = wire(case(venue="okx", market="perp", frame=frame, instrument=given))
        assert line["id"] == "c1"
        assert (line["events"][0]["size"], line["events"][0]["side"]) == (size, "sell")
        (first,) = wire(case(venue="okx", market="perp", frame=frame, instrument=spec, phase="first"))
        assert [e["kind"] for e in first["events"]] == ["past"]
        assert first["events"][0]["trades"][0]["size"] == 1.0


def test_context_is_fed_but_not_judged() -> None:
    """Context frames change the decoder's state and give no output; a bad one is an error of the line."""
    row = {"instId": "BTC-USDT", "tradeId": "7", "px": "50", "sz": "2", "side": "sell", "ts": "1800000000000"}
    frame = json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [row]})
    ack = json.dumps({"event": "subscribe", "arg": {"channel": "trades", "instId": "BTC-USDT"}})
    once, twice, bad = wire(
        case(venue="okx", frame=frame, context=[{"frame": ack}]),
        case(venue="okx", frame=frame, context=[{"frame": ack}, {"frame": frame}]),
        case(venue="okx", frame=frame, context=[{"frame": "{"}]),
    )
    assert [e["kind"] for e in once["events"]] == ["past"]
    assert [e["kind"] for e in twice["events"]] == ["trade"]
    assert "error" in bad


def test_encoded_frames_are_unpacked() -> None:
    """Base64 is undone; what cannot be undone is an error of its line."""
    packed = base64.b64encode(TRADE.encode()).decode()
    good, bad, odd = wire(
        case(frame=packed, encoding="base64"), case(frame="?", encoding="base64"), case(encoding="rot13")
    )
    assert good["events"] == [EXPECTED]
    assert "error" in bad
    assert "rot13" in odd["error"]


def test_bad_lines_are_answered_in_their_place() -> None:
    """Unknown venues, missing fields and broken JSON give errors, in order, with the line's id or number."""
    lines = wire(case(venue="nowhere"), '{"id":"x"}\n', "{", case())
    assert [line["id"] for line in lines] == ["c1", "x", 3, "c1"]
    assert ["error" in line for line in lines] == [True, True, True, False]
    assert "known: " in lines[0]["error"]
    assert "BINANCE, " in lines[0]["error"]


def test_recordings_keep_connections_apart() -> None:
    """Each connection has its own decoder, made anew when it opens; only what came in is answered, with its time."""
    row = {"instId": "BTC-USDT", "tradeId": "7", "px": "50", "sz": "2", "side": "sell", "ts": "1800000000000"}
    frame = json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [row]})
    ack = json.dumps({"event": "subscribe", "arg": {"channel": "trades", "instId": "BTC-USDT"}})
    head = json.dumps({"meta": True, "venue": "okx", "instruments": [{"symbol": "BTC-USDT"}]})
    moments = [
        {"t": 1.0, "conn": 0, "dir": "open", "url": "wss://example.org"},
        {"t": 1.0, "conn": 0, "dir": "out", "frame": "{}"},
        {"t": 1.1, "conn": 0, "dir": "in", "frame": ack},
        {"t": 1.2, "conn": 1, "dir": "in", "frame": frame},
        {"t": 1.3, "conn": 0, "dir": "in", "frame": frame},
        {"t": 1.4, "conn": 0, "dir": "in", "frame": "{"},
        {"t": 1.5, "conn": 0, "dir": "in", "frame": frame},
    ]
    lines = wire(head, *map(json.dumps, moments))
    kinds = [[e["kind"] for e in line.get("events", [])] for line in lines]
    assert kinds == [["ack"], ["trade"], ["past"], [], ["trade"]]
    assert [(line["t"], line["conn"]) for line in lines][:2] == [(1.1, 0), (1.2, 1)]
    assert "error" in lines[3]


def test_help_teaches_by_example() -> None:
    """--help shows a frame going in and what comes out."""
    result = CliRunner().invoke(decode, ["--help"])
    assert "sqfd decode BINANCE" in result.output
    assert '"kind":"trade"' in result.output
