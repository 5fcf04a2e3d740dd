"""InfluxDB in memory: line protocol in, points out, and every answer that the real one gave (FACTS: influxd 1.6.7).

It reads line protocol with a parser of its own. A point is (measurement, tags, time): the same again overwrites, and its
fields unite with those that were there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, Literal

from sqfd.influx.client import Answer, Client
from sqfd.influx.settings import InfluxSettings
from sqfd.influx.verdict import Failure

Trouble = Literal[
    "well",
    "refused",
    "reset before",
    "reset after",
    "timeout before",
    "timeout after",
    "500",
    "503",
    "slow",
    "cut short",
    "login",
    "disk full",
]
"""`before`, `after`: nothing is stored, or all of it, and the answer never comes · disk full: 500, and what was not
acknowledged can be read until it vanishes."""

Point = dict[str, Any]
Series = tuple[str, str, int]
"""(retention policy, measurement with its tags as written, second)."""

_HEAD = re.compile(r"((?:[^\\ ]|\\.)+) (.*) (\d+)")
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^,]+)(?:,|$)')
_BAR = re.compile(r"(?:\w+=-?[\d.]+(?:e[-+]?\d+)?,)*\w+=-?[\d.]+(?:e[-+]?\d+)?")
"""Fields that are all plain numbers: most lines."""


class Unreadable(ValueError):
    """Not line protocol."""


def parsed(line: str) -> tuple[str, int, Point]:
    """(measurement with tags, second, fields) of one line; raises Unreadable."""
    if len(parts := line.split(" ")) == 3 and _BAR.fullmatch(parts[1]) and parts[2].isdigit() and "\\" not in line:
        pairs = (field.split("=") for field in parts[1].split(","))
        return parts[0], int(parts[2]), {name: float(value) for name, value in pairs}
    found = _HEAD.fullmatch(line)
    if found is None:
        raise Unreadable(line)
    fields, rest = {}, found[2]
    while rest:
        field = _FIELD.match(rest)
        if field is None:
            raise Unreadable(line)
        fields[field[1]] = field[2] if field[2].startswith('"') else _number(field[2])
        rest = rest[field.end() :]
    return found[1], int(found[3]), fields


def _number(text: str) -> float:
    if text in ("nan", "inf", "-inf"):
        raise Unreadable(text)
    return float(text)


class FakeInflux:
    """The server. What it holds outlives every daemon."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.trouble: Trouble = "well"
        self.poison = ""
        """Lines of this market conflict in type while it is set."""
        self.databases: set[str] = set()
        self.policies: dict[str, tuple[str, bool]] = {}
        """Retention policy → (duration as shown, whether it is the default)."""
        self.queries: dict[str, str] = {}
        self.points: dict[Series, Point] = {}
        self.refused: set[Series] = set()
        """Points that were answered with a type conflict."""
        self.counts: Counter[str] = Counter()
        self._unacknowledged: dict[Series, Point | None] = {}

    # --- one request

    async def request(self, endpoint: str, params: Mapping[str, str], data: Any, timeout_s: float) -> Answer:
        """Answer as the trouble of the moment has it."""
        trouble, random = self.trouble, self.random
        self.counts[f"{endpoint} {trouble}"] += 1
        if trouble == "refused":
            return Answer(Failure.REFUSED, "Connect call failed")
        await asyncio.sleep(random.uniform(0.001, 0.02))
        if trouble in ("reset before", "timeout before"):
            return await self._no_answer(trouble, timeout_s)
        if (failed := self._failure(trouble, endpoint, params, data)) is not None:
            return failed
        answer = self._write(params, data) if endpoint == "write" else self._query(data["q"])
        if trouble in ("reset after", "timeout after"):
            self.counts["stored but reported failed"] += endpoint == "write"
            return await self._no_answer(trouble, timeout_s)
        wait_s = random.uniform(0.5, 12.0) if trouble == "slow" else random.uniform(0.002, 0.05)
        await asyncio.sleep(min(wait_s, timeout_s))
        return answer if wait_s < timeout_s else Answer(Failure.TIMEOUT, "no answer")

    async def _no_answer(self, trouble: Trouble, timeout_s: float) -> Answer:
        if trouble.startswith("reset"):
            return Answer(Failure.RESET, "ServerDisconnectedError")
        await asyncio.sleep(timeout_s)
        return Answer(Failure.TIMEOUT, f"no answer within {timeout_s} s")

    def _failure(self, trouble: Trouble, endpoint: str, params: Mapping[str, str], data: Any) -> Answer | None:
        match trouble:
            case "500":
                return Answer(500, '{"error":"engine: cache maximum memory size exceeded"}')
            case "503":
                return Answer(503, '{"error":"timeout"}')
            case "login":
                return Answer(401, '{"error":"authorization failed"}')
            case "cut short" if endpoint == "write":
                return Answer(400, '{"error":"unexpected EOF"}')
            case "disk full" if endpoint == "write":
                self._show_for_a_while(params, data)
                return Answer(500, '{"error":"write /var/lib/influxdb: no space left on device"}')
        return None

    # --- writing

    def _write(self, params: Mapping[str, str], data: bytes) -> Answer:
        if params["db"] not in self.databases:
            return Answer(404, '{"error":"database not found: \\"x\\""}')
        if params.get("rp", "") not in self.policies:
            return Answer(500, '{"error":"retention policy not found: x"}')
        assert params["precision"] == "s", "written into 1970"
        conflicts = 0
        for series, fields in self._parsed(params["rp"], data):
            if self.poison and f"market={self.poison}" in series[1]:
                self.refused.add(series)
                conflicts += 1
            else:
                self.points.setdefault(series, {}).update(fields)
                self._unacknowledged.pop(series, None)
        self.counts["lines"] += data.count(b"\n") + 1
        if conflicts:
            return Answer(400, f'{{"error":"partial write: field type conflict dropped={conflicts}"}}')
        return Answer(204, "")

    def _parsed(self, policy: str, data: bytes) -> list[tuple[Series, Point]]:
        found = []
        for line in data.decode().splitlines():
            head, second, fields = parsed(line)
            found.append(((policy, head, second), fields))
        return found

    def _show_for_a_while(self, params: Mapping[str, str], data: bytes) -> None:
        for series, fields in self._parsed(params["rp"], data):
            self._unacknowledged.setdefault(series, self.points.get(series))
            self.points[series] = {**self.points.get(series, {}), **fields}

    def restart(self) -> None:
        """What was never acknowledged is gone."""
        for series, before in self._unacknowledged.items():
            if before is None:
                self.points.pop(series, None)
            else:
                self.points[series] = before
        self._unacknowledged = {}

    # --- InfluxQL, as far as sqfd speaks it

    def _query(self, text: str) -> Answer:
        if not text.startswith(("SHOW", "CREATE DATABASE")) and not self.databases:
            return Answer(200, '{"results":[{"error":"database not found: x"}]}')
        results = [self._statement(one.strip()) for one in text.split("; ")]
        return Answer(200, json.dumps({"results": results}))

    def _statement(self, text: str) -> dict[str, Any]:
        names = re.findall(r'"([^"]*)"', text)
        if text == "SHOW DATABASES":
            return _series("databases", ["name"], [[name] for name in sorted(self.databases)])
        if text == "SHOW CONTINUOUS QUERIES":
            rows = [[name, query] for name, query in self.queries.items()]
            return {"series": [_one(database, ["name", "query"], rows) for database in self.databases]}
        if text.startswith("SHOW RETENTION POLICIES"):
            rows = [[name, duration, "1h0m0s", 1, default] for name, (duration, default) in self.policies.items()]
            return _series("", ["name", "duration", "shardGroupDuration", "replicaN", "default"], rows)
        if text.startswith("CREATE DATABASE"):
            self.databases.add(names[0])
            if " NAME " in text:
                self.policies[names[1]] = (f"{_duration(text)}", True)
        elif text.startswith("CREATE RETENTION POLICY"):
            self.policies[names[0]] = (_duration(text), " DEFAULT" in text)
        elif text.startswith("CREATE CONTINUOUS QUERY"):
            self.queries[names[0]] = text
        elif " INTO " in text:
            self.counts["rollups made again"] += 1
        elif text.startswith("SELECT"):
            return self._select(text, names)
        else:
            self.counts["statements not understood"] += 1
            return {"error": f"error parsing query: {text[:80]}"}
        return {}

    def _select(self, text: str, names: list[str]) -> dict[str, Any]:
        """Fields of one market between two seconds; aggregates (a warm start's) find nothing."""
        one = re.search(r"WHERE market = '([^']*)' AND time >= (\d+)s AND time < (\d+)s$", text)
        if one is None or "sum(" in text:
            return {}
        fields, (_, policy, measurement) = names[:-3], names[-3:]
        head = f"{measurement},market={one[1]}"
        rows = []
        for second in range(int(one[2]), int(one[3])):
            if (found := self.points.get((policy, head, second))) is not None:
                rows.append([second, *map(found.get, fields)])
        return _series(measurement, ["time", *fields], rows) if rows else {}


def _duration(text: str) -> str:
    """As InfluxDB shows what a statement says: `720h` is `720h0m0s`."""
    duration = text.split(" DURATION ")[1].split()[0]
    return "0s" if duration == "INF" else f"{duration}0m0s"


def _one(name: str, columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    return {"name": name, "columns": columns, "values": rows}


def _series(name: str, columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    return {"series": [_one(name, columns, rows)]}


class InfluxClient(Client):
    """sqfd's client, wired to a `FakeInflux` instead of a socket."""

    def __init__(self, settings: InfluxSettings, server: FakeInflux) -> None:
        super().__init__(settings)
        self._server, self._timeout_s = server, settings.timeout_s

    async def _post(self, endpoint: str, **request: Any) -> Answer:
        async with self._turn:
            return await self._server.request(endpoint, request.get("params", {}), request["data"], self._timeout_s)
