"""`sqfd doctor`: is this host ready, and what is wrong? Each check is one line with what to do."""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import click
import orjson

from sqfd.cli.remote import NotRunning, api_of, url_option

if TYPE_CHECKING:
    from exchanges.api import Exchange
    from sqfd.config import Config
    from sqfd.influx.client import Client

Level = Literal["ok", "warn", "fail", "skip"]
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "bright_black"}
FREE_WARN, FREE_FAIL = 2_000_000_000, 200_000_000
FILES = 1_024
CLOCK_S = 2.0
"""HTTP dates have a resolution of one second."""
AT_ONCE = 4
NEWEST_S = 120


class Check(NamedTuple):
    """The result of one check."""

    name: str
    level: Level
    found: str
    remedy: str = ""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@url_option
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder of the journal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per check.")
def doctor(url: str | None, path: Path | None, state: Path | None, as_json: bool) -> None:
    """Check configuration, host, exchanges, InfluxDB, Redis, journal and daemon; exit 1 where one fails.

    \b
    Example: sqfd doctor -c /etc/sqfd/sqfd.toml
    """
    from sqfd.config import load, state_folder
    from sqfd.settings import SettingsError

    try:
        loaded = load(path, flags={"journal.state": str(state)} if state else None, flag="--state")
    except SettingsError as error:
        _print(
            [Check("config", "fail", str(error), "correct that setting; `sqfd config reference` lists all")], as_json
        )
        sys.exit(1)
    config, folder = loaded.config, state_folder(loaded.config)
    notes = "; ".join(loaded.notes)
    checks = [Check("config", "warn" if notes else "ok", notes or "valid")]
    checks += [disk(folder), files(), journal(folder), _daemon(url, path)]
    failed = _print(checks, as_json)
    failed |= _print(asyncio.run(_outside(config)), as_json)
    sys.exit(1 if failed else 0)


def _print(checks: Iterable[Check], as_json: bool) -> bool:
    """Print checks; True where one failed."""
    failed = False
    for check in checks:
        failed |= check.level == "fail"
        if as_json:
            click.echo(orjson.dumps(check._asdict()).decode())
            continue
        click.echo(f"{click.style(f'{check.level:<4}', fg=COLOURS[check.level])} {check.name:<28} {check.found}")
        if check.remedy:
            click.echo(f"     → {check.remedy}")
    return failed


# --- this host


def disk(folder: Path) -> Check:
    """Room for the journal, and the right to write there."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(place).free
    shown = f"{free / 1e9:.1f} GB free at {folder}"
    try:
        probe = place / ".doctor"  # the folder itself is made by the daemon, as its user
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        remedy = f"give the user of sqfd the right to write {folder}, or name another with journal.state"
        return Check("disk", "fail", f"{place} cannot be written: {error.strerror}", remedy)
    if free < FREE_WARN:
        level: Level = "fail" if free < FREE_FAIL else "warn"
        return Check("disk", level, shown, "free space, or lower journal.max_bytes and journal.retain_s")
    return Check("disk", "ok", shown)


def files() -> Check:
    """File descriptors: one per connection, and some for storage."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        return Check("files", "warn", f"{soft} file descriptors", f"raise them: ulimit -n {FILES}, or LimitNOFILE=")
    return Check("files", "ok", f"{soft} file descriptors")


def journal(folder: Path) -> Check:
    """Can the journal be read, and how old is it?"""
    import sqlite3

    from sqfd.journal import JournalStore, JournalTooNew

    try:
        store = JournalStore(folder, read_only=True)
    except FileNotFoundError:
        return Check("journal", "skip", f"none at {folder} yet: `sqfd run` begins one")
    except (JournalTooNew, sqlite3.Error) as error:
        return Check("journal", "fail", str(error), "run the sqfd version that wrote it, or move the file away")
    try:
        last, size = store.last_tick(), store.used_bytes()
    except sqlite3.Error as error:
        return Check("journal", "fail", f"{store.path}: {error}", "stop sqfd and move the file away: a new one begins")
    finally:
        store.close()
    age = "empty" if not last else f"newest second {max(0, int(time.time()) - last)} s ago"
    return Check("journal", "ok", f"{size / 1e6:.0f} MB at {folder}, {age}")


def _daemon(url: str | None, path: Path | None) -> Check:
    try:
        found = api_of(url, path).get("/health")
    except NotRunning as error:
        return Check("daemon", "skip", error.format_message())
    except click.ClickException as error:
        return Check("daemon", "fail", error.format_message(), "give this command the daemon's configuration with -c")
    level: Level = {"healthy": "ok", "degraded": "warn", "starting": "warn"}.get(found["status"], "fail")  # type: ignore[assignment]  # the values are levels
    return Check("daemon", level, f"{found['status']}{': ' + found['why'] if found['why'] else ''}")


