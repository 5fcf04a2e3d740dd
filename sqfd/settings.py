"""Reading settings of any shape: defaults < file < environment < flags, each leaf checked and traced to its source.

A section is a `msgspec.Struct` whose fields are annotated with `msgspec.Meta(description=…)` and bounds. What is wrong
raises `SettingsError`, one line that names the key, what was expected and the nearest valid name.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A setting that cannot be used. Its text is one line for the user."""


@dataclass
class Layered:
    """Raw values of settings by dotted key, with where each came from (`sqfd.toml:12`, `$INFLUX_HOST`, `--state`)."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: object, source: str) -> None:
        """Set one leaf; a later call wins."""
        self.values[key] = value
        self.sources[key] = source


def read_toml(path: Path, shape: type[msgspec.Struct], into: Layered) -> None:
    """Add a file's settings. Raises SettingsError for unreadable TOML and for keys that `shape` does not have."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except PermissionError as error:
        remedy = "use sudo, or join its group (sudo adduser NAME GROUP)"
        raise SettingsError(f"{path}: this user may not read it: {remedy}") from error
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file: `sqfd config reference > {path.name}` writes one") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}: name a file, as `-c sqfd.toml`") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}{_at(error, text)}: not valid TOML: {error}") from error
    lines = _lines_of(text)
    for key, value in _leaves(table, shape, ""):
        line = lines.get(key)
        where = f"{path.name}:{line}" if line else path.name
        if _field_type(shape, key) is None:
            raise SettingsError(f"{where}: {key}: unknown setting{nearest(key, all_keys(shape))}")
        into.set(key, value, where)


def _at(error: Exception, text: str) -> str:
    """`:7`, the line at which the parser gave up."""
    if "at end of document" in str(error):
        return f":{len(text.splitlines())}"
    found = re.search(r"at line (\d+)", str(error))
    return f":{found[1]}" if found else ""


def nearest(key: str, known: list[str]) -> str:
    """`; did you mean …?` for a misspelt key, or the valid names beside it."""
    section, _, name = key.rpartition(".")
    sections = sorted({one.rpartition(".")[0] for one in known} - {""})
    beside = [one for one in known if one.rpartition(".")[0] == section] + ([] if section else sections)
    for candidates in (beside, known):
        by_name = {one.rpartition(".")[2]: one for one in candidates}
        close = difflib.get_close_matches(key, candidates, 1, 0.75)
        close += [by_name[one] for one in difflib.get_close_matches(name, list(by_name), 1, 0.6)]
        if close:
            return f"; did you mean {close[0]}?"
    return f"; valid here: {', '.join(one.rpartition('.')[2] for one in beside or sections)}"


