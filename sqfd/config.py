"""The daemon's configuration: its sections, and where values come from.

Order: defaults < `sqfd.toml` < environment < flags. Environment names are `SQFD__SECTION__KEY`; names of the systems that
sqfd replaces are accepted as aliases; `NAME_FILE` reads a secret from a file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

import exchanges
from sqfd.alerts.settings import AlertSettings
from sqfd.backtest.settings import BacktestSettings
from sqfd.feed.settings import FeedSettings
from sqfd.http.settings import HttpSettings
from sqfd.influx.settings import InfluxSettings
from sqfd.journal import JournalSettings
from sqfd.settings import (
    Layered,
    SettingsError,
    all_keys,
    build,
    is_secret,
    nearest,
    read_toml,
    render,
    walk,
    without_login,
)
from sqfd.signals.settings import RedisSettings
from sqfd.strategy.registry import names as strategies
from sqfd.strategy.settings import StrategySettings, differences


class SymbolsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which markets are collected: all of some symbols, or an explicit list."""

    symbols: Annotated[tuple[str, ...], Meta(description="Base assets to trade signals on.")] = ("BTC", "ETH", "SOL")
    quotes: Annotated[
        tuple[str, ...], Meta(description="Quote currencies whose markets belong to a symbol; dollars flow together.")
    ] = ("USDT", "USD", "USDC")
    exchanges: Annotated[
        tuple[str, ...], Meta(description="Exchanges to collect from; an empty list means all that sqfd knows.")
    ] = ()
    limit: Annotated[int, Meta(ge=0, description="At most this many of the symbols, in their order; 0 means all.")] = 0
    markets: Annotated[
        tuple[str, ...],
        Meta(description="Explicit markets as EXCHANGE:pair; when given, exactly these are collected."),
    ] = ()


class BarsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How 1-second bars are kept in memory."""

    revisable_s: Annotated[
        int, Meta(ge=60, le=14_400, description="How long a closed second can still be revised by late trades.")
    ] = 1800


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, and in which form."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least level that is logged.")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "console", "json", "logfmt"],
        Meta(description="Form of log lines; auto: console on a terminal, logfmt elsewhere."),
    ] = "auto"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    instance: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="Name of this daemon in keys, entries and metrics.")
    ] = "sqfd"
    symbols: SymbolsSettings = SymbolsSettings()
    feed: FeedSettings = FeedSettings()
    bars: BarsSettings = BarsSettings()
    journal: JournalSettings = JournalSettings()
    influx: InfluxSettings | None = None
    redis: RedisSettings | None = None
    alerts: AlertSettings | None = None
    strategy: StrategySettings = StrategySettings()
    backtest: BacktestSettings = BacktestSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()


OPTIONAL = frozenset({"influx", "redis", "alerts"})
"""Sections that switch something on by being there."""

ALIASES: Mapping[str, str] = {
    "SQUEEZEFLOW_LOG_LEVEL": "log.level",
    "SQUEEZEFLOW_MAX_SYMBOLS": "symbols.limit",
    "INFLUX_HOST": "influx.host",
    "INFLUX_PORT": "influx.port",
    "INFLUX_DATABASE": "influx.database",
    "INFLUX_USERNAME": "influx.username",
    "INFLUX_PASSWORD": "influx.password",
    "REDIS_HOST": "redis.host",
    "REDIS_PORT": "redis.port",
    "REDIS_DB": "redis.db",
    "REDIS_URL": "redis.url",
}
"""Environment names of the replaced systems that mean one of our settings."""

WITHOUT_EFFECT = (
    "SQUEEZEFLOW_RUN_INTERVAL",
    "SQUEEZEFLOW_DATA_INTERVAL",
    "SQUEEZEFLOW_ENABLE_PARALLEL",
    "SQUEEZEFLOW_MAX_WORKERS",
)
"""Accepted and reported: sqfd evaluates every symbol each second, in one process."""

PREFIX = "SQFD__"
SYSTEM = Path("/etc/sqfd")
SYSTEM_STATE = Path("/var/lib/sqfd")
"""Where the units of deploy/systemd keep configuration and state: `sqfd.service`, and `sqfd@NAME.service` below NAME."""


class Loaded(msgspec.Struct):
    """A configuration with where its values came from."""

    config: Config
    layered: Layered
    notes: list[str]
    """What the user should know: settings without effect, no file found."""

    def source(self, key: str) -> str:
        """`sqfd.toml:12`, `$INFLUX_HOST`, a flag, or `default`."""
        return self.layered.sources.get(key, "default")


def load(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    flag: str = "--set",
) -> Loaded:
    """Read and check the configuration.

    `path` None: `$SQFD_CONFIG`, ./sqfd.toml, the XDG directory's or /etc/sqfd/sqfd.toml, whichever is there first.
    `flags`: dotted key → value from the command line, where they come with `flag`. Raises SettingsError, whose text is one
    line for the user.
    """
    env = os.environ if environment is None else environment
    layered, notes = Layered(), []
    found = path or _found(env)
    if found is not None:
        read_toml(found, Config, layered)
    else:
        notes.append("no sqfd.toml found: defaults are used; `sqfd config reference > sqfd.toml` writes one")
    _place_state(found, env, layered)
    _read_environment(env, layered, notes)
    config = _built(layered, flags or {}, flag)
    if found is not None:
        notes += _readable_secrets(found, layered)
    return Loaded(config, layered, notes)


def with_flags(loaded: Loaded, flags: Mapping[str, Any], flag: str) -> Config:
    """The same configuration with more from the command line on top: nothing is read again. Raises SettingsError as `load` does."""
    return _built(Layered(dict(loaded.layered.values), dict(loaded.layered.sources)), flags, flag)


def _built(layered: Layered, flags: Mapping[str, Any], flag: str) -> Config:
    for key, value in flags.items():
        layered.set(key, value, flag)
    config = build(Config, layered)
    _check(config, layered)
    return config


def _readable_secrets(path: Path, layered: Layered) -> list[str]:
    """What to say where the file holds a secret and every user may read it."""
    open_to_all = path.stat().st_mode & 0o007
    here = [key for key, source in layered.sources.items() if source.startswith(path.name)]
    held = [key for key in here if is_secret(key) or without_login(layered.values[key]) != layered.values[key]]
    return [f"{path} holds {held[0]}, and every user may read it: chmod 640 {path}"] if open_to_all and held else []


def _found(env: Mapping[str, str]) -> Path | None:
    if named := env.get("SQFD_CONFIG"):
        return Path(named)
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config")
    for candidate in (Path("sqfd.toml"), home / "sqfd" / "sqfd.toml", Path("/etc/sqfd/sqfd.toml")):
        if _is_there(candidate):
            return candidate
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return True  # not for this user: reading it says so, which is better than silently running on defaults


def _place_state(path: Path | None, env: Mapping[str, str], layered: Layered) -> None:
    """A service's configuration means the service's state, for every command and not only under systemd."""
    if path is None or path.parent != SYSTEM or "STATE_DIRECTORY" in env or layered.values.get("journal.state"):
        return
    folder = SYSTEM_STATE if path.stem == "sqfd" else SYSTEM_STATE / path.stem
    layered.set("journal.state", str(folder), f"beside {path}")


def state_folder(config: Config, env: Mapping[str, str] | None = None) -> Path:
    """Where the journal lives: the setting, `$STATE_DIRECTORY` (systemd), else the XDG state directory."""
    env = os.environ if env is None else env
    if config.journal.state:
        return Path(config.journal.state)
    if directory := env.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    return Path(env.get("XDG_STATE_HOME") or Path(env.get("HOME", "/")) / ".local" / "state") / "sqfd"


def _read_environment(env: Mapping[str, str], layered: Layered, notes: list[str]) -> None:
    known = all_keys(Config)
    _read_credentials(env, layered, known)
    for name, key in ALIASES.items():
        for variable in (name, f"{name}_FILE"):
            if variable in env:
                layered.set(key, _value(variable, env, notes), f"${variable}")
    if (mode := env.get("SQUEEZEFLOW_ENABLE_1S_MODE")) is not None:
        sensitivity = 0.5 if mode.strip().lower() in ("1", "true", "yes", "on") else 1.0
        layered.set("strategy.sensitivity", sensitivity, "$SQUEEZEFLOW_ENABLE_1S_MODE")
    if (hours := env.get("SQUEEZEFLOW_LOOKBACK_HOURS")) is not None:
        baseline = str(int(hours) * 3600) if hours.isdecimal() else hours
        layered.set("strategy.baseline_s", baseline, "$SQUEEZEFLOW_LOOKBACK_HOURS")
    notes += [f"${name} has no effect: every symbol is evaluated each second" for name in WITHOUT_EFFECT if name in env]
    for name in sorted(env):
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        if key not in known and key.endswith("_file") and key.removesuffix("_file") in known:
            key = key.removesuffix("_file")
        if key not in known:
            raise SettingsError(f"${name}: {key}: unknown setting{nearest(key, known)}")
        layered.set(key, _value(name, env, notes), f"${name}")


def _read_credentials(env: Mapping[str, str], layered: Layered, known: Sequence[str]) -> None:
    """systemd's `LoadCredential=redis.password:/path`: each credential is named as the setting that it gives."""
    folder = env.get("CREDENTIALS_DIRECTORY")
    for path in sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else ():
        if path.name not in known:
            raise SettingsError(f"credential {path.name}: unknown setting{nearest(path.name, list(known))}")
        try:
            layered.set(path.name, path.read_text(encoding="utf-8").strip(), f"$credential {path.name}")
        except OSError as error:
            raise SettingsError(f"credential {path.name} cannot be read: {error.strerror}") from error


