"""Settings: every wrong key ends in one line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from sqfd.settings import Layered, SettingsError, build, read_toml, render


class Inner(msgspec.Struct, frozen=True):
    """A part of it."""

    grace_s: Annotated[float, Meta(ge=0, le=5, description="How long.")] = 0.25
    mode: Annotated[Literal["a", "b"], Meta(description="Which.")] = "a"
    names: Annotated[tuple[str, ...], Meta(description="Who.")] = ("x",)
    password: Annotated[str, Meta(description="Secret.", max_length=3)] = ""


class Whole(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(description="The name.")] = "n"
    part: Inner = Inner()
    extra: Inner | None = None


def read(tmp_path: Path, text: str) -> Whole:
    path = tmp_path / "some.toml"
    path.write_text(text)
    layered = Layered()
    read_toml(path, Whole, layered)
    return build(Whole, layered)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[part]\ngrac_s = 1", "some.toml:2: part.grac_s: unknown setting; did you mean part.grace_s?"),
        ("[part]\nfoo = 1", "some.toml:2: part.foo: unknown setting; valid here: grace_s, mode, names, password"),
        ("[prt]\ngrace_s = 1", "some.toml:1: prt: unknown setting; did you mean part?"),
        ("grace_s = 1", "some.toml:1: grace_s: unknown setting; did you mean extra.grace_s?"),
        ("[part]\ngrace_s = 'soon'", "some.toml:2: part.grace_s: expected float, not 'soon'"),
        ("[part]\n\ngrace_s = 9", "some.toml:3: part.grace_s: expected float <= 5.0, not 9"),
        ("[part]\nmode = 'c'", "some.toml:2: part.mode: expected a | b, not 'c'"),
        ("[part]\nnames = [1]", "some.toml:2: part.names: expected str at [0], not [1]"),
        ("[part]\npassword = 'secret'", "some.toml:2: part.password: expected str of length <= 3, not (not shown)"),
        ('[part] # first\n# grace_s = 1\n  "grace_s"= 9', "some.toml:3: part.grace_s: expected float <= 5.0, not 9"),
        (
            "grace_s.x = 1\n[part]\nmode = 'a'\n[extra]\ngrace_s = 'x'",
            "some.toml: grace_s: unknown setting; did you mean extra.grace_s?",
        ),
        ("part = 3", "some.toml:1: part: expected a table of settings, not 3"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """The line names file and line, key, what was expected and what is there, or the nearest valid name."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == message


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    """What the parser says, on one line, with the file."""
    with pytest.raises(SettingsError, match=r"some\.toml:1: not valid TOML: "):
        read(tmp_path, "a = = 2")


def test_missing_file_says_so(tmp_path: Path) -> None:
    """The path and the reason."""
    with pytest.raises(
        SettingsError, match=r"none\.toml: no such file: `sqfd config reference > none\.toml` writes one"
    ):
        read_toml(tmp_path / "none.toml", Whole, Layered())


def test_an_optional_section_exists_where_it_is_named(tmp_path: Path) -> None:
    """Naming a section switches it on, even empty."""
    assert read(tmp_path, "").extra is None
    assert read(tmp_path, "[extra]").extra == Inner()


def test_environment_text_becomes_numbers_and_lists() -> None:
    """Values from the environment are text; files are strict."""
    layered = Layered()
    layered.set("part.grace_s", "1.5", "$GRACE")
    layered.set("part.names", "a, b", "$NAMES")
    assert build(Whole, layered).part == Inner(grace_s=1.5, names=("a", "b"))


def test_reference_reads_back_as_the_defaults(tmp_path: Path) -> None:
    """The rendered reference is valid and changes nothing."""
    text = render(Whole, frozenset({"extra"}))
    assert read(tmp_path, text) == Whole()
    assert "# How long. (>= 0, <= 5)\ngrace_s = 0.25" in text
    assert "#[extra]" in text
