"""Imports: the bars are right, repeating changes nothing, and what the daemon saw stays."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from sqfd.bars.flow import FlowBuilder
from sqfd.history.importer import Importer
from sqfd.history.markets import NoSuchMarket, instrument_of
from sqfd.journal import Batch, JournalStore
from sqfd.model import BAR_FIELDS, ClosedSecond, market_of
from tests.history import archives
from tests.history.archives import DAY_S

SPOT, PERP = instrument_of("BINANCE:btcusdt"), instrument_of("BINANCE_FUTURES:btcusdt")
DAY = "BTCUSDT-trades-2024-08-08"


@pytest.fixture
def store(tmp_path):
    store = JournalStore(tmp_path / "state", bulk=True)
    yield store
    store.close()


def content(store):
    """Everything that an import may change."""
    db = store.connection
    tables = {t: db.execute(f"SELECT * FROM {t} ORDER BY 1, 2, 3").fetchall() for t in ("bar", "run", "coverage")}
    flow = store.flow("BTC", 0, 2**40)
    return tables, flow.ticks.tolist(), flow.rows.tolist()


def close_to(found, expected):
    """Equal but for the order of additions."""
    expected = np.array(list(expected), found.dtype)
    order = np.argsort(expected["second"], kind="stable")
    expected = expected[order]
    last = np.append(np.diff(expected["second"]) != 0, True)  # the newest revision
    expected = expected[last]
    assert found["second"].tolist() == expected["second"].tolist()
    for name in BAR_FIELDS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("origin", "write", "name"),
    [
        ("binance", lambda p, r: archives.zipped(p, archives.spot_trades(r)), "BTCUSDT-trades-2024-08-08.zip"),
        ("binance", lambda p, r: archives.zipped(p, archives.spot_trades(r, 1000)), "BTCUSDT-trades-2024-08-08.zip"),
        ("tardis", lambda p, r: archives.gzipped(p, archives.tardis(r)), "binance_trades_2024-08-08_BTCUSDT.csv.gz"),
        ("aggr", lambda p, r: archives.gzipped(p, archives.aggr(r)), "2024-08-08.gz"),
    ],
    ids=["binance", "binance-us", "tardis", "aggr"],
)
def test_bars_are_those_of_live_trading(store, tmp_path, origin, write, name):
    """From any archive the bars are those that the trades would have made live; the day named is whole."""
    rows = archives.rows(1)
    counts = Importer(store, SPOT, origin).run([write(tmp_path / name, rows)])
    assert counts.trades == counts.rows == len(rows)
    close_to(store.bars(["BINANCE:btcusdt"], 0, 2**40), archives.built(rows, SPOT))
    assert store.coverage(["BINANCE:btcusdt"], DAY_S - 5, DAY_S + 86_405).sum() == 86_400


def test_aggregates_count_their_matches(store, tmp_path):
    """An aggTrade stands for last − first + 1 matches; a header is no malformed row."""
    rows = [row._replace(count=1 + n % 4) for n, row in enumerate(archives.rows(2, seconds=300))]
    path = tmp_path / "x.csv"
    path.write_text(archives.perp_aggregates(rows))
    assert Importer(store, PERP, "binance").run([path]).malformed == 0
    close_to(store.bars(["BINANCE_FUTURES:btcusdt"], 0, 2**40), archives.built(rows, PERP))


def test_inverse_contracts_are_worth_quote_units(store, tmp_path):
    """COIN-M: 3 contracts of BTC are 300 USD at any price."""
    coin = instrument_of("BINANCE_FUTURES:btcusd_perp")
    path = tmp_path / "x.csv"
    path.write_text(f"1,50000.1,3,0.006,{DAY_S}000,true\n")
    Importer(store, coin, "binance").run([path])
    (bar,) = store.bars(None, 0, 2**40)
    assert (bar["vsell"], bar["csell"], bar["vbuy"]) == (300.0, 1, 0.0)


def test_importing_twice_changes_nothing(store, tmp_path):
    """The same files again, and a copy under another name: bars, coverage and flow stay as they are."""
    text = archives.spot_trades(archives.rows(3))
    path = archives.zipped(tmp_path / f"{DAY}.zip", text)
    Importer(store, SPOT, "binance").run([path])
    before = content(store)
    assert Importer(store, SPOT, "binance").run([path]).skipped == 1
    other = archives.zipped(tmp_path / "copy.zip", text + "\n")
    again = Importer(store, SPOT, "binance").run([path, other], again=True)
    assert (again.files, again.bars) == (2, 0)
    assert content(store) == before


class Killed(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize("after_blocks", [1, 2, 4, 7])
def test_an_import_that_is_killed_and_repeated_completes(tmp_path, monkeypatch, after_blocks):
    """Killed in any block of any file, and run again: the same journal as undisturbed."""
    monkeypatch.setattr("sqfd.history.importer.blocks.__defaults__", (lambda at: None, 40_000))
    paths = [
        archives.zipped(
            tmp_path / f"BTCUSDT-trades-2024-08-08-0{hour}.zip",
            archives.spot_trades(archives.rows(hour, DAY_S + hour * 3600, 3_599)),
        )
        for hour in range(2)
    ]
    whole, broken = JournalStore(tmp_path / "whole", bulk=True), JournalStore(tmp_path / "broken", bulk=True)
    Importer(whole, SPOT, "binance").run(paths)
    read = 0

    def kill(path, at):
        nonlocal read
        read += 1
        if read > after_blocks:
            raise Killed

    with pytest.raises(Killed):
        Importer(broken, SPOT, "binance", read=kill).run(paths)
    Importer(broken, SPOT, "binance").run(paths)
    assert content(broken) == content(whole)
    whole.close()
    broken.close()


def test_flow_is_of_all_markets_whatever_their_order(tmp_path):
    """Two markets imported one after the other, either first: the flow that both at once would have made live."""
    texts = {
        SPOT: archives.spot_trades(archives.rows(5, seconds=900)),
        PERP: archives.perp_aggregates(archives.rows(6, seconds=900)),
    }
    found = []
    for order in ([SPOT, PERP], [PERP, SPOT]):
        store = JournalStore(tmp_path / order[0].exchange, bulk=True)
        store.register([market_of(SPOT), market_of(PERP)], ["BTC"])
        for instrument in order:
            path = tmp_path / f"{instrument.exchange}-2024-08-08.csv"
            path.write_text(texts[instrument])
            Importer(store, instrument, "binance").run([path])
        found.append(content(store)[1:])
        bars = store.bars(None, 0, 2**40)
        flow = store.flow("BTC", 0, 2**40).rows
        store.close()
    assert found[0] == found[1]
    builder = FlowBuilder(["BTC"])
    builder.add_markets([market_of(SPOT), market_of(PERP)])
    live = []
    for second in range(DAY_S - 60, DAY_S + 1_000):
        of_second = bars[bars["second"] == second]
        live.append(builder.close(ClosedSecond(second + 1, of_second, np.full(2, second >= DAY_S))))
    assert flow[:1_000].tolist() == np.concatenate(live[60:]).tolist()


def test_what_the_daemon_lived_through_stays(store, tmp_path):
    """Bars and flow of the daemon's own run stay; an import fills the seconds in which it had nothing."""
    rows = archives.rows(8, seconds=600)
    store.register([market_of(SPOT)], ["BTC"])
    builder = FlowBuilder(["BTC"])
    builder.add_markets([market_of(SPOT)])
    own = np.array(list(archives.built(rows, SPOT)))
    own["vbuy"] += 1_000_000.0
    for second in range(DAY_S + 100, DAY_S + 300):
        whole = np.array([second < DAY_S + 200])
        bars = own[own["second"] == second][:1] if whole[0] else own[:0]
        bars["market"] = 0
        store.append(Batch(second + 1, bars, builder.close(ClosedSecond(second + 1, bars, whole)), whole=whole))
    lived = store.bars(None, DAY_S + 100, DAY_S + 200).tolist()
    flow = store.flow("BTC", DAY_S + 101, DAY_S + 301).rows.tolist()
    path = tmp_path / f"{DAY}.csv"
    path.write_text(archives.spot_trades(rows))
    Importer(store, SPOT, "binance").run([path])
    assert store.bars(None, DAY_S + 100, DAY_S + 200).tolist() == lived
    assert store.flow("BTC", DAY_S + 101, DAY_S + 301).rows.tolist() == flow
    assert len(store.flow("BTC", DAY_S, DAY_S + 86_401).ticks) == 86_400
    filled = store.bars(None, DAY_S + 200, DAY_S + 600)
    close_to(filled, [bar for bar in archives.built(rows, SPOT) if bar["second"] >= DAY_S + 200])
    assert store.coverage(["BINANCE:btcusdt"], DAY_S, DAY_S + 86_400).all()