def _leaves(table: Mapping[str, Any], shape: type[msgspec.Struct] | None, prefix: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a table, descending only where the shape has a section."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        inner = section_of(_hints(shape).get(name)) if shape else None
        if isinstance(value, dict) and inner is not None:
            if not value:
                yield key, {}
            yield from _leaves(value, inner, f"{key}.")
        else:
            yield key, value


_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
_NAME = re.compile(r"\s*(?:\"([^\"]*)\"|([^\s\"=#]+))\s*=")


def _lines_of(text: str) -> dict[str, int]:
    """The line of each section and key in TOML text: good enough for messages, not a parser."""
    found, section = dict[str, int](), ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = header[1].strip()
            found.setdefault(section, number)
        elif name := _NAME.match(line):
            found.setdefault(f"{section}.{name[1] or name[2]}".lstrip("."), number)
    return found


@functools.cache
def _hints(shape: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(shape, include_extras=True)


@functools.cache  # a sweep builds settings for each of its trials
def _sections(shape: type[msgspec.Struct]) -> Mapping[str, type[msgspec.Struct] | None]:
    """By field: see `section_of`."""
    return {name: section_of(hint) for name, hint in _hints(shape).items()}


@functools.cache
def _fields(shape: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(shape)


def bare(hint: Any) -> Any:
    """A type without its annotation."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def section_of(hint: Any) -> type[msgspec.Struct] | None:
    """The Struct that a field holds, whether optional or not; None for a leaf."""
    hint = bare(hint)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def walk(
    shape: type[msgspec.Struct], prefix: str = "", defaults: msgspec.Struct | None = None
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, annotated type, default) of every leaf; `defaults` is where a section's defaults differ."""
    for one in _fields(shape):
        hint = _hints(shape)[one.name]
        default = _default(one) if defaults is None else getattr(defaults, one.name)
        inner = section_of(hint)
        if inner is not None:
            yield from walk(inner, f"{prefix}{one.name}.", default)
        else:
            yield f"{prefix}{one.name}", hint, default


def _default(one: msgspec.structs.FieldInfo) -> Any:
    return one.default if one.default_factory is msgspec.NODEFAULT else one.default_factory()


def all_keys(shape: type[msgspec.Struct]) -> list[str]:
    """Every leaf's dotted key."""
    return list(_leaf_types(shape))


@functools.cache
def _leaf_types(shape: type[msgspec.Struct]) -> Mapping[str, Any]:
    return {key: hint for key, hint, _ in walk(shape)}


def _field_type(shape: type[msgspec.Struct], key: str) -> Any:
    current: type[msgspec.Struct] | None = shape
    hint: Any = None
    for name in key.split("."):
        hint = _hints(current).get(name) if current is not None else None
        if hint is None:
            return None
        current = section_of(hint)
    return hint


def build(shape: type[S], layered: Layered) -> S:
    """Check every value and build the settings. Optional sections exist where any value names them.

    Raises SettingsError: `sqfd.toml:7: feed.grace_s: expected float >= 0, not "soon"`.
    """
    known = _leaf_types(shape)
    tree: dict[str, Any] = {}
    for key, value in layered.values.items():
        source = layered.sources[key]
        node = tree
        *sections, name = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        if key in known:
            node[name] = _converted(key, value, known[key], source)
        elif isinstance(value, dict) and not value:
            node.setdefault(name, {})  # an empty section switches an optional one on
        else:
            raise SettingsError(f"{source}: {key}: expected a table of settings, not {value!r}")
    return _assembled(shape, shape(), tree, "")


def _assembled(shape: type[S], defaults: S | None, tree: Mapping[str, Any], section: str) -> S:
    """The defaults of a section (None: those of its type) with the values that were given."""
    sections = _sections(shape)
    values = {}
    for name, value in tree.items():
        inner = sections[name]
        if inner is not None:
            value = _assembled(inner, getattr(defaults, name, None), value, f"{section}{name}.")
        values[name] = value
    try:
        return shape(**values) if defaults is None else msgspec.structs.replace(defaults, **values)
    except ValueError as error:  # settings that are valid one by one and contradict each other
        raise SettingsError(f"[{section.rstrip('.')}]: {error}") from error


def _converted(key: str, value: object, hint: Any, source: str) -> Any:
    text = isinstance(value, str) and source.startswith(("$", "-"))
    if text and _is_list(hint):
        value = [part.strip() for part in str(value).split(",") if part.strip()]
    try:
        return msgspec.convert(value, hint, strict=not text)
    except msgspec.ValidationError as error:
        shown = "(not shown)" if is_secret(key) else repr(without_login(value))
        raise SettingsError(f"{source}: {key}: {_expected(error, hint)}, not {shown}") from error


def is_secret(key: str) -> bool:
    """Whether the value must not be shown."""
    return key.endswith(("password", "token", "webhook_url"))


_LOGIN = re.compile(r"(?<=//)[^/\s]*@")


def without_login(value: Any) -> Any:
    """The value as it may be shown: addresses without the user and password that some of them carry.

    >>> without_login("redis://sqfd:hunter2@host:6379/0")
    'redis://(login not shown)@host:6379/0'
    """
    if isinstance(value, dict):
        return {name: without_login(one) for name, one in value.items()}
    return _LOGIN.sub("(login not shown)@", value) if isinstance(value, str) else value


def _is_list(hint: Any) -> bool:
    return typing.get_origin(bare(hint)) in (list, tuple)


def _expected(error: msgspec.ValidationError, hint: Any) -> str:
    """msgspec's message in our words: `expected float >= 0`."""
    inner = bare(hint)
    if typing.get_origin(inner) is typing.Literal:
        return f"expected {' | '.join(str(value) for value in typing.get_args(inner))}"
    text = str(error).replace("`", "")
    where = re.search(r" - at \$(\S*)", text)
    text = re.sub(r" - at \$\S*|, got \w+", "", text)
    return text[:1].lower() + text[1:] + (f" at {where[1]}" if where and where[1] else "")


def render(shape: type[msgspec.Struct], commented: frozenset[str] = frozenset()) -> str:
    """The reference file: every setting with its sentence and default. `commented` sections are written as comments."""
    lines: list[str] = []
    top = [one for one in _fields(shape) if section_of(_hints(shape)[one.name]) is None]
    for one in top:
        lines += _rendered(one.name, _hints(shape)[one.name], _default(one), "")
    for one in _fields(shape):
        inner = section_of(_hints(shape)[one.name])
        if inner is None:
            continue
        mark = "#" if one.name in commented else ""
        summary = (inner.__doc__ or "").strip().splitlines()[0]
        lines += ["", f"# {summary}", f"{mark}[{one.name}]"]
        for key, hint, default in walk(inner, defaults=_default(one)):
            lines += _rendered(key, hint, default, mark)
    return "\n".join(lines).lstrip("\n") + "\n"


def _rendered(name: str, hint: Any, default: Any, mark: str) -> list[str]:
    value = f"#{name} =" if default is None else f"{mark}{name} = {toml_value(default)}"
    return [f"# {describe(hint)}", value]


def describe(hint: Any) -> str:
    """The sentence and the bounds of a setting."""
    if typing.get_origin(hint) is not typing.Annotated:
        return ""
    metas = [meta for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta)]
    sentence = " ".join(meta.description for meta in metas if meta.description)
    bounds = [
        f"{sign} {getattr(meta, name)}"
        for meta in metas
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(meta, name) is not None
    ]
    inner = bare(hint)
    if typing.get_origin(inner) is typing.Literal:
        bounds.append(" | ".join(str(value) for value in typing.get_args(inner)))
    return sentence + (f" ({', '.join(bounds)})" if bounds else "")


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(str(key))} = {toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return repr(value)
