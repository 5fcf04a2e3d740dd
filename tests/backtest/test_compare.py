"""`sqfd compare-live`: nothing differs, or what does is named with its reason."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from sqfd.cli.compare_live import compare_live
from sqfd.journal import FILE_NAME, JournalStore
from tests.backtest.live import Live, config, lived
from tests.flows import START
from tests.test_engine import SHORT_WINDOWS


def test_a_live_run_equals_its_backtest(live: Live, toml: Path) -> None:
    """All signals of the eventful run are the same; its own settings are taken from the journal."""
    result = CliRunner().invoke(compare_live, ["--state", str(live.store.path.parent), "--json"])
    found = orjson.loads(result.output)
    assert result.exit_code == 0
    assert (found["live"], found["same"], found["differences"]) == (len(live.lines), len(live.lines), [])
    assert found["notes"] == []


def test_what_differs_is_named_with_its_reason(live: Live, tmp_path: Path) -> None:
    """A signal taken away, one changed and one made up: each is found, and why is said."""
    shutil.copytree(live.store.path.parent, tmp_path / "copy")
    db = sqlite3.connect(tmp_path / "copy" / FILE_NAME)
    rows = db.execute("SELECT signal_id, line FROM signal ORDER BY seq").fetchall()
    db.execute("DELETE FROM signal WHERE signal_id = ?", (rows[0][0],))
    changed = rows[2][1].replace(b'"ttl":60', b'"ttl":61')
    db.execute("UPDATE signal SET line = ? WHERE signal_id = ?", (changed, rows[2][0]))
    made_up = orjson.loads(rows[4][1]) | {"second": orjson.loads(rows[4][1])["second"] - 7, "signal_id": "x"}
    db.execute(
        "INSERT INTO signal SELECT 'x', seq + 1000, tick - 7, second - 7, symbol, valid_until_s, ?, cvd FROM signal "
        "WHERE signal_id = ?",
        (orjson.dumps(made_up), rows[4][0]),
    )
    db.commit()
    db.close()
    result = CliRunner().invoke(compare_live, ["--state", str(tmp_path / "copy")])
    assert result.exit_code == 1
    assert "only backtest: live gave no signal here" in result.output
    assert "ttl: live 61, backtest 60" in result.output
    assert "only live: score" in result.output
    assert f"{len(live.lines) - 2} of {len(live.lines)} live signals are the same, 3 differences" in result.output


def test_of_another_setting_it_is_said_what_it_kept_from_happening(live: Live, tmp_path: Path) -> None:
    """A higher least score in the journal's note: which entries it refuses, and which come only because live held a position.
    And of a position whose two signals are gone: it is the backtest's alone."""
    shutil.copytree(live.store.path.parent, tmp_path / "copy")
    db = sqlite3.connect(tmp_path / "copy" / FILE_NAME)
    for name, data in db.execute("SELECT name, data FROM state WHERE name LIKE 'engine:%'").fetchall():
        note = orjson.loads(data)
        note["strategy"]["min_entry_score"] = 2.6
        db.execute("UPDATE state SET data = ? WHERE name = ?", (orjson.dumps(note), name))
    db.execute("DELETE FROM signal WHERE seq > (SELECT max(seq) - 2 FROM signal)")
    db.commit()
    db.close()
    result = CliRunner().invoke(compare_live, ["--state", str(tmp_path / "copy")])
    assert result.exit_code == 1
    assert "of 2.6" in result.output
    assert "only backtest: live still held the position that it opened at 2023-11-14" in result.output
    assert "only backtest: its position was opened by the backtest alone" in result.output


def test_a_journal_without_a_live_run_says_so(tmp_path: Path) -> None:
    """An imported journal has nothing to compare with."""
    JournalStore(tmp_path).close()
    result = CliRunner().invoke(compare_live, ["--state", str(tmp_path)])
    assert result.exit_code == 1
    assert "notes no live run" in result.output


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_a_range_without_seconds_is_refused(live: Live, option: str) -> None:
    """Naming what there is."""
    second = "4000000000" if option == "--from" else "1000"
    result = CliRunner().invoke(compare_live, ["--state", str(live.store.path.parent), option, second])
    assert result.exit_code == 1
    assert "there is BTC 2023-11-14" in result.output


def test_after_a_reload_the_new_settings_are_compared(tmp_path: Path) -> None:
    """Signals since the settings changed are the same, open positions and memory included; what came before is left out."""
    other = msgspec.structs.replace(SHORT_WINDOWS, min_entry_score=3.0, exit_flow=0.6)
    run = lived(tmp_path, config(), 1_000, 1, reloads={600: other})
    run.store.close()
    seconds = [orjson.loads(line)["second"] for line in run.lines]
    assert min(seconds) < START + 600
    result = CliRunner().invoke(compare_live, ["--state", str(tmp_path), "--json"])
    found = orjson.loads(result.output)
    assert found["live"] == len([second for second in seconds if second >= START + 600])
    assert found["live"] >= 3
    assert (found["same"], found["differences"]) == (found["live"], [])
    assert found["notes"] == ["runs with other symbols or settings are left out"]
