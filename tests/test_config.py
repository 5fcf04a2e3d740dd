"""The daemon's configuration: layers, aliases, contradictions, and the reference file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sqfd.config import ALIASES, Config, changes, load, reference, shown, state_folder
from sqfd.settings import SettingsError, bare, walk
from sqfd.strategy.settings import StrategySettings

ROOT = Path(__file__).resolve().parents[1]


def config(tmp_path: Path, text: str, **environment: str) -> Config:
    path = tmp_path / "sqfd.toml"
    path.write_text(text)
    return load(path, environment).config


def test_the_reference_file_is_what_the_code_says() -> None:
    """sqfd.toml lists every setting with one sentence and its default: `sqfd config reference > sqfd.toml`."""
    assert (ROOT / "sqfd.toml").read_text() == reference()


def test_the_reference_file_changes_nothing() -> None:
    """Running with it is running on defaults."""
    assert load(ROOT / "sqfd.toml", {}).config == Config()


def test_every_setting_has_a_sentence() -> None:
    """One that ends in a full stop."""
    for key, hint, _ in walk(Config):
        sentences = [m.description for m in hint.__metadata__ if isinstance(m, msgspec.Meta) and m.description]
        assert sentences, key
        assert sentences[0].endswith("."), key


@pytest.mark.parametrize("key", [key for key, _, _ in walk(Config)])
def test_every_key_refuses_a_wrong_value_by_name(tmp_path: Path, key: str) -> None:
    """A value of the wrong type in any key is one line with that key."""
    section, _, name = key.rpartition(".")
    hint = next(hint for one, hint, _ in walk(Config) if one == key)
    wrong: Any = "[3.5]" if bare(hint) is str else '"?"'
    text = f"[{section}]\n{name} = {wrong}" if section else f"{name} = {wrong}"
    with pytest.raises(SettingsError) as caught:
        config(tmp_path, text)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [key for key, _, _ in walk(Config)])
def test_every_misspelt_key_is_named_with_a_hint(tmp_path: Path, key: str) -> None:
    """A letter too many in any key is refused, and a valid name is offered."""
    section, _, name = key.rpartition(".")
    text = f"[{section}]\n{name}x = 1" if section else f"{name}x = 1"
    with pytest.raises(SettingsError, match=r"unknown setting; (did you mean|valid here)") as caught:
        config(tmp_path, text)
    assert f"{key}x" in str(caught.value)


def test_order_is_file_then_environment_then_flags(tmp_path: Path) -> None:
    """Each layer wins over the one before, and says where the value came from."""
    path = tmp_path / "sqfd.toml"
    path.write_text("[feed]\ngrace_s = 1.0\nstagger_s = 1.0\nsilence_min_s = 10\n")
    environment = {"SQFD__FEED__GRACE_S": "2.0", "SQFD__FEED__STAGGER_S": "2.0"}
    loaded = load(path, environment, {"feed.stagger_s": 3.0})
    feed = loaded.config.feed
    assert (feed.silence_min_s, feed.grace_s, feed.stagger_s) == (10.0, 2.0, 3.0)
    assert [loaded.source(f"feed.{name}") for name in ("silence_min_s", "grace_s", "stagger_s", "transport")] == [
        "sqfd.toml:4",
        "$SQFD__FEED__GRACE_S",
        "--set",
        "default",
    ]


def test_names_of_the_replaced_systems_are_understood(tmp_path: Path) -> None:
    """Every alias sets its setting; those that mean nothing here are reported, not refused."""
    known = {key for key, _, _ in walk(Config)}
    assert set(ALIASES.values()) <= known
    environment = {
        "INFLUX_HOST": "db",
        "REDIS_URL": "redis://x:1/2",
        "SQUEEZEFLOW_ENABLE_1S_MODE": "false",
        "SQUEEZEFLOW_LOOKBACK_HOURS": "12",
        "SQUEEZEFLOW_MAX_SYMBOLS": "2",
        "SQUEEZEFLOW_MAX_WORKERS": "4",
    }
    path = tmp_path / "sqfd.toml"
    path.write_text("")
    loaded = load(path, environment)
    assert loaded.config.influx is not None
    assert loaded.config.redis is not None
    assert (loaded.config.influx.host, loaded.config.redis.url) == ("db", "redis://x:1/2")
    assert (loaded.config.strategy.sensitivity, loaded.config.strategy.baseline_s) == (1.0, 43_200)
    assert loaded.config.symbols.limit == 2
    assert any("SQUEEZEFLOW_MAX_WORKERS" in note for note in loaded.notes)


def test_secrets_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    """`…_FILE` names a file with the value; `config show` and errors never print it."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    path = tmp_path / "sqfd.toml"
    path.write_text("")
    loaded = load(path, {"INFLUX_PASSWORD_FILE": str(secret), "SQFD__REDIS__PASSWORD_FILE": str(secret)})
    assert loaded.config.influx is not None
    assert loaded.config.redis is not None
    assert loaded.config.influx.password == loaded.config.redis.password == "hunter2"
    assert "hunter2" not in str(shown(loaded))


