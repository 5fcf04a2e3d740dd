"""`sqfd import`, `export` and `coverage` as a user meets them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from sqfd.cli import cli
from sqfd.journal import JournalStore
from sqfd.journal.journal import claim
from tests.history import archives
from tests.history.archives import DAY_S

MARKET = "BINANCE:btcusdt"


@pytest.fixture
def state(tmp_path):
    """A state folder with one imported day."""
    path = archives.zipped(
        tmp_path / "BTCUSDT-trades-2024-08-08.zip", archives.spot_trades(archives.rows(1, seconds=900))
    )
    found = call("import", "binance", path, "--market", MARKET, "--state", tmp_path / "state")
    assert found.exit_code == 0, found.output
    assert "900 in bars" in found.output
    return tmp_path / "state"


def call(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_coverage_tells_what_there_is(state):
    """One line per market and day; a part of a day says where it is missing."""
    found = call("coverage", "--state", state)
    assert MARKET in found.output
    assert "100.00%" in found.output
    row = json.loads(call("coverage", "--state", state, "--json", "--market", MARKET).output)
    assert (row["whole_s"], row["gaps"]) == (86_400, 0)


def test_a_gap_between_two_files_is_told(tmp_path):
    """Two hours with an hour missing between them: one gap of an hour."""
    files = []
    for hour in (0, 2):
        path = tmp_path / f"2024-08-08-0{hour}.gz"
        files.append(archives.gzipped(path, archives.aggr(archives.rows(hour, DAY_S + hour * 3600, 3_599))))
    assert call("import", "aggr", *files, "--market", MARKET, "--state", tmp_path / "s").exit_code == 0
    row = json.loads(call("coverage", "--state", tmp_path / "s", "--json").output)
    assert (row["whole_s"], row["gaps"], row["longest_gap_s"]) == (7_200, 1, 3_600)


@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz"])
def test_export_writes_csv(state, tmp_path, name):
    """Every bar in order, with its market's name; compressed where the name says so."""
    path = tmp_path / name
    assert call("export", path, "--state", state).exit_code == 0
    text = gzip.decompress(path.read_bytes()).decode() if name.endswith("gz") else path.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    store = JournalStore(state, read_only=True)
    bars = store.bars([MARKET], 0, 2**40)
    store.close()
    assert [(row["market"], int(row["second"]), float(row["vbuy"])) for row in rows] == [
        (MARKET, bar["second"], bar["vbuy"]) for bar in bars
    ]


def test_export_writes_parquet(state, tmp_path):
    """With pyarrow a Parquet file whose columns are typed; without it one line that says what to install."""
    path = tmp_path / "bars.parquet"
    found = call("export", path, "--state", state, "--from", str(DAY_S + 10), "--to", str(DAY_S + 20))
    try:
        from pyarrow import parquet
    except ImportError:
        assert (found.exit_code, "pyarrow" in found.output) == (1, True)
        return
    assert found.exit_code == 0, found.output
    table = parquet.read_table(path)
    assert set(table["market"].to_pylist()) == {MARKET}
    assert all(DAY_S + 10 <= second < DAY_S + 20 for second in table["second"].to_pylist())
    assert str(table.schema.field("cbuy").type) == "int64"


def test_mistakes_are_told_in_one_line(state, tmp_path):
    """A wrong market, a file of another kind, a running daemon, an ending that is no format: exit 1 and a sentence."""
    text = tmp_path / "x.csv"
    text.write_text("hello\nworld\n")
    wrong = call("import", "binance", text, "--market", "btcusdt", "--state", state)
    assert (wrong.exit_code, "write EXCHANGE:pair" in wrong.output) == (1, True)
    wrong = call("import", "binance", text, "--market", MARKET, "--state", state)
    assert (wrong.exit_code, "is a row of binance trades" in wrong.output) == (1, True)
    wrong = call("export", tmp_path / "bars.doc", "--state", state)
    assert (wrong.exit_code, ".parquet" in wrong.output) == (1, True)
    wrong = call("export", tmp_path / "bars.csv", "--state", state, "--market", "BINANCE:nothing")
    assert (wrong.exit_code, "no market BINANCE:nothing" in wrong.output) == (1, True)
    lock = claim(state, "test")
    wrong = call("import", "binance", text, "--market", MARKET, "--state", state)
    os.close(lock)
    assert (wrong.exit_code, "stop it first" in wrong.output) == (1, True)


def test_malformed_rows_are_named_with_file_and_line(tmp_path):
    """The first twenty by name, the others as a number; the import goes on and says what it did."""
    lines = archives.spot_trades(archives.rows(1, seconds=100)).splitlines()
    path = tmp_path / "x.csv"
    path.write_text("\n".join([*lines[:50], *["broken"] * 30, *lines[50:]]))
    found = call("import", "binance", path, "--market", MARKET, "--state", tmp_path / "s")
    assert found.exit_code == 0
    assert f"{path}:51: " in found.output
    assert "and 10 more malformed rows" in found.output
    assert "100 in bars, 30 malformed" in found.output


def test_half_a_million_trades_of_two_markets(tmp_path):
    """A day of two markets in two commands: less than 10 s and 120 MB (here by processor time: tests share their host)."""
    times = [DAY_S * 1000 + n * 86_400_000 // 260_000 for n in range(260_000)]
    spot = "".join(f"{n},6{n % 999}.5{n % 7},0.0{n % 97}1,61.2,{ts},{n % 3 == 0},True\n" for n, ts in enumerate(times))
    perp = "".join(f"{n},6{n % 999}.5,0.{n % 97}1,{n},{n + 1},{ts},{n % 2 == 0}\n" for n, ts in enumerate(times))
    files = {
        MARKET: archives.zipped(tmp_path / "BTCUSDT-trades-2024-08-08.zip", spot),
        "BINANCE_FUTURES:btcusdt": archives.zipped(tmp_path / "BTCUSDT-aggTrades-2024-08-08.zip", perp),
    }
    spent_s = 0.0
    program = (
        "import re, time; from sqfd.cli import main\n"
        "try: main()\n"
        "finally: print(time.process_time(), re.search('VmHWM:.* ([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    for market, path in files.items():
        command = [sys.executable, "-c", program, "import", "binance", path, "--market", market]
        done = subprocess.run(
            [*map(str, command), "--state", str(tmp_path / "s")], capture_output=True, text=True, check=True
        )
        seconds, kilobytes = map(float, done.stdout.split()[-2:])
        spent_s += seconds
        assert kilobytes < 120_000
        assert "0 malformed" in done.stdout
    assert spent_s < 10.0
