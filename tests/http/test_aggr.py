"""What aggr's charts get: raw paths as its client writes them, its errors, its order of columns."""

from __future__ import annotations

import math
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqfd.http.aggr import (
    COLUMNS,
    Elsewhere,
    Refused,
    Wish,
    combined,
    document,
    from_influx,
    from_journal,
    from_journal_alone,
    parse,
)
from sqfd.model import BAR, Bars

MARKETS = ("BINANCE:btcusdt", "KRAKEN:XBT/USD", "BITFINEX:BTCF0:USTF0")


@pytest.mark.parametrize(
    "tail",
    [
        quote("+".join(MARKETS), safe=""),  # as aggr's client: encodeURIComponent of the joined names
        "+".join(MARKETS),
        "+".join(quote(market, safe="") for market in MARKETS),
        quote("+".join(MARKETS), safe=":/"),
    ],
)
def test_markets_of_a_raw_path(tail: str) -> None:
    """Encoded as one segment, or not at all: the same markets, slashes and second colons included."""
    wish = parse(f"/historical/1700000000000/1700000600000/60000/{tail}", 1000)
    assert wish == Wish(1_700_000_000, 1_700_000_600, 60, MARKETS)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/historical/", 400, "missing interval"),
        ("/historical/x/1/60000/A", 400, "missing interval"),
        ("/historical/1000", 400, "missing interval"),
        ("/historical/2000/1000/1000/A", 400, "from > to"),
        ("/historical/0/1001000/1000/A", 400, "too many bars"),
    ],
)
def test_errors_as_aggr_server_words_them(path: str, status: int, error: str) -> None:
    """Status and text that its client shows."""
    with pytest.raises(Refused, match=f"^{error}$") as found:
        parse(path, 1000)
    assert found.value.status == status


def test_timeframe_and_markets_may_be_missing() -> None:
    """One minute, and all markets."""
    assert parse("/historical/0/60000", 1000) == Wish(0, 60, 60, ())
    assert parse("/historical/0/60000/abc/", 1000) == Wish(0, 60, 60, ())


def bar(market: int, second: int, price: float, buy: float = 1.0, lbuy: float = 0.0) -> tuple[object, ...]:
    return (market, second, price, price + 1, price - 1, price + 0.5, buy, 2.0, 1, 2, lbuy, 0.0)


def bars(*rows: tuple[object, ...]) -> Bars:
    return np.array(list(rows), BAR)