def _value(variable: str, env: Mapping[str, str], notes: list[str]) -> str:
    """The variable's value, or for `…_FILE` the content of the file that it names; notes a secret that all may read."""
    if not variable.endswith("_FILE"):
        return env[variable]
    path = Path(env[variable])
    try:
        if path.stat().st_mode & 0o007:
            notes.append(f"${variable}: every user may read {path}: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        remedy = "give the user of sqfd the right to read it" if isinstance(error, PermissionError) else "name a file"
        raise SettingsError(f"${variable}: {path}: {error.strerror}: {remedy}") from error


def _check(config: Config, layered: Layered) -> None:
    """Settings that are valid one by one but contradict each other."""
    if not config.symbols.symbols and not config.symbols.markets:
        source = layered.sources.get("symbols.symbols", "default")
        raise SettingsError(f"{source}: symbols.symbols: empty, and symbols.markets too: nothing would be collected")
    if config.strategy.name != StrategySettings().name and config.strategy.name not in strategies():
        source, known = layered.sources.get("strategy.name", "default"), ", ".join(strategies())
        raise SettingsError(f"{source}: strategy.name: no strategy {config.strategy.name!r}; known: {known}")
    for key in ("influx.url", "redis.url"):
        _check_address(key, value_of(config, key), layered)
    for market in config.symbols.markets:
        exchange, colon, pair = market.partition(":")
        if not (exchange and colon and pair):
            source = layered.sources.get("symbols.markets", "default")
            raise SettingsError(f"{source}: symbols.markets: expected EXCHANGE:pair, not {market!r}")
        _check_exchange(exchange, "symbols.markets", layered)
    for exchange in config.symbols.exchanges:
        _check_exchange(exchange, "symbols.exchanges", layered)
    for exchange, addresses in config.feed.addresses.items():
        _check_exchange(exchange, "feed.addresses", layered)
        try:
            exchanges.get(exchange, addresses)
        except ValueError as error:
            source = layered.sources.get("feed.addresses", "default")
            raise SettingsError(f"{source}: feed.addresses.{exchange}: {error}") from error


def _check_address(key: str, address: str | None, layered: Layered) -> None:
    """The client would find out, and say so with a part of the password."""
    try:
        known = not address or urlsplit(address).port is None or urlsplit(address).hostname
    except ValueError:
        known = None
    if not known:
        source = layered.sources.get(key, "default")
        raise SettingsError(
            f"{source}: {key}: no host or no port there; in a login / @ : # are written %2F %40 %3A %23"
        )


def _check_exchange(exchange: str, key: str, layered: Layered) -> None:
    if exchange not in exchanges.IDS:
        close = difflib.get_close_matches(exchange.upper(), exchanges.IDS, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(exchanges.IDS)}"
        raise SettingsError(f"{layered.sources.get(key, 'default')}: {key}: unknown exchange {exchange!r}; {hint}")


LIVE = ("strategy.", "log.level")
"""Keys that a reload applies; the others need a restart."""


def changes(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Key → (old value, new value) of every setting that differs; of a symbol as `strategy.per_symbol.SYMBOL.name`."""
    keys = [key for key, _, _ in walk(Config) if not key.startswith("strategy.")]
    plain = {key: (value_of(before, key), value_of(after, key)) for key in keys}
    strategy = differences(before.strategy, after.strategy)
    changed = plain | {f"strategy.{name}": values for name, values in strategy.items()}
    return {key: (old, new) for key, (old, new) in changed.items() if old != new}


def value_of(config: Config, key: str) -> Any:
    """The value of a dotted key; None where its optional section is absent."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name) if value is not None else None
    return value


def reference() -> str:
    """The text of the reference `sqfd.toml`: every setting with one sentence and its default."""
    head = "# sqfd's settings, each with its default. A line may be left out; [influx] and [redis] are used when named.\n\n"
    return head + render(Config, OPTIONAL)


def shown(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """(key, value, source) of every setting in force; secrets are not shown."""
    rows = []
    for key, _, _ in walk(Config):
        value = value_of(loaded.config, key)
        rows.append((key, "(set)" if is_secret(key) and value else without_login(value), loaded.source(key)))
    return rows