def test_liquidations_join_the_bars_of_trades(store, tmp_path):
    """A file of liquidations adds to bars that are whole, makes bars of its own, and repeats without effect."""
    trades, forced = tmp_path / "t-2024-08-08.csv", tmp_path / "liquidations.csv"
    trades.write_text(archives.tardis([archives.Row(DAY_S * 1000, 100.0, 1.0, True)]))
    rows = [archives.Row(DAY_S * 1000 + 5, 101.0, 2.0, False), archives.Row((DAY_S + 9) * 1000, 102.0, 1.0, True)]
    forced.write_text(archives.tardis(rows))
    Importer(store, SPOT, "tardis").run([trades])
    for again in (False, True):
        Importer(store, SPOT, "tardis", "liquidations").run([forced], again=again)
        first, second = store.bars(None, 0, 2**40)
        assert (first["open"], first["vbuy"], first["lsell"]) == (100.0, 100.0, 202.0)
        assert (second["open"] != second["open"], second["vbuy"], second["lbuy"]) == (True, 0.0, 102.0)
    assert store.flow("BTC", DAY_S, DAY_S + 2).rows["liq_sell"][0] == 20_200


def test_malformed_rows_are_named_and_the_rest_goes_on(store, tmp_path, monkeypatch):
    """File and line of each; rows = trades + malformed + late, whatever the file holds."""
    lines = archives.spot_trades(archives.rows(9, seconds=500)).splitlines()
    lines[100], lines[300] = "rubbish", lines[300] + "\xe4 x"
    lines[450] = f"7,1,1,1,{(DAY_S - 500) * 1000},True,True"
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines))
    monkeypatch.setattr("sqfd.history.importer.blocks.__defaults__", (lambda at: None, 4_000))
    told = []
    counts = Importer(store, SPOT, "binance", bad=lambda file, row: told.append((file, row.line))).run([path])
    assert told == [(path, 101), (path, 301)]
    assert counts.late == 1
    assert counts.rows == counts.trades + counts.malformed + counts.late


