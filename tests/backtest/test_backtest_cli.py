"""`sqfd backtest`: what it writes, and what it says where it cannot run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from sqfd.backtest.trades import CSV_COLUMNS
from sqfd.cli.backtest import backtest
from sqfd.settings import SettingsError
from tests.backtest.live import Live
from tests.flows import START


def run(live: Live, toml: Path, *arguments: str) -> Result:
    state = str(live.store.path.parent)
    return CliRunner().invoke(backtest, ["-c", str(toml), "--state", state, *arguments])


def test_json_holds_the_signals_as_published(live: Live, toml: Path, tmp_path: Path) -> None:
    """Each signal's bytes stand in the file, with statistics, coverage, speed, and both sides of every trade."""
    file = tmp_path / "out.json"
    result = run(live, toml, "--json", str(file))
    assert result.exit_code == 0, result.output
    text = file.read_bytes()
    assert b",".join(live.lines) in text
    found = orjson.loads(text)
    assert [(s["second"], s["action"]) for s in found["signals"]] == [
        (orjson.loads(line)["second"], orjson.loads(line)["action"]) for line in live.lines
    ]
    assert found["ticks_per_second"] > 0
    assert found["coverage"]["BTC"]["revisions"] > 20
    assert (
        0.99 < found["coverage"]["BTC"]["markets"]["BINANCE:btcusdt"] * 1800 / found["coverage"]["BTC"]["seconds"] < 1.0
    )
    assert found["stats"]["trades"] == len([t for t in found["trades"] if t["exit_reasons"] != ["end_of_data"]])
    assert "as live saw it" in result.output


def test_json_to_standard_output_is_all_that_is_printed(live: Live, toml: Path) -> None:
    """`--json -` can be piped."""
    result = run(live, toml, "--symbol", "eth", "--json", "-")
    assert orjson.loads(result.output)["symbols"] == ["ETH"]


def test_trades_as_csv(live: Live, toml: Path, tmp_path: Path) -> None:
    """One row a trade with the documented columns, closed in the order in which they closed."""
    file = tmp_path / "trades.csv"
    assert run(live, toml, "--trades", str(file)).exit_code == 0
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    exits = [int(row["exit_tick"]) for row in rows]
    assert exits == sorted(exits)
    assert len(rows) >= 4


def test_what_explains_the_signals_is_left_out_where_nothing_shows_it(live: Live, toml: Path, tmp_path: Path) -> None:
    """Trades and statistics are the same whether or not signals are written."""
    alone, beside = tmp_path / "alone.csv", tmp_path / "beside.csv"
    brief = run(live, toml, "--trades", str(alone))
    explained = run(live, toml, "--trades", str(beside), "--json", str(tmp_path / "out.json"))
    assert alone.read_bytes() == beside.read_bytes()
    assert [line for line in brief.output.splitlines() if "ticks/s" not in line] == [
        line for line in explained.output.splitlines() if "ticks/s" not in line
    ]


def test_the_report_needs_nothing_but_a_browser(live: Live, toml: Path, tmp_path: Path) -> None:
    """No other file is asked for; coverage, costs, each symbol's figure and why each trade was made are in it."""
    file = tmp_path / "report.html"
    assert run(live, toml, "--html", str(file)).exit_code == 0
    page = file.read_text(encoding="utf-8")
    head = page.partition("<script>")[0]
    body = page.partition("</script></head>")[2]
    assert 'name="viewport"' in head
    assert "<script src" not in page
    assert "<link" not in page
    for words in ("seconds stored", "BTC: price, flow and score", "ETH: price, flow and score", "setup held", "fees"):
        assert words in body, words


def test_the_reports_table_is_that_of_the_trades(live: Live, toml: Path, tmp_path: Path) -> None:
    """A row per trade with a cell under every head: the same result and reasons as in the CSV."""
    file, csv_file = tmp_path / "report.html", tmp_path / "trades.csv"
    assert run(live, toml, "--html", str(file), "--trades", str(csv_file)).exit_code == 0
    table = file.read_text(encoding="utf-8").rpartition("<h2>Trades (")[2]
    heads = re.findall(r"<th[^>]*>(.*?)</th>", table)
    rows = [dict(zip(heads, re.findall(r"<td[^>]*>(.*?)</td>", row, re.S), strict=True)) for row in _rows(table)]
    with csv_file.open() as lines:
        known = list(csv.DictReader(lines))
    assert len(rows) == len(known) >= 4
    for shown, trade in zip(rows, known, strict=True):
        assert (shown["symbol"], shown["side"]) == (trade["symbol"], trade["side"])
        assert shown["net $"] == f"{float(trade['net']):,.2f}"
        assert re.split(r"\W", trade["exit_reasons"])[0].replace("_", " ") in shown["why"]
    assert "', '" not in table


def _rows(table: str) -> list[str]:
    return re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.S)


def test_revised_data_is_named(live: Live, toml: Path) -> None:
    """What is better than live had is said to be."""
    assert "newest revisions" in run(live, toml, "--revised").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "1000"), "no flow of BTC, ETH in"),
        (("--from", str(START + 100_000)), "there is BTC 2023-11-14 22:14:00 to 2023-11-14 22:44:00"),
        (("--symbol", "DOGE"), "no flow of DOGE in"),
        (("--symbol", "DOGE"), "there is BTC 2023-11-14"),
        (("--set", "backtest.exchange=MINE"), "no fees are known of 'MINE'"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    live: Live, toml: Path, arguments: tuple[str, ...], words: str
) -> None:
    """A range or symbol without data, naming what there is; an exchange without fees."""
    result = run(live, toml, *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert len(result.output.splitlines()) == 1


def test_an_unknown_setting_is_named_with_its_neighbour(live: Live, toml: Path) -> None:
    """`--set` is checked as the file is."""
    result = run(live, toml, "--set", "strategy.min_entry_scor=5")
    assert isinstance(result.exception, SettingsError)
    assert "did you mean strategy.min_entry_score?" in str(result.exception)


def test_another_setting_gives_other_signals(live: Live, toml: Path) -> None:
    """`--set strategy.min_entry_score=10` leaves nothing."""
    result = run(live, toml, "--set", "strategy.min_entry_score=10", "--json", "-")
    assert orjson.loads(result.output)["signals"] == []


def test_no_journal_is_said_plainly(tmp_path: Path) -> None:
    """One line that names the folder and the option."""
    result = CliRunner().invoke(backtest, ["--state", str(tmp_path)])
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert "--state" in result.output
