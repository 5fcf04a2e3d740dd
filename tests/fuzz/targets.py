"""What is fuzzed: functions of bytes that raise only where something is wrong.

Each is run by atheris (`make fuzz`, guided by coverage) and by the suite over what was found before and over some bytes of
hypothesis. A new target is a function with `@target`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import exchanges
from exchanges.api import BadMessage, Call, Gap, Instrument
from exchanges.archives import LAYOUTS, ORIGINS, layout_of
from sqfd.config import load
from sqfd.feed.frames import Assembler, Refused
from sqfd.feed.recorded import Recording
from sqfd.history.formats import read_block
from sqfd.history.markets import NoSuchMarket, instrument_of
from sqfd.http import aggr
from sqfd.http.guard import name_of
from sqfd.influx.lines import BARS_MEASUREMENT, bar_lines, point, series, tag
from sqfd.influx.verdict import Verdict, judge, needs_schema
from sqfd.model import BAR
from sqfd.settings import SettingsError
from tests.exchanges.support import NOW_MS, simulated, sockets
from tests.exchanges.test_mutations import checked, fresh, valid

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
SEEDS: dict[str, Callable[[], Sequence[bytes]]] = {}
"""Where to begin: good input, made rather than kept."""


def target(*seeds: bytes) -> Callable[[Target], Target]:
    """Enter a function into the table, by its name."""

    def enter(function: Target) -> Target:
        name = function.__name__.replace("_", "-")
        TARGETS[name], SEEDS[name] = function, lambda: seeds
        return function

    return enter


# --- exchanges ----------------------------------------------------------------------------------------------------------


def _frames(exchange_id: str, endpoint: str, data: bytes) -> None:
    """Two frames of one connection: only BadMessage, and only trades in range."""
    decoder = fresh(exchange_id, endpoint)
    for frame in data.split(b"\x00\x00", 1):
        checked(decoder, frame)


def _answers(exchange_id: str, data: bytes) -> None:
    """Everything that is asked by REST, answered with these bytes: only BadMessage."""
    for call in _calls(exchange_id):
        try:
            call.read(data)
        except BadMessage:
            continue


def _calls(exchange_id: str) -> Iterator[Call[object]]:
    exchange, made = exchanges.get(exchange_id), simulated(exchange_id)
    yield from exchange.listings()  # type: ignore[misc]  # Call is invariant; only `read` is called
    for instrument in itertools.islice(made.instruments.values(), 3):
        gap = Gap(instrument, NOW_MS - 60_000, NOW_MS)
        if (recovery := exchange.recover(gap)) is not None:
            yield recovery  # type: ignore[misc]
    yield from exchange.open_interest(list(made.instruments.values()))  # type: ignore[misc]


for _id, _endpoint in sockets():
    TARGETS[f"frames-{_id}-{_endpoint}"] = partial(_frames, _id, _endpoint)
    SEEDS[f"frames-{_id}-{_endpoint}"] = partial(valid, _id, _endpoint)
for _id in exchanges.IDS:
    TARGETS[f"answers-{_id}"] = partial(_answers, _id)
    SEEDS[f"answers-{_id}"] = lambda: (b"[]", b"{}", b'{"code":0,"data":[{"symbol":"BTCUSDT","price":"1.5","time":1}]}')


@target(b"\x01\x05hello", b"\x00\x01a\x02\x01b\x03\x01c", b"\x04\x01a\x05\x02b\xff")
def websocket_fragments(data: bytes) -> None:
    """Any sequence of frames: messages within the limit, or Refused."""
    assembler, at = Assembler(4096), 0
    while at + 2 <= len(data):
        kind, size = data[at], data[at + 1]
        part, at = data[at + 2 : at + 2 + size] * (1 + kind // 16), at + 2 + size
        try:
            if kind & 1:
                message = assembler.whole(part, bool(kind & 4))
            elif kind & 2:
                ended = assembler.go_on(part, bool(kind & 4))
                message = ended[0] if ended else b""
            else:
                assembler.begin(part, bool(kind & 4))
                continue
        except Refused:
            return
        assert len(message) <= 4096 or kind & 1  # the library limits whole frames


# --- what users give --------------------------------------------------------------------------------------------------


@target(
    b"[symbols]\nsymbols=['BTC']\n[feed]\ngrace_s=0.5\n",
    b"[influx]\nurl='http://x'\n[strategy.per_symbol.BTC]\nttl_s=5",
)
def config_file(data: bytes) -> None:
    """Any file: a configuration, or one line that says why not."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        _refusal_is_one_line(Path(file.name), {})


def _refusal_is_one_line(path: Path, environment: dict[str, str]) -> None:
    told = ""
    try:
        load(path, environment)
    except SettingsError as error:
        told = str(error)
    assert "\n" not in told, told