def slow(rows: Bars, step_s: int) -> list[tuple[float, ...]]:
    """`combined`, obviously."""
    groups: dict[tuple[int, int], list[np.void]] = {}
    for row in sorted(rows, key=lambda row: int(row["second"])):
        groups.setdefault((int(row["second"]) // step_s * step_s, int(row["market"])), []).append(row)
    made = []
    for (second, market), group in sorted(groups.items()):
        traded = [row for row in group if not math.isnan(row["open"])]
        prices = (
            (traded[0]["open"], max(r["high"] for r in traded), min(r["low"] for r in traded), traded[-1]["close"])
            if traded
            else (math.nan,) * 4
        )
        sums = tuple(sum(float(row[name]) for row in group) for name in BAR.names[6:])  # type: ignore[index]  # it has names
        made.append((market, second, *map(float, prices), *sums))
    return made


row = st.tuples(st.integers(0, 2), st.integers(1000, 1030), st.integers(10, 20), st.booleans())


@given(st.lists(row, unique_by=lambda one: one[:2]), st.sampled_from([1, 2, 5, 7, 60]))
def test_combined_equals_its_slow_twin(rows: list[tuple[int, int, int, bool]], step_s: int) -> None:
    """first(open) max(high) min(low) last(close), sums of the rest, per market and bucket."""
    made = bars(*(bar(m, s, math.nan if quiet else float(p), 0 if quiet else p, 3.0) for m, s, p, quiet in rows))
    ordered = made[np.lexsort((made["market"], made["second"]))]
    assert repr([tuple(map(float, one)) for one in combined(ordered, step_s).tolist()]) == repr(
        [tuple(map(float, one)) for one in slow(ordered, step_s)]
    )


def test_the_document() -> None:
    """Columns in alphabetical order after time, time in seconds, null where nothing traded."""
    told = document(bars(bar(1, 60, 10.0), bar(0, 120, math.nan, 0.0, 5.0)), MARKETS)
    assert told["format"] == "point"
    assert list(told["columns"]) == list(COLUMNS)
    assert COLUMNS[1:] == tuple(sorted(COLUMNS[1:]))
    assert told["results"][0] == (60, 1, 10.5, 2, 11.0, 0.0, 9.0, 0.0, "KRAKEN:XBT/USD", 10.0, 1.0, 2.0)
    assert told["results"][1][:3] == (120, 1, None)


class Stored:
    """A journal with one bar each second, from `first` on."""

    def __init__(self, first: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self._first = first

    async def bars(self, markets: object, from_s: int, to_s: int) -> Bars:
        self.asked.append((from_s, to_s))
        return bars(*(bar(0, second, 10.0) for second in range(max(from_s, self._first), to_s)))

    async def span(self) -> tuple[int, int]:
        return self._first, 1 << 40


class Rolled:
    """An InfluxDB that has every bucket."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, str]] = []

    async def bars(self, market: str, from_s: int, to_s: int, timeframe: str = "1s") -> Bars:
        self.asked.append((from_s, to_s, timeframe))
        step = 1 if timeframe == "1s" else 60
        return bars(*(bar(0, second, 10.0) for second in range(from_s, to_s, step)))


async def test_the_journal_is_read_in_pieces() -> None:
    """No read is longer than an hour, none cuts a bucket, and the whole is as asked."""
    stored = Stored()
    found = await from_journal(stored, Wish(100, 100 + 3 * 3600, 900, ("A",)))
    assert all(end - start <= 3600 for start, end in stored.asked)
    assert all(end % 900 == 0 for _, end in stored.asked[:-1])
    assert found["second"].tolist() == list(range(0, 100 + 3 * 3600, 900))
    assert found["cbuy"].sum() == 3 * 3600


async def test_old_bars_come_from_influxdb_and_new_ones_from_the_journal() -> None:
    """They meet at a bucket's edge, each bucket once."""
    stored, rolled = Stored(), Rolled()
    now = 100_000
    found = await from_influx(rolled, stored, Wish(79_980, 100_020, 60, ("A",)), now)
    assert rolled.asked == [(79_980, 92_760, "1m")]
    assert stored.asked[0][0] == 92_760
    assert np.array_equal(np.diff(found["second"]), np.full(len(found) - 1, 60))


async def test_too_much_is_refused() -> None:
    """What would hold up the journal for minutes is not begun."""
    with pytest.raises(Refused, match="too many bars"):
        await from_journal(Stored(), Wish(0, 10_000_000, 60, ("A",)))


async def test_bars_that_are_in_victoriametrics_only_are_refused_with_a_hint() -> None:
    """What the journal still has is answered; what reaches before it is 501, naming where it is and how to ask there."""
    journal, first = Stored(10_000), 10_000
    elsewhere = Elsewhere("VictoriaMetrics at http://127.0.0.1:8428")
    kept = await from_journal_alone(journal, elsewhere, Wish(first, first + 10, 1, ("A",)))
    assert len(kept) == 10
    with pytest.raises(Refused) as refused:
        await from_journal_alone(journal, elsewhere, Wish(first - 1, first + 10, 1, ("A",)))
    assert refused.value.status == 501
    assert "before 1970-01-01T02:46:40+00:00 are in VictoriaMetrics at http://127.0.0.1:8428 only" in str(refused.value)
    assert "/api/v1/export" in str(refused.value)
