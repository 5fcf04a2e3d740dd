"""Database, retention policies and continuous queries: what is wanted, what is there, and the statements between them.

Pure but for `inspect` and `create`. Nothing that exists is ever dropped or altered here: differences are reported.

Each rollup reads the 1-second bars, never a sibling that InfluxDB runs in the same instant. `RESAMPLE EVERY … FOR …` looks at
the bucket before again, so that the seconds that arrive just after a bucket's end are in it: FOR is at least one bucket and
one EVERY.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from sqfd.influx.client import Client
from sqfd.influx.lines import BARS_MEASUREMENT
from sqfd.influx.settings import InfluxSettings

BARS_RP = "aggr_1s"
STRATEGY_RP = "sqfd_24h"


class Rollup(NamedTuple):
    """One coarser timeframe."""

    timeframe: str
    seconds: int
    query: str
    every: str
    span: str

    @property
    def retention(self) -> str:
        return f"aggr_{self.timeframe}"

    @property
    def measurement(self) -> str:
        return f"trades_{self.timeframe}"


ROLLUPS = (
    Rollup("1m", 60, "cq_trades_1m", "15s", "2m"),
    Rollup("5m", 300, "cq_5m_aggregation", "1m", "6m"),
    Rollup("15m", 900, "cq_15m_aggregation", "5m", "20m"),
    Rollup("30m", 1_800, "cq_30m_aggregation", "10m", "40m"),
    Rollup("1h", 3_600, "cq_1h_aggregation", "15m", "75m"),
    Rollup("4h", 14_400, "cq_4h_aggregation", "1h", "5h"),
)
_FIRST = "first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close"
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in ("vbuy", "vsell", "cbuy", "csell", "lbuy", "lsell"))


class Policy(NamedTuple):
    """A retention policy."""

    name: str
    hours: int
    """0: for ever."""
    default: bool = False

    @property
    def duration(self) -> str:
        return f"{self.hours}h" if self.hours else "INF"


class Schema(NamedTuple):
    """What is wanted of a database, or what is there."""

    database: str
    exists: bool
    policies: Mapping[str, Policy]
    queries: Mapping[str, str]
    """Continuous queries by name, as the text of CREATE CONTINUOUS QUERY."""


class Difference(NamedTuple):
    """One thing that is not as wanted."""

    kind: Literal["database", "policy", "query"]
    name: str
    found: str
    """Empty: it is missing."""
    expected: str
    statement: str
    """What makes it so."""

    @property
    def missing(self) -> bool:
        return not self.found


def quoted(name: str) -> str:
    """An identifier in InfluxQL."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def wanted(settings: InfluxSettings) -> Schema:
    """The schema that the settings ask for."""
    frames = ("1s", *(rollup.timeframe for rollup in ROLLUPS))
    policies = [Policy(f"aggr_{frame}", settings.retention_days(frame) * 24, frame == "1s") for frame in frames]
    policies.append(Policy(STRATEGY_RP, 24))
    queries = {rollup.query: _continuous(settings.database, rollup) for rollup in ROLLUPS}
    if settings.raw_measurement:
        queries["cq_trades_1s"] = _from_raw(settings.database, settings.raw_measurement)
    return Schema(settings.database, True, {policy.name: policy for policy in policies}, queries)


def _select(database: str, rollup: Rollup) -> str:
    target = f"{quoted(database)}.{quoted(rollup.retention)}.{quoted(rollup.measurement)}"
    source = f"{quoted(database)}.{quoted(BARS_RP)}.{quoted(BARS_MEASUREMENT)}"
    return f"SELECT {_FIRST}, {_SUMS} INTO {target} FROM {source}"


def _continuous(database: str, rollup: Rollup) -> str:
    head = f"CREATE CONTINUOUS QUERY {quoted(rollup.query)} ON {quoted(database)} RESAMPLE EVERY {rollup.every} FOR {rollup.span}"
    return f"{head} BEGIN {_select(database, rollup)} GROUP BY time({rollup.timeframe}), market END"


def _from_raw(database: str, raw: str) -> str:
    """For installs whose collector writes raw trades and no bars. What such a measurement looks like is not known but for this: a
    field `price`, a tag `market`. How size and side are named differs between installs, so that there are no volumes."""
    target = f"{quoted(database)}.{quoted(BARS_RP)}.{quoted(BARS_MEASUREMENT)}"
    prices = "first(price) AS open, max(price) AS high, min(price) AS low, last(price) AS close"
    return (
        f"CREATE CONTINUOUS QUERY {quoted('cq_trades_1s')} ON {quoted(database)} RESAMPLE EVERY 1s FOR 10s BEGIN "
        f"SELECT {prices} INTO {target} FROM {quoted(raw)} GROUP BY time(1s), market END"
    )