def test_a_secret_that_all_may_read_is_told(tmp_path: Path) -> None:
    """With the command that mends it; one that only its group may read is fine."""
    (tmp_path / "sqfd.toml").write_text("")
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    for mode, notes in ((0o644, 1), (0o640, 0), (0o600, 0)):
        secret.chmod(mode)
        found = load(tmp_path / "sqfd.toml", {"SQFD__REDIS__PASSWORD_FILE": str(secret)})
        assert len(found.notes) == notes
        assert all(note.endswith(f"every user may read {secret}: chmod 600 {secret}") for note in found.notes)


def test_a_service_has_its_state_for_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/etc/sqfd/sqfd.toml means /var/lib/sqfd and /etc/sqfd/btc.toml means /var/lib/sqfd/btc, as in the units."""
    monkeypatch.setattr("sqfd.config.SYSTEM", tmp_path)
    for name, folder in (("sqfd", "/var/lib/sqfd"), ("btc", "/var/lib/sqfd/btc")):
        path = tmp_path / f"{name}.toml"
        path.write_text("")
        loaded = load(path, {})
        assert state_folder(loaded.config, {}) == Path(folder)
        assert loaded.source("journal.state") == f"beside {path}"
        service = load(path, {"STATE_DIRECTORY": "/x"}).config
        assert state_folder(service, {"STATE_DIRECTORY": "/x"}) == Path("/x")
        assert load(path, {}, {"journal.state": "/y"}).config.journal.state == "/y"
        path.write_text('[journal]\nstate = "/z"')
        assert load(path, {}).config.journal.state == "/z"


def test_a_configuration_that_this_user_may_not_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running on defaults instead would be another daemon than the one that was meant."""
    monkeypatch.chdir(tmp_path)

    def denied(path: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", denied)
    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(SettingsError, match=r"sqfd\.toml: this user may not read it: use sudo, or join its group"):
        load(environment={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[symbols]\nsymbols = []", "symbols.symbols: empty, and symbols.markets too"),
        ('[symbols]\nexchanges = ["BINANC"]', "unknown exchange 'BINANC'; did you mean BINANCE?"),
        ('[symbols]\nmarkets = ["btcusdt"]', "expected EXCHANGE:pair, not 'btcusdt'"),
        ('[feed.addresses.BINANCE]\nspt = "ws://x"', "BINANCE has no address 'spt'"),
        ('[feed.addresses.NOPE]\nspot = "ws://x"', "unknown exchange 'NOPE'"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, text: str, message: str) -> None:
    """Values that are valid alone but not together end in one line with the key."""
    with pytest.raises(SettingsError) as caught:
        config(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("sqfd.toml:")


def test_an_unknown_strategy_is_named_with_the_known_ones() -> None:
    """A strategy must be installed before it can be chosen: the daemon does not start without it."""
    with pytest.raises(SettingsError, match=r"--set: strategy\.name: no strategy 'other'; known: squeezeflow"):
        load(environment={}, flags={"strategy.name": "other"})


def test_a_reload_tells_each_setting_that_changed() -> None:
    """By key, with both values, a symbol's own settings one by one; what stayed is not named."""
    before = Config(strategy=StrategySettings(cooldown_s=60, per_symbol={"BTC": {"ttl_s": 60}}))
    other = StrategySettings(cooldown_s=90, per_symbol={"BTC": {"ttl_s": 60}, "ETH": {"min_entry_score": 5.0}})
    after = msgspec.structs.replace(before, strategy=other, log=msgspec.structs.replace(before.log, level="debug"))
    assert changes(before, after) == {
        "log.level": (before.log.level, "debug"),
        "strategy.cooldown_s": (60, 90),
        "strategy.per_symbol.ETH.min_entry_score": (4.0, 5.0),
    }
    assert changes(after, after) == {}
