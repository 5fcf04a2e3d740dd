"""The engine: the same signals live and in blocks, mirrored, scale-free, without look-ahead, and after a restart."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqfd.engine import Engine, to_json
from sqfd.model import Flow
from sqfd.signals.signal import Signal, encode
from sqfd.strategy.settings import StrategySettings
from sqfd.strategy.squeezeflow import SqueezeFlow
from tests.flows import START, make, mirrored, noise, scaled, squeeze, ticks_of, together

SHORT_WINDOWS = StrategySettings(
    warmup_s=300,
    baseline_s=3600,
    sample_s=10,
    swing_window_s=60,
    context_windows_s=(120, 240, 600),
    divergence_windows_s=(60, 120),
    armed_s=200,
    reset_windows_s=(30, 60, 120),
    reset_hold_s=90,
    reset_extreme_s=40,
    confirm_s=100,
    confirm_window_s=40,
    speed_window_s=15,
    candle_s=20,
    breakdown_candle_s=5,
    bias_window_s=10,
    min_entry_score=2.5,
    cooldown_s=30,
    ttl_s=60,
    exit_lookback_s=60,
    new_extreme_s=30,
    structure_s=100,
    max_open_positions=1,
)
DEFAULTS = StrategySettings()


def engine(chosen: StrategySettings = SHORT_WINDOWS, symbols: int = 1, headroom_s: int = 3600) -> Engine:
    names = tuple(f"S{number}" for number in range(symbols))
    markets = {name: (f"BINANCE:{name.lower()}usdt",) for name in names}
    return Engine(names, SqueezeFlow(chosen, names), chosen, "test", markets, headroom_s)


def encoded(signals: list[Signal]) -> list[bytes]:
    return [encode(signal) for signal in signals]


def one_by_one(target: Engine, ticks: np.ndarray, rows: Flow) -> list[Signal]:
    signals: list[Signal] = []
    for tick in np.unique(ticks):
        signals += target.tick(int(tick), rows[ticks == tick])
    return signals


@cache
def three_symbols() -> Flow:
    return together(noise(2400, 1, 0), noise(2400, 2, 1), noise(2400, 3, 2))


@cache
def signals_of_three() -> tuple[bytes, ...]:
    rows = three_symbols()
    return tuple(encoded(engine(symbols=3).block(ticks_of(rows), rows)))


def test_some_signals_of_every_action_come_from_the_short_windows() -> None:
    """The flows that the properties below run on do make the book busy."""
    actions = [orjson.loads(line)["action"] for line in signals_of_three()]
    assert {"LONG", "SHORT", "CLOSE"} <= set(actions)
    assert len(actions) >= 8


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(1, 2399), max_size=5))
def test_any_split_into_blocks_gives_the_same_bytes(cuts: list[int]) -> None:
    """Where blocks are cut changes no byte of any signal, nor of what is remembered."""
    rows, target = three_symbols(), engine(symbols=3)
    signals: list[Signal] = []
    edges = [0, *sorted(set(cuts)), 2400]
    for left, right in pairwise(edges):
        part = rows[left * 3 : right * 3]
        signals += target.block(ticks_of(part), part)
    assert tuple(encoded(signals)) == signals_of_three()


def test_tick_by_tick_equals_one_block() -> None:
    """A live run gives the bytes of the backtest, and ends in the same state."""
    rows, live, block = three_symbols(), engine(symbols=3), engine(symbols=3)
    early, late = rows[: 1700 * 3], rows[1700 * 3 :]
    signals = live.block(ticks_of(early), early)
    apart = one_by_one(live, ticks_of(late), late)
    assert len(apart) >= 2
    assert tuple(encoded(signals + apart)) == signals_of_three()
    block.block(ticks_of(rows), rows)
    assert live.positions() == block.positions()
    assert [to_json(live.explain(name)) for name in live.symbols] == [
        to_json(block.explain(name)) for name in block.symbols
    ]


def with_revisions(rows: Flow, seed: int) -> tuple[np.ndarray, Flow]:
    """Some rows are first seen without half of their flow, and revised some seconds later."""
    rng = np.random.default_rng(seed)
    late = np.flatnonzero(rng.random(len(rows)) < 0.01)
    seen = rows.copy()
    seen["spot_delta"][late] //= 2
    delays = rng.integers(1, 400, len(late))
    ticks = np.concatenate([ticks_of(rows), ticks_of(rows)[late] + delays])
    everything = np.concatenate([seen, rows[late]])
    keep = ticks <= ticks_of(rows)[-1]
    order = np.lexsort((everything["symbol"], everything["second"], ticks))
    order = order[keep[order]]
    return ticks[order], everything[order]


@pytest.mark.parametrize("seed", [0])
def test_blocks_with_late_trades_equal_ticks_with_late_trades(seed: int) -> None:
    """Revisions reach live and backtest at the same tick, so both see the same."""
    ticks, rows = with_revisions(three_symbols(), seed)
    live, block = engine(symbols=3), engine(symbols=3)
    signals = encoded(block.block(ticks, rows))
    early = ticks < START + 1900
    apart = live.block(ticks[early], rows[early])
    assert (rows["second"][~early] < ticks[~early] - 1).sum() > 5
    apart += one_by_one(live, ticks[~early], rows[~early])
    assert signals
    assert encoded(apart) == signals
    assert live.positions() == block.positions()


@settings(max_examples=5, deadline=None)
@given(cut=st.integers(600, 2300))
def test_a_restart_changes_nothing(cut: int) -> None:
    """A new engine, warmed and restored, goes on with the bytes of the one that never stopped."""
    rows = three_symbols()
    before, after = rows[: cut * 3], rows[cut * 3 :]
    first, second = engine(symbols=3), engine(symbols=3)
    signals = first.block(ticks_of(before), before)
    second.warm(before)
    second.restore(first.positions())
    signals += second.block(ticks_of(after), after)
    assert tuple(encoded(signals)) == signals_of_three()


@settings(max_examples=4, deadline=None)
@given(cut=st.integers(900, 1900), gap=st.integers(1, 300), before=st.integers(5, 500), seed=st.integers(0, 9))
def test_a_restart_after_a_gap_and_late_trades_changes_nothing(cut: int, gap: int, before: int, seed: int) -> None:
    """What was seen late is remembered as it was seen, and seconds that nobody saw as they are after the restart."""
    ticks, rows = with_revisions(three_symbols(), seed)
    away = (ticks > START + cut - before) & (ticks <= START + cut - before + gap)
    ticks, rows = ticks[~away], rows[~away]
    early = ticks <= START + cut
    lived, again = engine(symbols=3), engine(symbols=3)
    lived.block(ticks[early], rows[early])
    again.warm(rows[early])
    again.restore(lived.positions())
    assert {name: again.mind(name) for name in again.symbols} == {name: lived.mind(name) for name in lived.symbols}
    expected = encoded(lived.block(ticks[~early], rows[~early]))
    assert encoded(again.block(ticks[~early], rows[~early])) == expected


def test_a_position_of_a_symbol_that_is_no_longer_configured_is_closed() -> None:
    """Restarted without the symbol: its CLOSE comes with the first tick, paired with its entry, and once."""
    rows, told = three_symbols(), [orjson.loads(line) for line in signals_of_three()]
    cut = 3 * (
        next(one["second"] for one in told if one["base_symbol"] != "S0" and one["action"] != "CLOSE") - START + 1
    )
    first = engine(symbols=3)
    entries = first.block(ticks_of(rows[:cut]), rows[:cut])
    held = first.book().keys() - {"S0"}
    second = engine(symbols=1)
    second.warm(rows[:cut][rows[:cut]["symbol"] == 0])
    second.restore(first.positions())
    after = rows[cut:][rows[cut:]["symbol"] == 0]
    closes = [one for one in second.tick(int(after["second"][0]) + 1, after[:1]) if one.base_symbol != "S0"]
    assert {one.base_symbol for one in closes} == held != set()
    for close in closes:
        (entry,) = [one for one in entries if one.signal_id == close.position_id]
        assert (close.action, close.side, close.exit_reasons) == ("CLOSE", entry.side, ("not_configured",))
        assert close.entry_price == entry.entry_price
        assert json_fields(encode(close)) == json_fields(encode(entry))
    assert not [one for one in second.tick(int(after["second"][1]) + 1, after[1:2]) if one.base_symbol != "S0"]


def json_fields(line: bytes) -> list[str]:
    return list(orjson.loads(line))


def test_warming_alone_rebuilds_the_memory() -> None:
    """Setups and resets in force are a function of the recent flow, not of how long the daemon has run."""
    rows = three_symbols()
    lived, warmed = engine(symbols=3), engine(symbols=3)
    lived.block(ticks_of(rows), rows)
    warmed.warm(rows)
    for symbol in lived.symbols:
        assert warmed.mind(symbol) == lived.mind(symbol)


@settings(max_examples=5, deadline=None)
@given(cut=st.integers(400, 2300), seed=st.integers(0, 99))
def test_no_look_ahead(cut: int, seed: int) -> None:
    """Whatever happens later changes no earlier signal."""
    rows = three_symbols().copy()
    other = noise(2400, 1000 + seed, 0, 5.0)
    late = (rows["symbol"] == 0) & (rows["second"] >= START + cut)
    rows[late] = other[cut:]
    changed = encoded(engine(symbols=3).block(ticks_of(rows), rows))
    early = [line for line in signals_of_three() if orjson.loads(line)["second"] < START + cut]
    assert changed[: len(early)] == early


@pytest.mark.parametrize("factor", [10_000, 7])
def test_volume_does_not_matter_only_its_pattern(factor: int) -> None:
    """All volumes times a factor: the same signals at the same scores."""
    rows = three_symbols()
    big = engine(symbols=3).block(ticks_of(rows), scaled(rows, factor))
    same = [(s.second, s.symbol, s.action, s.score, s.exit_reasons) for s in big]
    small = [orjson.loads(line) for line in signals_of_three()]
    assert same == [(s["second"], s["symbol"], s["action"], s["score"], tuple(s["exit_reasons"])) for s in small]


def test_the_mirrored_flow_gives_the_mirrored_signals() -> None:
    """Swap buyers and sellers and turn the price over: each LONG is a SHORT of the same score at the same second."""
    rows = three_symbols()
    turned = engine(symbols=3).block(ticks_of(rows), mirrored(rows))
    swap = {"LONG": "SHORT", "SHORT": "LONG", "CLOSE": "CLOSE"}
    small = [orjson.loads(line) for line in signals_of_three()]
    assert [(s.second, s.symbol, swap[s.action], s.score) for s in turned] == [
        (s["second"], s["symbol"], s["action"], s["score"]) for s in small
    ]


@pytest.mark.parametrize("turn", [False, True])
def test_a_planted_squeeze_is_entered_in_its_direction_and_left(turn: bool) -> None:
    """With a quiet day before it, the squeeze gives an entry of its direction between build-up and run, then the CLOSE."""
    quiet = 24 * 3600
    rows = squeeze(5, quiet_s=quiet)
    rows = mirrored(rows) if turn else rows
    signals = engine(DEFAULTS).block(ticks_of(rows), rows)
    during = [s for s in signals if START + quiet + 900 <= s.second < START + quiet + 3300]
    assert {s.side for s in during if s.action != "CLOSE"} == {"SHORT" if turn else "LONG"}
    entry = next(s for s in during if s.action != "CLOSE")
    close = next(s for s in signals if s.action == "CLOSE" and s.position_id == entry.position_id)
    assert close.second > entry.second
    assert close.exit_reasons


def test_a_constant_market_gives_no_signal() -> None:
    """No trade at all for hours is no setup, and divides nothing by zero."""
    rows = make(np.zeros(9000), np.zeros(9000), np.zeros(9000))
    target = engine()
    assert target.block(ticks_of(rows), rows) == []
    assert target.mind("S0")["score"] == 0.0


def test_low_coverage_stops_entries() -> None:
    """A feed that was not whole may look like a divergence: it is never entered, and `explain` says why."""
    rows = three_symbols().copy()
    rows["coverage_ppm"] = 800_000
    assert engine(symbols=3).block(ticks_of(rows), rows) == []


def test_positions_are_limited_over_all_symbols_and_pause_after_an_exit() -> None:
    """With one place at most one position is open at any time, and no symbol enters again within its cool-down."""
    opened, exits = 0, {}
    for line in signals_of_three():
        signal = orjson.loads(line)
        if signal["action"] == "CLOSE":
            opened -= 1
            exits[signal["symbol"]] = signal["second"]
        else:
            opened += 1
            assert signal["second"] - exits.get(signal["symbol"], 0) >= SHORT_WINDOWS.cooldown_s
        assert 0 <= opened <= 1


def test_explain_names_the_first_gate_that_stopped_an_entry() -> None:
    """While warming the history is named, later the gate with the amount by which it missed."""
    rows = noise(1000)
    target = engine()
    target.block(ticks_of(rows[:100]), rows[:100])
    stopped = target.explain("S0").stopped_by
    assert stopped is not None
    assert (stopped["name"], stopped["missing"]) == ("history", 201.0)
    target.block(ticks_of(rows[100:]), rows[100:])
    found = target.explain("S0")
    assert set(found.phases) == {"context", "divergence", "reset", "scoring", "exits"}
    assert orjson.loads(to_json(found))["symbol"] == "S0"
    with pytest.raises(KeyError):
        target.explain("NONE")


def test_a_tick_must_be_later_than_the_last() -> None:
    """Time goes one way."""
    rows = noise(10)
    target = engine()
    target.block(ticks_of(rows), rows)
    with pytest.raises(ValueError, match="is not after"):
        target.tick(START + 5, rows[4:5])


def test_settings_change_while_running() -> None:
    """New settings apply from the next tick, positions stay; windows beyond the rings are refused."""
    rows = three_symbols()
    target = engine(symbols=3)
    target.block(ticks_of(rows), rows)
    held = target.book()
    strict = msgspec.structs.replace(SHORT_WINDOWS, min_entry_score=9.9)
    with pytest.raises(ValueError, match="restart"):
        target.use(SqueezeFlow(DEFAULTS), DEFAULTS)
    target.use(SqueezeFlow(strict), strict)
    assert target.book() == held
    more = noise(2400, 9)
    more["second"] += 2400
    signals = target.block(ticks_of(more), more)
    assert not [signal for signal in signals if signal.action != "CLOSE"]


def test_seconds_that_the_daemon_missed_lower_the_coverage() -> None:
    """A gap in ticks is carried forward with coverage 0 and ends a block."""
    rows = noise(900)
    kept = np.concatenate([rows[:800], rows[860:]])
    one, two = engine(), engine()
    one.block(ticks_of(kept), kept)
    one_by_one(two, ticks_of(kept), kept)
    assert one.mind("S0") == two.mind("S0")
    assert one.mind("S0")["coverage"] == 0.5