# --- elsewhere


async def _outside(config: Config) -> list[Check]:
    from sqfd.wiring import exchanges_of

    limit = asyncio.Semaphore(AT_ONCE)

    async def one(check: Callable[..., Awaitable[list[Check]]], *arguments: Any) -> list[Check]:
        async with limit:
            return await check(*arguments)

    tasks = [one(_exchange, exchange, config) for exchange in exchanges_of(config).values()]
    found = await asyncio.gather(*tasks, influx(config), redis(config))
    checks = [check for checks in found for check in checks]
    skews = [float(check.found.split()[0]) for check in checks if check.name == "clock"]
    return [clock(skews), *(check for check in checks if check.name != "clock")]


def clock(skews: list[float]) -> Check:
    """Does this host's clock agree with the exchanges' (medians of their HTTP dates)?"""
    if not skews:
        return Check("clock", "skip", "no exchange told its time")
    skew = sorted(skews)[len(skews) // 2]
    if abs(skew) > CLOCK_S:
        remedy = "install chrony or systemd-timesyncd; bars are right anyway, times in logs are not"
        return Check("clock", "warn", f"{skew:+.1f} s from {len(skews)} exchanges", remedy)
    return Check("clock", "ok", f"within {CLOCK_S:g} s of {len(skews)} exchanges")


async def _exchange(exchange: Exchange, config: Config) -> list[Check]:
    """DNS, REST, websocket and the clock of one exchange."""
    from sqfd.clock import SystemClock
    from sqfd.feed.rest import Rest, RestFailed

    rest = Rest(exchange, config.feed, SystemClock())
    checks: list[Check] = []
    try:
        call = next(iter(exchange.listings()))
        checks += await _resolved(exchange.id, call.request.url)
        if checks[-1].level == "fail":
            return checks
        page = await rest.call(call)
        checks.append(Check(f"{exchange.id} REST", "ok", f"lists {len(page.items)} markets"))
        checks += await _told_time(call.request.url)
    except RestFailed as error:
        remedy = (
            "is the exchange reachable from here? Some refuse countries or clouds: leave it out with symbols.exchanges"
        )
        checks.append(Check(f"{exchange.id} REST", "fail", error.reason, remedy))
    finally:
        await rest.close()
    return checks + [
        await _websocket(exchange, name, config) for name in sorted(one.name for one in exchange.endpoints)
    ]


async def _resolved(name: str, url: str) -> list[Check]:
    host = urlsplit(url).hostname or ""
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return [Check(f"{name} DNS", "fail", f"{host}: {error}", "check /etc/resolv.conf and the network")]
    return [Check(f"{name} DNS", "ok", host)]


async def _told_time(url: str) -> list[Check]:
    """The difference to the Date header of a HEAD request; carried as a check named `clock`."""
    import aiohttp

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            before = time.time()
            async with session.head(url, allow_redirects=False) as response:
                date = response.headers.get("Date")
                middle = (before + time.time()) / 2
    except (aiohttp.ClientError, TimeoutError, OSError):
        return []  # the clock is asked of the other exchanges
    return [Check("clock", "ok", f"{middle - parsedate_to_datetime(date).timestamp() - 0.5:.2f}")] if date else []


async def _websocket(exchange: Exchange, endpoint: str, config: Config) -> Check:
    from exchanges.api import Call
    from sqfd.feed.transport import ConnectFailed, connect

    name, found = f"{exchange.id} websocket", exchange.endpoint(endpoint)
    where = exchange.connect(endpoint, int(time.time() * 1e3))
    if isinstance(where, Call):
        return Check(name, "skip", f"{endpoint}: its address is asked for when it connects")
    try:
        connection = await connect(
            where,
            lambda frame, text, last=True: None,
            lambda: None,
            transport=config.feed.transport,
            max_bytes=config.feed.max_frame_bytes,
            timeout_s=config.feed.connect_timeout_s,
            headers=dict(found.headers),
            deflate=found.deflate,
        )
    except ConnectFailed as error:
        return Check(name, "fail", f"{endpoint}: {error.reason}", "does a firewall or proxy refuse websockets?")
    await connection.close(config.feed.close_timeout_s)
    return Check(name, "ok", f"{endpoint} answers")


async def influx(config: Config) -> list[Check]:
    """Version, login, policies, queries, newest second."""
    from sqfd.influx.client import Client, QueryError
    from sqfd.influx.schema import compare, inspect, wanted
    from sqfd.settings import without_login

    if config.influx is None:
        return [Check("InfluxDB", "skip", "not configured: bars stay in the journal")]
    async with Client(config.influx) as client:
        try:
            schema = await inspect(client, config.influx.database)
            different = compare(wanted(config.influx), schema)
            newest = await _newest(client) if schema.exists else None
        except QueryError as error:
            remedy = "is it running, is the address right, may the login read? See docs/operations.md"
            return [Check("InfluxDB", "fail", f"{without_login(config.influx.base_url)}: {error}", remedy)]
    login = f"takes the login {config.influx.username}" if config.influx.username else "asks for no login"
    version = await _influx_version(config.influx.base_url)
    checks = [Check("InfluxDB", "ok", f"{version} at {without_login(config.influx.base_url)} answers and {login}")]
    if different:
        names = ", ".join(one.name for one in different)
        checks.append(Check("InfluxDB schema", "warn", f"missing or different: {names}", "see `sqfd influx check`"))
    else:
        checks.append(Check("InfluxDB schema", "ok", "policies and queries are as wanted"))
    return [*checks, _fresh(newest)]


async def _influx_version(url: str) -> str:
    """As its ping tells; empty where a proxy keeps it to itself."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(f"{url}/ping") as response,
        ):
            return response.headers.get("X-Influxdb-Version", "an unknown version")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return "an unknown version"


async def _newest(client: Client) -> int | None:
    from sqfd.influx.lines import BARS_MEASUREMENT
    from sqfd.influx.schema import BARS_RP, quoted

    (found,) = await client.ask(f"SELECT last(close) FROM {quoted(BARS_RP)}.{quoted(BARS_MEASUREMENT)}")
    return int(found[0].values[0][0]) if found else None


def _fresh(newest: int | None) -> Check:
    if newest is None:
        return Check("InfluxDB bars", "skip", "none yet")
    age = int(time.time()) - newest
    if age > NEWEST_S:
        return Check("InfluxDB bars", "warn", f"newest second {age} s ago", "does sqfd run? `sqfd status` tells")
    return Check("InfluxDB bars", "ok", f"newest second {max(0, age)} s ago")


async def redis(config: Config) -> list[Check]:
    """Version, rights, persistence."""
    from redis.exceptions import RedisError, ResponseError

    from sqfd.settings import without_login
    from sqfd.signals.redis import HEARTBEAT, STREAM, connect

    if config.redis is None:
        return [Check("Redis", "skip", "not configured: signals go to the log, the journal and /signals")]
    client = connect(config.redis)
    try:
        await client.ping()
        checks = [Check("Redis", "ok", f"{without_login(config.redis.address)} answers")]
        refused = [name for name, call in _rights(client, STREAM, HEARTBEAT) if not await _allowed(call)]
        if refused:
            remedy = "give the ACL user the rights that docs/operations.md lists"
            checks.append(Check("Redis rights", "fail", f"refused: {', '.join(refused)}", remedy))
        checks.append(await _persistence(client))
    except (RedisError, ResponseError, OSError) as error:
        remedy = "is it running, are address and password right? See docs/operations.md"
        return [Check("Redis", "fail", f"{without_login(config.redis.address)}: {error}", remedy)]
    finally:
        await client.aclose()
    return checks


def _rights(client: Any, stream: str, heartbeat: str) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    """Harmless uses of the commands that signals need: 0-0 is never a valid id, and the key is gone at once."""
    beat = orjson.dumps({"instance": "doctor", "second": 0})
    return [
        ("PUBLISH", lambda: client.publish(heartbeat, beat)),
        ("XADD", lambda: client.xadd(stream, {"doctor": ""}, id="0-0")),
        ("SET", lambda: client.set("squeezeflow:signal:doctor", "", px=1)),
    ]


async def _allowed(call: Callable[[], Awaitable[Any]]) -> bool:
    from redis.exceptions import NoPermissionError, ResponseError

    try:
        await call()
    except NoPermissionError:
        return False
    except ResponseError:
        return True  # refused for what it asks, not for who asks
    return True


async def _persistence(client: Any) -> Check:
    from redis.exceptions import ResponseError

    try:
        info = await client.info()
    except ResponseError:
        return Check("Redis persistence", "skip", "this user may not ask (INFO)")
    version = info.get("redis_version", "?")
    if not info.get("aof_enabled"):
        remedy = "set appendonly yes: without it a crash of Redis loses the newest signals of the stream"
        return Check("Redis persistence", "warn", f"Redis {version}, snapshots only", remedy)
    return Check("Redis persistence", "ok", f"Redis {version}, append-only file")