def test_a_file_that_is_cut_short_is_told_and_may_come_again(store, tmp_path):
    """What it held is in, its end is not called whole, and the complete file later makes it whole."""
    path = archives.gzipped(tmp_path / "BTC-2024-08-08.csv.gz", archives.tardis(archives.rows(4)))
    complete = path.read_bytes()
    path.write_bytes(complete[: len(complete) // 2])
    counts = Importer(store, SPOT, "tardis").run([path])
    assert "cut short" in counts.unreadable[0]
    assert 0 < store.coverage(["BINANCE:btcusdt"], DAY_S, DAY_S + 86_400).sum() < 4_000
    path.write_bytes(complete)
    assert Importer(store, SPOT, "tardis").run([path]).unreadable == []
    assert store.coverage(["BINANCE:btcusdt"], DAY_S, DAY_S + 86_400).all()
    close_to(store.bars(None, 0, 2**40), archives.built(archives.rows(4), SPOT))


def test_a_name_that_says_too_little_is_asked_about():
    """An unknown exchange needs kind, base and quote; a known market needs nothing."""
    assert (SPOT.base, SPOT.quote, PERP.kind) == ("BTC", "USDT", "perp")
    with pytest.raises(NoSuchMarket, match="--kind --base --quote"):
        instrument_of("ELSEWHERE:btc")
    made = instrument_of("ELSEWHERE:btc", kind="spot", base="BTC", quote="USD", symbol=None)
    assert (made.market, made.symbol) == ("ELSEWHERE:btc", "btc")


def test_an_older_journal_is_brought_forward(tmp_path):
    """A journal of version 1 gets what imports need, and its runs count as lived through."""
    from sqfd.journal import schema

    db = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    schema.migrate(db, schema.MIGRATIONS[:1])
    db.execute("INSERT INTO run VALUES (1, 10, 20)")
    db.close()
    store = JournalStore(tmp_path)
    assert store.connection.execute("SELECT imported FROM run").fetchall() == [(0,)]
    store.close()
