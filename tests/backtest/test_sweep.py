"""`sqfd sweep`: the same numbers as single backtests, resumed where it was stopped."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click import ClickException
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from sqfd import __version__
from sqfd.backtest.run import Backtest, Plan, planned
from sqfd.backtest.sweep import FEW, MOST, RESULTS, Row, balanced, units
from sqfd.backtest.trials import axis_of, key_of, parts_of, trials_of
from sqfd.cli.backtest import configured
from sqfd.cli.sweep import _same_version, sweep
from sqfd.config import load, with_flags
from tests.backtest.live import Live

VARIED = ("--vary", "strategy.min_entry_score=2.5,4", "--vary", "backtest.latency_s=1,3")


def run(live: Live, toml: Path, out: Path, *arguments: str) -> Result:
    state = str(live.store.path.parent)
    return CliRunner().invoke(sweep, ["-c", str(toml), "--state", state, "--out", str(out), *VARIED, *arguments])


@pytest.fixture(scope="module")
def swept(live: Live, toml: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("sweep")
    return run(live, toml, out, "--windows", "1", "--workers", "2"), out


def rows_of(out: Path) -> list[Row]:
    lines = (out / RESULTS).read_bytes().splitlines()[1:]
    return [msgspec.json.decode(line, type=Row) for line in lines]


def test_every_trial_ran_in_every_part_once(swept: tuple[Result, Path]) -> None:
    """Four trials in two parts: eight rows, in the CSV too; the picture and the warning are there."""
    result, out = swept
    assert result.exit_code == 0, result.output
    assert len({row.key for row in rows_of(out)}) == 8
    assert len(rows_of(out)) == 8
    assert len(list(csv.reader((out / "results.csv").read_text().splitlines()))) == 9
    assert "4 trials" in result.output
    assert "no trial has a sharpe here" in result.output
    assert "<script src" not in (out / "sweep.html").read_text()


def test_parquet_holds_what_the_csv_holds(swept: tuple[Result, Path]) -> None:
    """Values of settings as text, numbers as numbers, nothing where there is none; skipped where pyarrow is not installed."""
    table = pytest.importorskip("pyarrow.parquet").read_table(swept[1] / "results.parquet").to_pydict()
    with (swept[1] / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(table) == list(lines[0])
    for place, line in enumerate(lines):
        told = {name: "" if column[place] is None else str(column[place]) for name, column in table.items()}
        assert told == line
    assert isinstance(table["trades"][0], int)
    assert isinstance(table["strategy.min_entry_score"][0], str)


class Cluster:
    """What is asked of a Dask client before anything is given to it."""

    def __init__(self, scheduler: str | None, **workers: str | None) -> None:
        self.scheduler, self.workers = scheduler, workers

    def run_on_scheduler(self, function: object, name: str) -> str | None:
        return self.scheduler

    def run(self, function: object, name: str) -> dict[str, str | None]:
        return self.workers


def test_a_cluster_without_sqfd_is_told_before_it_is_given_work() -> None:
    """Which scheduler or worker lacks it or has another version, and what to do: instead of an error about deserialization."""
    _same_version(Cluster(__version__, a=__version__))
    with pytest.raises(ClickException, match=r"need sqfd .* \(pip install sqfd\): the scheduler has none, b has 0.0.1"):
        _same_version(Cluster(None, a=__version__, b="0.0.1"))


def test_the_best_of_a_part_is_judged_by_the_next(live: Live, toml: Path, swept: tuple[Result, Path]) -> None:
    """By a metric that so few returns have; nothing is run again for it."""
    result = run(live, toml, swept[1], "--windows", "1", "--metric", "expectancy_bps")
    assert result.exit_code == 0, result.output
    assert "part 1: best was strategy.min_entry_score=" in result.output
    assert "then in the next part" in result.output


def test_a_row_is_what_a_single_backtest_gives(live: Live, toml: Path, swept: tuple[Result, Path]) -> None:
    """Sharing signals between trials changes no number."""
    rows = {row.key: row for row in rows_of(swept[1])}
    key = ("strategy.min_entry_score=2.5 backtest.latency_s=3", 0)
    config = configured(toml, ["backtest.latency_s=3"]).config
    plan = planned(live.store, config, (), None, None)
    middle = plan.first + (plan.last - plan.first) // 2
    stats = Backtest(live.store, config, plan._replace(last=middle)).run().stats()
    assert rows[key].stats == {name: stats[name] for name in rows[key].stats}
    assert stats["trades"] > 0


def test_brief_signals_lack_only_what_explains_them(live: Live, toml: Path) -> None:
    """A sweep's runs decide, trade and count as a backtest does; their signals tell no phases and no reasons."""
    config = configured(toml, ["strategy.min_entry_score=2.5"]).config
    plan = planned(live.store, config, (), None, None)
    whole, brief = (Backtest(live.store, config, plan, brief=short).run() for short in (False, True))
    told = ("signal_id", "second", "action", "side", "position_size_factor", "leverage", "position_id", "exit_reasons")
    assert [[getattr(one, name) for name in told] for one in brief.signals] == [
        [getattr(one, name) for name in told] for one in whole.signals
    ]
    assert brief.stats() == whole.stats()
    assert len(whole.signals) > 1
    assert all(one.phases for one in whole.signals)
    assert not any(one.phases or one.score_breakdown for one in brief.signals)