def rollup_queries(settings: InfluxSettings, from_s: int, to_s: int) -> Iterator[str]:
    """Statements that make every rollup of `from_s <= second < to_s` again, whole buckets each."""
    for rollup in ROLLUPS:
        first = from_s // rollup.seconds * rollup.seconds
        last = -(-to_s // rollup.seconds) * rollup.seconds
        yield (
            f"{_select(settings.database, rollup)} WHERE time >= {first}s AND time < {last}s "
            f"GROUP BY time({rollup.timeframe}), market"
        )


def compare(want: Schema, found: Schema) -> list[Difference]:
    """What is missing or other than wanted. What is there in addition is nobody's business."""
    differences = []
    if not found.exists:
        first = next(policy for policy in want.policies.values() if policy.default)
        statement = f"CREATE DATABASE {quoted(want.database)} WITH DURATION {first.duration} NAME {quoted(first.name)}"
        differences.append(Difference("database", want.database, "", "exists", statement))
    for policy in want.policies.values():
        if found.exists or not policy.default:
            differences += _policy_difference(want.database, policy, found.policies.get(policy.name))
    for name, text in want.queries.items():
        there = found.queries.get(name, "")
        if _plain(there) != _plain(text):
            statement = (
                text if not there else f"DROP CONTINUOUS QUERY {quoted(name)} ON {quoted(want.database)}; {text}"
            )
            differences.append(Difference("query", name, there, text, statement))
    return differences


def _policy_difference(database: str, want: Policy, found: Policy | None) -> list[Difference]:
    """A missing policy does not become the default of a database that exists: that would redirect others' writes."""
    if found == want:
        return []
    tail = f"RETENTION POLICY {quoted(want.name)} ON {quoted(database)} DURATION {want.duration}"
    if found is None:
        return [Difference("policy", want.name, "", _words(want), f"CREATE {tail} REPLICATION 1")]
    if found.hours == want.hours and found.default:
        return []  # somebody chose this one as the default: theirs to choose
    return [
        Difference(
            "policy", want.name, _words(found), _words(want), f"ALTER {tail}{' DEFAULT' if want.default else ''}"
        )
    ]


def would_delete(difference: Difference) -> bool:
    """Whether its statement makes a retention policy shorter: InfluxDB then deletes what is older."""
    if difference.kind != "policy" or difference.missing:
        return False
    now, then = (_seconds(words.partition(",")[0]) for words in (difference.found, difference.expected))
    return then > 0 and (now == 0 or then < now)


def _words(policy: Policy) -> str:
    return f"{policy.duration}{', default' if policy.default else ''}"


def _plain(query: str) -> str:
    """Without what InfluxDB rewrites when it shows a query: quotes and spaces; `1h15m` and `75m` are the same."""
    text = re.sub(r'["\s]+', " ", query.replace('"', "")).strip().casefold()
    return re.sub(r"\b(?:\d+[wdhms])+\b", lambda found: f"{_seconds(found[0])}s", text)


def _seconds(duration: str) -> int:
    """Of InfluxDB's `168h0m0s`, `1h15m`, `15s`."""
    units = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([wdhms])", duration))


async def inspect(client: Client, database: str) -> Schema:
    """What is there; raises QueryError."""
    (databases, queries) = await client.ask("SHOW DATABASES; SHOW CONTINUOUS QUERIES")
    exists = any([database] == row for series in databases for row in series.values)
    if not exists:
        return Schema(database, False, {}, {})
    (shown,) = await client.ask(f"SHOW RETENTION POLICIES ON {quoted(database)}")
    policies = {}
    for row in (dict(zip(series.columns, row, strict=True)) for series in shown for row in series.values):
        policies[row["name"]] = Policy(row["name"], _seconds(row["duration"]) // 3_600, row["default"])
    texts = {name: text for series in queries if series.name == database for name, text in series.values}
    return Schema(database, True, policies, texts)


async def create(client: Client, differences: Iterable[Difference]) -> list[Difference]:
    """Create what is missing, alter nothing; gives what was created. Raises QueryError."""
    created = []
    for difference in differences:
        if difference.missing:
            await client.ask(difference.statement)
            created.append(difference)
    return created