@target(b"SQFD__FEED__GRACE_S=0.5\0SQFD__SYMBOLS__SYMBOLS=BTC,ETH", b"REDIS_URL=redis://x\0INFLUX_PORT=1")
def config_environment(data: bytes) -> None:
    """Any variables: a configuration, or one line that says why not."""
    text = data.decode("utf-8", "replace")
    environment = dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)
    environment = {name: value for name, value in environment.items() if not name.endswith("_FILE")}
    for name in ("SQFD_CONFIG", "HOME", "CREDENTIALS_DIRECTORY", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    _refusal_is_one_line(Path("/dev/null"), environment)


@target(b"/historical/0/60000/1000/BINANCE:btcusdt+KRAKEN:XBT%2FUSD", b"/historical/1/2/x/%2B", b"/historical/")
def historical_query(data: bytes) -> None:
    """Any path: a wish within the limits, or Refused."""
    try:
        wish = aggr.parse(data.decode("latin-1"), 1000)
    except aggr.Refused:
        return
    assert wish.step_s >= 1
    assert wish.from_s <= wish.to_s
    assert (wish.to_s - wish.from_s) / wish.step_s <= 1002


@target(b"localhost:8686", b"[::1]:80", b"evil.example@127.0.0.1")
def host_header(data: bytes) -> None:
    """Any Host header has a name; nothing is raised."""
    name_of(data.decode("latin-1"))


@target(b"BINANCE:btcusdt", b"NOPE:x", b"KRAKEN:XBT/USD")
def market_name(data: bytes) -> None:
    """Any name of a market to import: an instrument whose name InfluxDB can have, or NoSuchMarket."""
    try:
        instrument: Instrument = instrument_of(data.decode("utf-8", "replace"))
    except NoSuchMarket:
        return
    series(instrument.market)


# --- import -----------------------------------------------------------------------------------------------------------


@target(
    b"1,100.5,2.0,201.0,1700000000000,True\n",
    b"1,100.5,2.0,10,11,1700000000000,true,true\n",
    b"binance,BTCUSDT,1700000000000000,1700000000000000,1,buy,1.5,2\n",
    b"1700000000000 100.5 2.0 1 1\n1700000000001 100.5 2 0\n",
)
def import_rows(data: bytes) -> None:
    """Any block of lines in any layout: trades in range, or rows that are told; none is lost."""
    for layout in LAYOUTS:
        for kind in ("trades", "liquidations"):
            block = read_block(layout, data, 1, "BTCUSDT", kind)  # type: ignore[arg-type]  # one of its Literal
            assert np.isfinite(block.trades["price"]).all()
            assert (block.trades["price"] > 0).all()
            assert np.isfinite(block.trades["size"]).all()
    for origin in ORIGINS:
        layout_of(origin, data.split(b"\n", 1)[0])


@target(b'{"recv_ms":1.5,"exchange":"BINANCE","endpoint":"spot","conn":0,"frame":"{}"}\n')
def recording(data: bytes) -> None:
    """Any file of a recording: its frames, or counted as unreadable."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.jsonl").write_bytes(data)
        for recorded in Recording(Path(folder)):
            assert isinstance(recorded.frame, bytes)


# --- InfluxDB ---------------------------------------------------------------------------------------------------------


def fields_of(line: str) -> tuple[str, dict[str, str], dict[str, str], str]:
    """A slow reader of line protocol: (measurement, tags, fields, time). Raises ValueError where there is more or less."""
    head, *more = _split(line, " ", quotes=False)
    body, time = _split(" ".join(more), " ")
    name, *tags = _split(head, ",", quotes=False)
    pairs = [_split(each, "=", quotes=False) for each in tags]
    values = [_split(each, "=") for each in _split(body, ",")]
    return name, dict(map(tuple, pairs)), dict(map(tuple, values)), time  # type: ignore[arg-type]  # raises where not two


def _split(text: str, at: str, *, quotes: bool = True) -> list[str]:
    """Split at a character that is not escaped, nor within quotes, which mean something in fields only."""
    parts, quoted, escaped = [""], False, False
    for character in text:
        if character == at and not quoted and not escaped:
            parts.append("")
            continue
        quoted ^= quotes and character == '"' and not escaped
        escaped = character == "\\" and not escaped
        parts[-1] += character
    return parts


@target(b"BTC\0reasoning", b'a,b=c d\0"quoted" \\ end\\', b"x\ny\0line\nbreak")
def line_protocol(data: bytes) -> None:
    """Any tag and any text make one line that reads back as they were, or ValueError."""
    tag_text, _, text = data.decode("utf-8", "replace").partition("\0")
    try:
        line = point("strategy_signals", {"symbol": tag_text}, {"reasoning": text, "score": 1.5}, 1_700_000_000)
    except ValueError:
        return
    assert "\n" not in line
    name, tags, fields, time = fields_of(line)
    assert (name, list(tags), sorted(fields), time) == (
        "strategy_signals", ["symbol"], ["reasoning", "score"], "1700000000")  # fmt: skip
    assert tags["symbol"].replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ") == tag_text
    written = fields["reasoning"][1:-1].replace('\\"', '"').replace("\\\\", "\\")
    assert written == text.replace("\n", " ").replace("\r", " ")


@target(b"BINANCE:btcusdt", b"KRAKEN:XBT/USD", b"X:a,b=c\nd")
def market_series(data: bytes) -> None:
    """Any name of a market makes one series, or ValueError."""
    name = data.decode("utf-8", "replace")
    try:
        head = series(name)
        tag(name)
    except ValueError:
        return
    bars = np.zeros(1, BAR)
    bars["second"], bars["cbuy"] = 1_700_000_000, 1
    (line,) = bar_lines(bars, [head])
    assert "\n" not in line
    measurement, tags, _fields, _time = fields_of(line)
    assert (measurement, list(tags)) == (BARS_MEASUREMENT, ["market"])


@target(b"\x00partial write: field type conflict", b"\x01unable to parse 'x': bad timestamp", b"\x02database not found")
def influx_answers(data: bytes) -> None:
    """Any answer has a verdict."""
    status = (400, 404, 500, 503, 200, 204, 413, 401)[(data[:1] or b"\0")[0] % 8]
    body = data[1:].decode("utf-8", "replace")
    for lines in (1, 5000):
        verdict = judge(status, body, lines=lines)
        assert isinstance(verdict, Verdict)
        assert verdict is not Verdict.SPLIT or lines > 1
    needs_schema(status, body)