def test_a_stopped_sweep_goes_on_where_it_was(live: Live, toml: Path, swept: tuple[Result, Path]) -> None:
    """Rows that are there are not run again, a torn last line is; the end is the same."""
    path = swept[1] / RESULTS
    before, lines = rows_of(swept[1]), path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    kept: list[Any] = [orjson.loads(line) for line in lines[1:6]]
    result = run(live, toml, swept[1], "--windows", "1", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert [orjson.loads(line) for line in path.read_bytes().splitlines()[1:6]] == kept
    assert {row.key: row for row in rows_of(swept[1])} == {row.key: row for row in before}


def test_ctrl_c_keeps_what_is_finished(
    live: Live, toml: Path, tmp_path: Path, swept: tuple[Result, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much is kept and how to go on; the same command then gives what an undisturbed sweep gave."""

    @contextmanager
    def pressed(name: str) -> Iterator[Callable[[int, int], None]]:
        def progress(done: int, total: int) -> None:
            if rows_of(tmp_path):
                raise KeyboardInterrupt

        yield progress

    with monkeypatch.context() as patched:
        patched.setattr("sqfd.cli.sweep.shown_progress", pressed)
        stopped = run(live, toml, tmp_path, "--windows", "1", "--workers", "2")
    kept = len(rows_of(tmp_path))
    assert stopped.exit_code == 130
    assert f"stopped; {kept} of 8 runs are kept in {tmp_path}: the same command goes on from there" in stopped.output
    result = run(live, toml, tmp_path, "--windows", "1", "--workers", "2")
    assert f"{kept} of 8 runs are in {tmp_path} already" in result.output
    assert {row.key: row for row in rows_of(tmp_path)} == {row.key: row for row in rows_of(swept[1])}
    assert (tmp_path / "results.csv").read_bytes() == (swept[1] / "results.csv").read_bytes()


@given(trials=st.integers(0, 500), workers=st.integers(1, 9), most=st.integers(1, MOST))
def test_pieces_are_as_many_for_each_worker(trials: int, workers: int, most: int) -> None:
    """Each trial is in one piece; none is larger than allowed; sizes differ by one at most; no more are made than that needs."""
    pieces = balanced(range(trials), workers, most)
    assert sorted(one for piece in pieces for one in piece) == list(range(trials))
    assert all(0 < len(piece) <= most for piece in pieces)
    if len(pieces) < trials:
        assert len(pieces) % workers == 0
        assert len(pieces[0]) - len(pieces[-1]) <= 1
    assert len(pieces) <= max(workers, trials // FEW, trials // most + workers)


def test_neighbours_share_and_costs_are_mixed(tmp_path: Path) -> None:
    """Two units of a part: what shares its divergences stays in one of them, and each has low and high bars.

    A run that is finished is left out.
    """
    loaded = load(environment={"HOME": "/nonexistent"})
    axes = [axis_of("strategy.min_entry_score=3,4"), axis_of("strategy.divergence_gap_min=1,2,3,4")]
    configs = {key_of(trial): (trial, with_flags(loaded, trial, "--vary")) for trial in trials_of(axes, None, 0)}
    plan = Plan(("BTC",), 0, 86_400)
    found = list(units(tmp_path, plan, parts_of(0, 86_400, 1), configs, {(next(iter(configs)), 1)}, 4))
    gaps = [[trial["strategy.divergence_gap_min"] for trial in unit.trials] for unit in found]
    assert gaps[:2] == [["1", "1", "4", "4"], ["2", "2", "3", "3"]]
    assert [(unit.number, unit.part, len(unit.trials)) for unit in found] == [
        (0, 0, 4),
        (1, 0, 4),
        (2, 1, 4),
        (3, 1, 3),
    ]


def test_another_sweep_in_the_same_folder_is_refused(live: Live, toml: Path, swept: tuple[Result, Path]) -> None:
    """Results of other parts or settings are not mixed."""
    result = run(live, toml, swept[1], "--windows", "2")
    assert result.exit_code == 1
    assert "another folder" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--metric", "luck"), "known are sharpe"), (("--vary", "strategy.exit_flow=0.1..0.5"), "--random N")],
)
def test_what_cannot_be_swept_is_refused(
    live: Live, toml: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """In one line, before anything runs."""
    result = run(live, toml, tmp_path / "new", *arguments)
    assert result.exit_code == 1
    assert words in result.output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("strategy.min_entry_score=3,high", "--vary: strategy.min_entry_score: expected float, not 'high'"),
        ("strategy.exit_flaw=0.1,0.2", "--vary: strategy.exit_flaw: unknown setting; did you mean strategy.exit_flow?"),
    ],
)
def test_a_setting_that_cannot_be_varied_is_told_once(
    live: Live, toml: Path, tmp_path: Path, given: str, words: str
) -> None:
    """The line names flag, key and what was expected, each once; nothing runs."""
    result = run(live, toml, tmp_path / "new", "--vary", given)
    assert result.exit_code == 1
    assert str(result.exception) == words
    assert not (tmp_path / "new").exists()


def test_a_dask_cluster_gives_the_same_rows(live: Live, toml: Path, tmp_path: Path, swept: tuple[Result, Path]) -> None:
    """A local cluster behind an address; skipped where the optional package is not installed."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1", protocol="tcp") as cluster:
        result = run(live, toml, tmp_path, "--windows", "1", "--dask", cluster.scheduler_address)
    assert result.exit_code == 0, result.output
    assert {row.key: row for row in rows_of(tmp_path)} == {row.key: row for row in rows_of(swept[1])}
